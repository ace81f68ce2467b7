"""Connections to Redis: to one server, or to the master that Sentinels name."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from state.redis_url import parse_redis_url

#: A Redis that hangs costs a request this much. With redis-py's own retries it would be a minute.
_TIMEOUT_S = 0.25


def open_redis(url: str) -> redis.Redis:
    """
    A client with its own pool of connections. Nothing is contacted yet.

    :param url: as in ``REDIS_URL``. With Sentinels every new connection asks them where the master is.
    :raises ValueError: see :func:`state.redis_url.parse_redis_url`.
    """
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    address = parse_redis_url(url)
    if address is None:
        return redis.Redis.from_url(url, **options)
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
    return sentinels.master_for(address.service)  # type: ignore[no-any-return, no-untyped-call]
