"""The limits that this host's processes have learned: each cost a picture, so it is learned once for all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
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


_LEARNED = TypeAdapter(_Learned)


class LearnedLimits:
    """
    By WebUI id. They end with the WebUI's process, since the next one may have another model or other options.

    :param store: of this host.
    :param pool: names the list of WebUIs.
    """

    def __init__(self, store: Store, pool: str) -> None:
        self._store = store
        self._pool = pool
        # What was learned, as it is stored; None: it could not be.
        self._known: dict[str, tuple[bytes | None, _Learned]] = {}

    def __iter__(self) -> Iterator[str]:
        """The WebUIs of which some were learned, for whatever model."""
        return iter(self._known)

    def refresh(self, webuis: Iterable[str]) -> None:
        """Takes over what other processes have learned or forgotten."""
        for webui in webuis:
            with suppress(StoreError, ValidationError):
                self._refresh(webui)

    def applied(self, webui: str, capabilities: Capabilities) -> Capabilities:
        known = self._known.get(webui)
        if known is None or not capabilities.clamps or known[1].checkpoint != _checkpoint(capabilities):
            return capabilities
        return replace(capabilities, limits=known[1].limits)

    def learn(self, webui: str, capabilities: Capabilities, limits: Limits) -> None:
        """For all processes of this host; for this one even if the store fails."""
        learned = _Learned(checkpoint=_checkpoint(capabilities), limits=limits)
        raw = _LEARNED.dump_json(learned)
        try:
            self._store.put(self._key(webui), raw, ttl_s=_TTL_S)
            self._known[webui] = raw, learned
        except StoreError as error:
            log.error("what was learned about a webui cannot be shared: %s", error)
            self._known[webui] = None, learned

    def forget(self, webui: str) -> None:
        self._known.pop(webui, None)
        with suppress(StoreError):
            self._store.delete(self._key(webui))

    def _refresh(self, webui: str) -> None:
        raw = self._store.get(self._key(webui))
        known = self._known.get(webui)
        if raw is not None and (known is None or known[0] != raw):
            self._known[webui] = raw, _LEARNED.validate_json(raw)
        elif raw is None and known is not None and known[0] is not None:
            del self._known[webui]

    def _key(self, webui: str) -> str:
        return f"learned:{self._pool}:{webui}"


def _checkpoint(capabilities: Capabilities) -> str:
    """Servers that clamp have one model."""
    return capabilities.checkpoints[0].title if capabilities.checkpoints else ""
