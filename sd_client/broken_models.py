"""Checkpoints that a WebUI cannot load, and for how long they are not sent to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: How long a checkpoint is not sent to a WebUI where nothing else could be painted there either: it may be restarted.
FIRST_BROKEN_S = 30.0
#: And at most, or until the WebUI lists other files or was away: a file may be mended in its place.
LONGEST_BROKEN_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class BrokenModel:
    """:param until: by the schedule's clock; :param times: how often it was found broken in a row."""

    until: float
    times: int


Broken = Mapping[str, Mapping[str, BrokenModel]]


def with_broken(broken: Broken, webui: str, models: Sequence[str], *, now: float, sure: bool) -> Broken:
    """:param sure: it is the checkpoint, for another model was painted on that WebUI before and after."""
    known = broken.get(webui, {})
    marked = dict(known)
    for model in models:
        times = known[model].times + 1 if model in known else 1
        for_s = LONGEST_BROKEN_S if sure else min(FIRST_BROKEN_S * 2.0 ** min(times - 1, 10), LONGEST_BROKEN_S)
        marked[model] = BrokenModel(until=now + for_s, times=times)
    return {**broken, webui: marked}


def broken_now(broken: Broken, now: float) -> dict[str, frozenset[str]]:
    """``model_name`` of those that are not sent, by WebUI. What is too far in the future is of another clock."""
    return {
        webui: frozenset(name for name, one in models.items() if now < one.until <= now + LONGEST_BROKEN_S + 1)
        for webui, models in broken.items()
    }
