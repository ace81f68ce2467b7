"""Which part may import which, and names that no module may have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: The other parts that each part may import.
MAY_IMPORT = {
    "api": {"services", "sd_client", "state", "storage", "observability"},
    "services": {"sd_client", "state", "storage", "observability"},
    "sd_client": {"state"},
    "state": set(),
    "storage": set(),
    "observability": {"state"},
    "simulator": set(),
    "config": {"config_types"},
    "config_types": {"state", "storage"},
    "stable_diffusion_api": {"api", "services", "sd_client", "state", "storage", "observability", "config"},
    "gunicorn.conf": {"stable_diffusion_api", "api", "config", "doctor", "observability", "sd_client"},
    "doctor": {"api", "services", "sd_client", "state", "storage", "config"},
}
#: Of the lower packages ``api`` may name values and errors, never clients, pools or a concrete storage.
API_MAY_NAME = {
    "sd_client": {"errors", "models", "deadlines"},
    "state": {"failover"},
    "storage": {"errors", "base"},
}
#: A web framework belongs to the edge.
WEB = {"flask", "flask_cors", "flask_limiter", "werkzeug"}
MAY_USE_WEB = {"api", "stable_diffusion_api"}
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "shared", "base_utils"}
#: These names would hide a module that a dependency imports.
TAKEN = {"limits", "http", "queue", "types", "logging", "code", "platform", "secrets"}


#: The modules at the top, beside the packages.
TOP = [path for name in MAY_IMPORT if (path := ROOT / f"{name}.py").is_file()]
MODULES = [*(path for part in MAY_IMPORT for path in sorted((ROOT / part).rglob("*.py"))), *TOP]


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Dotted names, those inside functions too; for ``from a import b`` both ``a`` and ``a.b``."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parent.parts[: -node.level + 1 or None] if node.level else ()
            module = ".".join((*package, *([node.module] if node.module else [])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


def test_every_part_has_modules() -> None:
    assert {part_of(path) for path in MODULES} == MAY_IMPORT.keys()


def test_imports_point_one_way() -> None:
    others = MAY_IMPORT.keys() | {"tests", "tools", "bench"}
    wrong = {
        path.relative_to(ROOT): sorted(found)
        for path in MODULES
        if (found := tops(path) & others - {part_of(path)} - MAY_IMPORT[part_of(path)])
    }
    assert wrong == {}


def test_the_edge_imports_values_and_errors_only() -> None:
    named = [
        (path.name, *name.split(".")[:2]) for path in MODULES if part_of(path) == "api" for name in imports_of(path)
    ]
    wrong = [one for one in named if one[1] in API_MAY_NAME and one[2:] and one[2] not in API_MAY_NAME[one[1]]]
    assert wrong == []


def test_the_web_framework_stays_at_the_edge() -> None:
    assert {part_of(path) for path in MODULES if tops(path) & WEB} <= MAY_USE_WEB


def test_no_drawers() -> None:
    assert [path for path in MODULES if {*path.relative_to(ROOT).with_suffix("").parts} & DRAWERS] == []


def test_no_module_at_the_top_hides_one_that_others_import() -> None:
    names = {path.name.partition(".")[0] for path in ROOT.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not names & TAKEN
