"""The description of the HTTP API (OpenAPI 3.1), made from the schemas that validate and the table of errors."""

from api.openapi.document import Offer, describe

__all__ = ["Offer", "describe"]
