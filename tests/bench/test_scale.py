"""The tables and plots of scale come from a file of results, and its parts measure what they say."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.scale import folder, scheduler
from bench.scale.report import tables, text
from tools.children import RunError

ABOUT = {"date": "2026-01-02", "commit": "abc", "machine": {"cores": 2, "load_before": 0.1}}
LOAD = {"busy_share": 0.987, "cpu_ms": 4.0, "idle_ms_per_job": 12.3, "health_p99_ms": None}
REFUSED = {"what": "refused", "clients": 500, "statuses": {"200": 148, "503": 355}, **LOAD}
SAVED: dict[str, Any] = {
    "parts": {
        "webuis": {"about": ABOUT, "took_s": 9, "found": [{"what": "webuis", "webuis": 4, "clients": 6, **LOAD}]},
        "waiting": {"about": ABOUT, "took_s": 9, "found": [{"what": "waiting", "waiting": 128, **LOAD}, REFUSED]},
    }
}


def test_each_part_that_was_measured_has_its_tables() -> None:
    assert [len(table.rows) for table in tables(SAVED)] == [1, 1, 1]
    printed = text(SAVED)
    assert "148 × 200, 355 × 503" in printed
    assert "98.7" in printed
    assert "mixed traffic" not in printed


def test_publishing_changes_what_is_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.SCALE_BEGIN}\nold\n{report.SCALE_END}\nafter\n", encoding="utf-8")
    report.publish_scale(SAVED, page=page, picture=tmp_path / "scale.svg")
    published = page.read_text(encoding="utf-8")
    assert published.startswith("before\n")
    assert published.endswith("after\n")
    assert "355 × 503" in published
    assert "old" not in published
    first = (tmp_path / "scale.svg").read_bytes()
    report.publish_scale(copy.deepcopy(SAVED), page=page, picture=tmp_path / "scale.svg")
    assert (tmp_path / "scale.svg").read_bytes() == first


def test_a_page_without_marks_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="no place for the tables"):
        report.publish_scale(SAVED, page=page, picture=tmp_path / "scale.svg")


def test_the_schedule_alone_keeps_its_webuis_busy_and_its_queue_full() -> None:
    queue = scheduler.Queue(3)
    state = queue.filled(5)
    for change in (queue.end, queue.enter) * 4:
        state = change(state)
    assert (len(state.running), len(state.waiting)) == (3, 5)


def test_a_disk_without_room_is_refused_before_anything_is_written() -> None:
    with pytest.raises(RunError, match="set TMPDIR to another disk"):
        folder.rows(10**12, lambda text: None)
