"""What the documentation promises is there, and what is there is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask

from api.error_table import ERRORS
from api.metrics import HealthCollector
from api.schemas import FIELDS
from config import Config
from observability.metrics import Metrics
from services.health import HealthReport, QueueCounts, WebUICounts
from tests.running import PREFIX

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Not the project's own, or made by its tools.
_NOT_OURS = {"data", "pictures", "site", "node_modules", "htmlcov", "dist", "build"}


def folders() -> set[str]:
    """The project's folders at the top, hidden ones aside."""
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    return found - _NOT_OURS


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", sorted(name.upper() for name in Config.model_fields))
def test_every_setting_is_documented(setting: str) -> None:
    assert re.search(rf"`{setting}\b", read("docs/configuration.md"))


def test_no_setting_is_documented_that_is_none() -> None:
    listed = re.findall(r"^\|\s*`([A-Z][A-Z0-9_]+)`", read("docs/configuration.md"), re.MULTILINE)
    known = {name.upper() for name in Config.model_fields}
    assert listed
    assert sorted(set(listed) - known - {"STORAGE_URL", "IMAGE_TTL_HOURS", "IMAGE_MAX_GB"}) == []


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_code_is_documented(code: str) -> None:
    rows = [row for row in read("docs/api.md").splitlines() if row.startswith("|") and f"`{code}`" in row]
    assert any(str(ERRORS[code].status) in row.split("|")[1] for row in rows), f"add {code} to the table of docs/api.md"


@pytest.mark.parametrize("field", FIELDS["inpainting"].model_fields)
def test_every_field_is_documented(field: str) -> None:
    rows = re.findall(r"^\| (`.*?) \|", read("docs/api.md"), re.MULTILINE)
    assert any(f"`{field}`" in row for row in rows), f"add {field} to the table of fields in docs/api.md"


def test_every_route_is_documented(app: Flask) -> None:
    page = read("docs/api.md").replace("…/", " ").replace(PREFIX + "/", " ")
    untold = []
    for rule in app.url_map.iter_rules():
        path = rule.rule.removeprefix(PREFIX).strip("/").replace("<path:", "<")
        if not re.search(rf"(?<![\w/])/?{re.escape(path)}(?![\w/])", page):
            untold.append(path)
    assert untold == []


def metric_names() -> set[str]:
    report = HealthReport(
        status="unhealthy",
        version="",
        uptime_seconds=0,
        device="none",
        webuis=WebUICounts(total=0, available=0, busy=0, gpu=0, cpu=0),
        queue=QueueCounts(waiting=0, limit=0),
        redis="up",
        storage="ok",
        reasons=("no_webui",),
    )
    return Metrics().names() | {shown.name for shown in HealthCollector(report, {}).collect()}


def test_every_metric_is_documented_and_no_other() -> None:
    listed = re.findall(r"^\|\s*`(sd_api_\w+)[`{]", read("docs/metrics.md"), re.MULTILINE)
    assert sorted(listed) == sorted(metric_names())


def test_every_view_has_a_docstring(app: Flask) -> None:
    silent = [name for name, view in app.view_functions.items() if not (view.__doc__ or "").strip()]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", page.read_text(encoding="utf-8"))
    relative = [target.partition("#")[0] for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:|#|/", target)]
    assert [target for target in relative if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("folder", sorted(folders()))
def test_the_readmes_tree_names_every_folder(folder: str) -> None:
    assert f"{folder}/" in read("README.md")
