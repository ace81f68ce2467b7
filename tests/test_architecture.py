"""Who may import whom, and what no module may be called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Who may import whom of the others.
MAY_IMPORT = {
    "api": {"services", "sd_client", "storage", "observability"},
    "services": {"sd_client", "state", "storage", "observability"},
    "sd_client": {"state"},
    "state": set(),
    "storage": set(),
    "observability": set(),
    "simulator": set(),
    "config": {"config_types"},
    "config_types": set(),
    "parts": {"services", "sd_client", "state", "storage", "observability", "config"},
    "stable_diffusion_api": {"api", "parts", "services", "state", "storage", "observability", "config"},
    "gunicorn.conf": {"api", "config", "doctor", "observability", "storage"},
    "doctor": {"api", "services", "sd_client", "state", "storage", "config"},
}
#: Of the lower packages ``api`` may name values and errors, never clients, pools or a concrete storage.
API_MAY_NAME = {"sd_client": {"errors", "models", "deadlines"}, "storage": {"errors", "base"}}
#: A web framework belongs to the edge.
WEB = {"flask", "flask_cors", "flask_limiter", "werkzeug"}
MAY_USE_WEB = {"api", "stable_diffusion_api"}
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "shared", "base_utils"}
#: These would hide a module that a dependency imports.
TAKEN = {"limits", "http", "queue", "types", "logging", "code", "platform", "secrets"}


def modules() -> list[Path]:
    packages = [path for part in MAY_IMPORT for path in sorted((ROOT / part).rglob("*.py"))]
    beside = ("config.py", "config_types.py", "parts.py", "stable_diffusion_api.py", "gunicorn.conf.py")
    return [*packages, *(ROOT / name for name in beside)]


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names, those inside functions too; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parent.parts[: -node.level + 1 or None] if node.level else ()
            module = ".".join((*package, *([node.module] if node.module else [])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_there_is_something_to_look_at() -> None:
    assert {part_of(path) for path in modules()} == MAY_IMPORT.keys()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    imported = {name.partition(".")[0] for name in imports_of(path)}
    assert (imported & (MAY_IMPORT.keys() | {"tests", "tools"})) - {part} <= MAY_IMPORT[part]


@pytest.mark.parametrize("path", sorted((ROOT / "api").rglob("*.py")), ids=lambda path: path.name)
def test_the_edge_names_values_and_errors_only(path: Path) -> None:
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package in API_MAY_NAME and rest:
            assert rest.partition(".")[0] in API_MAY_NAME[package], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_web_framework_stays_at_the_edge(path: Path) -> None:
    imported = {name.partition(".")[0] for name in imports_of(path)}
    assert part_of(path) in MAY_USE_WEB or not imported & WEB


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_drawers(path: Path) -> None:
    assert not {*path.relative_to(ROOT).with_suffix("").parts} & DRAWERS


def test_no_folder_hides_a_module_that_others_import() -> None:
    names = {path.name.partition(".")[0] for path in ROOT.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not names & TAKEN
