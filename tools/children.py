"""Programs that are started together and end together.

On Linux no child outlives this process even if it is killed with SIGKILL: the kernel signals them
(``PR_SET_PDEATHSIG``). Other systems have no such thing, and there SIGKILL leaves them running.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

#: Seconds between two looks at the children. Short against a person's patience, long against a CPU.
LOOK_S = 0.1

#: Seconds a child has to end before it is killed, unless it is given its own.
END_TIMEOUT_S = 5.0

#: The number of PR_SET_PDEATHSIG in Linux' <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1
#: Until a child is started.
_HELD_BACK = frozenset({signal.SIGINT, signal.SIGTERM})


class RunError(Exception):
    """The service cannot run; the text says why and what to do. Trying again alone does not help."""

    status = 1


class Stopped(Exception):
    """A signal asked for the end."""


@dataclass(frozen=True, kw_only=True)
class Child:
    """A running program. `log` holds what it printed, where that is not shown to the reader at once."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None
    end_timeout_s: float


class Children:
    """The programs that live and die together. Used from the main thread only, as signals demand."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where they are started."""
        self._folder = folder
        self._running: list[Child] = []
        self._signals = 0
        self._last_signal = -math.inf

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        while self._running:
            self._end(self._running.pop())

    def heed_signals(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup has SIGHUP ignored, and means it.
            if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._count_signal)

    def _count_signal(self, _signum: int, _frame: FrameType | None) -> None:
        # Only counted: an exception raised from here could strike between a start and its entry in the list.
        # Two within a second are one: make passes on a SIGTERM which the whole group may have got already.
        now = time.monotonic()
        if now - self._last_signal > 1:
            self._signals += 1
            self._last_signal = now

    def start(
        self,
        name: str,
        command: list[str],
        *,
        environ: Mapping[str, str],
        log: Path | None = None,
        pass_fds: Iterable[int] = (),
        orphan_signal: signal.Signals = signal.SIGTERM,
        end_timeout_s: float = END_TIMEOUT_S,
    ) -> subprocess.Popen[bytes]:
        """`orphan_signal` is what the kernel sends should this process die without ending the child."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_signals_held_back())
            process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
                command,
                cwd=self._folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=stack.enter_context(log.open("wb")) if log else None,
                pass_fds=tuple(pass_fds),
                # Its own group, so that Ctrl-C in a terminal reaches this process alone and the order holds.
                process_group=0,
                # Safe: this process has one thread.
                preexec_fn=_die_with_parent(orphan_signal),
            )
            self._running.append(Child(name=name, process=process, log=log, end_timeout_s=end_timeout_s))
        return process

    def wait_for(self, what: str, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """
        :raises RunError: it was not ready in time, or a child ended by itself.
        :raises Stopped: a signal came.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline:
                raise RunError(f"{what} was not ready within {timeout_s:.0f} s")
            self._look()

    def watch(self) -> NoReturn:
        """
        :raises RunError: a child ended by itself.
        :raises Stopped: a signal came.
        """
        while True:
            self._look()

    def _look(self) -> None:
        time.sleep(LOOK_S)
        if self._signals:
            raise Stopped
        for child in self._running:
            if (status := child.process.poll()) is not None:
                how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
                said = child.log.read_text(errors="replace").strip() if child.log else ""
                last_words = f"; it had said:\n{said}" if said else ""
                raise RunError(f"{child.name} ended by itself ({how}), ending the rest{last_words}")

    def _end(self, child: Child) -> None:
        signals, deadline = self._signals, time.monotonic() + child.end_timeout_s
        if child.process.poll() is None:
            child.process.terminate()
        while child.process.poll() is None and self._signals == signals and time.monotonic() < deadline:
            time.sleep(LOOK_S / 2)
        # Its whole group: a gunicorn that was killed leaves workers behind for a second.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """
    What a signal's handler raises is lost where it comes while Python runs what others have registered for a fork: it
    ignores their exceptions. A child must take its signals itself, which :func:`_die_with_parent` sees to.
    """
    if sys.platform != "linux":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def in_child() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        libc.prctl(_PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child
