"""The store of one host: one table in an SQLite file."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from state.files import exclusive, make_own_folder
from state.store import Change, StoreError, StoreFullError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Its name in a folder.
STATE_FILE = "state.sqlite"

#: Far longer than any change takes. The lock of a process that is killed within one is freed by the kernel.
_BUSY_S = 5.0
#: How often a process that writes removes expired rows.
SWEEP_S = 60.0
#: A row written this far in the future dates from before the clock was set back.
_AHEAD_S = 60.0
#: Rows of one page of :meth:`SqliteStore.items`.
_PAGE = 500

_TABLE = """
    CREATE TABLE IF NOT EXISTS state
    (key TEXT PRIMARY KEY, value BLOB NOT NULL, written REAL NOT NULL, expires REAL NOT NULL)
"""
_GET = "SELECT value FROM state WHERE key = ? AND expires > ?"
_HEAD = "SELECT substr(value, 1, ?) FROM state WHERE key = ? AND expires > ?"
_PUT = """
    INSERT INTO state VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (key) DO UPDATE SET value = ?2, written = ?3, expires = ?4
"""
_ITEMS = "SELECT key, value, expires FROM state WHERE key >= ? AND key < ? AND expires > ? ORDER BY key LIMIT ?"
_SWEEP = "DELETE FROM state WHERE expires <= ?"
#: After the clock was set back, rows are kept as long from now on as they would have been without that.
_REDATE = "UPDATE state SET expires = ?1 + expires - written, written = ?1 WHERE written > ?2"


class SqliteStore:
    """
    One connection per process, opened by the first call: let that come after any fork. Nothing is synced to the disk,
    so a power cut may lose the file. If it is deleted or damaged, the next call makes a new one.

    :param path: its folder is made if it is missing.
    :param journal: "WAL" is the fastest and needs a local file system; "TRUNCATE" works over a network as well.
    """

    def __init__(self, path: Path, *, journal: Literal["WAL", "TRUNCATE"] = "WAL", sweep_s: float = SWEEP_S) -> None:
        self._path = path
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._journal = journal
        self._sweep_s = sweep_s
        # The change of an update may read other keys of the same store.
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._swept_at = time.monotonic()
        self._ahead_s = time.time() - time.monotonic()

    def get(self, key: str) -> bytes | None:
        return self._run(lambda connection: _value(connection, key))

    def head(self, key: str, size: int) -> bytes:
        row = self._run(lambda connection: connection.execute(_HEAD, (size, key, time.time())).fetchone())
        return (row[0] if row else None) or b""  # of an empty one SQLite returns NULL

    def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self._run(lambda connection: _write(connection, key, value, ttl_s))
        self._sweep_sometimes()

    def update(self, key: str, change: Change, *, ttl_s: float) -> bytes:
        def updated(connection: sqlite3.Connection) -> bytes:
            connection.execute("BEGIN IMMEDIATE")
            try:
                before = _value(connection, key)
                after = change(before)
                if after != before:
                    _write(connection, key, after, ttl_s)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # after some errors SQLite has rolled back already
                    connection.execute("ROLLBACK")
                raise
            return after

        after = self._run(updated)
        self._sweep_sometimes()
        return after

    def delete(self, key: str) -> None:
        self._run(lambda connection: connection.execute("DELETE FROM state WHERE key = ?", (key,)))

    def items(self, prefix: str) -> Iterator[tuple[str, bytes, float]]:
        """Key, value and remaining seconds of each key that begins with ``prefix``. :raises StoreError:"""
        start, end = prefix, f"{prefix}\U0010ffff"
        while page := self._page(start, end):
            yield from page
            start = f"{page[-1][0]}\0"

    def _page(self, start: str, end: str) -> list[tuple[str, bytes, float]]:
        now = time.time()
        rows = self._run(lambda connection: connection.execute(_ITEMS, (start, end, now, _PAGE)).fetchall())
        return [(key, value, expires - now) for key, value, expires in rows]

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _sweep_sometimes(self) -> None:
        if time.monotonic() - self._swept_at < self._sweep_s:
            return
        self._swept_at = time.monotonic()
        now = time.time()
        before, self._ahead_s = self._ahead_s, now - self._swept_at
        with suppress(StoreError):  # the disk is full: what was asked for is done all the same
            self._run(lambda connection: connection.execute(_SWEEP, (now,)))
            if self._ahead_s < before - _AHEAD_S:
                self._run(_redate)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._mutex:
            try:
                try:
                    return work(self._connected())
                except sqlite3.DatabaseError as error:
                    if not _is_damaged(error):
                        raise
                    self._discard(error)
                    return work(self._connected())
            except sqlite3.Error as error:
                raise _translated(error) from error

    def _connected(self) -> sqlite3.Connection:
        """This process' connection; a new one if the file was deleted or replaced."""
        if self._connection is None or self._file != _identity(self._path):
            self.close()
            try:
                make_own_folder(self._path.parent)
                with exclusive(self._lock_path):  # two that switch a new file to WAL at the same moment would fail
                    self._connection = self._opened()
                    self._file = _identity(self._path)
            except OSError as error:
                raise _translated_os_error(error) from error
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        if not self._path.exists():
            self._remove()  # what is left of a deleted file belongs to no other
        try:
            return self._prepared()
        except sqlite3.DatabaseError as error:
            if not _is_damaged(error) and not _is_foreign(error):
                raise
            self._remove()
            _log_damage(self._path, error)
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA journal_mode = {self._journal}")
            connection.execute(_TABLE)
            connection.execute("CREATE INDEX IF NOT EXISTS expiry ON state (expires)")
            _redate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _discard(self, error: sqlite3.DatabaseError) -> None:
        """Removes the damaged file, unless another process has replaced it meanwhile."""
        self.close()
        try:
            with exclusive(self._lock_path):
                if self._file == _identity(self._path):
                    self._remove()
                    _log_damage(self._path, error)
        except OSError as problem:
            raise _translated_os_error(problem) from problem

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(f"{self._path.name}{suffix}").unlink(missing_ok=True)


def _value(connection: sqlite3.Connection, key: str) -> bytes | None:
    row = connection.execute(_GET, (key, time.time())).fetchone()
    return None if row is None else row[0]


def _write(connection: sqlite3.Connection, key: str, value: bytes, ttl_s: float) -> None:
    now = time.time()
    connection.execute(_PUT, (key, value, now, now + ttl_s))


def _redate(connection: sqlite3.Connection) -> None:
    now = time.time()
    connection.execute(_REDATE, (now, now + _AHEAD_S))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_damaged(error: sqlite3.Error) -> bool:
    """Whether only a new file helps: by SQLite's result codes, https://www.sqlite.org/rescode.html."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code == sqlite3.SQLITE_READONLY_DBMOVED


def _is_foreign(error: sqlite3.Error) -> bool:
    """Whether the table is another program's, which has no such columns."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR


def _log_damage(path: Path, error: sqlite3.Error) -> None:
    log.error("%s was damaged and has been made anew: %s", path.name, error)


def _translated(error: sqlite3.Error) -> StoreError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return StoreFullError(os.strerror(errno.ENOSPC))
    return StoreError(str(error))


def _translated_os_error(error: OSError) -> StoreError:
    kind = StoreFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
    return kind(error.strerror or type(error).__name__)
