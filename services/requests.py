"""What became of a request: for the caller who asks by the id it sent or was given."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import redis
from pydantic import TypeAdapter, ValidationError

from sd_client.errors import JobCancelledError
from sd_client.leases import make_own_folder
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
    :param holder: that process; a request that is open after its death was lost with it.
    :param behind: the request whose answer this one waits for; "" for one that is not known yet.
    """

    status: Literal["open", "done", "failed", "cancelled"]
    image_ids: tuple[str, ...] = ()
    overdue: float = 0.0
    behind: str | None = None
    holder: str = ""


_NOTE = TypeAdapter(Note)


class Notes(Protocol):
    """Keeps notes by key for :data:`KEEP_S`."""

    def write(self, key: str, note: Note) -> None: ...
    def read(self, key: str) -> Note | None: ...


class FileNotes:
    """For all workers of one host. ``folder`` is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0
        self._failing = False

    def write(self, key: str, note: Note) -> None:
        # Appended, in one call: a file that is replaced must be brought to the disk at once (on ext4), which costs ten
        # times as much. What a full disk cut off stays a line of its own.
        line = b"\n" + _NOTE.dump_json(note) + b"\n"
        try:
            try:
                self._append(key, line)
            except FileNotFoundError:
                make_own_folder(self._folder)
                self._append(key, line)
        except OSError as error:
            # The picture matters more than being able to ask for it by its request's id.
            if not self._failing:
                log.error("requests cannot be noted in RUNTIME_DIR: %s", error.strerror)
            self._failing = True
        else:
            self._failing = False
        self._written += 1
        if self._written % _SWEEP_EVERY == 0:
            self._sweep()

    def read(self, key: str) -> Note | None:
        try:
            raw = (self._folder / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("a request's note cannot be read: %s", type(error).__name__)
            return None
        return _note(raw[: raw.rfind(b"\n") + 1].rstrip(b"\n").rpartition(b"\n")[2])

    def _append(self, key: str, line: bytes) -> None:
        descriptor = os.open(f"{self._folder}/{key}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, "a part of the note was written")
        finally:
            os.close(descriptor)

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
            self._client.set(f"{self._prefix}:{key}", _NOTE.dump_json(note), ex=int(KEEP_S))
        except redis.RedisError:
            self._otherwise.write(key, note)

    def read(self, key: str) -> Note | None:
        try:
            raw = self._client.get(f"{self._prefix}:{key}")
        except redis.RedisError:  # away, or the key is of another type
            raw = None
        shared = _note(raw) if isinstance(raw, bytes) else None
        # One that is open may have ended while Redis was away.
        return shared if shared and shared.status != "open" else self._otherwise.read(key) or shared


def shared_notes(on_disk: FileNotes, connection: redis.Redis | None, *, redis_prefix: str) -> Notes:
    """The notes of all hosts, or of this one where there is no Redis."""
    prefix = f"{redis_prefix}:request"
    return on_disk if connection is None else RedisNotes(connection, prefix=prefix, otherwise=on_disk)


def _note(raw: bytes) -> Note | None:
    """None for what is no note: another program wrote it, or a power cut left half of it."""
    try:
        return _NOTE.validate_json(raw)
    except ValidationError:
        return None


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
        self._notes.write(key, self._open(longest_s))
        image_ids: list[str] = []
        with self._failure_noted(key):
            yield image_ids
        self.note_done(key, image_ids)

    @contextmanager
    def behind(self, key: str, other: str, *, longest_s: float) -> Iterator[Callable[[], None]]:
        """
        While a request waits for the answer of another one it stands where that one does. How it ends is noted where it
        fails; whoever goes on notes the rest.

        :returns: what raises :class:`JobCancelledError` once the waiting request has been cancelled.
        """
        if key == other:  # a retry with its first attempt's own id is followed as that
            yield lambda: self._raise_if_cancelled(key)
            return
        self._notes.write(key, replace(self._open(longest_s), behind=other))
        with self._failure_noted(key):
            yield lambda: self._raise_if_cancelled(key)

    def _open(self, longest_s: float) -> Note:
        return Note(status="open", overdue=self._now() + longest_s, holder=self._pool.holder)

    def note_done(self, key: str, image_ids: Sequence[str]) -> None:
        self._notes.write(key, Note(status="done", image_ids=tuple(image_ids)))

    @contextmanager
    def _failure_noted(self, key: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            cancelled = isinstance(error, JobCancelledError)
            self._notes.write(key, Note(status="cancelled" if cancelled else "failed"))
            raise

    def _raise_if_cancelled(self, key: str) -> None:
        note = self._notes.read(key)
        if note is not None and note.status == "cancelled":
            raise JobCancelledError("the caller cancelled the request")

    def status(self, key: str) -> RequestStatus:
        """:raises RequestNotFoundError:"""
        live = self._pool.standing(key)
        if live is not None and live.cancelled:
            return RequestStatus(status="cancelled")
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
        if self._now() > note.overdue or (note.holder and not self._pool.lives(note.holder)):
            return RequestStatus(status="failed")
        if note.behind is not None:
            return self._behind(note.behind)
        return RequestStatus(status="running")  # between the queue and the disk

    def _behind(self, other: str) -> RequestStatus:
        """Of a request that waits for another one's answer; it takes over where that one fails."""
        with suppress(RequestNotFoundError):
            if other and (found := self.status(other)).status not in ("failed", "cancelled"):
                return found
        return RequestStatus(status="queued")

    def cancel(self, key: str) -> None:
        """
        The generation call that waits for it answers 409. Of several at once with one id, all do; of a request and
        the retry that waits for its answer, only the one that is named.

        :raises RequestNotFoundError: it neither waits nor runs.
        """
        if self._pool.cancel(key):
            return
        note = self._notes.read(key)
        if note is None or note.status != "open" or note.behind is None:
            raise RequestNotFoundError
        self._notes.write(key, Note(status="cancelled"))  # whoever waits looks there


def request_key(owner: str, request_id: str) -> str:
    """What a request is kept under: tells nothing about its caller."""
    return hashlib.sha256(f"{owner}\n{request_id}".encode()).hexdigest()
