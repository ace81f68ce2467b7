"""What is written by one process is read whole by all, however the two meet."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sd_client.shared_file import SharedFile
from tests.running import ROOT, wait_until

WRITER = r"""
import sys
from sd_client.shared_file import SharedFile
file = SharedFile(sys.argv[1])
number = 0
while True:
    number += 1
    file.write(b"%d\n" % number * (3000 + number % 7 * 1000))
"""


@pytest.fixture
def file(tmp_path: Path) -> SharedFile:
    return SharedFile(str(tmp_path / "file"))


def test_what_is_written_is_read(file: SharedFile) -> None:
    for data in (b"long" * 1000, b"short", b"", b"longer" * 100_000):
        file.write(data)
        assert file.read() == data
        assert file.head(7) == data[:7]


def test_there_is_none_yet(file: SharedFile) -> None:
    assert file.head(7) == b""
    with pytest.raises(FileNotFoundError):
        file.read()


def test_no_more_files_are_left_than_two(file: SharedFile, tmp_path: Path) -> None:
    for number in range(20):
        SharedFile(str(tmp_path / "file")).write(b"%d" % number)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_none_of_these_files_is_empty(file: SharedFile, tmp_path: Path) -> None:
    for content in (b"", b"{}", b"00000000", b"12345678 something"):
        (tmp_path / "file").write_bytes(content)
        assert file.read() == b""


def test_a_reader_sees_whole_ones_while_another_process_writes_and_when_it_is_killed(
    file: SharedFile, tmp_path: Path
) -> None:
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "file")], cwd=ROOT) as writer:
            wait_until((tmp_path / "file").exists, "the first is written")
            seen = {file.read() for _ in range(2000)}
            writer.send_signal(signal.SIGKILL)
        assert len(seen) > 2
        for text in (*seen, file.read()):
            (number,) = {int(line) for line in text.split()}
            assert text == b"%d\n" % number * (3000 + number % 7 * 1000)
        (tmp_path / "file").unlink()


def test_a_full_disk_leaves_what_was_there(file: SharedFile, tmp_path: Path) -> None:
    file.write(b"before")
    with no_file_larger_than(1000), pytest.raises(OSError, match="File too large"):
        file.write(b"x" * 5000)
    assert file.read() == b"before"
    file.write(b"after")
    assert file.read() == b"after"


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
