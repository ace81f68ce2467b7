"""Many simulated WebUIs, a service in front of them, and callers who never pause."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from simulator import Simulator
from tests.pool.callers import wait_for_webuis
from tests.running import RedisServer, Repeating, running_service

#: Of one step at 512x512. At 64x64 it is a 64th part: 8 steps take a second, and cost hardly any CPU.
STEP_TIME = 8.0
STEPS = 8
MODEL = "v1-5-pruned-emaonly"
_PER_PROCESS = 10


def _simulate(kinds: Sequence[Mapping[str, Any]], pipe: Connection) -> None:
    """In another process: sends the addresses, then whenever it is asked what the WebUIs have painted."""
    with ExitStack() as stack:
        webuis = [stack.enter_context(Simulator(step_time=STEP_TIME, **kind)) for kind in kinds]
        pipe.send([webui.url for webui in webuis])
        while pipe.recv():
            pipe.send([[(one.started, one.finished, one.body) for one in webui.generations] for webui in webuis])


class WebUIs:
    """
    Simulated ones, several to a process.

    :param kinds: settings of the simulator that they have in turn.
    """

    def __init__(self, count: int, kinds: Sequence[Mapping[str, Any]] = ({},)) -> None:
        settings = list(itertools.islice(itertools.cycle(kinds), count))
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        self.urls: list[str] = []
        for start in range(0, count, _PER_PROCESS):
            pipe, theirs = context.Pipe()
            process = context.Process(
                target=_simulate, args=(settings[start : start + _PER_PROCESS], theirs), daemon=True
            )
            process.start()
            self._pipes.append(pipe)
            self._processes.append(process)
        for pipe in self._pipes:
            self.urls += pipe.recv()

    def generations(self) -> list[list[tuple[float, float | None, bytes]]]:
        """When each job of each WebUI came, when it was answered, and its body."""
        for pipe in self._pipes:
            pipe.send(True)
        return [webui for pipe in self._pipes for webui in pipe.recv()]

    def busy_share(self, begin: float, end: float) -> float:
        """Of the time between two moments, over all of them."""
        spans = [(max(came, begin), min(left or end, end)) for one in self.generations() for came, left, _ in one]
        return sum(max(0.0, left - came) for came, left in spans) / ((end - begin) * len(self.urls))

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(False)
            process.join()


@contextmanager
def pool(count: int, *, redis: bool, kinds: Sequence[Mapping[str, Any]] = ({},), **settings: str) -> Iterator[Any]:
    """A service in front of so many WebUIs, all of them available."""
    webuis = WebUIs(count, kinds)
    with ExitStack() as stack:
        stack.callback(webuis.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-")))
        if redis:
            server = RedisServer(folder)
            server.start()
            stack.callback(server.stop)
            settings["REDIS_URL"] = server.url
        settings = {"LOG_LEVEL": "WARNING", "SD_MODEL": MODEL, **settings}
        service = stack.enter_context(running_service(folder, ",".join(webuis.urls), **settings))
        service.wait_until_answering()
        wait_for_webuis(service, count)
        yield service, webuis


class Callers(Repeating):
    """
    Each asks again as soon as it has an answer, until the end. They begin at once.

    :param extras: fields that a third of the jobs have beside the others.
    """

    def __init__(self, url: str, count: int, *, steps: int = STEPS, extras: Mapping[str, Any] | None = None) -> None:
        super().__init__([self._ask] * count)
        self._url = url
        self._steps = steps
        self._extras = dict(extras or {})
        self.answers: list[int] = []
        self.start()

    def _ask(self) -> None:
        body: dict[str, Any] = {
            "prompt": "a",
            "width": 64,
            "height": 64,
            "steps": self._steps,
            "response_format": "url",
        }
        with requests.Session() as session:
            while not self.ended.is_set():
                seed = random.randrange(2**31)
                asked = body | {"seed": seed} | (self._extras if seed % 3 == 0 else {})
                self.answers.append(session.post(f"{self._url}/txt2img", json=asked, timeout=120).status_code)
