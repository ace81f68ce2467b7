"""The files are prometheus_client's: what it writes is read, and it reads what is written."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from observability.counts_file import key_of, read_counts, write_counts
from observability.metrics_folder import reserve

COUNTS = {"": 1.0, "a": 0.1, "abcd": 2.0, "é" * 7: 3.5, "x" * 100_000: 1e300}


def by_prometheus_client(path: Path, counts: Mapping[str, float]) -> None:
    with contextlib.closing(MmapedDict(str(path))) as file:
        for key, value in counts.items():
            file.write_value(key, value, 0.0)


def test_what_a_worker_wrote_is_read(tmp_path: Path) -> None:
    by_prometheus_client(tmp_path / "counter_7.db", COUNTS)
    assert read_counts(tmp_path / "counter_7.db") == COUNTS


@given(counts=st.dictionaries(st.text(), st.floats(allow_nan=False)))
def test_what_is_written_is_read_by_prometheus_client(
    tmp_path_factory: pytest.TempPathFactory, counts: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("counts") / "counter_dead.db"
    write_counts(path, counts)
    found = {key.rstrip(): value for key, value, *_ in MmapedDict.read_all_values_from_file(path)}
    assert found == {key.rstrip(): value for key, value in counts.items()}
    assert read_counts(path) == counts
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_was_set_aside_has_none(tmp_path: Path) -> None:
    reserve(tmp_path, 7)
    assert read_counts(tmp_path / "counter_7.db") == {}


def test_the_key_of_a_counter() -> None:
    assert key_of("deaths", 'A "text".') == mmap_key("deaths", "deaths_total", [], [], 'A "text".')


def test_without_room_there_is_what_there_was(tmp_path: Path) -> None:
    (tmp_path / "counter_dead.tmp").mkdir()  # it cannot be written to
    by_prometheus_client(tmp_path / "counter_dead.db", {"a": 1.0})
    with pytest.raises(OSError, match="directory"):
        write_counts(tmp_path / "counter_dead.db", {"a": 2.0})
    assert read_counts(tmp_path / "counter_dead.db") == {"a": 1.0}
