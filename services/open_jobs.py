"""Which jobs of a caller are open, for callers who ask about all of theirs and know no ids.

Their status is the business of :mod:`services.tracking`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from state.holders import Holders
from state.store import Store, StoreError

log = logging.getLogger(__name__)

#: Jobs of one caller that are listed at a time; further ones are not found.
MOST_JOBS: Final = 200


@dataclass(frozen=True, kw_only=True)
class OpenJob:
    """
    :param request: what it is tracked by; see :func:`services.tracking.request_key`.
    :param kind: what it does, for whoever asks.
    :param holder: the process that is responsible for it.
    :param since: when it was begun, in seconds since 1970.
    """

    request: str
    kind: str
    holder: str
    since: float


_JOBS = TypeAdapter(tuple[OpenJob, ...])


class OpenJobs:
    """
    :param store: what all hosts share; :param host: this host's own, which still knows this host's jobs when Redis has
        failed in the middle of one.
    :param longest_s: how long a job can be open.
    """

    def __init__(self, *, store: Store, host: Store, holders: Holders, longest_s: float) -> None:
        self._stores = (store,) if store is host else (store, host)
        self._holders = holders
        self._longest_s = longest_s

    @contextmanager
    def open(self, owner: str, request: str, *, kind: str) -> Iterator[None]:
        """Lists a job of the caller ``owner`` until the block ends."""
        job = OpenJob(request=request, kind=kind, holder=self._holders.me, since=self._stores[0].now())
        self._change(owner, add=job)
        try:
            yield
        finally:
            self._change(owner, remove=job)

    def of(self, owner: str) -> tuple[OpenJob, ...]:
        """The caller's open jobs, the oldest first; some may have ended a moment ago."""
        found: dict[str, OpenJob] = {}
        for store in self._stores:
            try:
                found |= {job.request: job for job in _load(store.get(_name(owner)))}
            except StoreError as error:
                log.error("a caller's jobs cannot be listed: %s", error)
        return tuple(sorted(found.values(), key=lambda job: job.since))

    def _change(self, owner: str, *, add: OpenJob | None = None, remove: OpenJob | None = None) -> None:
        """If that fails, the picture matters more than being able to ask for it."""

        def changed(raw: bytes | None) -> bytes:
            kept = [job for job in _load(raw) if job != remove]
            if add is not None:
                kept = [*(job for job in kept if job.since > oldest and self._lives(job)), add][:MOST_JOBS]
            return _JOBS.dump_json(tuple(kept))

        for store in self._stores:
            try:
                oldest = store.now() - self._longest_s
                store.update(_name(owner), changed, ttl_s=self._longest_s)
            except StoreError as error:
                log.error("a caller's jobs cannot be listed: %s", error)

    def _lives(self, job: OpenJob) -> bool:
        try:
            return self._holders.lives(job.holder)
        except StoreError:
            return True


def _name(owner: str) -> str:
    return f"jobs:{hashlib.sha256(owner.encode()).hexdigest()}"


def _load(raw: bytes | None) -> tuple[OpenJob, ...]:
    """Empty also for what another program or version wrote."""
    try:
        return () if raw is None else _JOBS.validate_json(raw)
    except ValidationError:
        return ()
