"""The fields of the generation routes: declared, checked and described in one place."""

from api.schemas.checking import MOST_PROBLEMS, RefusedFieldsError, check, from_form, root, to_request
from api.schemas.described import defaults, json_schemas, ranges
from api.schemas.extras import asked_hires, asked_loras
from api.schemas.fields import FIELDS, STRUCTURED_FIELDS, BodyFields, Bounds, Fields, FieldSet

__all__ = [
    "FIELDS",
    "MOST_PROBLEMS",
    "STRUCTURED_FIELDS",
    "BodyFields",
    "Bounds",
    "FieldSet",
    "Fields",
    "RefusedFieldsError",
    "asked_hires",
    "asked_loras",
    "check",
    "defaults",
    "from_form",
    "json_schemas",
    "ranges",
    "root",
    "to_request",
]
