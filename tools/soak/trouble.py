"""Failures at random: WebUIs in every way that the simulator knows, Redis, and the workers themselves."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import requests

from simulator.faults import KINDS
from tests.pool.webuis import SimulatorProcess
from tests.running import RedisServer, Service
from tools.soak.census import workers_of

#: The range of seconds for which something stays frozen or down.
_DOWN_S = (0.5, 4.0)


class Trouble(threading.Thread):
    """Causes one failure after another until ``ended`` is set; repairs everything before it ends."""

    def __init__(
        self,
        service: Service,
        webuis: Sequence[SimulatorProcess],
        redis_server: RedisServer,
        ended: threading.Event,
        seed: int,
        *,
        kills: bool = True,
        pause_s: tuple[float, float] = (0.5, 3.0),
    ) -> None:
        """:param kills: workers as well. :param pause_s: the shortest and the longest pause before each failure."""
        super().__init__(name="trouble")
        self.done: Counter[str] = Counter()
        #: When workers were killed, by ``time.monotonic``.
        self.kills: list[float] = []
        self._service = service
        self._webuis = webuis
        self._redis = redis_server
        self._ended = ended
        self._draw = random.Random(seed)
        self._kills = kills
        self._pause_s = pause_s

    def run(self) -> None:
        things: list[tuple[int, Callable[[], None]]] = [
            (10, self._fault),
            (3, self._restart_webui),
            (2, self._freeze_webui),
            (3, self._freeze_redis),
            (1, self._restart_redis),
            (1, self._empty_redis),
            (int(self._kills), self._kill_worker),
        ]
        actions, weights = [action for _, action in things], [weight for weight, _ in things]
        while not self._ended.wait(self._draw.uniform(*self._pause_s)):
            self._draw.choices(actions, weights)[0]()
        for webui in self._webuis:
            webui.clear_faults()

    def _fault(self) -> None:
        webui, kind = self._draw.choice(self._webuis), self._draw.choice(sorted(KINDS))
        lasting = kind.startswith("hang") or kind == "drip"
        route = "*" if self._draw.random() < 0.2 else None
        settings = {"times": self._draw.randint(1, 3), "route": route}
        webui.set_fault(kind, **{name: value for name, value in settings.items() if value is not None})
        self.done[f"fault {kind}"] += 1
        if lasting:
            self._ended.wait(self._draw.uniform(*_DOWN_S))
            webui.clear_faults()

    def _restart_webui(self) -> None:
        webui = self._draw.choice(self._webuis)
        webui.kill()
        self.done["WebUI killed"] += 1
        self._ended.wait(self._draw.uniform(*_DOWN_S))
        webui.start()

    def _freeze_webui(self) -> None:
        webui = self._draw.choice(self._webuis)
        webui.freeze()
        self.done["WebUI frozen"] += 1
        self._ended.wait(self._draw.uniform(*_DOWN_S))
        webui.thaw()

    def _freeze_redis(self) -> None:
        self._redis.freeze()
        self.done["Redis frozen"] += 1
        self._ended.wait(self._draw.uniform(*_DOWN_S))
        self._redis.thaw()

    def _restart_redis(self) -> None:
        self._redis.stop()
        self.done["Redis killed"] += 1
        self._ended.wait(self._draw.uniform(*_DOWN_S))
        self._redis.start()

    def _empty_redis(self) -> None:
        self._redis.empty()
        self.done["Redis emptied"] += 1

    def _kill_worker(self) -> None:
        """Always the youngest: the oldest lives from the first to the last moment, and shows any growth."""
        found = workers_of(self._service.process.pid)
        if len(found) < 2:
            return
        self.kills.append(time.monotonic())
        os.kill(found[-1], signal.SIGKILL)
        self.done["worker killed"] += 1


def repair(webuis: Sequence[SimulatorProcess]) -> None:
    """Clear all faults; a WebUI that does not respond is restarted."""
    for webui in webuis:
        try:
            webui.clear_faults()
        except requests.RequestException:
            webui.kill()
            webui.start()
