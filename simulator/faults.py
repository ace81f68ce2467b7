"""Ways to fail: what can be set, where it strikes, and for how long."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from simulator.journal import GENERATION_ROUTES

WIRE_KINDS = frozenset(
    ("refuse", "reset-before", "reset-after", "hang-before", "hang-middle", "drip", "cut", "slow", "interim")
)
ANSWER_KINDS = frozenset(
    (
        *("garbage", "not-json", "oom", "nan", "load-failed", "error-plain", "error-json"),
        *("busy", "rate-limited", "unauthorized", "disabled"),
    )
)
CHANGE_KINDS = frozenset(
    (
        *("not-base64", "not-picture", "empty-images", "damaged", "too-few", "wrong-size"),
        *("wrong-model", "wrong-sampler", "no-info", "empty-info", "jpeg", "webp"),
    )
)
#: The WebUI does not see a part of what it was asked for, and goes on without a word.
DROP_KINDS = frozenset(
    (
        *("lora-drop", "clip-skip-drop", "upscaler-fake", "hires-drop"),
        *("cn-drop", "cn-drop-keep-map", "cn-oom", "cn-slow-first"),
    )
)
KINDS = WIRE_KINDS | ANSWER_KINDS | CHANGE_KINDS | DROP_KINDS
EVERYWHERE = "*"
DEFAULT_SLOW_S = 1.0


class FaultError(ValueError):
    """A description of a fault that cannot be understood. Nothing was set."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to fail.

    :param route: the last part of a path (`txt2img`, `sd-models`, `internal/ping`), `*` for every route,
        None for the two generation routes.
    :param times: how often, None for always.
    :param of: it strikes the first `times` of every so many that it is meant for, for ever.
    :param seconds: how much longer `slow` takes, or `cn-slow-first`, which fetches an encoder.
    """

    kind: str
    route: str | None = None
    times: int | None = None
    of: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaultError(f"unknown fault {self.kind!r}; known are {', '.join(sorted(KINDS))}")
        if self.times is not None and self.times < 1:
            raise FaultError(f"times must be at least 1, not {self.times}")
        if self.of is not None and (self.times is None or self.of <= self.times):
            raise FaultError(f"of must be more than times, not {self.of}")
        if self.seconds is not None and self.seconds < 0:
            raise FaultError(f"seconds must not be negative, as {self.seconds} is")

    def strikes(self, method: str, route: str) -> bool:
        """Whether it is meant for this route."""
        if self.route is None:
            return method == "POST" and route in GENERATION_ROUTES
        return self.route in (EVERYWHERE, route)


def parse_fault(spec: str) -> Fault:
    """Read KIND[:route=…][:times=N[:of=M]][:seconds=S].

    :raises FaultError: it cannot be understood.
    """
    kind, *settings = spec.split(":")
    values: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise FaultError(f"{setting!r} in {spec!r} is not of the form key=value")
        values[key] = value
    return fault_of({"kind": kind, **values})


def fault_of(values: object) -> Fault:
    """From a mapping with the fields' names; numbers may be texts.

    :raises FaultError: it cannot be understood.
    """
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise FaultError("a fault needs a kind")
    if unknown := sorted(values.keys() - {"kind", "route", "times", "of", "seconds"}):
        raise FaultError(f"unknown setting {unknown[0]!r}; known are route, times, of, seconds")
    numbers: dict[str, type] = {"times": int, "of": int, "seconds": float}
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return Fault(**{name: numbers.get(name, str)(value) for name, value in given.items()})
    except FaultError:
        raise
    except (TypeError, ValueError) as error:
        raise FaultError(f"times, of and seconds must be numbers: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A fault that has struck; `epoch` counts how often all had been cleared before."""

    kind: str
    seconds: float | None
    epoch: int


class Faults:
    """All that are set. The first that fits strikes, until its `times` are spent. Thread-safe."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._changed = threading.Condition()
        self._left: list[tuple[Fault, int | None]] = [(fault, fault.times) for fault in faults]
        self._met: Counter[Fault] = Counter()
        self._epoch = 0
        self._closed = False

    def add(self, fault: Fault) -> None:
        """Set one more, behind those that are set."""
        with self._changed:
            self._left.append((fault, fault.times))

    def clear(self) -> None:
        """Take all away, and let go of what hangs."""
        with self._changed:
            self._left.clear()
            self._met.clear()
            self._epoch += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of what hangs: the simulator ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def list(self) -> list[dict[str, Any]]:
        """All that is set, with how often it will still strike."""
        with self._changed:
            return [{**asdict(fault), "times": left} for fault, left in self._left]

    def take(self, method: str, route: str, *, only: frozenset[str] = KINDS) -> Strike | None:
        """The fault that strikes here now; counted as having struck."""
        with self._changed:
            for index, (fault, left) in enumerate(self._left):
                if fault.kind in only and fault.strikes(method, route):
                    if fault.of is not None:
                        self._met[fault] += 1
                        if (self._met[fault] - 1) % fault.of >= (fault.times or 0):
                            continue
                    elif left == 1:
                        del self._left[index]
                    elif left is not None:
                        self._left[index] = (fault, left - 1)
                    return Strike(kind=fault.kind, seconds=fault.seconds, epoch=self._epoch)
        return None

    def take_at_accept(self) -> Strike | None:
        """A `refuse` that is meant for every route and thus needs no request."""
        with self._changed:
            everywhere = any(fault.kind == "refuse" and fault.route == EVERYWHERE for fault, _ in self._left)
        return self.take("", EVERYWHERE, only=frozenset({"refuse"})) if everywhere else None

    def hang(self, strike: Strike, given_up: Callable[[], bool]) -> bool:
        """Wait until all faults are cleared since `strike`, the simulator ends, or `given_up` says so.

        :returns: whether the faults were cleared.
        """
        with self._changed:
            while self._epoch == strike.epoch and not self._closed and not given_up():
                self._changed.wait(0.05)
            return self._epoch != strike.epoch

    def pause(self, seconds: float) -> None:
        """Wait so long, or until the simulator ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, timeout=seconds)
