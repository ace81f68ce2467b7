"""Tables, goals and plots come from a file of results and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import goals, plot, report
from bench.results_file import Results

HERE = Path(__file__).parent


@pytest.fixture
def saved() -> Any:
    return json.loads((HERE / "results.json").read_text(encoding="utf-8"))


def goal(saved: Any, start: str) -> goals.Goal:
    return next(goal for goal in goals.goals(Results(saved)) if goal.what.startswith(start))


def test_ratios_are_the_medians_of_rounds_in_which_both_took_part(saved: Any) -> None:
    results = Results(saved)
    assert results.ratio("txt2img 1024²", "this service", "nginx proxy_pass") == 4.0  # of 4, 5 and 3
    assert results.ratio("txt2img 1024²", "tutorial with Pillow (N1)", "this service") == 50.0  # one round
    assert results.ratio("txt2img 1024²", "litellm proxy", "this service") is None


def test_a_server_that_failed_is_compared_to_nobody(saved: Any) -> None:
    next(row for row in saved["rows"] if row["target"] == "older checkout")["failed"] = 1
    assert goal(saved, "CPU of txt2img 1024², against the older checkout").met is None


@pytest.mark.parametrize(
    ("start", "measured", "met"),
    [
        ("CPU of txt2img 1024², against the older checkout", 1.25, False),
        ("CPU of img2img 1024², against the older checkout", 0.8, True),
        ("CPU of GET health, against the older checkout", None, None),
        ("CPU of txt2img 1024² by OpenAI's API, against this service", 1.1, True),
        ("CPU of txt2img 1024² by OpenAI's API, against litellm proxy", None, None),
        ("from start to healthy, against the older checkout", 0.8, True),
        ("RSS of an idle worker, against the older checkout", 1.2, False),
        ("peak RSS per simultaneous answer", 2.796, True),
        ("RSS per running img2img", 9.668, False),
        ("share of time in which 50 WebUIs are busy", 0.96, True),
        ("share of time in which 50 WebUIs are busy, Redis", None, None),
        ("GET health, p99", 15.5, False),
        ("refusing the surplus", 40.0, True),
    ],
)
def test_goals_are_judged(saved: Any, start: str, measured: float | None, met: bool | None) -> None:
    found = goal(saved, start)
    assert found.measured == (measured if measured is None else pytest.approx(measured))
    assert found.met is met


def test_without_an_older_checkout_nothing_is_held_against_it(saved: Any) -> None:
    saved["starts"] = [row for row in saved["starts"] if row["target"] == "this service"]
    assert not [goal for goal in goals.goals(Results(saved)) if "older" in goal.what]


def test_the_table_names_everybody_and_who_is_absent(saved: Any) -> None:
    text = report.text(saved)
    assert "Not measured: litellm proxy (not installed: make bench-litellm)." in text
    row = next(line for line in text.splitlines() if line.startswith("  tutorial without Pillow (N3)"))
    assert row.split()[4:7] == ["40.00", "20.00", "5.00"]  # CPU, in that of nginx, in that of the service


def test_figures_that_are_missing_do_not_stop_the_report(saved: Any) -> None:
    saved.update(memory=[], overload=[], starts=[], rows=[row for row in saved["rows"] if "N1" in row["target"]])
    text = report.text(saved)
    assert text.count("not measured") == len(goals.goals(Results(saved)))


def test_publishing_changes_what_is_between_the_marks(saved: Any, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "images" / "bench.svg"
    page.write_text(f"before\n{report.BEGIN}\nlast figures\n{report.END}\nafter\n", encoding="utf-8")
    report.publish(saved, page=page, picture=picture)
    first = page.read_text(encoding="utf-8")
    report.publish(saved, page=page, picture=picture)
    assert page.read_text(encoding="utf-8") == first
    assert first.startswith("before\n")
    assert first.endswith("after\n")
    assert "last figures" not in first
    assert "| what | goal | measured |" in first


def test_a_page_without_marks_is_not_touched(saved: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text", encoding="utf-8")
    with pytest.raises(ValueError, match="no place"):
        report.publish(saved, page=page, picture=tmp_path / "bench.svg")
    assert page.read_text(encoding="utf-8") == "text"


def test_the_same_figures_give_the_same_plot(saved: Any, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        plot.comparison(Results(saved), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    saved["rows"][0]["cpu_ms"] *= 2
    plot.comparison(Results(saved), tmp_path / "three.svg")
    assert (tmp_path / "one.svg").read_bytes() != (tmp_path / "three.svg").read_bytes()
