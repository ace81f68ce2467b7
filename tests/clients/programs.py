"""Programs that people use, each in its environment, which `make test-clients` makes."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.running import DEADLINE_S, environment

HERE = Path(__file__).parent

#: LiteLLM would fetch a list of prices when it is imported.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class Running:
    """A client's script that runs, and makes one call after the other."""

    def __init__(self, command: Sequence[str], complaints: Path) -> None:
        """:param complaints: a file for what it prints besides."""
        self._complaints = complaints
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with complaints.open("wb") as stderr:
            self._process = subprocess.Popen(
                command, env=environment(QUIET), **pipes, stderr=stderr, text=True, bufsize=1
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, call: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call) + "\n")

    def receive(self) -> dict[str, Any]:
        """What came of the oldest call that was sent."""
        assert self._process.stdout is not None
        late = threading.Timer(2 * DEADLINE_S, self._process.kill)
        late.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        assert line, f"it ended, or took too long: {self._complaints.read_text()}"
        outcome: dict[str, Any] = json.loads(line)
        return outcome

    def ask(self, call: Mapping[str, Any]) -> dict[str, Any]:
        self.send(call)
        return self.receive()


@contextmanager
def serving(command: Sequence[str], probe: str, log: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """
    A program that is a server, from its first answer to the end of the block. Its working folder is the log's.

    :param probe: the URL that answers once it is ready; ``log``: a file for all that it prints.
    """
    with log.open("wb") as printed:
        process = subprocess.Popen(command, env=environment(settings), cwd=log.parent, stdout=printed, stderr=printed)
    try:
        _wait_until_it_answers(process, probe, log)
        yield
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], probe: str, log: Path) -> None:
    """A quiet machine needs up to half a minute: one sets up its database, another compiles its page."""
    deadline = time.monotonic() + 5 * DEADLINE_S
    while True:
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(probe, timeout=DEADLINE_S).ok:
                return
        except requests.ConnectionError:
            assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@dataclass(frozen=True, kw_only=True)
class Program:
    """
    :param interpreter: a name, or a path below ``tests/clients``; ``script``: a path there.
    :param attempts: requests in all for one picture that is refused for some seconds.
    :param obeys: whether it gives up where ``X-Should-Retry`` is false.
    :param tells: whether a program can read the service's sentence.
    :param plain: whether it knows no more than to paint: it has no field for a key, nor for a mask.
    :param sends_headers: whether it can be made to send one.
    """

    name: str
    interpreter: str
    script: str
    attempts: int = 1
    obeys: bool = True
    tells: bool = True
    plain: bool = False
    sends_headers: bool = True

    @property
    def key(self) -> str:
        return f"key-of-{self.name}"

    def command(self, script: Path | None = None) -> list[str]:
        """
        What starts its script, or another one.

        :raises pytest.skip.Exception: it is not installed here.
        """
        found = shutil.which(HERE / self.interpreter if "/" in self.interpreter else self.interpreter)
        if found is None:
            pytest.skip(f"needs {self.interpreter}: `make test-clients` makes the environments, but for node itself")
        if self.interpreter == "node" and not (HERE / "node" / "node_modules").is_dir():
            pytest.skip("needs npm's packages: `make test-clients` installs them")
        return [found, str(script or HERE / self.script)]


def _python(name: str, script: str, **ways: Any) -> Program:
    return Program(name=name, interpreter=f".environments/{name}/bin/python", script=f"python/{script}.py", **ways)


def _node(name: str, **ways: Any) -> Program:
    return Program(name=name, interpreter="node", script=f"node/{name}.mjs", **ways)


#: Of OpenAI's API.
OPENAI = [
    *(_python(f"openai-{version}", "openai_client", attempts=3) for version in ("newest", "2", "1")),
    _python("litellm", "litellm_client", attempts=3),
    _node("openai", attempts=3),
    _node("ai-sdk", attempts=3, obeys=False),
]
#: Of A1111's. None of them tries again.
A1111 = [
    _python("webuiapi", "webuiapi_client"),
    _node("stable-diffusion-api", sends_headers=False),
    _node("node-sd-webui", plain=True, sends_headers=False, tells=False),
]
LANGCHAIN = _python("langchain", "langchain_client")
PROGRAMS = {program.name: program for program in [*OPENAI, *A1111, LANGCHAIN]}
WEBUIAPI = PROGRAMS["webuiapi"]
