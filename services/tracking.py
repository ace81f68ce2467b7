"""What became of a request, for the caller who asks by the id that it sent or received."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from sd_client.errors import JobCancelledError
from sd_client.pool import WebUIPool
from state.holders import Holders
from state.store import Store, StoreError

log = logging.getLogger(__name__)

#: How long a finished request can be asked for.
KEEP_S = 3600.0


class RequestNotFoundError(LookupError):
    """Nobody with this caller's rights made a request with this id lately, or it can no longer be cancelled."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """
    :param status: "open" from the start to the end; whether it waits or runs is for the pool to say.
    :param overdue: seconds since 1970: a request that is open after this was lost with its process.
    :param holder: that process; a request that is open after its death was lost with it.
    :param behind: the request whose answer this one waits for; "" if that one is not known yet.
    """

    status: Literal["open", "done", "failed", "cancelled"]
    image_ids: tuple[str, ...] = ()
    overdue: float = 0.0
    behind: str | None = None
    holder: str = ""


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True, kw_only=True)
class RequestStatus:
    """
    :param queue_position: 1 is next; None unless it waits.
    :param progress: 0 … 1; None if the WebUI does not report it.
    :param eta_seconds: estimated until the picture is there; None if nothing is known.
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

    :param host: the store of this host: while ``store`` was not this, a request may have ended there.
    """

    def __init__(self, *, pool: WebUIPool, store: Store, host: Store, holders: Holders) -> None:
        self._pool = pool
        self._store = store
        self._host = host
        self._holders = holders
        self._failing = False

    @contextmanager
    def following(self, key: str, *, longest_s: float) -> Iterator[list[str]]:
        """Tracks what is done within, and how it ends. Yields a list for the ids of the images."""
        self._write(key, self._open(longest_s))
        image_ids: list[str] = []
        with self._tracking_failure(key):
            yield image_ids
        self.done(key, image_ids)

    @contextmanager
    def behind(self, key: str, other: str, *, longest_s: float) -> Iterator[Callable[[], None]]:
        """
        While a request waits for the answer of another one, it has that one's status. If it fails, that is tracked;
        otherwise whoever goes on says how it ended.

        :returns: what raises :class:`JobCancelledError` once the waiting request has been cancelled.
        """
        if key == other:  # a retry with its first attempt's own id is followed as that
            yield lambda: self._raise_if_cancelled(key)
            return
        self._write(key, replace(self._open(longest_s), behind=other))
        with self._tracking_failure(key):
            yield lambda: self._raise_if_cancelled(key)

    def done(self, key: str, image_ids: Sequence[str]) -> None:
        """The request has these images."""
        self._write(key, Record(status="done", image_ids=tuple(image_ids)))

    def _open(self, longest_s: float) -> Record:
        return Record(status="open", overdue=self._store.now() + longest_s, holder=self._holders.me)

    @contextmanager
    def _tracking_failure(self, key: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            cancelled = isinstance(error, JobCancelledError)
            self._write(key, Record(status="cancelled" if cancelled else "failed"))
            raise

    def _raise_if_cancelled(self, key: str) -> None:
        found = self._read(key)
        if found is not None and found.status == "cancelled":
            raise JobCancelledError("the caller cancelled the request")

    def status(self, key: str, *, with_progress: bool = True) -> RequestStatus:
        """
        :param with_progress: whether to ask the WebUI for it, which takes seconds if that does not answer.
        :raises RequestNotFoundError:
        """
        live = self._pool.status(key, with_progress=with_progress)
        if live is not None and live.cancelled:
            return RequestStatus(status="cancelled")
        if live is not None and live.waiting_behind is not None:
            return RequestStatus(
                status="queued", queue_position=live.waiting_behind + 1, progress=0.0, eta_seconds=live.eta_s
            )
        if live is not None:
            return RequestStatus(status="running", progress=live.progress, eta_seconds=live.eta_s)
        found = self._read(key)
        if found is None:
            raise RequestNotFoundError
        if found.status != "open":
            progress = 1.0 if found.status == "done" else None
            return RequestStatus(status=found.status, progress=progress, image_ids=found.image_ids)
        if self._is_lost(found):
            return RequestStatus(status="failed")
        if found.behind is not None:
            return self._behind(found.behind, with_progress=with_progress)
        return RequestStatus(status="running")  # between the queue and the disk

    def _behind(self, other: str, *, with_progress: bool) -> RequestStatus:
        """The status of a request that waits for another one's answer; it takes over if that one fails."""
        with suppress(RequestNotFoundError):
            status = self.status(other, with_progress=with_progress) if other else None
            if status and status.status not in ("failed", "cancelled"):
                return status
        return RequestStatus(status="queued")

    def cancel(self, key: str) -> None:
        """
        The generation call that waits for it answers 409. Of several at once with one id, all do; of a request and
        the retry that waits for its answer, only the one that is named.

        :raises RequestNotFoundError: it neither waits nor runs.
        """
        if self._pool.cancel(key):
            return
        found = self._read(key)
        if found is None or found.status != "open" or found.behind is None:
            raise RequestNotFoundError
        self._write(key, Record(status="cancelled"))  # whoever waits looks there

    def interrupt(self, keys: Sequence[str]) -> None:
        """
        Cancels those of the requests that run, and those that wait for the answer of one that does. Those that wait for
        a WebUI are left alone.
        """
        running = [key for key in keys if self._runs(key)]
        # Whoever waits for another's answer would else take over.
        for key in sorted(running, key=self._waits_for_another, reverse=True):
            with suppress(RequestNotFoundError):
                self.cancel(key)

    def _runs(self, key: str) -> bool:
        try:
            return self.status(key, with_progress=False).status == "running"
        except RequestNotFoundError:
            return False

    def _waits_for_another(self, key: str) -> bool:
        found = self._read(key)
        return found is not None and found.behind is not None

    def _is_lost(self, found: Record) -> bool:
        """Whether the process of an open request has died."""
        if self._store.now() > found.overdue:
            return True
        try:
            return found.holder != "" and not self._holders.lives(found.holder)
        except StoreError:
            return False

    def _write(self, key: str, record: Record) -> None:
        """If that fails, the picture matters more than being able to ask for it by its request's id."""
        try:
            self._store.put(_name(key), _RECORD.dump_json(record), ttl_s=KEEP_S)
        except StoreError as error:
            if not self._failing:
                log.error("requests cannot be followed: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _read(self, key: str) -> Record | None:
        try:
            found = _load(self._store.get(_name(key)))
            if found is None or (found.status == "open" and self._host is not self._store):
                return _load(self._host.get(_name(key))) or found
        except StoreError as error:
            log.error("a request's record cannot be read: %s", error)
            return None
        return found


def _name(key: str) -> str:
    return f"request:{key}"


def _load(raw: bytes | None) -> Record | None:
    """None also for what another program or version wrote."""
    try:
        return None if raw is None else _RECORD.validate_json(raw)
    except ValidationError:
        return None


def request_key(owner: str, request_id: str) -> str:
    """What a request is tracked by: reveals nothing about its caller."""
    return hashlib.sha256(f"{owner}\n{request_id}".encode()).hexdigest()
