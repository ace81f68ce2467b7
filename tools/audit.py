"""Looks the locked requirements up in the list of known vulnerabilities: ``make audit``.

pip-audit is fetched when it is wanted, by uv: it would bring forty packages that nothing else here needs. Where it, or
the list, cannot be reached, that is said, and is no failure: a machine without network has nothing to look in.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_PIP_AUDIT = "pip-audit==2.10.1"
_TIMEOUT_S = 300


def main() -> None:
    """Exit status 1 where a vulnerability is known."""
    found = []
    for name in ("requirements.txt", "requirements-dev.txt"):
        dependencies = _looked_up(ROOT / name)
        if dependencies is None:
            _say("skipped: pip-audit or the list of vulnerabilities cannot be reached from here")
            return
        found += [one for one in dependencies if one.get("vulns")]
        unknown = sum("skip_reason" in one for one in dependencies)
        _say(f"{name}: {len(dependencies)} packages, {unknown} of them not to be found in the list")
        if unknown == len(dependencies):
            _say("skipped: the package index that is used here has no list of vulnerabilities")
            return
    for one in found:
        for vulnerability in one["vulns"]:
            fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version"
            _say(f"{one['name']} {one['version']}: {vulnerability['id']}, fixed in {fixed}")
    if found:
        sys.exit(1)
    _say("no vulnerability is known")


def _looked_up(requirements: Path) -> Sequence[dict[str, Any]] | None:
    command = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", _PIP_AUDIT, "pip-audit"]
    command += [
        "-r",
        str(requirements),
        "--require-hashes",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
        dependencies: Sequence[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):  # it says nothing where it cannot run
        return None
    return dependencies


def _say(text: str) -> None:
    sys.stdout.write(f"audit: {text}\n")


if __name__ == "__main__":
    main()
