"""``GET models`` and ``GET options``: what a front end needs to build its form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flask import Blueprint, Flask

from api.schemas import FieldSet, defaults, ranges
from services.catalog import Catalog


@dataclass(frozen=True, kw_only=True)
class ModelRoutes:
    """Both answer from what the WebUIs last reported, also while those are down."""

    catalog: Catalog
    fields: FieldSet

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("models", __name__, url_prefix=prefix)
        routes.get("/models")(self.get_models)
        routes.get("/options")(self.get_options)
        app.register_blueprint(routes)

    def get_models(self) -> dict[str, Any]:
        """The models that a request can name."""
        models = [
            {
                "id": model.id,
                "checkpoint": model.checkpoint.title,
                "name": model.checkpoint.model_name,
                "hash": model.checkpoint.hash,
                "loaded": model.loaded,
                "default": model.default,
            }
            for model in self.catalog.models()
        ]
        return {"default": self.catalog.default_model, "models": models}

    def get_options(self) -> dict[str, Any]:
        """Samplers, schedulers, upscalers and LoRAs by name, whether a simulator serves, limits and defaults."""
        return {
            "samplers": self.catalog.samplers(),
            "schedulers": self.catalog.schedulers(),
            "upscalers": self.catalog.upscalers(),
            "loras": [{"name": lora.name, "base": lora.base} for lora in self.catalog.loras()],
            "hires": {"upscalers": upscalers} if (upscalers := self.catalog.hires_upscalers()) else None,
            "upscale": {"upscalers": enlarging} if (enlarging := self.catalog.upscale_upscalers()) else None,
            "clip_skip": self.catalog.clip_skip(),
            "reference": self._reference(),
            "controls": None,
            "simulated": self.catalog.simulated(),
            **self._field_options,
        }

    def _reference(self) -> dict[str, Any] | None:
        methods = self.catalog.reference_methods()
        return {"methods": methods, "webuis": self.catalog.reference_webuis()} if methods else None

    @cached_property
    def _field_options(self) -> dict[str, Any]:
        return {"limits": ranges(self.fields), "defaults": defaults(self.fields)}
