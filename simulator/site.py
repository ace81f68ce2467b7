"""What a connection needs to know: the server that is played, its faults, its journal, its control routes."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from simulator.faults import Faults, fault_of
from simulator.flavour import API, Flavour, json_response
from simulator.journal import Journal, ReceivedRequest
from simulator.wire import Head, Request, Response

CONTROL = "/simulator/"
SHOWN_BODY_BYTES = 2000


@dataclass(frozen=True, kw_only=True)
class Site:
    """One simulated server; `prefix` is the path it lives under, without a slash at the end."""

    flavour: Flavour
    faults: Faults
    journal: Journal
    prefix: str

    def is_control(self, head: Head) -> bool:
        """Whether it is meant for the simulator itself, and not for the WebUI."""
        return head.path.startswith(CONTROL)

    def path(self, head: Head) -> str:
        """The path as the server sees it; empty if it is not below the prefix."""
        if self.is_control(head):
            return head.path
        return head.path.removeprefix(self.prefix) if head.path.startswith(f"{self.prefix}/") else ""

    def route(self, head: Head) -> str:
        """The name under which faults and the journal know a path."""
        path = self.path(head)
        return path.removeprefix(API) if path.startswith(API) else path.strip("/")

    def control(self, request: Request) -> Response:
        """Answer a request to the simulator itself."""
        actions: dict[tuple[str, str], Callable[[Request], object]] = {
            ("GET", "requests"): lambda _: [_shown(one) for one in self.journal.requests()],
            ("DELETE", "requests"): lambda _: self.journal.clear(),
            ("GET", "state"): lambda _: self._state(),
            ("POST", "faults"): self._set_faults,
            ("GET", "faults"): lambda _: self.faults.list(),
            ("DELETE", "faults"): lambda _: self.faults.clear(),
        }
        action = actions.get((request.method, request.path.removeprefix(CONTROL)))
        if action is None:
            known = ", ".join(f"{method} {CONTROL}{name}" for method, name in actions)
            return json_response({"error": f"no such control route; known are {known}"}, 404)
        try:
            return json_response(action(request))
        except ValueError as error:
            return json_response({"error": f"not a fault: {error}"}, 400)

    def _state(self) -> dict[str, Any]:
        requests = self.journal.requests()
        return {
            "flavour": self.flavour.settings.flavour,
            "requests": len(requests),
            "generations": sum(one.is_generation for one in requests),
            "most_concurrent": self.journal.most_concurrent,
            "faults": self.faults.list(),
        }

    def _set_faults(self, request: Request) -> object:
        given = json.loads(request.body)
        for fault in [fault_of(one) for one in (given if isinstance(given, list) else [given])]:
            self.faults.add(fault)
        return self.faults.list()


def _shown(request: ReceivedRequest) -> dict[str, Any]:
    body = request.body[:SHOWN_BODY_BYTES].decode("utf-8", "replace")
    return {**asdict(request), "headers": dict(request.headers), "body": body}
