"""One key, one picture: a retry gets the first answer again, whichever worker or host it comes to.

While the first attempt runs, others with the same key wait for it. An attempt that fails is not kept, and one whose
process died holds its key no longer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from sd_client.errors import QueueFullError, QueueTimeoutError
from sd_client.models import NOTHING_USED, Used
from services.generation import GeneratedImage, Generation
from services.tracking import RequestService
from state.holders import Holders
from state.store import Store, StoreError
from storage.base import ImageStorage

log = logging.getLogger(__name__)

#: What the keys in the store begin with.
PREFIX = "idempotency:"
#: How long an answer is kept.
KEEP_S = 86_400.0
#: How often those who wait for another attempt look whether it has ended.
_LOOK_S = 0.1


class IdempotencyMismatchError(ValueError):
    """The key was used with another request. The same will be answered again."""


@dataclass(frozen=True, kw_only=True)
class AnsweredImage:
    image_id: UUID
    seed: int | None
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is answered again; the pictures themselves are in the image storage."""

    images: Annotated[tuple[AnsweredImage, ...], Field(min_length=1)]
    model: str | None
    processing_time_s: float
    request_id: str
    used: Used = NOTHING_USED


@dataclass(frozen=True, kw_only=True)
class Record:
    """
    What is stored under a key.

    :param fingerprint: of the request that the key was used with first.
    :param answer: None while that request runs, and if it failed.
    :param request: what that request is tracked by.
    :param holder: the process that runs it; "" if it failed.
    """

    fingerprint: str
    answer: Answer | None = None
    request: str = ""
    holder: str = ""


_RECORD = TypeAdapter(Record)


@dataclass
class Claim:
    """:param replay: the first attempt's result; None for the one attempt that runs."""

    replay: Generation | None
    kept: Generation | None = None

    def keep(self, generation: Generation) -> None:
        """This is what others with the same key get; of no effect on a replay."""
        self.kept = generation


