"""A picture enlarged by an upscaler (`extra-single-image`), as A1111 and its forks do it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageFilter

from simulator.errors import CrashError
from simulator.flavour import Profile
from simulator.hires import PLAIN, has_no_weights
from simulator.pictures import encode

#: Sides are rounded down to multiples of this.
STEP = 8


def upscaled(picture: Image.Image, fields: Mapping[str, Any], profile: Profile, *, fake: bool) -> tuple[bytes, str]:
    """The enlarged picture in base64, and what is said of it.

    :param fake: the weights of every upscaler are missing.
    :raises CrashError: there is no such upscaler.
    """
    name = fields["upscaler_1"]
    if name not in profile["upscalers"]:
        raise CrashError("AssertionError", f"could not find upscaler named {name}")
    if name == "None":
        return encode(picture, "png", ""), "<p></p>"
    if fields["resize_mode"] == 1:
        return _to_size(picture, fields, profile, fake=fake)
    texts = {"Postprocess upscale by": fields["upscaling_resize"], "Postprocess upscaler": name}
    return encode(_enlarged(picture, fields["upscaling_resize"], name, profile, fake=fake), "png", ""), _info(texts)


def _to_size(picture: Image.Image, fields: Mapping[str, Any], profile: Profile, *, fake: bool) -> tuple[bytes, str]:
    """The longer way decides; what is left of the size is black, where it is cut to it."""
    size, name = (fields["upscaling_resize_w"], fields["upscaling_resize_h"]), fields["upscaler_1"]
    texts = {"Postprocess upscale to": f"{size[0]}x{size[1]}"}
    by = max(size[0] / picture.width, size[1] / picture.height)
    enlarged = _enlarged(picture, by, name, profile, fake=fake)
    if fields["upscaling_crop"]:
        cut = Image.new("RGB", size)
        cut.paste(enlarged, (size[0] // 2 - enlarged.width // 2, size[1] // 2 - enlarged.height // 2))
        enlarged, texts["Postprocess crop to"] = cut, f"{size[0]}x{size[1]}"
    return encode(enlarged, "png", ""), _info({**texts, "Postprocess upscaler": name})


def _info(texts: Mapping[str, Any]) -> str:
    return f"<p>{html.escape(', '.join(f'{key}: {value}' for key, value in texts.items()))}</p>"


def _enlarged(picture: Image.Image, by: float, name: str, profile: Profile, *, fake: bool) -> Image.Image:
    size = (int(picture.width * by // STEP * STEP), int(picture.height * by // STEP * STEP))
    used = PLAIN if fake or has_no_weights(name, profile) else name
    if used == "Nearest":
        return picture.resize(size, Image.Resampling.NEAREST)
    enlarged = picture.resize(size, Image.Resampling.LANCZOS)
    return enlarged if used == PLAIN else enlarged.filter(ImageFilter.SHARPEN)
