"""A WebUI's result: a JSON object, mostly the base64 of its images, and which of them are the job's pictures.

All servers begin it with ``{"images": ["…", "…"]`` and bare base64. The images of such a result are decoded before it
is parsed: a parser would copy each text first, and new memory is what a picture costs most. A result of any other form
(an escape, a data URI, another order of keys) is left to the parser; its images stay texts.

A1111 and Forge put an inpainting's mask and composite directly behind each picture where the options ``return_mask``
and ``return_mask_composite`` are on, and a grid in front; ControlNet appends its maps; scripts add what they like. Only
the pictures have the generation's text in them (``parameters``), unless the option ``enable_pnginfo`` is off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pybase64
from pydantic_core import from_json

from sd_client.errors import InvalidAnswerError
from sd_client.models import NOTHING_USED, PaintedImage, Used

#: What stands before, between and behind the texts of the images.
_FIRST = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"images"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*"')
_NEXT = re.compile(rb'"[ \t\n\r]*,[ \t\n\r]*"')
_LAST = re.compile(rb'"[ \t\n\r]*\][ \t\n\r]*,[ \t\n\r]*')

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_KEYWORD = b"parameters\0"
#: The most chunks that are read: a PNG with millions of empty ones would cost seconds.
_MOST_CHUNKS = 10_000

#: The last chunk of every PNG: without it the file was cut off.
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG = b"\xff\xd8\xff"
_APP1, _START_OF_SCAN = 0xE1, 0xDA
#: What an EXIF UserComment begins with. A1111 writes one into every JPEG and WebP, an empty one if there is no text.
_COMMENT = b"UNICODE\0"


def read_object(body: bytes) -> dict[str, Any]:
    """
    A successful answer to a job; its ``images`` are bytes if they could be decoded beforehand.

    :raises InvalidAnswerError: it is not a JSON object.
    """
    images, rest = _images_first(body)
    try:
        result = from_json(rest)
        if images and "images" in result:  # a second time
            images, result = [], from_json(body)
    except ValueError as error:
        raise InvalidAnswerError("the WebUI's answer is not JSON") from error
    if not isinstance(result, dict):
        raise InvalidAnswerError("the WebUI's answer is not an object")
    return {"images": images, **result} if images else result


def _images_first(body: bytes) -> tuple[list[bytes], bytes]:
    """The images with which the body begins, and a JSON object of its other fields; or no images and all of it."""
    view, images = memoryview(body), []
    begin, end = _FIRST.match(body), 0
    while begin is not None and (end := body.find(b'"', begin.end())) >= 0:
        try:
            images.append(pybase64.b64decode(view[begin.end() : end], validate=True))
        except ValueError:
            return [], body
        begin = _NEXT.match(body, end)
    last = _LAST.match(body, end) if images and end >= 0 else None
    if last is None or not body.startswith(b'"', last.end()):
        return [], body
    return images, b"{" + body[last.end() :]


def chosen_images(images: list[Any], *, wanted: int) -> list[Any]:
    """
    The pictures among an answer's images.

    :param images: from ``index_of_first_image`` on, bytes or base64 texts.
    :returns: bytes; what cannot be decoded as it is, for :func:`painted_image` to refuse.
    :raises InvalidAnswerError: see :func:`real_pictures`.
    """
    files = [decoded_if_possible(image) for image in images]
    if len(files) == wanted == 1:
        return files
    with_text = [isinstance(file, bytes) and has_generation_text(file) for file in files]
    return [files[place] for place in real_pictures(with_text, wanted=wanted)]


def decoded_if_possible(image: object) -> object:
    """Bytes; what cannot be decoded as it is."""
    try:
        return _decoded(image) if isinstance(image, str) else image
    except InvalidAnswerError:
        return image


def real_pictures(with_text: Sequence[bool], *, wanted: int) -> tuple[int, ...]:
    """
    The places of the pictures, ``wanted`` of them.

    :param with_text: of each image from ``index_of_first_image`` on: whether the generation's text is in it.
    :raises InvalidAnswerError: too few, or more than were asked for and nothing says which are which.
    """
    marked = tuple(place for place, has_text in enumerate(with_text) if has_text)
    if len(marked) == wanted:
        return marked
    if marked and len(marked) < wanted:
        raise _missing(len(marked), wanted)
    if len(with_text) < wanted:
        raise _missing(len(with_text), wanted)
    # What a server adds to a single picture stands behind it.
    if not marked and (len(with_text) == wanted or wanted == 1):
        return tuple(range(wanted))
    message = f"the WebUI returned {len(with_text)} images for {wanted} pictures, and nothing says which are which"
    raise InvalidAnswerError(message, reason="ambiguous_images")


def _missing(found: int, wanted: int) -> InvalidAnswerError:
    return InvalidAnswerError(f"the WebUI returned {found} of {wanted} pictures", reason="missing_images")


def has_generation_text(file: bytes) -> bool:
    """Whether a PNG has a text chunk ``parameters``, a JPEG or WebP an EXIF comment. False for what is none of them."""
    head = file[:12]
    if head.startswith(_PNG):
        return _png_has_text(file)
    exif = _jpeg_exif(file) if head.startswith(_JPEG) else _webp_exif(file) if head[8:] == b"WEBP" else b""
    _, comment, text = exif.partition(_COMMENT)
    return bool(comment and text.strip(b"\0"))


def _png_has_text(file: bytes) -> bool:
    start = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        head = file[start : start + 8 + len(_KEYWORD)]
        kind = head[4:8]
        if len(head) < 8 or kind == b"IEND":
            return False
        if kind in _TEXT_CHUNKS and head[8:] == _KEYWORD:
            return True
        start += 12 + int.from_bytes(head[:4], "big")
    return False


def _jpeg_exif(file: bytes) -> bytes:
    """The first APP1 segment; empty where the coded picture begins before one."""
    start = 2
    while (head := file[start : start + 4])[:1] == b"\xff" and len(head) == 4 and head[1] != _START_OF_SCAN:
        end = start + 2 + max(2, int.from_bytes(head[2:], "big"))
        if head[1] == _APP1:
            return file[start + 4 : end]
        start = end
    return b""


def _webp_exif(file: bytes) -> bytes:
    start = 12
    while len(head := file[start : start + 8]) == 8:
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return file[start + 8 : start + 8 + length]
        start += 8 + length + length % 2
    return b""


def painted_image(picture: object, *, seed: int, infotext: str | None, used: Used = NOTHING_USED) -> PaintedImage:
    """
    One picture of an answer, by its first and last bytes.

    :raises InvalidAnswerError: it is none, or is cut off.
    """
    data = _decoded(picture) if isinstance(picture, str) else picture
    if not isinstance(data, bytes) or not data:
        raise InvalidAnswerError("the WebUI returned no picture", reason="missing_images")
    head = data[:12]
    if head.startswith(_PNG):
        if data[-len(_PNG_END) :] != _PNG_END:
            raise InvalidAnswerError("the WebUI sent a damaged picture: it is cut off", reason="damaged_image")
    elif not head.startswith(_JPEG) and not (head.startswith(b"RIFF") and head[8:] == b"WEBP"):
        raise InvalidAnswerError(
            "the WebUI sent a damaged picture: it is not a PNG, JPEG or WebP", reason="damaged_image"
        )
    return PaintedImage(data=data, seed=seed, infotext=infotext, used=used)


def _decoded(text: str) -> bytes:
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return pybase64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise InvalidAnswerError(
            "the WebUI sent a damaged picture: it is not base64", reason="damaged_image"
        ) from error
