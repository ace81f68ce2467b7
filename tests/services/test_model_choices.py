"""Which model a caller has chosen, over hosts whose Redis comes and goes and whose clocks differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sd_client.errors import QueueUnavailableError
from services.model_choices import KEEP_S, PREFIX, ModelChoices
from state.sqlite import SqliteStore
from state.store import Change, StoreError
from state.stores import Stores, open_stores
from tests.running import RedisServer, wait_until

DAY_S = 86_400.0


class Clocked(SqliteStore):
    """A host's store whose clock is set, and whose disk can fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ahead_s = 0.0
        self.fails = False
        self.writes = 0

    def now(self) -> float:
        return super().now() + self.ahead_s

    def get(self, key: str) -> bytes | None:
        self._fail()
        return super().get(key)

    def update(self, key: str, change: Change, *, ttl_s: float) -> bytes:
        self._fail()
        self.writes += 1
        return super().update(key, change, ttl_s=ttl_s)

    def _fail(self) -> None:
        if self.fails:
            raise StoreError("the disk fails")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Clocked]]:
    """What two hosts share, and what each has."""
    made = [Clocked(tmp_path / name / "state.sqlite") for name in ("shared", "one", "two")]
    yield made
    for store in made:
        store.close()


def choices_of(store: Clocked, host: Clocked) -> ModelChoices:
    return ModelChoices(store=store, host=host, is_shared=lambda: True)


def test_each_caller_has_its_own_and_the_last_one_holds(places: list[Clocked]) -> None:
    shared, one, two = places
    here, there = choices_of(shared, one), choices_of(shared, two)
    assert here.chosen("a") is None
    here.choose("a", "x")
    there.choose("b", "y")
    assert (there.chosen("a"), here.chosen("b")) == ("x", "y")
    there.choose("a", "z")
    assert here.chosen("a") == "z"


def test_a_caller_is_not_written_down(places: list[Clocked]) -> None:
    shared, one, _ = places
    choices_of(shared, one).choose("address:10.0.0.7", "x")
    ((key, _, left_s),) = shared.items(PREFIX)
    assert "10.0.0.7" not in key
    assert 7 * DAY_S < left_s <= KEEP_S


def test_the_later_choice_is_the_newer_one_whatever_the_clocks_say(places: list[Clocked]) -> None:
    shared, one, two = places
    here, there = choices_of(shared, one), choices_of(shared, two)
    shared.ahead_s = 1000
    here.choose("a", "x")
    shared.ahead_s = 0
    there.choose("a", "y")
    here.choose("a", "z")
    assert (here.chosen("a"), there.chosen("a")) == ("z", "z")


def test_its_use_is_recorded_once_a_day(places: list[Clocked]) -> None:
    shared, one, _ = places
    choices = choices_of(shared, one)
    choices.choose("a", "x")
    shared.writes = 0
    for _ in range(3):
        assert choices.chosen("a") == "x"
    assert shared.writes == 0
    shared.ahead_s = DAY_S + 60
    for _ in range(3):
        assert choices.chosen("a") == "x"
    assert shared.writes == 1


def test_the_newest_that_a_host_has_seen_comes_back(places: list[Clocked]) -> None:
    """Another host may push an older choice once Redis is back."""
    shared, one, two = places
    here, there = choices_of(shared, one), choices_of(shared, two)
    here.choose("a", "old")
    ((key, old, _),) = shared.items(PREFIX)
    there.choose("a", "new")
    shared.put(key, old, ttl_s=60)
    assert there.chosen("a") == "new"
    assert here.chosen("a") == "new"


def test_one_place_is_enough_and_none_is_no_guess(places: list[Clocked]) -> None:
    shared, one, _ = places
    choices = choices_of(shared, one)
    shared.fails = True
    choices.choose("a", "x")
    assert choices.chosen("a") == "x"
    with pytest.raises(QueueUnavailableError):
        choices.chosen("another, of whom nothing is known")
    one.fails = True
    with pytest.raises(QueueUnavailableError):
        choices.chosen("a")
    with pytest.raises(QueueUnavailableError):
        choices.choose("a", "y")


@pytest.mark.parametrize("foreign", [b"", b"x", b"[]", json.dumps({"model": 7}).encode()])
def test_what_another_version_wrote_is_no_choice(places: list[Clocked], foreign: bytes) -> None:
    shared, one, _ = places
    choices = choices_of(shared, one)
    choices.choose("a", "x")
    ((key, _, _),) = shared.items(PREFIX)
    for place in (shared, one):
        place.put(key, foreign, ttl_s=60)
    assert choices.chosen("a") is None
    choices.choose("a", "y")
    assert choices.chosen("a") == "y"


def opened(folder: Path, redis_url: str) -> Stores:
    return open_stores(
        folder / "run",
        durable_dir=folder / "kept",
        durable=(PREFIX,),
        redis_url=redis_url,
        redis_prefix="test",
        on_redis_error=lambda: None,
    )


def choices_in(stores: Stores) -> ModelChoices:
    failover = stores.failover
    assert failover is not None
    return ModelChoices(store=stores.durable, host=stores.host, is_shared=lambda: failover.up)


def test_while_redis_is_down_each_host_goes_by_the_last_it_knows(redis_server: RedisServer, tmp_path: Path) -> None:
    with ExitStack() as stack:
        hosts = [opened(tmp_path / name, redis_server.url) for name in ("one", "two")]
        for stores in hosts:
            stores.start()
            stack.callback(stores.close)
        here, there = map(choices_in, hosts)
        here.choose("a", "first")
        here.choose("b", "of b")
        there.choose("a", "second")
        assert here.chosen("a") == "second"
        redis_server.stop()
        assert (here.chosen("a"), there.chosen("a")) == ("second", "second")
        assert (here.chosen("b"), there.chosen("b")) == ("of b", None), "there it was never used"
        there.choose("a", "third")
        assert here.chosen("a") == "second", "which is the last that this host knows"
        redis_server.start()
        wait_until(lambda: all(stores.failover and stores.failover.up for stores in hosts), "both use it again")
        assert here.chosen("a") == "third", "what was chosen meanwhile is there, and nothing older in its place"
