"""What the workers of one gunicorn know of each other: whether somebody else takes the callers whom one leaves."""

from __future__ import annotations

import mmap
from enum import IntEnum

_PLACES = 4096


class State(IntEnum):
    """Of a worker. One that is stopping still takes callers until another one serves."""

    GONE = 0
    COMING = 1
    SERVING = 2
    STOPPING = 3


class Siblings:
    """In memory that is shared with all processes forked later. A worker's age is its number, from 1 on."""

    def __init__(self) -> None:
        self._states = mmap.mmap(-1, _PLACES)

    def tell(self, age: int, state: State) -> None:
        self._states[_place(age)] = state

    def tell_of_another_gunicorn(self) -> None:
        """One that takes callers on the same sockets, from now on: an upgrade by USR2."""
        self._states[0] = State.SERVING

    def others_are(self, *states: State, age: int) -> bool:
        """Whether any other than the worker of this age is in one of the states."""
        others = bytearray(self._states[:])
        others[_place(age)] = State.GONE
        return any(state in others for state in states)


def _place(age: int) -> int:
    """The first one is another gunicorn's."""
    return 1 + age % (_PLACES - 1)


#: Made in gunicorn's master, which imports the worker's class before it forks.
SIBLINGS = Siblings()
