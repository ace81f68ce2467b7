"""The machine and the versions that were measured."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.stage import LITELLM
from tests.running import ROOT

_PACKAGES = (
    "flask",
    "gunicorn",
    "requests",
    "pillow",
    "pybase64",
    "zlib-ng",
    "isal",
    "pydantic",
    "redis",
    "flask-limiter",
)


def machine() -> dict[str, Any]:
    return {
        "cpu": _first(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo")) or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(_first(r"MemTotal:\s*(\d+)", _read("/proc/meminfo")) or 0) * 1024 / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    if shutil.which("nginx"):
        found["nginx"] = _first(r"nginx/(\S+)", _said("nginx", "-v")) or "?"
    if shutil.which("redis-server"):
        found["redis-server"] = _first(r"v=(\S+)", _said("redis-server", "--version")) or "?"
    if LITELLM.exists():
        folders = LITELLM.parents[1].glob("lib/python*/site-packages/litellm-[0-9]*.dist-info")
        found["litellm"] = next((path.name.split("-")[1].removesuffix(".dist") for path in folders), "?")
    return found


def commit(root: Path = ROOT) -> str:
    """The short hash of a checkout, with ``+`` if tracked files differ from it."""
    found = _said("git", "-C", str(root), "rev-parse", "--short=7", "HEAD").strip()
    changed = _said("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no").strip()
    return f"{found}{'+' if changed else ''}"


def date() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def about() -> dict[str, Any]:
    return {"date": date(), "commit": commit(), "machine": machine(), "versions": versions()}


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except OSError:
        return "?"
    return done.stdout + done.stderr if command[0] != "git" else done.stdout


def _read(path: str) -> str:
    return Path(path).read_text()


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1].strip() if found else None
