"""
A picture enlarged by an upscaler (``extra-single-image``): how it is asked for, and what in the answer proves it.

Where an upscaler's weights are missing, or somebody interrupts it, A1111 enlarges by Lanczos, and its answer names the
upscaler all the same. So the pixels are compared with those of Lanczos.
"""

from __future__ import annotations

import html
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pybase64
from PIL import Image, ImageChops
from pydantic_core import from_json

from sd_client.errors import DroppedError, InvalidAnswerError, UselessUpscalerError
from sd_client.limits import png_size
from sd_client.models import Capabilities, PaintedImage, UpscaleParams, Used, normal_form
from sd_client.result import painted_image

#: WebUIs round sides down to multiples of this.
STEP = 8

#: Where the answer's picture begins; within a text of JSON its quotes would be escaped.
_PICTURE = re.compile(rb'"image"[ \t\n\r]*:[ \t\n\r]*"')
_EMPTY_PICTURE = b'"image":"'

#: Parts of a picture that are compared: so many across and down, each with sides of so many pixels.
_PARTS = 5
_PART_PIXELS = 48
#: By which the same Lanczos may differ between two versions of a library, of 255.
_ROUNDING = 1


def spelling(capabilities: Capabilities, upscaler: str) -> str | None:
    """What a WebUI calls an upscaler; None if it cannot enlarge a picture by it."""
    if not capabilities.upscales:
        return None
    return next((name for name in capabilities.upscalers if normal_form(name) == normal_form(upscaler)), None)


def is_provable(upscaler: str) -> bool:
    """Whether its pixels differ from those of Lanczos."""
    return "lanczos" not in upscaler.lower()


def factor(params: UpscaleParams) -> float:
    """By which both sides become as long as they must be at least, once the WebUI has rounded them down."""
    found = max(params.width / params.from_width, params.height / params.from_height)
    while int(params.from_width * found) < params.width or int(params.from_height * found) < params.height:
        found = math.nextafter(found, math.inf)
    return found


def upscale_fields(params: UpscaleParams, name: str) -> dict[str, Any]:
    """By a factor: to a size, A1111 would put on black what its rounding leaves. :param name: of the upscaler there."""
    return {
        "resize_mode": 0,
        "upscaling_resize": factor(params),
        "upscaler_1": name,
        "upscaler_2": "None",
        "extras_upscaler_2_visibility": 0,
        "gfpgan_visibility": 0,
        "codeformer_visibility": 0,
    }


def read_upscaled(answer: Mapping[str, Any], params: UpscaleParams, name: str) -> PaintedImage:
    """
    The picture of an answer, at least as large as is due.

    :param answer: from :func:`read_object`.
    :param name: of the upscaler that was asked for.
    :raises DroppedError: the answer does not name the upscaler.
    :raises UselessUpscalerError: the picture is what Lanczos makes of it.
    :raises InvalidAnswerError: it has no picture, or one that is too small or damaged.
    """
    if not _names(answer.get("html_info"), name):
        raise DroppedError("the WebUI's answer does not name the upscaler", reason="wrong_upscaler")
    image = painted_image(answer.get("image"), seed=0, infotext=None, used=Used(upscaled_by=name))
    if (size := png_size(image.data)) is not None:
        _check_size(size, params)
        if is_provable(name) and _is_lanczos(image.data, params):
            raise UselessUpscalerError(name)
    return image


def read_object(body: bytes) -> dict[str, Any]:
    """
    An answer; its ``image`` is bytes if it could be decoded before the rest is parsed, which saves a copy of its text.

    :raises InvalidAnswerError: it is not a JSON object.
    """
    picture: bytes | None = None
    begin = _PICTURE.search(body)
    end = body.find(b'"', begin.end()) if begin else -1
    rest = body
    if begin is not None and end >= 0:
        try:
            picture = pybase64.b64decode(memoryview(body)[begin.end() : end], validate=True)
            rest = body[: begin.start()] + _EMPTY_PICTURE + body[end:]
        except ValueError:
            pass
    try:
        answer = from_json(rest)
    except ValueError as error:
        raise InvalidAnswerError("the WebUI's answer is not JSON") from error
    if not isinstance(answer, dict):
        raise InvalidAnswerError("the WebUI's answer is not an object")
    if picture is None:
        return answer
    # Anything else than the text that was taken out is another field of that name.
    return {**answer, "image": picture if answer.get("image") == "" else None}


def _names(html_info: object, name: str) -> bool:
    """A text that has a comma or a colon in it is written as JSON."""
    if not isinstance(html_info, str):
        return False
    shown = "|".join(map(re.escape, (name, json.dumps(name, ensure_ascii=False))))
    found = re.search(rf"(?:^|>|, )Postprocess upscaler: (?:{shown})(?=, |</p>|<br>|$)", html.unescape(html_info))
    return found is not None


def _check_size(size: tuple[int, int], params: UpscaleParams) -> None:
    """The rest is cut off by whoever gets it; much more would be another size."""
    by = factor(params)
    for found, due, before in zip(
        size, (params.width, params.height), (params.from_width, params.from_height), strict=True
    ):
        if not due <= found <= before * by + STEP:
            text = f"the WebUI enlarged to {size[0]}x{size[1]} instead of {params.width}x{params.height}"
            raise InvalidAnswerError(text, reason="wrong_size")


def _is_lanczos(data: bytes, params: UpscaleParams) -> bool:
    """
    Whether all parts that could show a difference are what Lanczos makes of them.

    :raises InvalidAnswerError: the picture is damaged.
    """
    before = _pixels(params.image)
    after = _pixels(data)
    telling = 0
    for box in _boxes(after.size):
        due = _enlarged(before, box, after.size, Image.Resampling.LANCZOS)
        if _are_alike(due, _enlarged(before, box, after.size, Image.Resampling.NEAREST)):
            continue  # so smooth that all upscalers may make the same of it
        if not _are_alike(due, after.crop(box)):
            return False
        telling += 1
    return telling > 0


def _pixels(data: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy it
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidAnswerError("the WebUI sent a damaged picture", reason="damaged_image") from error


def _boxes(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Parts all over a picture."""
    across, down = (min(side, _PART_PIXELS) for side in size)
    for row in range(_PARTS):
        for column in range(_PARTS):
            left = (size[0] - across) * column // (_PARTS - 1)
            top = (size[1] - down) * row // (_PARTS - 1)
            yield left, top, left + across, top + down


def _enlarged(
    picture: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int], how: Image.Resampling
) -> Image.Image:
    """A part of what a picture becomes at this size."""
    across, down = picture.width / size[0], picture.height / size[1]
    source = (box[0] * across, box[1] * down, min(box[2] * across, picture.width), min(box[3] * down, picture.height))
    return picture.resize((box[2] - box[0], box[3] - box[1]), how, box=source)


def _are_alike(one: Image.Image, other: Image.Image) -> bool:
    red, green, blue = ImageChops.difference(one, other).split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return largest.point(lambda found: found > _ROUNDING).getbbox() is None
