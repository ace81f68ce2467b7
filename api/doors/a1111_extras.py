"""A1111's ``extra-single-image``: its fields in the service's own terms, and its answer."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Final

from flask import Response

from api.doors.translation import Neutral, Translation, equal_to, is_true, number
from api.rendering import NOT_STORED, PICTURE, with_pictures
from services.generation import Generation

_FACES: Final = Neutral(accepts=equal_to(0), message="faces are not restored here; leave it out, or 0")
_NEUTRAL: Final[Mapping[str, Neutral]] = {
    "gfpgan_visibility": _FACES,
    "codeformer_visibility": _FACES,
    "extras_upscaler_2_visibility": Neutral(
        accepts=equal_to(0), message="a second upscaler is not available; leave it out, or 0"
    ),
}
#: Of no effect where those above have none.
_UNREAD: Final = frozenset({"show_extras_results", "codeformer_weight", "upscaler_2", "upscale_first"})
_SIDES: Final = {"upscaling_resize_w": "width", "upscaling_resize_h": "height"}
_OTHERS: Final = frozenset({"image", "resize_mode", "upscaling_resize", "upscaling_crop", "upscaler_1"})
KNOWN: Final = frozenset(_NEUTRAL.keys() | _UNREAD | _SIDES.keys() | _OTHERS)

#: What A1111 takes for what is left out.
_SCALE: Final = 2.0
_SIDE: Final = 512


def translate_extras(body: Mapping[str, object]) -> Translation:
    """:param body: the picture as base64 text or as bytes."""
    found = Translation.of(body, mode="upscale")
    found.check_neutral(_NEUTRAL)
    found.names |= {"scale": "upscaling_resize", "upscaler": "upscaler_1"}
    found.names |= {own: name for name, own in _SIDES.items()}
    if "image" in found.given:
        found.carry("image", "image", found.given["image"])
    if found.given.get("upscaler_1", "") != "":
        found.carry("upscaler_1", "upscaler", found.given["upscaler_1"])
    _carry_size(found)
    found.ignored = sorted(found.given.keys() - KNOWN)
    found.given = {}
    return found


def _carry_size(found: Translation) -> None:
    mode = number(found.given.get("resize_mode", 0))
    if isinstance(mode, bool) or mode not in (0, 1):
        found.refuse("resize_mode", "must be 0 (by upscaling_resize) or 1 (to upscaling_resize_w and …_h)")
    elif mode == 0:
        found.carry("upscaling_resize", "scale", number(found.given.get("upscaling_resize", _SCALE)))
    else:
        for name, own in _SIDES.items():
            found.carry(name, own, found.given.get(name, _SIDE))
        if not is_true(found.given.get("upscaling_crop", True)):
            found.refuse("upscaling_crop", "must be true: the picture gets exactly the size that is asked for")


def enlarged(generation: Generation, values: Mapping[str, object]) -> Response:
    """``html_info`` and ``image``. :param values: of the request's own fields."""
    image = generation.images[0]
    by_factor = f"upscale by: {values['scale']}" if "scale" in values else f"upscale to: {image.width}x{image.height}"
    info = html.escape(f"Postprocess {by_factor}, Postprocess upscaler: {generation.used.upscaled_by}")
    response = with_pictures({"html_info": f"<p>{info}</p>", "image": PICTURE}, [image.png])
    response.headers["X-Image-Id"] = str(image.image_id)
    if not image.stored:
        response.headers["Warning"] = NOT_STORED
    return response
