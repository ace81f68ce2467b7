"""The moving windows of one limit, counted together: in Redis that is one way there and back, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

from limits import RateLimitItem
from limits.strategies import MovingWindowRateLimiter


class Window(NamedTuple):
    """
    :ivar key: of its caller and limit.
    :ivar limit: what it has room for.
    :ivar amount: how much is asked for.
    """

    key: str
    limit: int
    expiry_s: int
    amount: int = 1


class Count(NamedTuple):
    """
    How a window stands after a request.

    :ivar acquired: whether there was room.
    :ivar start: of the oldest request that counts, in seconds of the storage's clock, whichever that is.
    :ivar taken: by the requests that count.
    :ivar now: when it was counted, by the same clock.
    """

    acquired: bool
    start: float
    taken: int
    now: float


class WindowStorage(Protocol):
    """What a storage needs for :class:`MovingWindows`, beside what Flask-Limiter asks of one."""

    def acquire_in_order(self, windows: Sequence[Window]) -> list[Count]:
        """
        Up to the first that is full, which is the last that is told of. Those before it have counted.

        :param windows: of different keys.
        """


class MovingWindows(MovingWindowRateLimiter):
    """limits' strategy of this kind hits one window at a time, and looks at it once more to tell how it stands."""

    NAME = "moving-windows"

    def hit_in_order(self, items: Sequence[RateLimitItem], *identifiers: str) -> list[Count]:
        """As :meth:`WindowStorage.acquire_in_order`."""
        windows = [Window(item.key_for(*identifiers), item.amount, item.get_expiry()) for item in items]
        return cast("WindowStorage", self.storage).acquire_in_order(windows)

    def look_in_order(self, items: Sequence[RateLimitItem], *identifiers: str) -> list[Count]:
        """How they stand, up to the first that is full, without counting."""
        counts = []
        for item in items:
            window = Window(item.key_for(*identifiers), item.amount, item.get_expiry(), amount=0)
            (count,) = cast("WindowStorage", self.storage).acquire_in_order([window])
            counts.append(count._replace(acquired=count.taken < item.amount))
            if not counts[-1].acquired:
                break
        return counts
