"""Which WebUIs can do a job, and what a WebUI is called here."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sd_client.errors import BrokenModelError, LimitError, NoGPUError, NoWebUIError
from sd_client.matching import is_within, match
from sd_client.models import Capabilities, GenerationParams
from sd_client.probing import INTERVAL_S, WebUIState

States = Mapping[str, WebUIState]


@dataclass(frozen=True, kw_only=True)
class GpuPolicy:
    """
    :param use_gpu: WebUIs with a GPU come first; False: nobody looks.
    :param cpu_fallback: those without one serve while none with one can.
    """

    use_gpu: bool
    cpu_fallback: bool

    def usable(self, states: States) -> dict[str, WebUIState]:
        """The WebUIs that would serve now."""
        available = {webui: state for webui, state in states.items() if state.available and state.capabilities}
        if not self.use_gpu:
            return available
        # A server that does not tell (stable-diffusion.cpp's) is taken to have one: its operator chose how it runs.
        on_gpu = {w: s for w, s in available.items() if s.capabilities and s.capabilities.gpu is not False}
        return on_gpu or (available if self.cpu_fallback else {})


def candidates(
    params: GenerationParams,
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
    model = params.checkpoint.model_name
    have_it = {w: s for w, s in states.items() if s.capabilities and can_do(s.capabilities, params)}
    if not have_it:
        _raise_if_beyond_limits(params, states)
    able = {w: s for w, s in have_it.items() if model not in broken.get(w, ())}
    usable = policy.usable(able)
    left = tuple(webui for webui in usable if webui not in tried)
    if left:
        return left
    retry_after_s = int(INTERVAL_S) + 1
    if not able and any(state.available for state in have_it.values()):
        raise BrokenModelError
    if not usable and any(state.available for state in able.values()):
        raise NoGPUError("no WebUI with a GPU is reachable", retry_after_s=retry_after_s)
    raise NoWebUIError("no WebUI that can do this is reachable", retry_after_s=retry_after_s)


def _raise_if_beyond_limits(params: GenerationParams, states: States) -> None:
    for state in states.values():
        if state.capabilities and match(state.capabilities, params):
            text = "no WebUI can generate this size, this many steps, or this long a prompt"
            raise LimitError(text, state.capabilities.limits, reason="wrong_size")


def can_do(capabilities: Capabilities, params: GenerationParams) -> bool:
    """Whether a WebUI has the model and the sampler, and can paint the size, so many steps and the seed."""
    return match(capabilities, params) is not None and is_within(capabilities.limits, params)


def webui_id(url: str) -> str:
    """
    A name for a WebUI that gives its address and password away to nobody, the same on every host.

    ``localhost``, in whatever spelling, is another machine on every host, so there its name goes in instead.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1"):
        host = f"localhost of {socket.gethostname()}"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
    return hashlib.sha256(address.encode()).hexdigest()[:12]
