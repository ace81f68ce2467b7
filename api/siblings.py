"""What the workers of one gunicorn know about each other, so that none leaves its callers before another takes them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from enum import IntEnum

_BYTES = 4096
#: The process id of a newer gunicorn comes first; then a byte for each worker.
_PID_BYTES = 8


class State(IntEnum):
    """The state of a worker. One that is stopping still takes callers until another one serves."""

    GONE = 0
    COMING = 1
    SERVING = 2
    STOPPING = 3


class Siblings:
    """
    The workers' states, in memory shared with all processes forked later. A worker's age is its number from 1 on.

    :param environ: in which gunicorn names the older one that it upgrades, as long as that one lives.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._memory = mmap.mmap(-1, _BYTES)
        self._environ = environ

    def set_state(self, age: int, state: State) -> None:
        self._memory[_place(age)] = state

    def set_newer_gunicorn(self, pid: int) -> None:
        """:param pid: of a gunicorn that takes callers on the same sockets: an upgrade by USR2."""
        self._memory[:_PID_BYTES] = pid.to_bytes(_PID_BYTES)

    def any_other_is(self, *states: State, age: int) -> bool:
        """Whether any but the worker of this age is in one of the states. Another gunicorn counts as serving."""
        others = bytearray(self._memory[:])
        others[_place(age)] = State.GONE
        if any(state in others[_PID_BYTES:] for state in states):
            return True
        newer, older = int.from_bytes(others[:_PID_BYTES]), int(self._environ.get("GUNICORN_PID", 0))
        return State.SERVING in states and (_lives(newer) or _lives(older))


def _place(age: int) -> int:
    return _PID_BYTES + age % (_BYTES - _PID_BYTES)


def _lives(pid: int) -> bool:
    """Whether there is such a process; 0 stands for no process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != 0


#: Created in gunicorn's master, which imports the worker's class before it forks.
SIBLINGS = Siblings()
