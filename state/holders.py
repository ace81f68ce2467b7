"""Which processes are alive, so that what a dead one held can be taken from it."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from state.files import is_at, lock, make_own_folder, try_lock
from state.store import Store, StoreError

#: A process of another host that has not renewed its key for this long is dead.
HOLDER_S = 10.0
#: A key from further in the future dates from before the clock was set back.
_AHEAD_S = 60.0

#: Names come from the store, and lead to files.
_NAME = re.compile(r"[0-9a-f-]+")


class Holders:
    """
    This process as a holder, and whether others live.

    Each process of a host locks its own file, which the kernel unlocks the moment the process dies. Processes of
    other hosts are known by a key that they renew.

    :param folder: ``RUNTIME_DIR``: the same for all processes of the host.
    :param store: where other hosts see this process; None if there are none.
    :ivar me: names this process among all of all hosts.
    :raises OSError: the folder cannot be used.
    """

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        self._folder = folder / "holders"
        self._store = store
        self._mutex = threading.Lock()
        self.me = uuid.uuid4().hex
        make_own_folder(self._folder)
        for holder in filter(_NAME.fullmatch, os.listdir(self._folder)):
            self._lives_here(holder)  # removes what killed processes left
        # Waits for another process that looks at the new file before its lock is taken, and removes it as a dead one's.
        self._lock = lock(self._folder / self.me)
        with suppress(StoreError):
            self._renew_key()

    def renew(self) -> None:
        """
        Keeps this process alive in the eyes of others; to be called several times within :data:`HOLDER_S`.

        :raises StoreError: others may take it for dead.
        """
        self._renew_key()
        path = self._folder / self.me
        with self._mutex, _translating():
            if is_at(self._lock, path):
                os.utime(path)  # else it might be removed as an old temporary file
                return
            make_own_folder(self._folder)
            lost, self._lock = self._lock, lock(path)
            os.close(lost)

    def lives(self, holder: str) -> bool:
        """
        Whether that process is alive. Death is known at once on this host, and within :data:`HOLDER_S` on others.

        :raises StoreError:
        """
        if holder == self.me:
            return True
        if not _NAME.fullmatch(holder):
            return False
        here = self._lives_here(holder)
        return self._lives_elsewhere(holder) if here is None else here

    def is_here(self, holder: str) -> bool:
        """Whether that is a process of this host, alive or killed a moment ago."""
        return _NAME.fullmatch(holder) is not None and (self._folder / holder).exists()

    def close(self) -> None:
        """This process holds nothing any more."""
        with self._mutex:
            self._forget(self.me)
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = -1

    def _lives_here(self, holder: str) -> bool | None:
        """None if no process of this host has that name, or it is known to be dead."""
        path = self._folder / holder
        with _translating():
            free = try_lock(path, create=False)
        if free is None:
            return True if path.exists() else None
        self._forget(holder)
        os.close(free)
        return False

    def _lives_elsewhere(self, holder: str) -> bool:
        if self._store is None or (raw := self._store.get(_key(holder))) is None:
            return False
        if _seconds(raw) > self._store.now() + _AHEAD_S:
            # The clock was set back, so the key would stay for that much longer. Whoever is alive renews it.
            self._store.put(_key(holder), self._time(self._store), ttl_s=HOLDER_S)
        return True

    def _forget(self, holder: str) -> None:
        if self._store is not None:
            with suppress(StoreError):  # then its key expires
                self._store.delete(_key(holder))
        with suppress(OSError):
            (self._folder / holder).unlink(missing_ok=True)

    def _renew_key(self) -> None:
        if self._store is not None:
            self._store.put(_key(self.me), self._time(self._store), ttl_s=HOLDER_S)

    @staticmethod
    def _time(store: Store) -> bytes:
        return b"%.3f" % store.now()


def _key(holder: str) -> str:
    return f"pool:holder:{holder}"


def _seconds(raw: bytes) -> float:
    try:
        return float(raw)
    except ValueError:
        return 0.0


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(error.strerror or type(error).__name__) from error
