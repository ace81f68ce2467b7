"""What other APIs (A1111, Diffusers, OpenAI, Stability and others) call things, and what to send here instead.

Similarity would lead astray: ``mask_image`` is most like ``image``, and ``inpainting_mask_invert`` like nothing.
Names of a single field are in that field's entry, in ``fields.py``; here are those that are not one field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

NOT_FETCHED: Final = "the picture itself, as base64, as a data URI or as a form's file; URLs are not fetched"


class OtherNames:
    """
    In a field's entry: names that other APIs use for it, without underscores, hyphens and capitals.

    :param says: how the value differs; "" if it does not.
    """

    def __init__(self, *names: str, says: str = "") -> None:
        self.names = names
        self.says = says


@dataclass(frozen=True, kw_only=True)
class Hint:
    """
    :param says: what to send instead.
    :param fields: the fields of this API that it mentions.
    """

    says: str
    fields: tuple[str, ...] = ()


#: Names that stand for several fields, or for something that is not a field here.
_NO_SINGLE_FIELD: Mapping[tuple[str, ...], Hint] = {
    ("size", "resolution", "imagesize", "dimensions"): Hint(
        says="use 'width' and 'height', in pixels", fields=("width", "height")
    ),
    ("aspectratio", "ratio"): Hint(
        says="use 'width' and 'height', in pixels: the shape follows from them", fields=("width", "height")
    ),
    ("sendimages", "saveimages", "donotsavesamples", "donotsavegrid"): Hint(
        says="an image is always stored and sent; 'response_format' decides how", fields=("response_format",)
    ),
    ("timeout", "wait"): Hint(says="use the header Prefer: wait=N, in seconds"),
    ("requestid", "taskid", "forcetaskid", "jobid"): Hint(says="use the header X-Request-ID"),
    ("apikey", "key", "token"): Hint(says="a key belongs in the header Authorization: Bearer KEY, never in a body"),
    ("scriptname", "scriptargs"): Hint(says="scripts of the WebUI are not run"),
    ("alwaysonscripts", "controlnet", "control", "controls"): Hint(
        says="scripts of the WebUI are not run; a picture that the result is to resemble is 'reference'",
        fields=("reference",),
    ),
    ("infotext",): Hint(says="an infotext is not read; send its values as fields"),
    ("webhook", "webhookurl", "callback", "callbackurl"): Hint(
        says="there are no callbacks; the answer is sent on this connection, see GET …/requests/<request_id>"
    ),
    ("stream", "isasync", "async"): Hint(says="the answer is sent whole, on this connection"),
}


def hints(model: type[BaseModel]) -> dict[str, Hint]:
    """By other APIs' names, those of the model's fields included."""
    return {name: hint for names, hint in (*_of_fields(model), *_NO_SINGLE_FIELD.items()) for name in names}


def _of_fields(model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], Hint]]:
    for field, info in model.model_fields.items():
        for other in info.metadata:
            if isinstance(other, OtherNames):
                says = f"use '{field}'" + (f": {other.says}" if other.says else "")
                yield other.names, Hint(says=says, fields=(field,))


def plain(name: str) -> str:
    """The same for ``initImage``, ``init_image`` and ``init-image``."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")
