"""The fields of the generation routes: declared, checked and described in one place."""

from api.schemas.checking import MOST_PROBLEMS, RefusedFieldsError, check, from_form, to_request
from api.schemas.described import defaults, json_schemas, ranges
from api.schemas.fields import FIELDS, Bounds, Fields, FieldSet

__all__ = [
    "FIELDS",
    "MOST_PROBLEMS",
    "Bounds",
    "FieldSet",
    "Fields",
    "RefusedFieldsError",
    "check",
    "defaults",
    "from_form",
    "json_schemas",
    "ranges",
    "to_request",
]
