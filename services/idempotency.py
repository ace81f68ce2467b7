"""One key, one picture: a retry gets the first answer again, whichever worker or host it comes to.

While the first attempt runs, others with the same key wait for it. An attempt that fails is not kept, and one whose
process died leaves nothing locked: the kernel frees a file's lock, and a lock in Redis expires.
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
from typing import cast

from sd_client.errors import QueueFullError, QueueTimeoutError
from services.generation import GeneratedImage, Generation
from services.ledger import Answer, AnsweredImage, Ledger, Lock, Record
from services.requests import RequestService
from storage.base import ImageStorage
from storage.errors import StorageUnavailableError

log = logging.getLogger(__name__)

#: How often those who wait for the first attempt look whether it has ended.
_LOOK_S = 0.1


class IdempotencyMismatchError(ValueError):
    """The key was used with another request. The same will be answered again."""


@dataclass
class Claim:
    """
    :param replay: the first attempt's result; None for the one attempt that runs.
    """

    replay: Generation | None
    kept: Generation | None = None

    def keep(self, generation: Generation) -> None:
        """This is what others with the same key get."""
        self.kept = generation


class IdempotencyService:
    """
    :param longest_wait_s: for another attempt with the same key.
    :param most_waiting: such waits at a time in this process, each of which holds a thread.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        storage: ImageStorage,
        requests: RequestService,
        longest_wait_s: float,
        most_waiting: int = 16,
    ) -> None:
        self._ledger = ledger
        self._requests = requests
        self._storage = storage
        self._longest_wait_s = longest_wait_s
        self._waiting = threading.BoundedSemaphore(most_waiting)

    def knows(self, key: str) -> bool:
        """Whether another attempt with the key was begun, so that this one may be a replay."""
        try:
            return self._ledger.read(key) is not None
        except StorageUnavailableError:
            return False

    @contextmanager
    def claim(
        self, key: str, fingerprint: str, *, request: str, check: Callable[[], None], wait_s: float | None = None
    ) -> Iterator[Claim]:
        """
        The right to be the one attempt, or the result of the one that was.

        Where the ledger fails, the right is given without it: the picture matters more than being able to ask twice.

        :param request: what this one can be asked for by; see :func:`services.requests.request_key`.
        :param check: called while waiting for another attempt; what it raises ends the wait.
        :param wait_s: how long the caller waits for that; None for as long as this service does.
        :raises IdempotencyMismatchError: the key was used with another request.
        :raises QueueTimeoutError: the other attempt takes too long.
        :raises JobCancelledError: this one was cancelled while it waited.
        :raises ImageNotFoundError: the first attempt's picture has been deleted since.
        """
        try:
            lock, record = self._now(key, fingerprint)
            if lock is None and not _answered(record):
                first = record.request if record else ""
                with self._requests.behind(request, first, longest_s=self._longest_wait_s) as check_cancelled:
                    lock, record = self._later(key, fingerprint, (check, check_cancelled), wait_s)
        except StorageUnavailableError as error:
            log.error("an idempotency key cannot be looked up: %s", error)
            yield Claim(replay=None)
            return
        if lock is None:
            yield Claim(replay=self._replayed(cast("Record", record), request))
            return
        try:
            claim = Claim(replay=None)
            begun = Record(fingerprint=fingerprint, request=request)
            self._note(key, begun)
            yield claim
            # A picture that could not be stored cannot be given again.
            if claim.kept is not None and all(image.stored for image in claim.kept.images):
                self._note(key, replace(begun, answer=_answer(claim.kept)))
        finally:
            lock.release()

    def _note(self, key: str, record: Record) -> None:
        try:
            self._ledger.write(key, record)
        except StorageUnavailableError as error:
            log.error("an idempotency key cannot be kept: %s", error)

    def _later(
        self, key: str, fingerprint: str, checks: Sequence[Callable[[], None]], wait_s: float | None
    ) -> tuple[Lock | None, Record | None]:
        """:meth:`_now`, as soon as the other attempt has ended."""
        if not self._waiting.acquire(blocking=False):
            raise QueueFullError("too many requests wait for another with their key", retry_after_s=5)
        try:
            until = time.monotonic() + min(self._longest_wait_s, self._longest_wait_s if wait_s is None else wait_s)
            while True:
                for check in checks:
                    check()
                lock, record = self._now(key, fingerprint)
                if lock is not None or _answered(record):
                    return lock, record
                if time.monotonic() > until:
                    raise QueueTimeoutError("another request with this key still runs", retry_after_s=5)
                time.sleep(_LOOK_S)
        finally:
            self._waiting.release()

    def _now(self, key: str, fingerprint: str) -> tuple[Lock | None, Record | None]:
        """The lock where nothing is answered yet and nobody works on it; and what was noted last."""
        lock = self._ledger.lock(key)
        try:
            record = self._ledger.read(key)
        except StorageUnavailableError:
            if lock is not None:
                lock.release()
            raise
        finished = _answered(record)
        mismatch = record is not None and record.fingerprint != fingerprint and (finished or lock is None)
        if lock is not None and finished:
            lock.release()
            lock = None
        if mismatch:
            raise IdempotencyMismatchError
        return lock, record

    def _replayed(self, record: Record, request: str) -> Generation:
        """The first attempt's result, which is now this request's as well."""
        answer = cast("Answer", record.answer)  # without one there is a lock
        replay = Generation(
            images=tuple(self._image(image) for image in answer.images),
            model=answer.model,
            processing_time_s=answer.processing_time_s,
            request_id=answer.request_id,
        )
        self._requests.note_done(request, [str(image.image_id) for image in replay.images])
        return replay

    def _image(self, image: AnsweredImage) -> GeneratedImage:
        with self._storage.open(image.image_id).file as file:
            png = file.read()
        return GeneratedImage(
            image_id=image.image_id,
            png=png,
            seed=image.seed,
            width=image.width,
            height=image.height,
            stored=True,
        )


def _answered(record: Record | None) -> bool:
    return record is not None and record.answer is not None


def _answer(generation: Generation) -> Answer:
    return Answer(
        images=tuple(
            AnsweredImage(image_id=image.image_id, seed=image.seed, width=image.width, height=image.height)
            for image in generation.images
        ),
        model=generation.model,
        processing_time_s=generation.processing_time_s,
        request_id=generation.request_id,
    )


def fingerprint(mode: str, values: Mapping[str, object]) -> str:
    """What tells one request from another: its fields, however a form was cut into parts."""
    digest = hashlib.sha256(mode.encode())
    for name in sorted(values):
        value = values[name]
        data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
        digest.update(f"\n{name!r} {type(value).__name__} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
