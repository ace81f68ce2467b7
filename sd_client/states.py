"""What one process saw of the WebUIs, for the other processes of its host."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from sd_client.models import Capabilities
from state.store import Store

#: Names how states are written. Processes of a release that writes them otherwise, as there are for a while during an
#: upgrade, look at the WebUIs themselves.
LAYOUT = "lines"

#: As good as for ever: a WebUI that is down for days keeps what it could do.
_TTL_S = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class WebUIState:
    """
    :param capabilities: the last that were seen, kept while the WebUI is down; None if it never answered.
    :param seen: when it was looked at last, seconds of ``time.monotonic``.
    :param start: names its start as far as it is known, the same on all hosts: as long as somebody finds it there, it
        was not started anew. "" while it is not there, or if that cannot be said.
    :param full_look: when all its capabilities were read.
    :param reason: why it is not available, for the log; "" if it is.
    """

    available: bool
    seen: float
    start: str = ""
    full_look: float = 0.0
    capabilities: Capabilities | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class _Written:
    """
    :param state: without its capabilities.
    :param capabilities: the digest of what is stored of them; "" if there are none.
    """

    webui: str
    state: WebUIState
    capabilities: str


_WRITTEN = TypeAdapter(_Written)
_CAPABILITIES = TypeAdapter(Capabilities)


class SharedStates:
    """
    One value has the states of all WebUIs, a line for each, of which only those that have changed are made or parsed;
    what they can do lies beside it, a value for each, and is written and read only when it has changed: a list of LoRAs
    is long. To be used by one thread at a time.

    :param store: of the host.
    :param pool: names the list of WebUIs.
    :param ttl_s: what was written longer ago than this is from an earlier run.
    """

    def __init__(self, store: Store, pool: str, *, ttl_s: float) -> None:
        self._store = store
        self._key = f"seen:{pool}"
        self._ttl_s = ttl_s
        self._last_written = b""
        self._last_read: tuple[bytes, dict[str, WebUIState]] = (b"", {})
        # By WebUI, and by line.
        self._lines: dict[str, tuple[WebUIState, bytes]] = {}
        self._parsed_lines: dict[bytes, tuple[str, WebUIState]] = {}
        # By WebUI: what was written or read last of its capabilities, and its digest.
        self._known: dict[str, tuple[str, Capabilities]] = {}

    def write(self, states: Mapping[str, WebUIState]) -> None:
        """:raises StoreError: :raises ValueError: a text of a WebUI cannot be stored."""
        raw = b"\n".join([self._line(webui, state) for webui, state in states.items()])
        before, self._last_written = self._last_written, raw
        found: bytes | None = None

        def change(stored: bytes | None) -> bytes:
            nonlocal found
            found = stored
            return raw

        self._store.update(self._key, change, ttl_s=self._ttl_s)
        if (found or b"") != before:  # another process wrote the last one, or the store was lost
            for webui, (_, capabilities) in self._known.items():
                self._put(webui, _CAPABILITIES.dump_json(capabilities))

    def read(self) -> Mapping[str, WebUIState]:
        """By WebUI id, as last written; those that cannot be read are missing. :raises StoreError:"""
        raw = self._store.get(self._key) or b""
        if raw != self._last_read[0]:
            self._last_read = raw, self._parsed(raw)
        return self._last_read[1]

    def _line(self, webui: str, state: WebUIState) -> bytes:
        last = self._lines.get(webui)
        if last is None or last[0] is not state:
            self._lines[webui] = last = state, _WRITTEN.dump_json(self._written(webui, state))
        return last[1]

    def _written(self, webui: str, state: WebUIState) -> _Written:
        capabilities = state.capabilities
        if capabilities is None:
            return _Written(webui=webui, state=state, capabilities="")
        known = self._known.get(webui)
        if known is None or known[1] is not capabilities:
            raw = _CAPABILITIES.dump_json(capabilities)
            digest = _digest(raw)
            if known is None or known[0] != digest:
                self._put(webui, raw)
            self._known[webui] = known = digest, capabilities
        return _Written(webui=webui, state=replace(state, capabilities=None), capabilities=known[0])

    def _parsed(self, raw: bytes) -> dict[str, WebUIState]:
        """:raises StoreError:"""
        parsed = {}
        for line in raw.splitlines():
            with suppress(ValidationError, LookupError):  # another version wrote it
                parsed[line] = self._parsed_lines.get(line) or self._parsed_line(line)
        self._parsed_lines = parsed
        return dict(parsed.values())

    def _parsed_line(self, line: bytes) -> tuple[str, WebUIState]:
        """:raises StoreError: :raises ValidationError: :raises LookupError: see :meth:`_capabilities`."""
        written = _WRITTEN.validate_json(line)
        capabilities = self._capabilities(written.webui, written.capabilities)
        return written.webui, replace(written.state, capabilities=capabilities)

    def _capabilities(self, webui: str, digest: str) -> Capabilities | None:
        """:raises LookupError: they were never written, or are written just now."""
        if not digest:
            return None
        known = self._known.get(webui)
        if known is None or known[0] != digest:
            raw = self._store.get(self._key_of(webui))
            if raw is None or _digest(raw) != digest:
                raise LookupError
            self._known[webui] = known = digest, _CAPABILITIES.validate_json(raw)
        return known[1]

    def _put(self, webui: str, raw: bytes) -> None:
        self._store.put(self._key_of(webui), raw, ttl_s=_TTL_S)

    def _key_of(self, webui: str) -> str:
        return f"{self._key}:{webui}"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
