"""Checkpoints that a WebUI cannot paint with, and for how long they are not sent to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: How long a checkpoint is not sent to a WebUI where nothing else could be painted there either: it may be the WebUI's
#: fault, which somebody mends.
BRIEFLY_S = 30.0
#: And where others can be painted; at most, or until the WebUI lists other files or was away.
BROKEN_S = 3600.0

#: By WebUI and ``model_name``: until when, by the schedule's clock.
Broken = Mapping[str, Mapping[str, float]]


def with_broken(broken: Broken, webui: str, models: Sequence[str], *, now: float, sure: bool) -> Broken:
    """:param sure: it is the checkpoint, for another model was painted on that WebUI before and after."""
    until = now + (BROKEN_S if sure else BRIEFLY_S)
    return {**broken, webui: {**broken.get(webui, {}), **dict.fromkeys(models, until)}}


def broken_now(broken: Broken, now: float) -> dict[str, frozenset[str]]:
    """``model_name`` of those that are not sent, by WebUI."""
    return {
        webui: frozenset(name for name in models if is_broken(broken, webui, name, now))
        for webui, models in broken.items()
    }


def is_broken(broken: Broken, webui: str, model: str, now: float) -> bool:
    """Whether a checkpoint is not sent to a WebUI. What is too far in the future is of another clock."""
    return now < broken.get(webui, {}).get(model, 0.0) <= now + BROKEN_S + 1
