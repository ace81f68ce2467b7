"""Which model each caller has chosen for its requests that name none.

A choice is kept where answers to repeated requests are kept, and as a copy in this host's own store: while Redis cannot
be used, the newest choice that this host has written or read holds. See docs/decisions/0016-a1111-models.md.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from pydantic import TypeAdapter, ValidationError

from sd_client.errors import QueueUnavailableError
from state.store import Store, StoreError

log = logging.getLogger(__name__)

#: What the keys in the store begin with.
PREFIX: Final = "model-choice:"
#: From its last use on; the use is recorded once a day.
KEEP_S: Final = 8 * 86_400.0
_RENEW_S: Final = 86_400.0
#: Between two choices of one caller, at least.
_APART_S: Final = 0.001


@dataclass(frozen=True, kw_only=True, order=True)
class Choice:
    """
    :param at: when it was made, in seconds since 1970; :param used: when that or its last use was recorded.
    :param model: by any of its names, known or not.
    """

    at: float
    used: float
    model: str


_CHOICE = TypeAdapter(Choice)


class ModelChoices:
    """
    :param store: what all hosts share, and outlives a restart.
    :param host: this host's own.
    :param is_shared: whether what is written into ``store`` reaches the others now. Otherwise only a new choice is
        written: it goes to Redis once that is back, in place of whatever another host has written meanwhile.
    """

    def __init__(self, *, store: Store, host: Store, is_shared: Callable[[], bool]) -> None:
        self._is_shared = is_shared
        self._store = store
        self._places = {"the store": store, "this host": host}

    def choose(self, owner: str, model: str) -> None:
        """
        :param owner: the caller.
        :raises QueueUnavailableError: it cannot be kept.
        """
        before = max((choice for choice in self._read(owner).values() if choice), default=None)
        now = self._store.now()
        # Hosts' clocks differ: the later choice is the newer one all the same.
        at = now if before is None else max(now, before.at + _APART_S)
        self._keep(owner, Choice(at=at, used=at, model=model))

    def chosen(self, owner: str) -> str | None:
        """
        None if the caller has not chosen any, or not lately.

        :raises QueueUnavailableError: that cannot be known.
        """
        found = self._read(owner)
        newest = max((choice for choice in found.values() if choice), default=None)
        if newest is None:
            if len(found) < len(self._places):
                raise QueueUnavailableError
            return None
        now = self._store.now()
        if now - newest.used > _RENEW_S:
            newest = replace(newest, used=now)
        if any(choice != newest for choice in found.values()) and self._is_shared():
            with suppress(QueueUnavailableError):
                self._keep(owner, newest)
        return newest.model

    def _read(self, owner: str) -> dict[str, Choice | None]:
        """What each place that can be read has."""
        found: dict[str, Choice | None] = {}
        for place, store in self._places.items():
            try:
                found[place] = _load(store.get(_name(owner)))
            except StoreError as error:
                log.error("the models that callers have chosen cannot be read from %s: %s", place, error)
        return found

    def _keep(self, owner: str, choice: Choice) -> None:
        """In both places, unless a newer one is there."""
        kept = 0
        for place, store in self._places.items():
            try:
                store.update(_name(owner), lambda before: _newest(before, choice), ttl_s=KEEP_S)
                kept += 1
            except StoreError as error:
                log.error("the model that a caller has chosen cannot be kept by %s: %s", place, error)
        if not kept:
            raise QueueUnavailableError


def _name(owner: str) -> str:
    return PREFIX + hashlib.sha256(owner.encode()).hexdigest()


def _newest(raw: bytes | None, choice: Choice) -> bytes:
    found = _load(raw)
    return raw if raw is not None and found is not None and found >= choice else _CHOICE.dump_json(choice)


def _load(raw: bytes | None) -> Choice | None:
    """None also for what another program or version wrote."""
    try:
        return None if raw is None else _CHOICE.validate_json(raw)
    except ValidationError:
        return None
