"""Opening, looking at and removing single files and folders while others may do the same."""

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import BinaryIO

# The owner writes, the group (a web server that delivers the files, a backup) reads. A stricter umask still holds.
_FILE_MODE = 0o640


def open_new(path: Path) -> FileIO:
    """For writing, without a buffer. :raises FileExistsError: the name is taken, by a link too."""
    return open(path, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, _FILE_MODE))


def open_existing(path: Path) -> BinaryIO:
    """:raises OSError: also where it is a link, a device or a pipe, which could block."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a regular file")


def is_there(path: Path | str) -> bool:
    """A link counts, wherever it points."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def is_older(path: Path | str, moment: float) -> bool:
    """Whether it is a file last changed at the moment (seconds since 1970) or before; False where it is gone."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_mtime <= moment


def remove_if_there(path: Path | str) -> bool:
    """Whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def children(folder: Path | str) -> list[os.DirEntry[str]]:
    """
    No entries where the folder is gone. They say whether they are folders without a call to the system, and cost a
    tenth of paths: a listing of all images has a million.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
