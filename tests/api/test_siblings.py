"""What the workers of one gunicorn know of each other."""

from __future__ import annotations

import os
import subprocess
import sys

from api.siblings import Siblings, State

BOTH = (State.SERVING, State.COMING)


def test_nobody_is_its_own_sibling() -> None:
    siblings = Siblings({})
    siblings.set_state(1, State.SERVING)
    assert not siblings.any_other_is(*BOTH, age=1)
    assert siblings.any_other_is(*BOTH, age=2)
    siblings.set_state(1, State.STOPPING)
    assert not siblings.any_other_is(*BOTH, age=2)
    assert siblings.any_other_is(State.STOPPING, age=2)


def test_a_forked_process_sees_the_same() -> None:
    siblings = Siblings({})
    if (child := os.fork()) == 0:
        siblings.set_state(7, State.SERVING)
        os._exit(0)
    os.waitpid(child, 0)
    assert siblings.any_other_is(State.SERVING, age=1)


def test_a_newer_gunicorn_serves_as_long_as_it_lives() -> None:
    siblings = Siblings({})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        siblings.set_newer_gunicorn(other.pid)
        assert siblings.any_other_is(State.SERVING, age=1)
        assert not siblings.any_other_is(State.COMING, State.STOPPING, age=1)
    assert not siblings.any_other_is(State.SERVING, age=1)


def test_an_older_gunicorn_serves_as_long_as_it_lives() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        siblings = Siblings({"GUNICORN_PID": str(other.pid)})
        assert siblings.any_other_is(State.SERVING, age=1)
    assert not siblings.any_other_is(State.SERVING, age=1)
