"""A simulated WebUI in this process."""

from typing import Any, Self

from simulator.faults import Fault, Faults, fault_of, parse_fault
from simulator.flavour import Settings
from simulator.flavours import build
from simulator.journal import Journal, ReceivedRequest
from simulator.server import Server
from simulator.site import Site


class Simulator:
    """A WebUI that paints without a model, on a port of this machine; runs from `start` to `close`, or in a `with`.

    :param prefix: a path all routes live under.
    :param certificate: a PEM file with certificate and key, to speak https.
    :param max_body_bytes: how much of a request's body the journal keeps; None for all.
    :param settings: see `flavour.Settings`.
    :raises OSError: the port is taken.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: str = "",
        certificate: str | None = None,
        faults: tuple[Fault, ...] = (),
        max_body_bytes: int | None = None,
        **settings: Any,
    ) -> None:
        self._faults = Faults(tuple(faults))
        self._journal = Journal(max_body_bytes=max_body_bytes)
        self._flavour = build(Settings(**settings))
        self._prefix = prefix.rstrip("/")
        site = Site(flavour=self._flavour, faults=self._faults, journal=self._journal, prefix=self._prefix)
        self._server = Server(host, port, site, certificate=certificate)
        self._scheme = "http" if certificate is None else "https"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def close(self) -> None:
        """End at once: running jobs are dropped, open connections broken."""
        self._faults.close()
        self._flavour.close()
        self._server.close()

    @property
    def url(self) -> str:
        """Where it answers, prefix included, without a slash at the end."""
        host, port = self._server.address
        return f"{self._scheme}://{host}:{port}{self._prefix}"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request so far, the simulator's own control routes aside, in the order they were read."""
        return self._journal.requests()

    @property
    def generations(self) -> list[ReceivedRequest]:
        """The requests for pictures among them."""
        return [one for one in self._journal.requests() if one.is_generation]

    @property
    def most_concurrent(self) -> int:
        """The most requests for pictures that were in flight at one moment."""
        return self._journal.most_concurrent

    def set_fault(self, fault: Fault | str, **settings: Any) -> None:
        """Set one more fault: `set_fault("oom", times=1)`, `set_fault("slow:seconds=2")` or a `Fault`.

        :raises FaultError: it cannot be understood.
        """
        if isinstance(fault, str):
            fault = fault_of({"kind": fault, **settings}) if settings else parse_fault(fault)
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Take all faults away; what hangs because of one goes on."""
        self._faults.clear()

    def forget_requests(self) -> None:
        """Empty the history and begin to count anew."""
        self._journal.clear()
