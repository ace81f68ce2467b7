"""What a WebUI answers instead of a result."""

from typing import Any


class SimulatedError(Exception):
    """Something the WebUI would answer with an error."""


class HTTPError(SimulatedError):
    """A refusal on purpose, with the status it names."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text


class InvalidError(SimulatedError):
    """FastAPI's 422: one entry for every field that could not be read."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        super().__init__(str(entries))
        self.entries = list(entries)


class BodyError(SimulatedError):
    """FastAPI's 400: the body is not JSON in any encoding that is understood."""


class CrashError(SimulatedError):
    """An exception that the WebUI does not handle: class name and text as its 500 reports them."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class ClosingError(Exception):
    """The simulator ends: whoever waits stops waiting, and nothing is answered."""
