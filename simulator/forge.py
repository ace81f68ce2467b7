"""Forge: the same routes on pydantic 2, other error shapes, models that are loaded when they are needed."""

from dataclasses import replace

from simulator.a1111 import A1111
from simulator.checkpoints import Checkpoint
from simulator.flavour import Profile, Settings
from simulator.jobs import Job, check_steps
from simulator.webui import WebUI
from simulator.wire import Response


class ForgeWebUI(WebUI):
    """One load that failed leaves nothing in memory, and the model before it is then taken as loaded."""

    def __init__(self, settings: Settings, profile: Profile) -> None:
        super().__init__(settings, profile)
        self._remembered = self._loaded

    def check_steps(self, job: Job) -> None:
        check_steps(job)

    def choose(self, name: str) -> None:
        """See `WebUI.choose`. The model is only named: the next job loads it."""
        self.options.set("sd_model_checkpoint", name)

    def ensure_loaded(self) -> None:
        """See `WebUI.ensure_loaded`. The model that was last loaded with success is never loaded twice in a row."""
        wanted = self.wanted()
        if wanted != self._remembered:
            self._loaded = None
            self.load(wanted, refusal=("ValueError", "Failed to recognize model type!"))
            self._remembered = wanted

    def wanted(self) -> Checkpoint:
        named = self.checkpoints.find(str(self.options.get("sd_model_checkpoint")))
        return named or self._remembered or super().wanted()


class Forge(A1111):
    """lllyasviel's main branch."""

    def make_webui(self) -> WebUI:
        return ForgeWebUI(self.settings, self.profile)

    def refuse(self, status: int, text: str) -> Response:
        """See `Flavour.refuse`. A 401 has a challenge."""
        response = super().refuse(status, text)
        challenge = (("www-authenticate", "Basic"),) if status == 401 else ()
        return replace(response, headers=(*response.headers, *challenge))
