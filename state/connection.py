"""Connections to Redis: to one server, or to the master that Sentinels name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

#: A Redis that hangs costs a request this much. With redis-py's own retries it would be a minute.
_TIMEOUT_S = 0.25
_SENTINEL_SCHEME = re.compile(r"redis(s?)\+sentinel://")
_SENTINEL_PORT = 26379


@dataclass(frozen=True, kw_only=True)
class SentinelAddress:
    """
    :param service: what the Sentinels call the group of servers.
    :param username: and ``password``: of the Redis servers.
    :param sentinel_username: and ``sentinel_password``: of the Sentinels, if they have any.
    :param tls: ``ssl`` and redis-py's other options for it, for the Sentinels as well as the servers; empty: no TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    tls: Mapping[str, Any] = field(default_factory=dict)


def parse_sentinel_url(url: str) -> SentinelAddress:
    """
    :param url: ``redis+sentinel://[[user]:password@]host[:port],…/service[/db][?sentinel_password=…]``, or
        ``rediss+sentinel://…`` with any ``ssl_`` parameter of ``rediss://``, as the settings have checked it.
    """
    # Not urlsplit(), which knows one host only; newer Pythons also refuse a name followed by an [IPv6 address].
    scheme = _SENTINEL_SCHEME.match(url)
    place, _, query = url[scheme.end() if scheme else 0 :].partition("?")
    netloc, _, path = place.partition("/")
    credentials, _, hosts = netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, db = path.partition("/")
    asked = dict(parse_qsl(query))
    locations = [urlsplit(f"//{host}") for host in hosts.split(",")]
    return SentinelAddress(
        sentinels=tuple((one.hostname or "", one.port or _SENTINEL_PORT) for one in locations),
        service=unquote(service),
        db=int(db or 0),
        username=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_username=asked.pop("sentinel_username", None),
        sentinel_password=asked.pop("sentinel_password", None),
        tls=_tls(asked) if scheme and scheme[1] else {},
    )


def _tls(asked: Mapping[str, str]) -> dict[str, Any]:
    """:param asked: ``ssl_`` parameters, which are read as in ``rediss://``."""
    options = parse_url(f"rediss:///?{urlencode(asked)}")  # type: ignore[no-untyped-call]
    return {"ssl": True, **{name: value for name, value in options.items() if name.startswith("ssl_")}}


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
    if not _SENTINEL_SCHEME.match(url):
        return kind.from_url(url, **options)
    address = parse_sentinel_url(url)
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        # Without these a Sentinel that is down would be asked eleven times.
        sentinel_kwargs={
            **options,
            **address.tls,
            "username": address.sentinel_username,
            "password": address.sentinel_password,
        },
        **options,
        **address.tls,
        db=address.db,
        username=address.username,
        password=address.password,
    )
    return sentinels.master_for(address.service, kind)  # type: ignore[no-any-return, no-untyped-call]
