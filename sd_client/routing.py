"""Which WebUIs can do a job, and what a WebUI is called here."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sd_client.errors import BrokenModelError, LimitError, NoGPUError, NoWebUIError
from sd_client.job import JobRequest
from sd_client.matching import is_within
from sd_client.models import UpscaleParams
from sd_client.probing import INTERVAL_S
from sd_client.states import WebUIState

States = Mapping[str, WebUIState]


@dataclass(frozen=True, kw_only=True)
class GpuPolicy:
    """
    :param use_gpu: WebUIs with a GPU come first; False: it does not matter.
    :param cpu_fallback: those without one serve while none with one can.
    """

    use_gpu: bool
    cpu_fallback: bool

    def usable(self, states: States) -> dict[str, WebUIState]:
        """The WebUIs that would serve now."""
        available = {webui: state for webui, state in states.items() if state.available and state.capabilities}
        if not self.use_gpu:
            return available
        # A server that does not report it (stable-diffusion.cpp's) is taken to have one, as its operator chose.
        on_gpu = {w: s for w, s in available.items() if s.capabilities and s.capabilities.gpu is not False}
        return on_gpu or (available if self.cpu_fallback else {})


def candidates(
    request: JobRequest,
    states: States,
    tried: Collection[str],
    policy: GpuPolicy,
    broken: Mapping[str, Collection[str]],
) -> tuple[str, ...]:
    """
    The ids of the WebUIs that a job may be sent to now.

    :param tried: those that could not be reached with this job.
    :param broken: ``model_name`` of what a WebUI cannot load, by WebUI.
    :raises LimitError: those that have what it needs cannot paint it, as has been learned meanwhile.
    :raises PoolError: there are none.
    """
    have_it = {webui: state for webui, state in states.items() if can_do(request, webui, state)}
    if not have_it:
        _raise_if_beyond_limits(request, states)
    able = {w: s for w, s in have_it.items() if request.model not in broken.get(w, ())}
    usable = policy.usable(able)
    # Sorted, since processes see the WebUIs in different orders: jobs for the same ones then have the same tuple.
    left = tuple(sorted(usable.keys() - tried))
    if left:
        return left
    retry_after_s = int(INTERVAL_S) + 1
    if not able and any(state.available for state in have_it.values()):
        raise BrokenModelError
    if not usable and any(state.available for state in able.values()):
        raise NoGPUError("no WebUI with a GPU is reachable", retry_after_s=retry_after_s)
    raise NoWebUIError("no WebUI that can do this is reachable", retry_after_s=retry_after_s)


def can_do(request: JobRequest, webui: str, state: WebUIState | None) -> bool:
    """Whether a WebUI can do the job, as far as is known now."""
    if state is None or state.capabilities is None:
        return False
    params, limits = request.params, state.capabilities.limits
    return (isinstance(params, UpscaleParams) or is_within(limits, params)) and request.can_be_done(
        webui, state.capabilities
    )


def _raise_if_beyond_limits(request: JobRequest, states: States) -> None:
    for webui, state in states.items():
        if state.capabilities and request.match(webui, state.capabilities):
            text = "no WebUI can generate this size, this many steps, or this long a prompt"
            raise LimitError(text, state.capabilities.limits, reason="wrong_size")


def webui_id(url: str) -> str:
    """
    A name for a WebUI, the same on every host, that reveals neither its address nor its password.

    ``localhost``, in whatever spelling, is another machine on every host, so the host's name stands in for it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1"):
        host = f"localhost of {socket.gethostname()}"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
    return hashlib.sha256(address.encode()).hexdigest()[:12]
