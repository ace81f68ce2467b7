"""The way to Redis, whether it is one server or one of several that Sentinels watch over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

#: One that hangs may cost a request so much; redis-py's own retries would make that a minute.
_TIMEOUT_S = 0.25
_SENTINEL_SCHEME = "redis+sentinel://"
_SENTINEL_PORT = 26379


@dataclass(frozen=True, kw_only=True)
class SentinelAddress:
    """
    :param service: what the Sentinels call the group of servers.
    :param username: and ``password``: of the Redis servers.
    :param sentinel_password: of the Sentinels, which often have none; see :func:`parse_sentinel_url`.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_password: str | None = None


def parse_sentinel_url(url: str) -> SentinelAddress:
    """
    :param url: ``redis+sentinel://[[user]:password@]host[:port],…/service[/db][?sentinel_password=…]``, as the settings
        have checked it.
    """
    # Not urlsplit(): several hosts are none to it, and newer Pythons refuse a name followed by an [IPv6 address].
    place, _, query = url.removeprefix(_SENTINEL_SCHEME).partition("?")
    netloc, _, path = place.partition("/")
    credentials, _, hosts = netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, db = path.partition("/")
    locations = [urlsplit(f"//{host}") for host in hosts.split(",")]
    return SentinelAddress(
        sentinels=tuple((one.hostname or "", one.port or _SENTINEL_PORT) for one in locations),
        service=unquote(service),
        db=int(db or 0),
        username=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_password=parse_qs(query).get("sentinel_password", [None])[0],
    )


def open_redis(url: str, kind: type[redis.Redis] = redis.Redis) -> redis.Redis:
    """
    A client with a pool of connections of its own. Nothing is contacted yet.

    :param url: as in ``REDIS_URL``. With Sentinels every new connection asks them where the master is.
    """
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if not url.startswith(_SENTINEL_SCHEME):
        return kind.from_url(url, **options)
    address = parse_sentinel_url(url)
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        # Without its own options a Sentinel that is away would be asked eleven times.
        sentinel_kwargs={**options, "password": address.sentinel_password},
        **options,
        db=address.db,
        username=address.username,
        password=address.password,
    )
    return sentinels.master_for(address.service, kind)  # type: ignore[no-any-return, no-untyped-call]
