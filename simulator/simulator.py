"""A simulated WebUI in this process."""

import random
from typing import Any, Self

from simulator.a1111 import Setup
from simulator.faults import Fault, Faults, fault_of, parse_fault
from simulator.flavours import build
from simulator.journal import Journal, ReceivedRequest
from simulator.server import Server
from simulator.site import Site

DEFAULT_MODELS = ("v1-5-pruned-emaonly.safetensors", "sd_xl_base_1.0.safetensors", "dreamshaper_8.safetensors")
DEFAULT_STEP_TIME_S = 0.05
DEFAULT_IDLE_TIME_S = 5.0  # As uvicorn in web-UI mode and stable-diffusion.cpp's server have it.


class Simulator:
    """A WebUI that paints without a model, on a port of this machine; runs from `start` to `close`, or in a `with`.

    :param flavour: one of `flavours.NAMES`.
    :param step_time: seconds for one sampling step of one image of 512x512; grows with pixels and batch.
    :param load_time: seconds for a switch of models.
    :param models: file names; the first is loaded at start. None at all is a WebUI as it is unpacked.
    :param samples_format: png, jpg or webp; None for the flavour's own default.
    :param api_auth: `user:password`.
    :param prefix: a path all routes live under.
    :param startup_time: so many seconds /sdapi does not exist yet although the port answers.
    :param idle_time: after so many seconds without a request a connection is closed.
    :param weights: another value stands for other weights under the same file names: the hashes differ.
    :param broken: those of the models that cannot be loaded: cut off, or no whole checkpoints.
    :param nothing_loaded: SD.Next's state after a start without a saved choice of model.
    :param certificate: a PEM file with certificate and key, to speak https.
    :param max_body_bytes: how much of a request's body the journal keeps; None for all.
    :param has_page: False for A1111's --nowebui, which has nothing below /internal.
    :raises OSError: the port is taken.
    """

    def __init__(
        self,
        *,
        flavour: str = "a1111",
        host: str = "127.0.0.1",
        port: int = 0,
        step_time: float = 0.0,
        load_time: float = 0.0,
        device: str = "gpu",
        models: tuple[str, ...] = DEFAULT_MODELS,
        samples_format: str | None = None,
        api_auth: str | None = None,
        prefix: str = "",
        startup_time: float = 0.0,
        idle_time: float = DEFAULT_IDLE_TIME_S,
        faults: tuple[Fault, ...] = (),
        source: random.Random | None = None,
        max_body_bytes: int | None = None,
        weights: str = "",
        broken: tuple[str, ...] = (),
        nothing_loaded: bool = False,
        certificate: str | None = None,
        has_page: bool = True,
    ) -> None:
        self._faults = Faults(faults)
        self._journal = Journal(max_body_bytes=max_body_bytes)
        self._prefix = prefix.rstrip("/")
        self._flavour = build(
            flavour,
            setup=Setup(device=device, auth=api_auth, startup_s=startup_time, has_page=has_page),
            models=models,
            step_s=step_time,
            load_s=load_time,
            samples_format=samples_format,
            weights=weights,
            broken=broken,
            nothing_loaded=nothing_loaded,
            source=source or random.Random(),
        )
        site = Site(
            flavour=self._flavour,
            faults=self._faults,
            journal=self._journal,
            prefix=self._prefix,
            idle_s=idle_time,
        )
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
