"""One process of a host is elected, and another one as soon as it dies."""

from __future__ import annotations

from pathlib import Path

from state.election import Election
from state.holders import Holders
from state.sqlite import SqliteStore


def test_one_is_elected_for_as_long_as_it_lives(tmp_path: Path) -> None:
    processes = [Holders(tmp_path) for _ in range(3)]
    elections = [Election(SqliteStore(tmp_path / "state.sqlite"), holders, "task") for holders in processes]
    assert [election.is_won() for election in elections * 2] == [True, False, False] * 2
    processes[0].close()
    assert [election.is_won() for election in (elections[2], elections[1])] == [True, False]
    for holders in processes[1:]:
        holders.close()


def test_tasks_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    store, one, other = SqliteStore(tmp_path / "state.sqlite"), Holders(tmp_path), Holders(tmp_path)
    assert Election(store, one, "task").is_won()
    assert Election(store, other, "another task").is_won()
    one.close()
    other.close()


def test_whoever_is_no_longer_elected_knows(tmp_path: Path) -> None:
    """The file was deleted, and another one was faster."""
    store, one, other = SqliteStore(tmp_path / "state.sqlite"), Holders(tmp_path), Holders(tmp_path)
    mine, theirs = Election(store, one, "task"), Election(store, other, "task")
    assert mine.is_won()
    (tmp_path / "state.sqlite").unlink()
    assert theirs.is_won()
    assert not mine.is_won()
    one.close()
    other.close()
