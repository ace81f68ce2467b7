"""Two services that meet in one Redis unintentionally are warned; those that share WebUIs are not."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from services.installations import Installations
from state.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "state.sqlite")


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum("another installation" in record.getMessage() for record in caplog.records)


def known(store: SqliteStore) -> dict[str, object]:
    found: dict[str, object] = json.loads(store.get("installations") or b"{}")
    return found


def test_another_pool_under_the_same_prefix(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    shop = Installations(store, prefix="sd-api", webuis=["http://a:7860", "http://b:7860"])
    blog = Installations(store, prefix="sd-api", webuis=["http://c:7860"])
    shop.look()
    assert warnings(caplog) == 0
    blog.look()
    assert warnings(caplog) == 1
    shop.look()
    assert warnings(caplog) == 2
    assert "REDIS_PREFIX (sd-api)" in caplog.text
    assert b"7860" not in (store.get("installations") or b"")
    for _ in range(3):
        shop.look()
        blog.look()
    assert warnings(caplog) == 2, "once each"


@pytest.mark.parametrize(
    "webuis",
    [
        ["http://b:7860", "http://me:pw@A:7860"],
        ["http://b:7860", "http://c:7860"],
        ["http://a:7860", "http://b:7860", "http://c:7860"],
    ],
)
def test_no_warning_where_all_is_well(store: SqliteStore, caplog: pytest.LogCaptureFixture, webuis: list[str]) -> None:
    """The same pool; one that has a WebUI in common, or more of them since a reload."""
    caplog.set_level(logging.WARNING)
    both = [
        Installations(store, prefix="sd-api", webuis=["http://a:7860", "http://b:7860"]),
        Installations(store, prefix="sd-api", webuis=webuis),
    ]
    for one in both * 2:
        one.look()
    assert warnings(caplog) == 0


@pytest.mark.parametrize("age_s", [3600, -3600])
def test_one_that_is_gone_is_forgotten(store: SqliteStore, caplog: pytest.LogCaptureFixture, age_s: int) -> None:
    caplog.set_level(logging.WARNING)
    store.put("installations", json.dumps({"gone": [time.time() - age_s, ["0123456789ab"]]}).encode(), ttl_s=60)
    Installations(store, prefix="sd-api", webuis=["http://a:7860"]).look()
    assert warnings(caplog) == 0
    assert len(known(store)) == 1


@pytest.mark.parametrize("raw", [b"foreign", b"[]", b'{"odd": 1}'])
def test_what_another_program_left_there_is_replaced(store: SqliteStore, raw: bytes) -> None:
    store.put("installations", raw, ttl_s=60)
    Installations(store, prefix="sd-api", webuis=["http://a:7860"]).look()
    assert len(known(store)) == 1


def test_a_store_that_fails_is_for_others_to_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("no folder")
    Installations(SqliteStore(tmp_path / "run" / "state.sqlite"), prefix="sd-api", webuis=["http://a:7860"]).look()
    assert caplog.records == []
