"""The starts of WebUIs by name, so that what was found out about one ends with it."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from pydantic import TypeAdapter, ValidationError

from state.store import Store

_KEY = "webui-starts"

#: By WebUI id: the name, and until when it holds, by the store's clock.
_Known = dict[str, tuple[str, float]]
_KNOWN: TypeAdapter[_Known] = TypeAdapter(_Known)


class Starts:
    """
    The same on all hosts. One value has all of them: a write costs more than its bytes.

    :param ttl_s: a WebUI that nobody has found there for so long may have been started anew.
    """

    def __init__(self, store: Store, *, ttl_s: float) -> None:
        self._store = store
        self._ttl_s = ttl_s

    def renew(self, there: Collection[str], *, gone: Collection[str] = ()) -> dict[str, str]:
        """
        The names of those that are there.

        :param gone: those that are not there any more. :raises StoreError:
        """
        now = self._store.now()

        def change(raw: bytes | None) -> bytes:
            known = {w: named for w, named in _parsed(raw).items() if named[1] > now and w not in gone}
            for webui in there:
                name = known[webui][0] if webui in known else uuid.uuid4().hex
                known[webui] = name, round(now + self._ttl_s, 1)
            return _KNOWN.dump_json(known)

        known = _parsed(self._store.update(_KEY, change, ttl_s=self._ttl_s))
        return {webui: known[webui][0] for webui in there}


def _parsed(raw: bytes | None) -> _Known:
    """None at all if another release wrote them."""
    try:
        return _KNOWN.validate_json(raw or b"{}")
    except ValidationError:
        return {}
