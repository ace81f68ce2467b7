"""What a connection needs to know: the server that is played, its faults, its journal, its control routes."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from simulator.application import Flavour, json_response
from simulator.faults import FaultError, Faults, fault_of
from simulator.journal import Journal, ReceivedRequest
from simulator.wire import Head, Request, Response

CONTROL = "/simulator/"
SHOWN_BODY_BYTES = 2000
API = "/sdapi/v1/"


@dataclass(frozen=True, kw_only=True)
class Site:
    """One simulated server.

    `prefix` is the path it lives under, without a slash at the end; after `idle_s` seconds without a
    request a connection is closed.
    """

    flavour: Flavour
    faults: Faults
    journal: Journal
    prefix: str
    idle_s: float

    def path(self, head: Head) -> str:
        """The path as the server sees it; empty if it is not below the prefix."""
        path = head.path
        if path.startswith(CONTROL):
            return path
        return path.removeprefix(self.prefix) if path.startswith(f"{self.prefix}/") else ""

    def route(self, head: Head) -> str:
        """The name under which faults and the journal know a path."""
        path = self.path(head)
        return path.removeprefix(API) if path.startswith(API) else path.strip("/")

    def control(self, request: Request) -> Response | None:
        """Answer a request to the simulator itself.

        :returns: None if it is meant for the WebUI.
        """
        if not request.path.startswith(CONTROL):
            return None
        actions: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "requests"): self._requests,
            ("DELETE", "requests"): self._forget,
            ("GET", "state"): self._state,
            ("POST", "faults"): self._set_faults,
            ("GET", "faults"): self._faults,
            ("DELETE", "faults"): self._clear_faults,
        }
        action = actions.get((request.method, request.path.removeprefix(CONTROL)))
        if action is None:
            known = ", ".join(f"{method} {CONTROL}{name}" for method, name in actions)
            return json_response({"error": f"no such control route; known are {known}"}, 404)
        return action(request)

    def _requests(self, _request: Request) -> Response:
        return json_response([_shown(one) for one in self.journal.requests()])

    def _forget(self, _request: Request) -> Response:
        self.journal.clear()
        return json_response({})

    def _state(self, _request: Request) -> Response:
        requests = self.journal.requests()
        state = {
            "flavour": self.flavour.name,
            "requests": len(requests),
            "generations": sum(one.is_generation for one in requests),
            "most_concurrent": self.journal.most_concurrent,
            "faults": self.faults.list(),
        }
        return json_response(state)

    def _faults(self, _request: Request) -> Response:
        return json_response(self.faults.list())

    def _set_faults(self, request: Request) -> Response:
        try:
            given = json.loads(request.body)
            faults = [fault_of(one) for one in (given if isinstance(given, list) else [given])]
        except (ValueError, AttributeError) as exc:
            kind = "fault" if isinstance(exc, FaultError) else "JSON"
            return json_response({"error": f"not a {kind}: {exc}"}, 400)
        for fault in faults:
            self.faults.add(fault)
        return self._faults(request)

    def _clear_faults(self, _request: Request) -> Response:
        self.faults.clear()
        return json_response([])


def _shown(request: ReceivedRequest) -> dict[str, Any]:
    body = request.body[:SHOWN_BODY_BYTES].decode("utf-8", "replace")
    return {**asdict(request), "headers": dict(request.headers), "body": body}
