"""Which installations of the service use one Redis under one ``REDIS_PREFIX``, perhaps unintentionally."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from contextlib import suppress

from pydantic import TypeAdapter, ValidationError

from state.store import Store, StoreError

log = logging.getLogger(__name__)

_KEY = "installations"
#: An installation that has not been seen for so long is gone, or its list of WebUIs has changed.
_FORGOTTEN_S = 60.0

#: By the installation's name: when it was seen last, and its WebUIs.
_Known = dict[str, tuple[float, frozenset[str]]]
_KNOWN: TypeAdapter[_Known] = TypeAdapter(_Known)


class Installations:
    """
    Two services of different WebUIs that share queue, limits and keys are in each other's way. Services that have a
    WebUI in common must share them.

    :param store: that of all hosts.
    :param prefix: ``REDIS_PREFIX``, for the log.
    :param webuis: the URLs of this service's WebUIs; nobody can read them in Redis. Not their ids: hosts that share
        limits and each paint on the WebUI of ``localhost`` are one installation.
    """

    def __init__(self, store: Store, *, prefix: str, webuis: Iterable[str]) -> None:
        self._store = store
        self._prefix = prefix
        self._webuis = frozenset(_digest(url.rpartition("@")[2].rpartition("://")[2].lower()) for url in webuis)
        self._name = _digest(" ".join(sorted(self._webuis)))
        self._warned: set[str] = set()

    def look(self) -> None:
        """Announces this installation, and warns once of each that it meets. Says nothing of a store that fails."""
        with suppress(StoreError):
            known = _load(self._store.update(_KEY, self._announced, ttl_s=_FORGOTTEN_S))
            others = {name for name, (_, webuis) in known.items() if self._webuis.isdisjoint(webuis)}
            for name in sorted(others - self._warned):
                self._warned.add(name)
                log.warning(
                    "another installation, with other WebUIs, uses the same Redis database and REDIS_PREFIX (%s): it "
                    "shares queue, limits and idempotency keys with this one; give one of them another REDIS_PREFIX",
                    self._prefix,
                )

    def _announced(self, raw: bytes | None) -> bytes:
        now = self._store.now()
        known = {name: seen for name, seen in _load(raw).items() if abs(now - seen[0]) <= _FORGOTTEN_S}
        return _KNOWN.dump_json({**known, self._name: (round(now, 1), self._webuis)})


def _load(raw: bytes | None) -> _Known:
    """Empty also for what another program or version wrote."""
    try:
        return {} if raw is None else _KNOWN.validate_json(raw)
    except ValidationError:
        return {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
