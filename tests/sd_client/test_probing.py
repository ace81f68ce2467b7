"""Who looks at the WebUIs, how gently, and what is known of them; against a real server."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sd_client.client import WebUIClient
from sd_client.limits import Limits
from sd_client.models import DUMMY_HASH, Capabilities, Sampler
from sd_client.probing import DEFAULT_PACE, TOGETHER, TURN_S, Pace, Probing
from state.holders import Holders
from state.sqlite import STATE_FILE, SqliteStore
from state.store import Change, StoreError
from tests.sd_client.jobs import CHECKPOINT
from tests.sd_client.servers import (
    NOT_FOUND,
    Answer,
    Received,
    WebServer,
    a1111_routes,
    as_json,
    closed_port,
    wait_for,
)

#: Many looks a second.
FAST = Pace(interval_s=0.05, first_pause_s=0.02, longest_pause_s=0.1, refresh_s=0.02, share_s=0.02)
MODELS = "GET /sdapi/v1/sd-models"
MODELS_PATH = "/sdapi/v1/sd-models"
FULL_LOOK_PATH = "/sdapi/v1/memory"

StartWorker = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def web_server(web_server: WebServer) -> WebServer:
    web_server.routes |= a1111_routes()
    return web_server


@contextmanager
def probing_of(url: str, folder: Path, *, read_timeout_s: float = 10.0, **options: object) -> Iterator[Probing]:
    with probing(folder, {"webui": WebUIClient(url, read_timeout_s=read_timeout_s)}, **options) as started:
        yield started


@contextmanager
def probing(
    folder: Path, clients: Mapping[str, WebUIClient], *, busy: bool = False, pace: Pace = FAST, **options: Any
) -> Iterator[Probing]:
    """That of another process, which ends with the block."""
    holders, ended = Holders(folder), threading.Event()

    def renew() -> None:  # as the queue does
        while not ended.wait(0.02):
            with suppress(StoreError):
                holders.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    made = Probing(clients, store_of(folder), holders, is_busy=lambda webui: busy, pace=pace, **options)
    made.start()
    try:
        yield made
    finally:
        made.close()
        ended.set()
        thread.join()
        holders.close()


def store_of(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "state.sqlite")


def looks(server: WebServer) -> int:
    return server.paths().count(MODELS_PATH)


def wait_for_looks(server: WebServer, more: int) -> None:
    enough = looks(server) + more
    wait_for(lambda: looks(server) >= enough, f"{more} more looks")


def available(probing: Probing) -> bool:
    state = probing.states().get("webui")
    return state is not None and state.available


# --- Looking --------------------------------------------------------------------------------------------------------


def test_nothing_is_known_before_the_first_look(web_server: WebServer, tmp_path: Path) -> None:
    holders = Holders(tmp_path)
    clients = {"webui": WebUIClient(web_server.url)}
    probing = Probing(clients, store_of(tmp_path), holders, is_busy=lambda webui: False, pace=FAST)
    assert probing.states() == {}
    assert not probing.wait_for_first_look(0)
    assert web_server.received == []
    probing.close()
    holders.close()


def test_the_first_look_sees_everything(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        state = probing.states()["webui"]
    assert state.available
    assert state.capabilities == WebUIClient(web_server.url).capabilities()


def test_the_first_look_may_see_nothing(tmp_path: Path) -> None:
    with probing_of(f"http://127.0.0.1:{closed_port()}", tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        state = probing.states()["webui"]
    assert (state.available, state.capabilities) == (False, None)


def test_all_webuis_are_looked_at_before_the_first_look_is_over(web_server: WebServer, tmp_path: Path) -> None:
    looked_at = threading.Event()

    def slow(received: Received) -> Answer:
        looked_at.wait(20)
        return as_json([])

    other = WebServer({MODELS: slow})
    clients = {"one": WebUIClient(web_server.url), "other": WebUIClient(other.url)}
    with probing(tmp_path, clients) as started:
        wait_for(lambda: "one" in started.states(), "the look at one")
        assert not started.wait_for_first_look(0)
        looked_at.set()
        assert started.wait_for_first_look(20)
        assert started.states().keys() == {"one", "other"}
    other.close()


def test_only_one_path_while_it_is_up(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        wait_for_looks(web_server, 1)
        begun = len(web_server.received)
        wait_for_looks(web_server, 5)
        assert set(web_server.paths()[begun:]) == {MODELS_PATH}


@pytest.mark.parametrize("answer", [NOT_FOUND, Answer(status=503), Answer(body=b"<html>")])
def test_only_one_path_while_it_starts(web_server: WebServer, tmp_path: Path, answer: Answer) -> None:
    web_server.routes[MODELS] = answer
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        wait_for_looks(web_server, 4)
        assert not available(probing)
    assert set(web_server.paths()) == {MODELS_PATH}


def test_everything_is_looked_at_again_in_time(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path, pace=Pace(interval_s=0.02, first_pause_s=0.02, full_look_s=0.1)):
        wait_for(lambda: web_server.paths().count(FULL_LOOK_PATH) >= 3, "the third full look")


def test_new_models_are_seen_with_every_look(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as probing, probing_of(web_server.url, tmp_path) as follower:
        for observer in (probing, follower):
            assert observer.wait_for_first_look(20)
        for name in ("new.ckpt", "newer.ckpt"):
            web_server.routes[MODELS] = as_json([{"title": name, "model_name": name}])
            for observer in (probing, follower):
                wait_for(lambda observer=observer, name=name: models_of(observer) == (name,), "the new model")
        assert web_server.paths().count(FULL_LOOK_PATH) == 1


def test_all_processes_know_within_five_seconds_that_a_webui_has_gone() -> None:
    """Beside the time that the WebUI itself takes for an answer."""
    assert DEFAULT_PACE.interval_s + DEFAULT_PACE.refresh_s <= 5.0
    # Looks begin on the beats on which the others read, or a little later, so that these are at most a period apart.
    assert DEFAULT_PACE.interval_s % DEFAULT_PACE.refresh_s == 0
    assert DEFAULT_PACE.refresh_s / 2 > TOGETHER * TURN_S


def models_of(probing: Probing) -> tuple[str, ...]:
    seen = probing.states()["webui"].capabilities
    return tuple(checkpoint.title for checkpoint in seen.checkpoints) if seen else ()


def test_a_list_of_models_that_is_empty_for_a_moment_is_not_believed(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        web_server.routes[MODELS] = as_json([])
        wait_for_looks(web_server, 3)
        assert available(probing)
        assert models_of(probing) == (CHECKPOINT.title,)


def test_a_broken_list_is_told_once_and_heals(
    web_server: WebServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    broken = "GET /sdapi/v1/schedulers"
    web_server.routes[broken] = as_json({"error": "ResponseValidationError"}, 500)
    with probing_of(web_server.url, tmp_path, pace=replace(FAST, full_look_s=0.05)) as probing:
        assert probing.wait_for_first_look(20)
        assert available(probing)
        wait_for(lambda: web_server.paths().count(FULL_LOOK_PATH) >= 4, "further whole looks")
        lines = [record.getMessage() for record in caplog.records if "schedulers" in record.getMessage()]
        assert len(lines) == 1
        assert "ResponseValidationError" in lines[0]
        web_server.routes[broken] = a1111_routes()[broken]
        wait_for(lambda: len(schedulers_of(probing)) == 3, "the schedulers")


def schedulers_of(probing: Probing) -> tuple[Sampler, ...]:
    seen = probing.states()["webui"].capabilities
    return (seen and seen.schedulers) or ()


def test_a_late_list_is_asked_for_again_with_the_next_look(web_server: WebServer, tmp_path: Path) -> None:
    gate = threading.Event()

    def late(received: Received) -> Answer:
        gate.wait(20)
        return as_json([{"name": "detail"}])

    web_server.routes["GET /sdapi/v1/loras"] = late
    with probing_of(web_server.url, tmp_path, read_timeout_s=0.3) as probing:
        assert probing.wait_for_first_look(20)
        assert available(probing)
        gate.set()
        wait_for(lambda: loras_of(probing) == ("detail",), "the list that was late")


def loras_of(probing: Probing) -> tuple[str, ...]:
    seen = probing.states()["webui"].capabilities
    return tuple(lora.name for lora in seen.loras) if seen else ()


class Failing(WebUIClient):
    """Ends its first looks in an error that nobody has foreseen."""

    def __init__(self, url: str, *, fails: int) -> None:
        super().__init__(url)
        self.fails = fails

    def capabilities(self, known: Capabilities | None = None) -> Capabilities:
        self.fails -= 1
        if self.fails >= 0:
            raise ZeroDivisionError
        return super().capabilities(known)


def test_an_error_in_one_look_does_not_end_the_looking(
    web_server: WebServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clients = {"webui": Failing(web_server.url, fails=2)}
    with probing(tmp_path, clients) as started:
        wait_for(lambda: available(started), "a look without an error")
    assert [record.getMessage() for record in caplog.records].count("a look ended in an error: ZeroDivisionError") == 2


# --- Going and coming -----------------------------------------------------------------------------------------------


def test_an_away_webui_keeps_its_capabilities(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as probing, probing_of(web_server.url, tmp_path) as follower:
        assert probing.wait_for_first_look(20)
        assert follower.wait_for_first_look(20)
        seen = probing.states()["webui"].capabilities
        web_server.routes[MODELS] = NOT_FOUND
        for observer in (probing, follower):
            wait_for(lambda observer=observer: not available(observer), "the WebUI away")
            assert observer.states()["webui"].capabilities == seen


def test_a_webui_that_returns_is_looked_at_wholly(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        web_server.routes[MODELS] = NOT_FOUND
        wait_for(lambda: not available(probing), "the WebUI away")
        web_server.routes |= a1111_routes() | {"GET /sdapi/v1/loras": as_json([{"name": "new"}])}
        wait_for(lambda: available(probing), "the WebUI back")
        seen = probing.states()["webui"].capabilities
        assert seen is not None
        assert [lora.name for lora in seen.loras] == ["new"]


def held(gate: threading.Event) -> Callable[[Received], Answer]:
    def answer(received: Received) -> Answer:
        gate.wait(20)
        return a1111_routes()[MODELS]  # type: ignore[return-value]

    return answer


@pytest.mark.parametrize("busy", [True, False])
def test_no_answer_in_time_means_down_but_not_while_it_paints(
    web_server: WebServer, tmp_path: Path, busy: bool
) -> None:
    gate = threading.Event()
    with probing_of(web_server.url, tmp_path, busy=busy, read_timeout_s=0.3) as probing:
        assert probing.wait_for_first_look(20)
        before = probing.states()["webui"]
        web_server.routes[MODELS] = held(gate)
        wait_for(lambda: probing.states()["webui"].full_look == 0.0, "a look without an answer")
        assert probing.states()["webui"].available is busy
        assert probing.states()["webui"].capabilities == before.capabilities
        gate.set()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (as_json({"detail": "Not authenticated"}, 401), "the WebUI answered 401"),
        (NOT_FOUND, "the WebUI answered 404"),
        (as_json({"error": "RuntimeError", "errors": "secret prompt"}, 500), "the WebUI answered 500 (RuntimeError)"),
    ],
)
def test_the_log_says_why_a_webui_is_unavailable(
    web_server: WebServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: Answer, reason: str
) -> None:
    caplog.set_level(logging.WARNING)
    with probing_of(web_server.url, tmp_path):
        wait_for(lambda: "webui available" in caplog.text, "it is there")
        web_server.routes[MODELS] = answer
        wait_for(lambda: f"webui unavailable: {reason}" in caplog.text, "the reason is told")
    lines = [record for record in caplog.records if "unavailable" in record.message]
    assert [record.levelname for record in lines] == ["WARNING"], "once"
    assert "secret" not in caplog.text
    assert web_server.url not in caplog.text


def test_another_reason_is_told_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    server = WebServer({MODELS: as_json({"detail": "Not authenticated"}, 401)})
    try:
        with probing_of(server.url, tmp_path):
            wait_for(lambda: "answered 401" in caplog.text, "the first reason")
            server.close()
            wait_for(lambda: "refused" in caplog.text, "the second")
    finally:
        server.close()


def test_one_that_was_never_there_is_not_taken_for_busy(web_server: WebServer, tmp_path: Path) -> None:
    gate = threading.Event()
    web_server.routes[MODELS] = held(gate)
    with probing_of(web_server.url, tmp_path, busy=True, read_timeout_s=0.2) as probing:
        assert probing.wait_for_first_look(20)
        assert not available(probing)
        gate.set()


def test_a_reported_failure_counts_until_the_next_look(web_server: WebServer, tmp_path: Path) -> None:
    gate = threading.Event()
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        seen = probing.states()["webui"].capabilities
        web_server.routes[MODELS] = held(gate)
        # The look that is under way began before the failure and cannot refute it.
        wait_for_looks(web_server, 1)
        probing.report_failure("webui")
        assert not available(probing)
        assert probing.states()["webui"].capabilities == seen
        gate.set()
        wait_for(lambda: available(probing), "a look after the failure")


def test_a_reported_failure_wakes_the_prober(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path, pace=Pace(interval_s=3600, first_pause_s=0.01)) as probing:
        assert probing.wait_for_first_look(20)
        probing.report_failure("webui")
        wait_for(lambda: available(probing), "a look long before its time")


def dummy_models(title: str) -> Answer:
    return as_json([{"title": title, "model_name": title, "hash": DUMMY_HASH}])


def limits_of(probing: Probing) -> Limits | None:
    seen = probing.states()["webui"].capabilities
    return seen.limits if seen else None


LEARNED = Limits(size_step=64, sure_size_step=64)


def test_a_server_without_a_model_is_looked_at_wholly_as_soon_as_it_has_one(
    web_server: WebServer, tmp_path: Path
) -> None:
    web_server.routes[MODELS] = as_json([])
    web_server.routes["GET /api/extra/version"] = as_json({"result": "KoboldCpp"})
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        web_server.routes[MODELS] = dummy_models("flux")
        wait_for(
            lambda: bool((seen := probing.states()["webui"].capabilities) and not seen.paints_batches), "KoboldCpp"
        )


def test_what_one_process_learns_all_know(web_server: WebServer, tmp_path: Path) -> None:
    web_server.routes[MODELS] = dummy_models("sd15")
    with probing_of(web_server.url, tmp_path) as prober, probing_of(web_server.url, tmp_path) as follower:
        for observer in (prober, follower):
            assert observer.wait_for_first_look(20)
            assert limits_of(observer) == Limits(size_step=8, sure_size_step=64)
        follower.learn("webui", LEARNED)
        assert limits_of(follower) == LEARNED
        for observer in (prober, follower):
            wait_for(lambda observer=observer: limits_of(observer) == LEARNED, "what was learned")
        wait_for_looks(web_server, 3)
        assert limits_of(prober) == LEARNED


def test_what_was_learned_is_of_one_model(web_server: WebServer, tmp_path: Path) -> None:
    web_server.routes[MODELS] = dummy_models("sd15")
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        probing.learn("webui", LEARNED)
        web_server.routes[MODELS] = dummy_models("flux")
        wait_for(lambda: models_of(probing) == ("flux",), "the other model")
        assert limits_of(probing) == Limits(size_step=8, sure_size_step=64)


def test_what_was_learned_ends_with_the_webui(web_server: WebServer, tmp_path: Path) -> None:
    """It may have been started with other options."""
    web_server.routes[MODELS] = dummy_models("sd15")
    with probing_of(web_server.url, tmp_path) as prober, probing_of(web_server.url, tmp_path) as follower:
        for observer in (prober, follower):
            assert observer.wait_for_first_look(20)
        follower.learn("webui", LEARNED)
        wait_for(lambda: limits_of(prober) == LEARNED, "what was learned")
        web_server.routes[MODELS] = NOT_FOUND
        wait_for(lambda: not available(follower), "the WebUI away")
        web_server.routes[MODELS] = dummy_models("sd15")
        for observer in (prober, follower):
            wait_for(lambda observer=observer: available(observer), "the WebUI back")
            wait_for(lambda observer=observer: limits_of(observer) != LEARNED, "nothing learned")


def test_what_cannot_be_written_is_known_here(web_server: WebServer, tmp_path: Path) -> None:
    web_server.routes[MODELS] = dummy_models("sd15")
    with probing_of(web_server.url, tmp_path / "run") as probing:
        assert probing.wait_for_first_look(20)
        make_unusable(tmp_path / "run")
        probing.learn("webui", LEARNED)
        wait_for_looks(web_server, 3)
        assert limits_of(probing) == LEARNED


# --- Several processes ----------------------------------------------------------------------------------------------


class Counting(SqliteStore):
    """Counts what is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.written: list[str] = []

    def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self.written.append(key)
        super().put(key, value, ttl_s=ttl_s)

    def update(self, key: str, change: Change, *, ttl_s: float) -> bytes:
        self.written.append(key)
        return super().update(key, change, ttl_s=ttl_s)


