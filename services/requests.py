"""What became of a request: for the caller who asks by the id it sent or was given."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import redis

from sd_client.errors import JobCancelledError
from sd_client.pool import WebUIPool

log = logging.getLogger(__name__)

#: How long a finished request can be asked for.
KEEP_S = 3600.0
#: Notes of requests that ended longer ago are removed when this many new ones have been written.
_SWEEP_EVERY = 100


class RequestNotFoundError(LookupError):
    """Nobody with this caller's rights made a request of this id lately, or it can no longer be cancelled."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """
    :param status: "open" from the start to the end; whether it waits or runs is the pool's to say.
    :param overdue: seconds since 1970: a request that is open after this was lost with its process.
    """

    status: Literal["open", "done", "failed", "cancelled"]
    image_ids: tuple[str, ...] = ()
    overdue: float = 0.0


class Notes(Protocol):
    """Keeps notes by key for :data:`KEEP_S`."""

    def write(self, key: str, note: Note) -> None: ...
    def read(self, key: str) -> Note | None: ...


class FileNotes:
    """For all workers of one host. ``folder`` is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0

    def write(self, key: str, note: Note) -> None:
        path = self._folder / key
        temporary = path.with_suffix(f".{time.monotonic_ns()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_text(json.dumps(asdict(note)))
            temporary.replace(path)
        except OSError as error:
            # The picture matters more than being able to ask for it by its request's id.
            log.error("a request cannot be noted: %s", type(error).__name__)
        self._written += 1
        if self._written % _SWEEP_EVERY == 0:
            self._sweep()

    def read(self, key: str) -> Note | None:
        try:
            text = (self._folder / key).read_text()
        except FileNotFoundError:
            return None
        return _note(text)

    def _sweep(self) -> None:
        for path in self._folder.glob("*"):
            with suppress(OSError):  # another worker sweeps as well
                if time.time() - path.stat().st_mtime > KEEP_S:
                    path.unlink()


class RedisNotes:
    """For all hosts. While Redis is away notes are kept by ``otherwise``."""

    def __init__(self, client: redis.Redis, *, prefix: str, otherwise: Notes) -> None:
        self._client = client
        self._prefix = prefix
        self._otherwise = otherwise

    def write(self, key: str, note: Note) -> None:
        try:
            self._client.set(f"{self._prefix}:{key}", json.dumps(asdict(note)), ex=int(KEEP_S))
        except redis.RedisError:
            self._otherwise.write(key, note)

    def read(self, key: str) -> Note | None:
        try:
            text = self._client.get(f"{self._prefix}:{key}")
        except redis.RedisError:
            text = None
        shared = _note(text) if isinstance(text, bytes | str) else None
        # One that is open may have ended while Redis was away.
        return shared if shared and shared.status != "open" else self._otherwise.read(key) or shared


def shared_notes(on_disk: FileNotes, connection: redis.Redis | None) -> Notes:
    """The notes of all hosts, or of this one where there is no Redis."""
    return on_disk if connection is None else RedisNotes(connection, prefix="sd-api:request", otherwise=on_disk)


def _note(text: str | bytes) -> Note:
    fields = json.loads(text)
    return Note(status=fields["status"], image_ids=tuple(fields["image_ids"]), overdue=fields["overdue"])


@dataclass(frozen=True, kw_only=True)
class RequestStatus:
    """
    :param queue_position: 1 is next; None unless it waits.
    :param progress: 0 … 1; None where the WebUI does not tell.
    :param eta_seconds: until the picture is there, estimated; None where nothing is known.
    """

    status: Literal["queued", "running", "done", "failed", "cancelled"]
    queue_position: int | None = None
    progress: float | None = None
    eta_seconds: float | None = None
    image_ids: tuple[str, ...] = ()


class RequestService:
    """
    Ids are a caller's own: another caller who sends the same id has another request, and whoever guesses an id finds
    nothing. A caller is an API key, or else an address.
    """

    def __init__(self, *, pool: WebUIPool, notes: Notes, now: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._notes = notes
        self._now = now

    @contextmanager
    def following(self, key: str, *, longest_s: float) -> Iterator[list[str]]:
        """Notes how what is done within ends. Yields a list for the ids of the images."""
        self._notes.write(key, Note(status="open", overdue=self._now() + longest_s))
        image_ids: list[str] = []
        try:
            yield image_ids
        except BaseException as error:
            cancelled = isinstance(error, JobCancelledError)
            self._notes.write(key, Note(status="cancelled" if cancelled else "failed"))
            raise
        self._notes.write(key, Note(status="done", image_ids=tuple(image_ids)))

    def status(self, key: str) -> RequestStatus:
        """:raises RequestNotFoundError:"""
        live = self._pool.standing(key)
        if live is not None and live.waiting_behind is not None:
            return RequestStatus(
                status="queued", queue_position=live.waiting_behind + 1, progress=0.0, eta_seconds=live.eta_s
            )
        if live is not None:
            return RequestStatus(status="running", progress=live.progress, eta_seconds=live.eta_s)
        note = self._notes.read(key)
        if note is None:
            raise RequestNotFoundError
        if note.status != "open":
            return RequestStatus(
                status=note.status, progress=1.0 if note.status == "done" else None, image_ids=note.image_ids
            )
        if self._now() > note.overdue:
            return RequestStatus(status="failed")
        return RequestStatus(status="running")  # between the queue and the disk

    def cancel(self, key: str) -> None:
        """
        The generation call that waits for it answers 409.

        :raises RequestNotFoundError: it neither waits nor runs.
        """
        if not self._pool.cancel(key):
            raise RequestNotFoundError


def request_key(owner: str, request_id: str) -> str:
    """What a request is kept under: tells nothing about its caller."""
    return hashlib.sha256(f"{owner}\n{request_id}".encode()).hexdigest()
