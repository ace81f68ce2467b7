"""Prometheus' configuration and rules, by its own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.running import DEADLINE_S, ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = yaml.safe_load((FOLDER / "tests" / "rules.yml").read_text())["tests"]
CASES = [case for test in TESTS for case in test["alert_rule_test"]]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt-get install prometheus)"
)


@needs_promtool
@pytest.mark.parametrize("what", [("check", "config", "prometheus.yml"), ("test", "rules", "tests/rules.yml")])
def test_promtool_finds_nothing(what: tuple[str, ...]) -> None:
    printed = subprocess.run(
        ["promtool", *what], cwd=FOLDER, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert printed.returncode == 0, printed.stdout + printed.stderr


def test_the_folder_has_no_other_tests() -> None:
    assert [path.name for path in (FOLDER / "tests").iterdir()] == ["rules.yml"]


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_is_tried_loud_and_silent(alert: str) -> None:
    assert {bool(case["exp_alerts"]) for case in CASES if case["alertname"] == alert} == {True, False}


def test_no_alert_is_tried_that_is_none() -> None:
    # promtool holds such a one for silent.
    assert {case["alertname"] for case in CASES} == ALERTS.keys()


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_leads_to_its_page(alert: str) -> None:
    page, _, anchor = ALERTS[alert]["annotations"]["runbook_url"].partition("#")
    assert anchor == alert.lower()
    text = (ROOT / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {alert}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    for expected in ("**What it means.**", "**Look at**", "**Do.**"):
        assert expected in section, f"{alert}: {expected}"
    assert f"(`{ALERTS[alert]['labels']['severity']}`" in section


def test_no_page_is_of_an_alert_that_is_none() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (SdApi\w+)$", text, re.MULTILINE)) == ALERTS.keys()


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_pages_or_waits(alert: str) -> None:
    assert ALERTS[alert]["labels"]["severity"] in ("page", "ticket")
    assert ALERTS[alert]["annotations"]["summary"]


def test_only_documented_metrics_are_used() -> None:
    documented = set(re.findall(r"`(sd_api_\w+)", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))
    used = {name for rule in RULES for name in re.findall(r"(?<!:)\bsd_api_\w+", rule["expr"])}
    assert {re.sub(r"_bucket$", "", name) for name in used} <= documented