def test_what_a_webui_can_do_is_written_once_as_long_as_it_stays_the_same(
    web_server: WebServer, tmp_path: Path
) -> None:
    store, holders = Counting(tmp_path / STATE_FILE), Holders(tmp_path)
    pace = replace(FAST, full_look_s=0.05)
    clients = {"webui": WebUIClient(web_server.url)}
    probing = Probing(clients, store, holders, is_busy=lambda webui: False, pace=pace)
    probing.start()
    wait_for(lambda: web_server.paths().count(FULL_LOOK_PATH) >= 5, "whole looks")
    wait_for(lambda: len([key for key in store.written if key.startswith("seen:")]) >= 5, "what was seen, and when")
    web_server.routes["GET /sdapi/v1/loras"] = as_json([{"name": "new"}])
    wait_for(lambda: loras_of(probing) == ("new",), "the new list")
    probing.close()
    holders.close()
    assert len([key for key in store.written if key.endswith(":webui")]) == 2


def test_whoever_begins_after_the_store_was_lost_knows_as_well(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as first:
        assert first.wait_for_first_look(20)
        for path in tmp_path.glob(f"{STATE_FILE}*"):
            path.unlink()
        store = store_of(tmp_path)
        wait_for(lambda: len(list(store.items("seen:"))) == 2, "all that the first saw is written anew")
        store.close()
        with probing_of(web_server.url, tmp_path) as second:
            wait_for(lambda: available(second), "what the first saw")
            assert models_of(second) == models_of(first) == (CHECKPOINT.title,)
        assert web_server.paths().count(FULL_LOOK_PATH) == 1


def test_of_two_on_one_folder_one_looks(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path) as one, probing_of(web_server.url, tmp_path) as other:
        for probing in (one, other):
            assert probing.wait_for_first_look(20)
        wait_for_looks(web_server, 5)
        assert web_server.paths().count(FULL_LOOK_PATH) == 1
        assert one.states()["webui"].capabilities == other.states()["webui"].capabilities
        assert available(one)
        assert available(other)


def test_whoever_begins_beside_another_knows_at_once(web_server: WebServer, tmp_path: Path) -> None:
    """A worker that takes another's place is healthy from its first answer on."""
    with probing_of(web_server.url, tmp_path) as first:
        assert first.wait_for_first_look(20)
        with probing_of(web_server.url, tmp_path, pace=Pace(refresh_s=60)) as second:
            assert second.states()["webui"].available
            assert second.wait_for_first_look(0)


def test_a_prober_that_ends_is_followed_by_another(web_server: WebServer, tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(probing_of(web_server.url, tmp_path))
        assert first.wait_for_first_look(20)
        with probing_of(web_server.url, tmp_path) as follower:
            assert follower.wait_for_first_look(20)
            stack.close()
            wait_for_looks(web_server, 3)
            assert available(follower)
    # It went on from what the first had seen.
    assert web_server.paths().count(FULL_LOOK_PATH) == 1


def test_a_prober_that_is_killed_is_followed_by_another(
    web_server: WebServer, tmp_path: Path, start_worker: StartWorker
) -> None:
    process = start_worker(tmp_path, web_server.url)
    with probing_of(web_server.url, tmp_path) as follower:
        assert follower.wait_for_first_look(20)
        assert web_server.paths().count(FULL_LOOK_PATH) == 1
        process.kill()
        process.wait()
        wait_for_looks(web_server, 3)
        web_server.routes[MODELS] = NOT_FOUND
        wait_for(lambda: not available(follower), "what the new prober sees")


def looked_at(server: WebServer, folder: Path, *, ago_s: float) -> None:
    """By an earlier run, by the clock of this one."""
    with probing_of(server.url, folder, clock=lambda: time.monotonic() - ago_s) as earlier:
        assert earlier.wait_for_first_look(20)
        wait_for(lambda: available(earlier), "it was there")


@pytest.mark.parametrize("ago_s", [31.0, -1000.0])
def test_what_an_earlier_run_saw_is_not_believed(web_server: WebServer, tmp_path: Path, ago_s: float) -> None:
    """Also not what was seen "later" than now: it is of another boot."""
    looked_at(web_server, tmp_path, ago_s=ago_s)
    web_server.routes[MODELS] = NOT_FOUND
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        assert probing.states()["webui"].capabilities is None


def test_what_was_seen_just_before_a_restart_is_used(web_server: WebServer, tmp_path: Path) -> None:
    looked_at(web_server, tmp_path, ago_s=0.0)
    gate = threading.Event()
    web_server.routes[MODELS] = held(gate)
    with probing_of(web_server.url, tmp_path) as probing:
        assert probing.wait_for_first_look(20)
        assert available(probing)
        gate.set()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"available": true}'])
def test_what_another_version_wrote_is_written_over(web_server: WebServer, tmp_path: Path, content: bytes) -> None:
    looked_at(web_server, tmp_path, ago_s=0.0)
    store = store_of(tmp_path)
    keys = [key for key, _, _ in store.items("seen:")]
    assert len(keys) == 2
    for key in keys:
        store.put(key, content, ttl_s=60)
    with probing_of(web_server.url, tmp_path) as probing, probing_of(web_server.url, tmp_path) as other:
        for observer in (probing, other):
            assert observer.wait_for_first_look(20)
            assert available(observer)


def make_unusable(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("no folder")


def test_a_store_that_fails_does_not_stop_the_looks(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path / "run") as probing:
        assert probing.wait_for_first_look(20)
        make_unusable(tmp_path / "run")
        wait_for_looks(web_server, 3)
        web_server.routes[MODELS] = NOT_FOUND
        wait_for(lambda: not available(probing), "the WebUI gone")


def test_closing_ends_all_threads(web_server: WebServer, tmp_path: Path) -> None:
    with probing_of(web_server.url, tmp_path, pace=Pace()) as probing:
        assert probing.wait_for_first_look(20)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prob")]


def test_a_folder_that_was_cleared_away(web_server: WebServer, tmp_path: Path) -> None:
    """All processes go on to see, and still one looks."""
    folder, pace = tmp_path / "run" / "pool", replace(FAST, interval_s=0.2)
    with probing_of(web_server.url, folder, pace=pace) as one, probing_of(web_server.url, folder, pace=pace) as two:
        assert one.wait_for_first_look(20)
        assert two.wait_for_first_look(20)
        shutil.rmtree((tmp_path / "run").rename(tmp_path / "deleted"))
        deleted = time.monotonic()

        def both_see() -> bool:
            assert available(one)
            assert available(two)
            return all(probing.states()["webui"].seen > deleted + 1.0 for probing in (one, two))

        wait_for(both_see, "what was seen after that")
        begun, looked = time.monotonic(), looks(web_server)
        wait_for_looks(web_server, 10)
        most = 3 + (time.monotonic() - begun) / pace.interval_s
        assert looks(web_server) - looked <= most, "one process looks"
        assert folder.stat().st_mode & 0o077 == 0
