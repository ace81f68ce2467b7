"""The fields of OpenAI's Images API, as data: what each is here, and why another one is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from api.doors.translation import Neutral, Translation, boolean, number, one_of
from api.schemas import FIELDS, MOST_PROBLEMS
from api.schemas.values import shown_text, whole
from services.generation_request import Mode
from services.problems import Problem, nearest
from services.thumbnails import Format

Route = Literal["generations", "edits"]
Quality = Literal["low", "medium", "high", "xhigh", "max"]

PICTURES: Final = ("image", "image[]", "mask", "reference")
#: Of several pictures the first is edited, and the result is to resemble the second. A form calls both the same.
_SECOND: Final = "image[1]"
SECONDS: Final = {"image[]": _SECOND}

#: The service's own fields that have another name or another value here.
_OTHERWISE: Final = ("width", "height", "batch_size", "response_format", "image", "mask")
#: Its other fields are taken as they are.
OWN: Final[Mapping[Route, tuple[str, ...]]] = {
    "generations": tuple(name for name in FIELDS["txt2img"].model_fields if name not in _OTHERWISE),
    "edits": tuple(name for name in FIELDS["inpainting"].model_fields if name not in _OTHERWISE),
}
_BESIDE_A_MASK: Final = tuple(name for name in OWN["edits"] if name not in FIELDS["img2img"].model_fields)

_NEUTRAL: Final = {
    "background": Neutral(
        accepts=one_of("auto", "opaque"), message='must be "auto" or "opaque": transparent pictures are not available'
    ),
}
_UNREAD: Final = ("moderation", "style", "user", "safety_identifier")
#: They say how the answer is to look.
_OF_THE_ANSWER: Final = ("response_format", "output_format", "output_compression", "stream", "partial_images")

#: Every field that is not refused.
KNOWN: Final[Mapping[Route, tuple[str, ...]]] = {
    "generations": (*OWN["generations"], "n", "size", "quality", *_NEUTRAL, *_UNREAD, *_OF_THE_ANSWER),
    "edits": (
        *(*OWN["edits"], *PICTURES, "input_fidelity"),
        *("n", "size", "quality", *_NEUTRAL, *_UNREAD, *_OF_THE_ANSWER),
    ),
}

#: What else to send instead of fields that OpenAI's API has, or that people carry over from this service's own.
_REFUSED: Final = {
    "complexity": "is not available; the number of steps follows from quality, or is sent as steps",
    "svg": "is not available: pictures are PNG, JPEG or WebP",
    "frame_count": "is not available: pictures do not move",
    "frame_duration_ms": "is not available: pictures do not move",
    "markup": "is not available; send a mask, or draw into the picture itself",
    "width": 'unknown field; use size, as "512x512"',
    "height": 'unknown field; use size, as "512x512"',
    "batch_size": "unknown field; use n",
}

_SIZE: Final = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")

#: Steps by quality; None: as many as without it.
_STEPS: Final[Mapping[str, int | None]] = {
    **dict.fromkeys(("auto", "standard", "medium"), None),
    "low": 12,
    "high": 30,
    "hd": 30,
    "xhigh": 40,
    "max": 50,
}
#: What an event's ``quality`` is, where it is called otherwise than in the request.
_SHOWN_QUALITY: Final[Mapping[str, Quality]] = {"auto": "medium", "standard": "medium", "hd": "high"}

_STRENGTHS: Final = {"low": 0.75, "high": 0.5}

#: Pieces of the service's own sentences, and what they are here.
WORDS: Final = (
    ("batch_size", "n"),
    ("width and height", "size"),
    ("must be a multiple of", "each side must be a multiple of"),
)


@dataclass(kw_only=True)
class Look:
    """
    How an answer is to look.

    :ivar as_url: with addresses instead of base64. :ivar form: of the pictures sent.
    :ivar compression: 0 … 100, JPEG's and WebP's quality.
    :ivar quality: what the request calls it.
    """

    as_url: bool = False
    form: Format = "png"
    compression: int = 100
    stream: bool = False
    quality: str = "medium"


def translate(route: Route, body: Mapping[str, object], *, most_steps: int, has_urls: bool) -> tuple[Translation, Look]:
    """
    :param body: the fields as they came; a picture as text or, uploaded, as bytes.
    :param most_steps: ``MAX_STEPS``. :param has_urls: whether images have absolute addresses.
    """
    has_mask = route == "edits" and body.get("mask") is not None
    mode: Mode = "inpainting" if has_mask else "img2img" if route == "edits" else "txt2img"
    found = Translation.of(body, mode=mode, words=WORDS)
    found.names.update(width="size", height="size")
    _carry_own(found, route)
    if "n" in found.given:
        found.carry("n", "batch_size", found.given["n"])
    _carry_size(found)
    _carry_quality(found, most_steps)
    if route == "edits":
        _carry_pictures(found)
        _carry_fidelity(found)
    found.check_neutral(_NEUTRAL)
    _refuse_unknown(found, route)
    look = _look(found, has_urls)
    found.given = {}
    return found, look


def _carry_own(found: Translation, route: Route) -> None:
    for name in OWN[route]:
        if name not in found.given:
            continue
        if name in _BESIDE_A_MASK and "mask" not in found.given:
            found.refuse(name, "is a field for a mask, and there is none; send a mask, or leave it out")
            continue
        found.carry(name, name, found.given[name])


def _carry_size(found: Translation) -> None:
    size = found.given.get("size", "auto")
    if size == "auto":
        return
    sides = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if sides is None:
        found.refuse("size", 'must be width x height in pixels, as "512x512", or "auto"')
        return
    found.carry("size", "width", int(sides[1]), received=size)
    found.carry("size", "height", int(sides[2]), received=size)


def _carry_quality(found: Translation, most_steps: int) -> None:
    quality = found.given.get("quality", "auto")
    if not isinstance(quality, str) or quality not in _STEPS:
        found.refuse("quality", f"must be one of {', '.join(_STEPS)}")
    elif (steps := _STEPS[quality]) is None:
        return
    elif "steps" in found.given:
        found.refuse("quality", "cannot be combined with steps, whose number it stands for; leave out one of them")
    else:
        found.carry("quality", "steps", min(steps, most_steps), received=quality)


def _carry_pictures(found: Translation) -> None:
    pictures = [name for name in ("image", "image[]") if name in found.given]
    for name in pictures[:1]:
        found.carry("image[0]" if _has_second(found) else name, "image", found.given[name])
    for name in pictures[1:]:
        found.refuse(name, ONE_PICTURE, with_value=False)
    if _has_second(found) and "reference" in found.given:
        found.refuse(_SECOND, ONE_PICTURE, with_value=False)
    elif _has_second(found):
        found.carry(_SECOND, "reference", found.given[_SECOND])
        found.words = (*found.words, ("'reference'", _SECOND))
    if "mask" in found.given:
        found.carry("mask", "mask", found.given["mask"])
        if "mask_mode" not in found.given:
            found.carry("mask", "mask_mode", "alpha")


def _has_second(found: Translation) -> bool:
    return found.given.keys() >= SECONDS.keys() | {_SECOND}


#: Why a second picture is refused.
ONE_PICTURE: Final = (
    "only one picture can be edited at a time; send it, and at most one more, the reference, as image[]"
)


def _carry_fidelity(found: Translation) -> None:
    fidelity = found.given.get("input_fidelity")
    if fidelity is None:
        return
    if not isinstance(fidelity, str) or fidelity not in _STRENGTHS:
        found.refuse("input_fidelity", 'must be "low" or "high"')
    elif "strength" in found.given:
        found.refuse("input_fidelity", "cannot be combined with strength, which it stands for; leave out one of them")
    else:
        found.carry("input_fidelity", "strength", _STRENGTHS[fidelity], received=fidelity)


def _refuse_unknown(found: Translation, route: Route) -> None:
    other: Route = "edits" if route == "generations" else "generations"
    known = KNOWN[route]
    carried = {_SECOND} if route == "edits" and _has_second(found) else ()
    for name in [name for name in found.given if name not in known and name not in carried][:MOST_PROBLEMS]:
        if name in _REFUSED:
            message = _REFUSED[name]
        elif name in KNOWN[other]:
            message = f"is not a field of images/{route}, only of images/{other}"
        else:
            message = f"unknown field{nearest(name[:100], known) or '; leave it out'}"
        found.problems.append(Problem(field=shown_text(name), message=message))


def _look(found: Translation, has_urls: bool) -> Look:
    quality = found.given.get("quality", "auto")
    look = Look(quality=_SHOWN_QUALITY.get(quality, quality) if isinstance(quality, str) else "medium")
    _read_stream(found, look)
    _read_response_format(found, look, has_urls)
    _read_output(found, look)
    return look


def _read_stream(found: Translation, look: Look) -> None:
    stream = boolean(found.given.get("stream", False))
    if not isinstance(stream, bool):
        found.refuse("stream", "must be true or false")
        return
    look.stream = stream
    if "partial_images" not in found.given:
        return
    if whole(number(found.given["partial_images"])) not in (0, 1, 2, 3):
        found.refuse("partial_images", "must be an integer between 0 and 3")
    elif not stream:
        found.refuse("partial_images", 'needs "stream": true')


def _read_response_format(found: Translation, look: Look, has_urls: bool) -> None:
    asked = found.given.get("response_format", "b64_json")
    if asked not in ("b64_json", "url"):
        found.refuse("response_format", 'must be "b64_json" or "url"')
    elif asked == "url" and look.stream:
        found.refuse("response_format", 'must be "b64_json" with "stream": true')
    elif asked == "url" and not has_urls:
        found.refuse("response_format", 'must be "b64_json" here: for "url" the operator has to set PUBLIC_URL')
    look.as_url = asked == "url"


def _read_output(found: Translation, look: Look) -> None:
    form = found.given.get("output_format", "png")
    if form not in ("png", "jpeg", "webp"):
        found.refuse("output_format", 'must be "png", "jpeg" or "webp"')
        return
    look.form = form
    compression = whole(number(found.given.get("output_compression", 100)))
    if not isinstance(compression, int) or isinstance(compression, bool) or not 0 <= compression <= 100:
        found.refuse("output_compression", "must be an integer between 0 and 100")
    elif form == "png" and compression != 100:
        found.refuse("output_compression", 'must be 100 with output_format "png", which loses nothing')
    elif look.as_url and "output_compression" in found.given and form != "png":
        found.refuse("output_compression", 'cannot be chosen with response_format "url"; leave it out')
    else:
        look.compression = compression
