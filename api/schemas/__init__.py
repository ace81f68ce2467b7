"""Outside form <-> checked values: what the generation routes accept, and what every route answers."""

from api.schemas.bounds import Bounds
from api.schemas.checking import MOST_PROBLEMS, RefusedFieldsError, check, from_form, to_request
from api.schemas.described import defaults, json_schemas, ranges
from api.schemas.fields import FIELDS, Fields

__all__ = [
    "FIELDS",
    "MOST_PROBLEMS",
    "Bounds",
    "Fields",
    "RefusedFieldsError",
    "check",
    "defaults",
    "from_form",
    "json_schemas",
    "ranges",
    "to_request",
]
