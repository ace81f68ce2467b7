"""What a WebUI answers instead of a result.

SimulatedError
├── HTTPError        the WebUI says no on purpose (its own HTTPException)
├── InvalidError     fields of the wrong type (FastAPI's 422)
├── BodyError        the body could not be parsed (FastAPI's 400)
└── CrashError       an exception the WebUI does not handle (500, with its class and text)
ClosingError         the simulator is being shut down; nothing is answered
"""

from typing import Any


class SimulatedError(Exception):
    """Something the WebUI would answer with an error."""


class HTTPError(SimulatedError):
    """A refusal with a status of its own."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status} {detail}")
        self.status = status
        self.detail = detail


class InvalidError(SimulatedError):
    """One entry for every field that could not be read."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        super().__init__(str(entries))
        self.entries = list(entries)


class BodyError(SimulatedError):
    """The body is not JSON in any encoding that is understood."""


class CrashError(SimulatedError):
    """An exception that the WebUI lets through: class name and text as it reports them."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class ClosingError(Exception):
    """The simulator ends: whoever waits stops waiting."""
