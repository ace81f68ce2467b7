"""The limits that this host's processes have learned: each cost a picture, so it is learned once for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from sd_client.limits import Limits
from sd_client.models import Capabilities
from state.store import Store, StoreError

log = logging.getLogger(__name__)

#: As good as for ever: what was learned ends with the WebUI.
_TTL_S = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """:param checkpoint: the title of the model for which they hold."""

    checkpoint: str
    limits: Limits


_LEARNED = TypeAdapter(dict[str, _Learned])


class LearnedLimits:
    """
    By WebUI id. They end with the WebUI's process, since the next one may have another model or other options.

    :param store: of this host.
    :param pool: names the list of WebUIs.
    """

    def __init__(self, store: Store, pool: str) -> None:
        self._store = store
        self._key = f"learned:{pool}"
        self._shared: tuple[bytes, dict[str, _Learned]] = (b"", {})
        # What could not be stored.
        self._own: dict[str, _Learned] = {}

    def __iter__(self) -> Iterator[str]:
        """The WebUIs of which some were learned, for whatever model."""
        return iter(self._shared[1] | self._own)

    def refresh(self) -> None:
        """Takes over what other processes have learned or forgotten."""
        with suppress(StoreError):
            self._take_over(self._store.get(self._key) or b"")

    def applied(self, webui: str, capabilities: Capabilities) -> Capabilities:
        known = self._own.get(webui) or self._shared[1].get(webui)
        if known is None or not capabilities.clamps or known.checkpoint != _checkpoint(capabilities):
            return capabilities
        return replace(capabilities, limits=known.limits)

    def learn(self, webui: str, capabilities: Capabilities, limits: Limits) -> None:
        """For all processes of this host; for this one even if the store fails."""
        learned = _Learned(checkpoint=_checkpoint(capabilities), limits=limits)
        try:
            self._change(lambda known: known | {webui: learned})
            self._own.pop(webui, None)
        except StoreError as error:
            log.error("what was learned about a webui cannot be shared: %s", error)
            self._own[webui] = learned

    def forget(self, webui: str) -> None:
        self._own.pop(webui, None)
        self._shared[1].pop(webui, None)
        with suppress(StoreError):
            self._change(lambda known: {one: learned for one, learned in known.items() if one != webui})

    def _change(self, change: Callable[[dict[str, _Learned]], dict[str, _Learned]]) -> None:
        """:raises StoreError:"""

        def step(raw: bytes | None) -> bytes:
            return _LEARNED.dump_json(change(_parsed(raw or b"")))

        self._take_over(self._store.update(self._key, step, ttl_s=_TTL_S))

    def _take_over(self, raw: bytes) -> None:
        if raw != self._shared[0]:
            self._shared = raw, _parsed(raw)


def _parsed(raw: bytes) -> dict[str, _Learned]:
    """Nothing if another version wrote it, or nobody."""
    try:
        return _LEARNED.validate_json(raw)
    except ValidationError:
        return {}


def _checkpoint(capabilities: Capabilities) -> str:
    """Servers that clamp have one model."""
    return capabilities.checkpoints[0].title if capabilities.checkpoints else ""
