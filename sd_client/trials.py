"""
What trials with small pictures have shown, and whole jobs, for all processes that share a store. Each costs seconds of
a WebUI.

A result ends with the WebUI's start, and with the model's file where the WebUI reports hashes; a failure after a while.
While the store fails nothing is known, and everything is tried again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from sd_client.models import Checkpoint
from state.store import Store, StoreError

log = logging.getLogger(__name__)

#: Seconds for which what has failed is not tried again: its file may be replaced.
FAILED_S = 600.0

#: As good as for ever.
_TTL_S = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """
    Of one thing with one model on one WebUI.

    :param start: of the WebUI, see :meth:`sd_client.probing.Probing.start_of`.
    :param model: the hash of the model's file; "" if the WebUI did not report it.
    :param at: when it was tried, by the store's clock.
    :param hash: of the thing's own file, if the WebUI's answer named it.
    """

    start: str
    model: str
    passed: bool
    at: float
    hash: str | None = None


_RESULTS = TypeAdapter(dict[str, Result])


class Trials:
    """
    One value of the store for each model and thing that is tried with it, in it one result for each WebUI. What needs
    no model is tried with None.

    :param kind: the first part of the keys.
    :param start_of: names the start of a WebUI, by its id.
    :param now: by the clock of all that share the store.
    """

    def __init__(self, store: Store, kind: str, *, start_of: Callable[[str], str], now: Callable[[], float]) -> None:
        self._store = store
        self._kind = kind
        self._start_of = start_of
        self._now = now

    def find(self, webui: str, model: Checkpoint | None, thing: str) -> Result | None:
        """None if it is to be tried."""
        return self._read(model, thing).get(webui)

    def failed(self, model: Checkpoint | None, thing: str) -> set[str]:
        """The WebUIs on which it has failed lately."""
        return {webui for webui, result in self._read(model, thing).items() if not result.passed}

    def put(self, webui: str, model: Checkpoint | None, thing: str, *, passed: bool, hash: str | None = None) -> None:
        known = model.known_hash if model else ""
        result = Result(start=self._start_of(webui), model=known, passed=passed, at=self._now(), hash=hash)
        self._change(model, thing, lambda results: {**results, webui: result})

    def forget(self, webui: str, model: Checkpoint | None, thing: str) -> None:
        """The next job tries it again."""
        self._change(
            model, thing, lambda results: {other: result for other, result in results.items() if other != webui}
        )

    def _read(self, model: Checkpoint | None, thing: str) -> dict[str, Result]:
        """Those that still hold."""
        try:
            results = _parsed(self._store.get(self._key(model, thing)))
        except StoreError as error:
            log.error("what trials have shown cannot be read: %s", error)
            return {}
        return {webui: result for webui, result in results.items() if self._holds(webui, model, result)}

    def _holds(self, webui: str, model: Checkpoint | None, result: Result) -> bool:
        if not result.start or result.start != self._start_of(webui):
            return False
        if result.model and model and model.known_hash and result.model != model.known_hash:
            return False
        return result.passed or self._now() - result.at < FAILED_S

    def _change(
        self, model: Checkpoint | None, thing: str, change: Callable[[dict[str, Result]], dict[str, Result]]
    ) -> None:
        def changed(raw: bytes | None) -> bytes:
            return _RESULTS.dump_json(change(_parsed(raw)))

        try:
            self._store.update(self._key(model, thing), changed, ttl_s=_TTL_S)
        except StoreError as error:
            log.error("what a trial has shown cannot be kept: %s", error)

    def _key(self, model: Checkpoint | None, thing: str) -> str:
        name = hashlib.sha256(f"{model.path if model else ''}\0{thing}".encode()).hexdigest()[:32]
        return f"trial:{self._kind}:{name}"


def _parsed(raw: bytes | None) -> dict[str, Result]:
    """None at all if another release wrote them."""
    try:
        return _RESULTS.validate_json(raw or b"{}")
    except ValidationError:
        return {}
