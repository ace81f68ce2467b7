"""``GET`` and ``DELETE requests/<request_id>``: following and cancelling one's own request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask

from api.identity import caller
from services.tracking import RequestService, request_key


@dataclass(frozen=True, kw_only=True)
class RequestRoutes:
    """Only the caller who made a request finds it."""

    service: RequestService

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("requests", __name__, url_prefix=prefix)
        routes.get("/requests/<request_id>")(self.get_request)
        routes.delete("/requests/<request_id>")(self.cancel_request)
        app.register_blueprint(routes)

    def get_request(self, request_id: str) -> tuple[dict[str, Any], int, dict[str, str]]:
        """The state of a request."""
        found = self.service.status(_key(request_id))
        answer = {
            "status": found.status,
            "queue_position": found.queue_position,
            "progress": found.progress,
            "eta_seconds": None if found.eta_seconds is None else round(found.eta_seconds, 1),
            "image_ids": found.image_ids,
        }
        return answer, 200, {"Cache-Control": "no-store"}

    def cancel_request(self, request_id: str) -> tuple[str, int]:
        """Cancels a waiting or running request."""
        self.service.cancel(_key(request_id))
        return "", 204


def _key(request_id: str) -> str:
    return request_key(caller("following", request_id=request_id), request_id)
