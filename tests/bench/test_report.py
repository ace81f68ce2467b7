"""Tables, goals and plots come from a file of results and from nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import goals, last_run, machine, plot, report
from bench.__main__ import last_summary, older_checkouts
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
    next(row for row in saved["rows"] if row["target"] == "build 85dd92f")["failed"] = 1
    assert goal(saved, "CPU of txt2img 1024², against build 85dd92f").met is None


@pytest.mark.parametrize(
    ("start", "measured", "met"),
    [
        ("CPU of txt2img 1024², against build 85dd92f", 1.25, False),
        ("CPU of img2img 1024², against build 85dd92f", 0.8, True),
        ("CPU of GET health, against build 85dd92f", None, None),
        ("CPU of txt2img 1024² by OpenAI's API, against this service", 1.1, True),
        ("CPU of txt2img 1024² by OpenAI's API, against litellm proxy", None, None),
        ("from start to healthy, against build 85dd92f", 0.8, True),
        ("RSS of an idle worker, against build 85dd92f", 1.2, False),
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


def test_a_goal_is_held_against_the_build_it_names_and_no_other(saved: Any) -> None:
    measured = json.loads(json.dumps(saved).replace("build 85dd92f", "build c0e2bf9"))
    assert goal(measured, "CPU of img2img 1024², against build 85dd92f").met is None
    assert goal(measured, "from start to healthy, against build 85dd92f").met is None
    held = goal(measured, "CPU of img2img 1024², against build c0e2bf9")
    assert (held.bound, held.measured, held.met) == (0.7, pytest.approx(0.8), False)


def test_an_idle_service_is_held_against_that_build_before_fewer_webuis(saved: Any) -> None:
    rows = [("this service", 16, 5.0), ("this service", 200, 30.0), ("build c0e2bf9", 16, 25.0)]
    saved["idle"] = [{"target": name, "webuis": count, "cpu_ms_per_s": cpu} for name, count, cpu in rows]
    assert goal(saved, "CPU of an idle service before 16 WebUIs").measured == pytest.approx(0.2)
    many = goal(saved, "CPU of an idle service before 200 WebUIs, against build c0e2bf9 before 16")
    assert (many.measured, many.met) == (pytest.approx(1.2), False)


def test_a_run_says_what_changed_since_the_last(saved: Any) -> None:
    assert "Since the last run" not in report.text(saved)
    last = json.loads(json.dumps(saved))
    last["about"]["commit"] = "0000000"
    next(row for row in last["starts"] if row["target"] == "this service")["start_s"] = 1.25
    for row in last["rows"]:
        if row["workload"] == "img2img 1024²" and row["target"] == "this service":
            row["cpu_ms_rounds"] = [40.0]
    last["rows"] = [row for row in last["rows"] if row["workload"] != "GET image 1024²"]
    saved["last"] = last_run.summary(Results(last))
    shown = last_run.table(Results(saved))
    assert shown is not None
    assert shown.title == "Since the last run, 2026-11-22 11:48 UTC, commit 0000000"
    rows = {row[0]: row[1:] for row in shown.rows}
    assert rows["CPU of img2img 1024² × build 85dd92f"] == ["1.60", "0.80", "-50%"]
    assert rows["from start to healthy × build 85dd92f"] == ["0.50", "0.80", "+60%"]
    assert rows["CPU of GET image 1024² × nginx static"] == ["–", "2.00", "–"]
    assert shown.title in report.text(saved)


def test_a_ratio_that_is_not_measured_any_more_is_shown_with_a_dash(saved: Any) -> None:
    saved["last"] = last_run.summary(Results(saved))
    saved["rows"] = [row for row in saved["rows"] if row["target"] != "build 85dd92f"]
    shown = last_run.table(Results(saved))
    assert shown is not None
    assert [row[1:] for row in shown.rows if row[0] == "CPU of img2img 1024² × build 85dd92f"] == [["0.80", "–", "–"]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with one commit."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(tmp_path)]
    (tmp_path / "gunicorn.conf.py").write_text("")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "a"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def test_older_checkouts_are_named_by_their_commits(checkout: Path) -> None:
    assert older_checkouts([]) == {}
    assert older_checkouts([checkout]) == {f"build {machine.commit(checkout)}": checkout}
    with pytest.raises(ValueError, match="as another one is"):
        older_checkouts([checkout, checkout])
    (checkout / "gunicorn.conf.py").write_text("changed")
    assert list(older_checkouts([checkout])) == [f"build {machine.commit(checkout)}"]
    assert machine.commit(checkout).endswith("+")


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a git checkout of this service"):
        older_checkouts([tmp_path])


def test_the_last_run_is_the_file_that_is_replaced(saved: Any, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    assert last_summary(path, needed=False) is None
    with pytest.raises(ValueError, match="does not hold the results of a run"):
        last_summary(path, needed=True)
    path.write_text(json.dumps(saved), encoding="utf-8")
    found = last_summary(path, needed=False)
    assert found is not None
    assert (found["date"], found["commit"]) == ("2026-11-22 11:48 UTC", "0123abc")
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="remove it, or name another"):
        last_summary(path, needed=False)


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
