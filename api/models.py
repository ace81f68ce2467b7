"""``GET models`` and ``GET options``: what a front end builds its form from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from flask import Blueprint, Flask

from api.schemas import Bounds, defaults, ranges
from api.schemas.answers import ModelAnswer, ModelsAnswer, OptionsAnswer
from services.catalog import Catalog


@dataclass(frozen=True, kw_only=True)
class ModelRoutes:
    """Both answer from what was last seen of the WebUIs, also while those are away."""

    catalog: Catalog
    bounds: Bounds

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("models", __name__, url_prefix=prefix)
        routes.get("/models")(self.get_models)
        routes.get("/options")(self.get_options)
        app.register_blueprint(routes)

    def get_models(self) -> dict[str, Any]:
        """The models that can be asked for."""
        models = tuple(
            ModelAnswer(
                id=model.id,
                checkpoint=model.checkpoint.title,
                name=model.checkpoint.model_name,
                hash=model.checkpoint.hash,
                loaded=model.loaded,
                default=model.default,
            )
            for model in self.catalog.models()
        )
        return asdict(ModelsAnswer(default=self.catalog.default_model, models=models))

    def get_options(self) -> dict[str, Any]:
        """Samplers, schedulers, upscalers and LoRAs by name, whether a simulator paints, and the numeric limits."""
        answer = OptionsAnswer(
            samplers=self.catalog.samplers(),
            schedulers=self.catalog.schedulers(),
            upscalers=self.catalog.upscalers(),
            loras=self.catalog.loras(),
            simulated=self.catalog.simulated(),
            limits=self._limits,
            defaults=self._defaults,
        )
        return asdict(answer)

    @cached_property
    def _limits(self) -> dict[str, dict[str, float]]:
        return ranges(self.bounds)

    @cached_property
    def _defaults(self) -> dict[str, dict[str, object]]:
        return defaults(self.bounds)
