"""One process of a host that does something for all of them."""

from __future__ import annotations

from state.holders import Holders
from state.store import Store

#: As good as for ever: a process stays elected as long as it lives.
_TTL_S = 30 * 86_400.0


class Election:
    """
    :param store: of the host.
    :param task: what is to be done by one process; the key of the one that is elected.
    """

    def __init__(self, store: Store, holders: Holders, task: str) -> None:
        self._store = store
        self._holders = holders
        self._key = f"elected:{task}"
        self._me = holders.me.encode()

    def is_won(self) -> bool:
        """
        Whether it is this process' task, which it becomes if nobody alive has it.

        :raises StoreError:
        """
        elected = self._store.get(self._key)
        if not self._is_alive(elected):
            elected = self._store.update(self._key, self._elect, ttl_s=_TTL_S)
        return elected == self._me

    def _elect(self, elected: bytes | None) -> bytes:
        return elected if elected and self._is_alive(elected) else self._me

    def _is_alive(self, elected: bytes | None) -> bool:
        return elected is not None and self._holders.lives(elected.decode(errors="replace"))
