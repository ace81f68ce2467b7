"""What one process has tried, the others know; and when it is to be tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sd_client.models import Checkpoint
from sd_client.trials import FAILED_S, Trials
from state.sqlite import STATE_FILE, SqliteStore
from state.store import StoreError
from tests.clock import Clock

MODEL = Checkpoint(title="a.safetensors [6ce0161689]", model_name="a", hash="6ce0161689", filename="a.safetensors")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / STATE_FILE)) as opened:
        yield opened


class Process:
    """What a process knows by the store: the starts of WebUIs, and what was tried."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self.starts = {"one": "first", "two": "first"}
        self.known = Trials(store, "lora", start_of=lambda webui: self.starts.get(webui, ""), now=clock)

    def passed(self, webui: str = "one", model: Checkpoint = MODEL, thing: str = "dress") -> bool | None:
        result = self.known.find(webui, model, thing)
        return result and result.passed


def test_all_processes_know_what_one_has_tried(store: SqliteStore) -> None:
    here, there = Process(store, Clock()), Process(store, Clock())
    assert there.passed() is None
    here.known.put("one", MODEL, "dress", passed=True, hash="e868019ec2cc")
    here.known.put("two", MODEL, "dress", passed=False)
    found = there.known.find("one", MODEL, "dress")
    assert found is not None
    assert (found.passed, found.hash) == (True, "e868019ec2cc")
    assert there.known.failed(MODEL, "dress") == {"two"}
    there.known.forget("one", MODEL, "dress")
    assert here.passed() is None
    assert here.passed("two") is False


def test_each_thing_model_and_webui_is_tried_apart(store: SqliteStore) -> None:
    here = Process(store, Clock())
    here.known.put("one", MODEL, "dress", passed=True)
    assert here.passed(thing="coat") is None
    assert here.passed("two") is None
    assert here.passed(model=replace(MODEL, title="b.safetensors [6ce0161689]")) is None


def test_a_webui_that_was_started_anew(store: SqliteStore) -> None:
    here = Process(store, Clock())
    for passed, thing in ((True, "dress"), (False, "coat")):
        here.known.put("one", MODEL, thing, passed=passed)
    here.starts["one"] = "second"
    assert here.passed() is None
    assert here.known.failed(MODEL, "coat") == set()


def test_what_is_tried_while_the_start_is_unknown_is_tried_again(store: SqliteStore) -> None:
    here = Process(store, Clock())
    here.starts.clear()
    here.known.put("one", MODEL, "dress", passed=True)
    assert here.passed() is None


@pytest.mark.parametrize(("hash_", "passed"), [("6CE0161689", True), (None, True), ("0123456789", None)])
def test_another_file_of_the_model(store: SqliteStore, hash_: str | None, passed: bool | None) -> None:
    here = Process(store, Clock())
    here.known.put("one", MODEL, "dress", passed=True)
    assert here.passed(model=replace(MODEL, hash=hash_)) is passed


def test_only_failures_end_after_a_while(store: SqliteStore) -> None:
    clock = Clock()
    here = Process(store, clock)
    here.known.put("one", MODEL, "dress", passed=True)
    here.known.put("two", MODEL, "dress", passed=False)
    clock.now += FAILED_S - 1
    assert here.known.failed(MODEL, "dress") == {"two"}
    clock.now += 2
    assert here.known.failed(MODEL, "dress") == set()
    assert (here.passed("one"), here.passed("two")) == (True, None)


def test_what_another_release_wrote_is_tried_again(store: SqliteStore) -> None:
    here = Process(store, Clock())
    here.known.put("one", MODEL, "dress", passed=True)
    [(key, _, _)] = store.items("trial:")
    store.put(key, b'{"one": {"passed": 3}}', ttl_s=60)
    assert here.passed() is None
    here.known.put("one", MODEL, "dress", passed=True)
    assert here.passed() is True


def test_a_store_that_fails_costs_trials_and_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / STATE_FILE).mkdir()
    with closing(SqliteStore(tmp_path / STATE_FILE)) as broken:
        with pytest.raises(StoreError):
            broken.get("any")
        here = Process(broken, Clock())
        here.known.put("one", MODEL, "dress", passed=True)
        assert here.passed() is None
    assert "cannot be kept" in caplog.text
    assert "cannot be read" in caplog.text
