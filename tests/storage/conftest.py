import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage import ImageStorage, open_storage
from tests.storage.records import record_in
from tests.storage.s3_servers import S3Server, aws_variables

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("storage_process.py")
DEADLINE_S = 60

RecordOf = Callable[[UUID], dict[str, Any]]
StartProcess = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The address of a storage of each kind, and the folder where its files are."""
    if request.param == "s3":
        server, prefix = request.getfixturevalue("s3_server"), uuid4().hex
        return server.url(prefix), server.folder / prefix
    folder = tmp_path / "not" / "there" / "yet"
    return str(folder), folder


@pytest.fixture
def storage(place: tuple[str, Path]) -> ImageStorage:
    return open_storage(place[0])


@pytest.fixture
def record_of(place: tuple[str, Path]) -> RecordOf:
    return functools.partial(record_in, place[1])


@pytest.fixture(scope="session")
def aws_credentials() -> Iterator[None]:
    with aws_variables(AWS_ACCESS_KEY_ID="tests", AWS_SECRET_ACCESS_KEY="tests"):
        yield


@pytest.fixture(scope="session")
def s3_server(aws_credentials: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Shared: each test has another prefix."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_s3_server(aws_credentials: None, tmp_path: Path) -> Iterator[S3Server]:
    """For tests that stop or freeze it."""
    server = S3Server(tmp_path / "s3")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def start_process():
    """Start storage_process.py with arguments; whatever still runs at the test's end is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*prefix, sys.executable, str(SCRIPT), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run_process(start_process: StartProcess):
    """Run storage_process.py to its end and return its exit status and its standard output."""

    def run(*arguments: object, prefix: Sequence[str] = ()) -> tuple[int, str]:
        process = start_process(*arguments, prefix=prefix)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert "Traceback" not in err, err
        return process.returncode, out

    return run


@pytest.fixture
def files_under():
    """All files below a folder, as sorted names relative to it."""

    def names(root: Path) -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())

    return names