class IdempotencyService:
    """
    :param longest_wait_s: for another attempt with the same key.
    :param most_waiting: such waits at a time in this process, each of which holds a thread.
    """

    def __init__(
        self,
        *,
        store: Store,
        holders: Holders,
        storage: ImageStorage,
        requests: RequestService,
        longest_wait_s: float,
        most_waiting: int = 16,
    ) -> None:
        self._store = store
        self._holders = holders
        self._storage = storage
        self._requests = requests
        self._longest_wait_s = longest_wait_s
        self._waiting = threading.BoundedSemaphore(most_waiting)
        self._mutex = threading.Lock()
        # Of this process. A record of it that says otherwise could not be written when its attempt ended.
        self._running: set[str] = set()

    def knows(self, key: str) -> bool:
        """Whether another attempt with the key was begun, so that this one may be a replay."""
        try:
            return self._read(key) is not None
        except StoreError:
            return False

    @contextmanager
    def claim(
        self, key: str, fingerprint: str, *, request: str, check: Callable[[], None], wait_s: float | None = None
    ) -> Iterator[Claim]:
        """
        The right to be the one attempt, or the result of the one that was.

        If the store fails, the right is given without it: the picture matters more than being able to ask twice.

        :param request: what this request is tracked by; see :func:`services.tracking.request_key`.
        :param check: called while waiting for another attempt; whatever it raises ends the wait.
        :param wait_s: how long the caller waits for that; None for as long as this service does.
        :raises IdempotencyMismatchError: the key was used with another request.
        :raises QueueTimeoutError: the other attempt takes too long.
        :raises QueueFullError: too many wait already.
        :raises JobCancelledError: this request was cancelled while it waited.
        :raises ImageNotFoundError: the first attempt's picture has been deleted since.
        """
        mine = Record(fingerprint=fingerprint, request=request, holder=self._holders.me)
        try:
            found = self._begin(key, mine)
            if found is not None and found.answer is None:
                with self._requests.behind(request, found.request, longest_s=self._longest_wait_s) as check_cancelled:
                    found = self._wait(key, mine, (check, check_cancelled), wait_s)
        except StoreError as error:
            log.error("an idempotency key cannot be looked up: %s", error)
            yield Claim(replay=None)
            return
        if found is not None and found.answer is not None:
            yield Claim(replay=self._replayed(found.answer, request))
            return
        claim = Claim(replay=None)
        try:
            yield claim
        finally:
            self._end(key, mine, claim.kept)

    def _begin(self, key: str, mine: Record) -> Record | None:
        """
        None: this is the one attempt from now on. Otherwise the attempt that runs, or the answer of the one that ran.

        :raises IdempotencyMismatchError:
        """
        if (found := self._valid(key, self._read(key), mine)) is not None:
            return found
        with self._mutex:
            after = _load(self._store.update(_name(key), lambda raw: self._claimed(key, raw, mine), ttl_s=KEEP_S))
            # A retry with its first attempt's request id in the same process would have written the same.
            if after != mine or key in self._running:
                return after
            self._running.add(key)
            return None

    def _claimed(self, key: str, raw: bytes | None, mine: Record) -> bytes:
        found = self._valid(key, _load(raw), mine)
        return _RECORD.dump_json(mine) if found is None or raw is None else raw

    def _valid(self, key: str, found: Record | None, mine: Record) -> Record | None:
        """
        What was found, if it is an answer or the attempt still runs.

        :raises IdempotencyMismatchError: then only: the key of a failed attempt may be used with another request.
        """
        if found is None or (found.answer is None and not self._runs(key, found.holder)):
            return None
        if found.fingerprint != mine.fingerprint:
            raise IdempotencyMismatchError
        return found

    def _runs(self, key: str, holder: str) -> bool:
        return key in self._running if holder == self._holders.me else self._holders.lives(holder)

    def _wait(
        self, key: str, mine: Record, checks: Sequence[Callable[[], None]], wait_s: float | None
    ) -> Record | None:
        """:meth:`_begin`, as soon as the other attempt has ended."""
        if not self._waiting.acquire(blocking=False):
            raise QueueFullError("too many requests are waiting for one with the same key", retry_after_s=5)
        try:
            until = time.monotonic() + min(self._longest_wait_s, self._longest_wait_s if wait_s is None else wait_s)
            while True:
                for check in checks:
                    check()
                found = self._begin(key, mine)
                if found is None or found.answer is not None:
                    return found
                if time.monotonic() > until:
                    raise QueueTimeoutError("another request with this key is still running", retry_after_s=5)
                time.sleep(_LOOK_S)
        finally:
            self._waiting.release()

    def _end(self, key: str, mine: Record, kept: Generation | None) -> None:
        """Keeps the answer; a picture that could not be stored cannot be given again."""
        stored = kept is not None and all(image.stored for image in kept.images)
        ended = replace(mine, answer=_answer(kept), holder="") if kept and stored else replace(mine, holder="")
        with self._mutex:
            try:
                self._store.update(_name(key), lambda raw: self._ended(raw, mine, ended), ttl_s=KEEP_S)
            except StoreError as error:
                log.error("an idempotency key cannot be kept: %s", error)
            self._running.discard(key)

    @staticmethod
    def _ended(raw: bytes | None, mine: Record, ended: Record) -> bytes:
        """An attempt that failed leaves alone what another one has written since."""
        return raw if raw is not None and ended.answer is None and _load(raw) != mine else _RECORD.dump_json(ended)

    def _replayed(self, answer: Answer, request: str) -> Generation:
        """The first attempt's result, which is now this request's as well."""
        replay = Generation(
            images=tuple(self._image(image) for image in answer.images),
            model=answer.model,
            processing_time_s=answer.processing_time_s,
            request_id=answer.request_id,
            used=answer.used,
        )
        self._requests.done(request, [str(image.image_id) for image in replay.images])
        return replay

    def _image(self, image: AnsweredImage) -> GeneratedImage:
        with self._storage.open(image.image_id).file as file:
            png = file.read()
        return GeneratedImage(
            image_id=image.image_id, png=png, seed=image.seed, width=image.width, height=image.height, stored=True
        )

    def _read(self, key: str) -> Record | None:
        return _load(self._store.get(_name(key)))


def _name(key: str) -> str:
    return PREFIX + key


def _load(raw: bytes | None) -> Record | None:
    """None also for what another program or version wrote."""
    try:
        return None if raw is None else _RECORD.validate_json(raw)
    except ValidationError:
        return None


def _answer(generation: Generation) -> Answer:
    return Answer(
        images=tuple(
            AnsweredImage(image_id=image.image_id, seed=image.seed, width=image.width, height=image.height)
            for image in generation.images
        ),
        model=generation.model,
        processing_time_s=generation.processing_time_s,
        request_id=generation.request_id,
        used=generation.used,
    )


def fingerprint(mode: str, values: Mapping[str, object]) -> str:
    """Tells requests apart by their fields, however a form was cut into parts."""
    digest = hashlib.sha256(mode.encode())
    for name in sorted(values):
        value = values[name]
        data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
        digest.update(f"\n{name!r} {type(value).__name__} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
