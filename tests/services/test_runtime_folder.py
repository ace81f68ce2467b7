"""Whether RUNTIME_DIR can be written, and what the log says of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from services.runtime_folder import RuntimeFolder


def test_it_is_told_once_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "services.runtime_folder")
    path = tmp_path / "run"
    folder = RuntimeFolder(path)
    assert folder.can_be_written()
    path.rmdir()
    path.write_text("no folder")
    assert [folder.can_be_written() for _ in range(3)] == [False] * 3
    path.unlink()
    assert [folder.can_be_written() for _ in range(3)] == [True] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "RUNTIME_DIR cannot be written: File exists",
        "RUNTIME_DIR can be written again",
    ]
    assert list(path.iterdir()) == []
    assert path.stat().st_mode & 0o077 == 0
