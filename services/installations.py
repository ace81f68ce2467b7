"""Which installations of the service use one Redis under one ``REDIS_PREFIX``, perhaps without meaning to."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterable

import redis

log = logging.getLogger(__name__)

#: Of one that has not been seen for so long nothing is said any more, such as one whose list of WebUIs has changed.
_FORGOTTEN_S = 60


class Installations:
    """
    Tells what is in the way: two services of different WebUIs that share queue, limits and keys. Services that have a
    WebUI in common must share them.

    :param prefix: of all keys.
    :param webuis: the URLs of this service's WebUIs, of which nothing can be read in Redis. Not their ids: hosts that
        share limits and paint on a WebUI of their own, ``localhost`` for each, are one installation.
    """

    def __init__(self, client: redis.Redis, *, prefix: str, webuis: Iterable[str]) -> None:
        self._client = client
        self._prefix = prefix
        self._key = f"{prefix}:installations"
        self._webuis = frozenset(_digest(url.rpartition("@")[2].rpartition("://")[2].lower()) for url in webuis)
        self._name = _digest(" ".join(sorted(self._webuis)))
        self._warned: set[str] = set()

    def look(self) -> None:
        """Says that this one is there, and warns once of each that it meets. Of a Redis that fails others tell."""
        with contextlib.suppress(redis.RedisError):
            try:
                others = self._announced()
            except redis.ResponseError:  # what another program left there
                self._client.delete(self._key)
                return
            for name in sorted(others - self._warned):
                self._warned.add(name)
                log.warning(
                    "another installation, with other WebUIs, uses the same Redis database and REDIS_PREFIX (%s): it "
                    "shares queue, limits and idempotency keys with this one; give one of them another REDIS_PREFIX",
                    self._prefix,
                )

    def _announced(self) -> set[str]:
        """The names of those that have other WebUIs and were there lately."""
        seconds, _ = self._client.time()
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hset(self._key, self._name, " ".join([str(seconds), *sorted(self._webuis)]))
            pipeline.expire(self._key, _FORGOTTEN_S)
            pipeline.hgetall(self._key)
            *_, found = pipeline.execute()
        others = set()
        for name, text in found.items():
            seen, *webuis = text.decode(errors="replace").split(" ")
            if not seen.isdecimal() or abs(seconds - int(seen)) > _FORGOTTEN_S:
                self._client.hdel(self._key, name)
            elif self._webuis.isdisjoint(webuis):
                others.add(name.decode(errors="replace"))
        return others


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
