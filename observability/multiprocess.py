"""Prometheus' multiprocess mode: the workers of one gunicorn count together, in files of one folder.

A worker counts in the files of its slot, a number that the next worker takes over once it has ended. So the counts of
dead workers stay, and there are never more files than there were workers at a time. (By default prometheus_client
takes the process id, and files of the dead pile up.)
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Collection
from itertools import count
from pathlib import Path

from prometheus_client import values

from state.files import exclusive, make_own_folder, try_lock

#: Several times what the service's series take. A worker that writes to a mapped file for which a full disk has no
#: block is killed by the kernel: so the blocks are taken beforehand.
_RESERVED_BYTES = 512 * 1024

#: Those in which this process counts; none if it counts alone.
_files: list[Path] = []


@functools.cache  # a gunicorn that reads its settings again keeps its folder
def make_folder(runtime: Path) -> Path:
    """
    A new folder for this gunicorn, to be called by its master; those whose master has ended are removed.

    Services that share a ``RUNTIME_DIR``, and the old and the new gunicorn of an upgrade, have one each.

    :param runtime: ``RUNTIME_DIR``.
    :raises OSError:
    """
    with exclusive(runtime / "metrics.lock"):
        for other in runtime.glob("metrics-*/lock"):
            if (lock := try_lock(other, create=False)) is not None:
                os.close(lock)
                shutil.rmtree(other.parent, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="metrics-", dir=runtime))
        try_lock(folder / "lock")  # stays open until this process and its workers have ended
    return folder


def free_slot(taken: Collection[int]) -> int:
    return next(slot for slot in count() if slot not in taken)


def count_together(folder: Path, slot: int) -> None:
    """
    To be called in a worker before its metrics are made: they go on from what the slot's files hold.

    :param folder: as of :func:`make_folder`; it may have been deleted since.
    :raises OSError: there is no room for the files.
    """
    make_own_folder(folder)
    files = [folder / f"{kind}_{slot}.db" for kind in ("counter", "histogram")]
    for path in files:
        if not path.exists():
            empty = path.with_suffix(".new")
            empty.write_bytes(bytes(_RESERVED_BYTES))
            empty.rename(path)  # a scrape finds no half of it
    _files[:] = files
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def count_alone() -> None:
    """Instead: this process' metrics are its own."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    values.ValueClass = values.MutexValue


def shared_folder() -> Path | None:
    """Where this process counts with others; None if it counts alone, also because its files have been deleted."""
    return _files[0].parent if _files and all(path.exists() for path in _files) else None
