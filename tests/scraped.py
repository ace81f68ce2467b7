"""What ``GET /metrics`` told, to be looked at, and held against promtool where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


@dataclass(frozen=True)
class Scraped:
    """``samples``: by name and labels."""

    text: str
    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """Of exactly this series; None where there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """Of all series with at least these labels."""
        wanted = frozenset(labels.items())
        return sum(value for (found, own), value in self.samples.items() if found == name and wanted <= own)

    def labels(self, name: str) -> set[frozenset[str]]:
        """The sets of labels that the series of a name have."""
        return {frozenset(key for key, _ in own) for found, own in self.samples if found == name}

    def counts(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """What may never fall while the service runs."""
        return {
            key: value
            for key, value in self.samples.items()
            if key[0].endswith(("_total", "_count", "_bucket", "_sum"))
        }


def scraped(text: str) -> Scraped:
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Scraped(text=text, samples=samples)


def promtool_says(text: str) -> str:
    """What ``promtool check metrics`` has against it; nothing where all is well."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}" + ("" if done.returncode == 0 else f"exit status {done.returncode}")
