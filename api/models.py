"""``GET models`` and ``GET options``: what a front end builds its form from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask

from api.schemas import Bounds, defaults
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
        """Samplers, schedulers, upscalers and LoRAs by name, and the numeric limits."""
        return {
            "samplers": self.catalog.samplers(),
            "schedulers": self.catalog.schedulers(),
            "upscalers": self.catalog.upscalers(),
            "loras": self.catalog.loras(),
            "limits": self.bounds.as_ranges(),
            "defaults": defaults(),
        }
