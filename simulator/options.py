"""A WebUI's settings: defaults, what config.json holds, and the leak between the two."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from simulator.errors import CrashError

RESTRICTED = frozenset({"api_enable_requests", "api_forbid_local_requests", "api_useragent"})


class Options:
    """Values set by somebody (`config`) over defaults. Thread-safe.

    Only what already stands in config is put back after `override_settings`: on a fresh server an
    override of anything else stays, for everybody. That is what the real one does.
    """

    def __init__(self, defaults: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._lock = threading.Lock()
        self._defaults = dict(defaults)
        self._config = dict(config)

    def get(self, key: str) -> Any:
        """One value; None for an unknown option."""
        with self._lock:
            return self._config.get(key, self._defaults.get(key))

    def all(self) -> dict[str, Any]:
        """Every value in the order of the defaults."""
        with self._lock:
            return {key: self._config.get(key, value) for key, value in self._defaults.items()}

    def set(self, key: str, value: Any) -> None:
        """Change one, whatever its type; those that no API may change stay silently as they are.

        :raises CrashError: there is no such option (and the value is not null).
        """
        with self._lock:
            if self._config.get(key) == value:
                return
            if key not in self._defaults:
                raise CrashError("KeyError", repr(key))
            if key not in RESTRICTED:
                self._config[key] = value

    @contextmanager
    def overridden(self, settings: Mapping[str, Any], *, restore: bool) -> Iterator[None]:
        """Set several for a while.

        :raises CrashError: one of them is unknown.
        """
        with self._lock:
            stored = {key: self._config[key] for key in settings if key in self._config}
        try:
            for key, value in settings.items():
                self.set(key, value)
            yield
        finally:
            if restore:
                with self._lock:
                    self._config.update(stored)
