"""One Redis, or the master that Sentinels name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from state.connection import open_redis
from state.redis_url import SentinelAddress, parse_redis_url
from tests.hosts.certificates import make_certificates
from tests.hosts.sentinels import WatchedRedis, needs_tls
from tests.running import RedisServer


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis+sentinel://a/main", SentinelAddress(sentinels=(("a", 26379),), service="main")),
        (
            "redis+sentinel://a:1,b,[::1]:3/main/7",
            SentinelAddress(sentinels=(("a", 1), ("b", 26379), ("::1", 3)), service="main", db=7),
        ),
        (
            "redis+sentinel://:p%40ss@a/main",
            SentinelAddress(sentinels=(("a", 26379),), service="main", password="p@ss"),
        ),
        (
            "redis+sentinel://:p[ss@a,b:1/main",
            SentinelAddress(sentinels=(("a", 26379), ("b", 1)), service="main", password="p[ss"),
        ),
        (
            "redis+sentinel://me:secret@a/main?sentinel_password=o%26ther",
            SentinelAddress(
                sentinels=(("a", 26379),),
                service="main",
                username="me",
                password="secret",
                sentinel_password="o&ther",
            ),
        ),
        ("rediss+sentinel://a/main", SentinelAddress(sentinels=(("a", 26379),), service="main", tls={"ssl": True})),
        (
            "rediss+sentinel://a/main?ssl_ca_certs=/c%26a.pem&sentinel_username=watcher&ssl_check_hostname=no",
            SentinelAddress(
                sentinels=(("a", 26379),),
                service="main",
                sentinel_username="watcher",
                tls={"ssl": True, "ssl_ca_certs": "/c&a.pem", "ssl_check_hostname": False},
            ),
        ),
    ],
)
def test_addresses(url: str, address: SentinelAddress) -> None:
    assert parse_redis_url(url) == address


def test_one_server(redis_server: RedisServer) -> None:
    with open_redis(redis_server.url) as client:
        assert client.set("key", 1)


@pytest.mark.parametrize(
    "passwords",
    [
        {},
        {"password": "p@ss"},
        {"password": "p@ss", "sentinel_password": "other"},
        {"password": "p@ss", "sentinel_password": "other", "sentinel_user": "watcher"},
    ],
)
def test_the_master_that_a_sentinel_names(tmp_path: Path, passwords: dict[str, str]) -> None:
    with (
        WatchedRedis(tmp_path, servers=1, sentinels=1, **passwords) as watched,
        open_redis(watched.url(db=2)) as client,
    ):
        assert client.set("key", 1)
        assert client.client_info()["db"] == 2


@needs_tls
def test_tls_to_the_sentinel_and_to_the_master(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    with WatchedRedis(tmp_path, servers=1, sentinels=1, password="p@ss", tls=certificates) as watched:
        with open_redis(watched.url(db=2)) as client:
            assert client.set("key", 1)
            assert client.client_info()["db"] == 2
        for url in (
            watched.url().replace("rediss+", "redis+").partition("?")[0],
            watched.url().partition("?")[0],  # an authority that this machine does not know
            watched.url().replace("127.0.0.1", "localhost"),  # a name that is not in the certificate
        ):
            with open_redis(url) as client, pytest.raises(redis.ConnectionError):
                client.get("key")


@contextmanager
def closing_at_once() -> Iterator[tuple[int, list[None]]]:
    """A port at which every connection is taken and closed, and how many there were."""
    taken: list[None] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_all() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    taken.append(None)
                    if connection.recv(1) == b"q":
                        return

        thread = threading.Thread(target=close_all)
        thread.start()
        port = int(listener.getsockname()[1])
        yield port, taken
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"q")
        thread.join()


def test_a_sentinel_that_fails_is_asked_once() -> None:
    with closing_at_once() as (port, taken):
        with (
            open_redis(f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{port}/main") as client,
            pytest.raises(redis.ConnectionError),
        ):
            client.get("key")
        assert len(taken) == 2
