"""What a WebUI is doing: the one job that runs, those that wait, and the flags that stop it."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simulator.errors import ClosingError

FINISHED_TASKS = 16  # The WebUI remembers as many.


class FIFOLock:
    """One at a time, in the order of arrival, without a limit to how many wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._closed = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait in the queue, then hold the lock.

        :raises ClosingError: the simulator ended while this waited.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._closed or self._queue[0] is ticket)
            if self._closed:
                raise ClosingError
        try:
            yield
        finally:
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()

    def close(self) -> None:
        """End all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The WebUI's `shared.state` at one moment; `share` is 0 to 1, the time in seconds."""

    state: dict[str, Any]
    share: float
    eta_s: float


class Progress:
    """The running job. All numbers are the WebUI's own, its odd ones included. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._started = 0.0
        self._timestamp = "0"
        self._job = ""
        self._job_count = self._job_no = 0
        self._step = self._steps = 0
        self._skipped = self._interrupted = False

    def begin(self, job: str) -> str:
        """Start a job and forget all flags.

        :returns: its timestamp.
        """
        with self._changed:
            self._started = time.monotonic()
            self._timestamp = time.strftime("%Y%m%d%H%M%S")
            self._job, self._job_count, self._job_no = job, -1, 0
            self._step = self._steps = 0
            self._skipped = self._interrupted = False
            return self._timestamp

    def end(self) -> None:
        """The job is over, however it ended."""
        with self._changed:
            self._job, self._job_count = "", 0

    def plan(self, rounds: int) -> None:
        """How many rounds the job has."""
        with self._changed:
            self._job_count = rounds

    def sample(self, steps: int, step_s: float) -> float:
        """Go through one round's steps, each `step_s` seconds long.

        :returns: the share of the steps that were done: 1 unless somebody interrupted or skipped.
        :raises ClosingError: the simulator ends.
        """
        with self._changed:
            # Only here: after a job whose last round was skipped the flag stays until another begins.
            self._skipped = False
            self._steps = steps
            for step in range(steps if step_s > 0 else 0):
                self._step = step
                self._changed.wait_for(lambda: self._closed or self._stopped, timeout=step_s)
                if self._closed:
                    raise ClosingError
                if self._stopped:
                    return (step + 0.5) / steps
        return 1.0

    def rest(self, seconds: float) -> None:
        """Load a model: cannot be interrupted.

        :raises ClosingError: the simulator ends.
        """
        with self._changed:
            if self._changed.wait_for(lambda: self._closed, timeout=seconds):
                raise ClosingError

    def next_round(self) -> bool:
        """Count a round as done.

        :returns: whether the job may go on.
        """
        with self._changed:
            self._job_no += 1
            self._step = 0
            return not self._interrupted

    @property
    def _stopped(self) -> bool:
        return self._interrupted or self._skipped

    @property
    def running(self) -> bool:
        """Whether a job runs."""
        with self._changed:
            return self._job_count != 0

    def interrupt(self) -> None:
        """End whatever runs, with what is painted so far."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def skip(self) -> None:
        """End the round that runs."""
        with self._changed:
            self._skipped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop everything at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def snapshot(self) -> Snapshot:
        """How far it is."""
        with self._changed:
            share = self._share()
            passed = time.monotonic() - self._started
            state = {
                "skipped": self._skipped,
                "interrupted": self._interrupted,
                "stopping_generation": False,
                "job": self._job,
                "job_count": self._job_count,
                "job_timestamp": self._timestamp,
                "job_no": self._job_no,
                "sampling_step": self._step,
                "sampling_steps": self._steps,
            }
        eta_s = passed / share - passed if share else 0.0
        return Snapshot(state=state, share=share, eta_s=eta_s)

    def _share(self) -> float:
        if self._job_count == 0:
            return 0.0
        share = 0.01
        if self._job_count > 0:
            share += self._job_no / self._job_count
            share += 1 / self._job_count * self._step / max(1, self._steps)
        return min(share, 1.0)


class Tasks:
    """Task ids as /internal/progress knows them; a task that fails is never tidied up, as in the WebUI. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._finished: deque[str] = deque(maxlen=FINISHED_TASKS)
        self._current: str | None = None

    def add(self, task: str) -> None:
        """A request has come."""
        with self._lock:
            self._pending.add(task)

    def start(self, task: str) -> None:
        """Its job begins to run."""
        with self._lock:
            self._current = task
            self._pending.discard(task)

    def finish(self, task: str) -> None:
        """Its job has ended well."""
        with self._lock:
            if self._current == task:
                self._current = None
            self._finished.append(task)

    def status(self, task: str) -> tuple[bool, bool, bool]:
        """Whether it is active, queued, completed."""
        with self._lock:
            return (task == self._current, task in self._pending, task in self._finished)
