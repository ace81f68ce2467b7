"""What became of a request, kept in a file of one line for each change."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from services.requests import FileNotes, Note

OPEN = Note(status="open", overdue=5.0)
DONE = Note(status="done", image_ids=("a", "b"))


@pytest.fixture
def notes(tmp_path: Path) -> FileNotes:
    return FileNotes(tmp_path / "notes")


def test_the_last_note_counts(notes: FileNotes) -> None:
    assert notes.read("key") is None
    notes.write("key", OPEN)
    assert notes.read("key") == OPEN
    notes.write("key", DONE)
    assert notes.read("key") == DONE
    assert notes.read("other") is None


def test_what_a_full_disk_cut_off_hides_nothing(notes: FileNotes, tmp_path: Path) -> None:
    notes.write("key", OPEN)
    with (tmp_path / "notes" / "key").open("ab") as file:
        file.write(b'\n{"status":"do')
    assert notes.read("key") == OPEN
    notes.write("key", DONE)
    assert notes.read("key") == DONE


@pytest.mark.parametrize("content", [b"", b"\n\n", b"null\n", b'{"status":"gone"}\n', b"\xff\n"])
def test_what_is_no_note_is_none(notes: FileNotes, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "key").write_bytes(content)
    assert notes.read("key") is None


def test_the_folder_may_be_cleared_away(notes: FileNotes, tmp_path: Path) -> None:
    notes.write("key", OPEN)
    (tmp_path / "notes" / "key").unlink()
    (tmp_path / "notes").rmdir()
    assert notes.read("key") is None
    notes.write("key", DONE)
    assert notes.read("key") == DONE


def test_where_nothing_can_be_written_nothing_is_noted(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a file, not a folder")
    notes = FileNotes(tmp_path / "notes")
    notes.write("key", OPEN)
    assert notes.read("key") is None


def test_a_disk_that_is_full_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "services.requests")
    folder = tmp_path / "notes"
    notes = FileNotes(folder)
    folder.write_text("no folder")
    for _ in range(3):
        notes.write("key", DONE)
    assert [record.getMessage() for record in caplog.records] == [
        "requests cannot be noted in RUNTIME_DIR: Not a directory"
    ]
    folder.unlink()
    notes.write("key", DONE)
    assert notes.read("key") == DONE
