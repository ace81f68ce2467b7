"""Which of the product's files, functions and classes one txt2img enters, in the order of their first calls.

    python tools/request_path.py [FOLDER]

``FOLDER`` is another checkout to look at instead of this one. The service runs as in production, under gunicorn with
its own configuration and one worker, in front of the simulator. Calls in background threads that ran before the
request are left out; everything else that happens in the worker until the response is there counts.

Inside the worker this file is a WSGI module as well: ``request_path:app`` is the service with ``/trace`` in front.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from children import Children

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "/api/v1/ai/generation"
#: Folders of a checkout that are not the product.
BESIDE = frozenset({".venv", "bench", "doctor", "simulator", "tests", "tools"})
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Entered:
    """One function that was called: ``file`` is relative to the checkout, ``name`` includes the class."""

    file: str
    name: str

    @property
    def owner(self) -> str | None:
        """The class that the function belongs to, None outside any class."""
        owner = self.name.rpartition(".")[0]
        return None if not owner or owner.endswith("<locals>") else f"{self.file}:{owner}"


@dataclass(frozen=True)
class RequestPath:
    """What one request entered, each function once, in the order of the first calls."""

    entered: tuple[Entered, ...]

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(one.file for one in self.entered))

    @property
    def functions(self) -> list[Entered]:
        """Those that have a name: no lambdas and no comprehensions."""
        return [one for one in self.entered if not one.name.endswith(">")]

    @property
    def classes(self) -> list[str]:
        return list(dict.fromkeys(one.owner for one in self.entered if one.owner))


class Recorder:
    """Inside the worker: records every function of the product that is called while it is on."""

    def __init__(self) -> None:
        self._on = False
        self._left_out: set[int | None] = set()
        self._codes: dict[CodeType, None] = {}

    def install(self) -> None:
        """For this thread and all that start from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def begin(self) -> None:
        others = [thread for thread in threading.enumerate() if not _serves_requests(thread)]
        self._left_out = {thread.ident for thread in others}
        self._codes.clear()
        self._on = True

    def end(self) -> list[tuple[str, str]]:
        """The file and the qualified name of each function, in the order of the first calls."""
        self._on = False
        return [(code.co_filename, code.co_qualname) for code in self._codes]

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if self._on and event == "call" and threading.get_ident() not in self._left_out:
            self._codes.setdefault(frame.f_code)


def _serves_requests(thread: threading.Thread) -> bool:
    """gunicorn's main thread and those of its pool."""
    return thread is threading.main_thread() or thread.name.startswith("ThreadPoolExecutor")


def _traced_app() -> Callable[..., Iterable[bytes]]:
    recorder = Recorder()
    recorder.install()
    import stable_diffusion_api

    service = stable_diffusion_api.app  # created here, in the worker

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/trace":
            response: Iterable[bytes] = service(environ, start_response)
            return response
        start_response("200 OK", [("Content-Type", "application/json")])
        if environ["REQUEST_METHOD"] == "GET":
            return [json.dumps(recorder.end()).encode()]
        recorder.begin()
        return [b""]

    app.extensions = service.extensions  # type: ignore[attr-defined]  # gunicorn.conf.py and the worker read them
    return app


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = _traced_app()
    return app


def request_path(folder: Path = ROOT) -> RequestPath:
    """
    Start a checkout's service, and record one txt2img.

    :raises RunError: the simulator or the service did not start.
    """
    with tempfile.TemporaryDirectory(prefix="request-path-") as scratch, Children(folder) as children:
        url = _start(children, folder, Path(scratch))
        _ask(f"{url}{PREFIX}/txt2img", {"prompt": "a lighthouse"})  # what is only done once is done
        _ask(f"{url}/trace", {})
        _ask(f"{url}{PREFIX}/txt2img", {"prompt": "a lighthouse"})
        calls: list[tuple[str, str]] = json.loads(_ask(f"{url}/trace"))
    inside = [(Path(path).relative_to(folder), name) for path, name in calls if Path(path).is_relative_to(folder)]
    return RequestPath(tuple(Entered(str(path), name) for path, name in inside if path.parts[0] not in BESIDE))


def _start(children: Children, folder: Path, scratch: Path) -> str:
    log = scratch / "simulator.log"
    command = [sys.executable, "-m", "simulator", "--port", "0", "--step-time", "0"]
    children.start("the simulator", command, environ=os.environ, log=log)
    children.wait_for("the simulator", lambda: "\n" in log.read_text(), timeout_s=START_TIMEOUT_S)
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tools")]),
        "SD_WEBUI_URL": log.read_text().split()[-1],
        "IMAGE_DIR": str(scratch / "images"),
        "RUNTIME_DIR": str(scratch / "run"),
        "LOG_LEVEL": "ERROR",
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = ["-w", "1", "-b", f"fd://{listener.fileno()}", "-c", str(folder / "gunicorn.conf.py")]
        command = [sys.executable, "-m", "gunicorn", *options, "request_path:app"]
        children.start("the service", command, environ=environ, pass_fds=[listener.fileno()])
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    children.wait_for("the service", lambda: _is_healthy(url), timeout_s=START_TIMEOUT_S)
    return url


def _is_healthy(url: str) -> bool:
    try:
        _ask(f"{url}{PREFIX}/health")
    except OSError:  # not there yet, or its WebUI has not been seen
        return False
    return True


def _ask(url: str, body: dict[str, Any] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as answer:  # noqa: S310
        content: bytes = answer.read()
        return content


def text(path: RequestPath, folder: Path) -> str:
    lines: list[str] = []
    for file in path.files:
        names = ", ".join(one.name for one in path.functions if one.file == file)
        lines.append(f"{file}: {names}")
    length = sum(len((folder / file).read_text().splitlines()) for file in path.files)
    counts = f"{len(path.files)} files of {length} lines, {len(path.functions)} functions, {len(path.classes)} classes"
    return "\n".join([*lines, counts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT, help="a checkout (default: this one)")
    folder = parser.parse_args().folder.resolve()
    sys.stdout.write(text(request_path(folder), folder) + "\n")


if __name__ == "__main__":
    main()
