"""Pictures sent as text: base64 and data URIs, and diagnoses for a text that is neither."""

from __future__ import annotations

import re
from typing import Final

import pybase64

from services.picture_formats import PictureError, sniff

#: Characters of a text that are searched for a mistake: none hides further in.
_HEAD_CHARS = 2000

_WHITE_SPACE = b" \t\n\r\f\v"

#: A text that begins like this is not the base64 of an accepted picture: a JPEG's begins with /9j/.
_NOT_BASE64: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), message)
    for pattern, message in (
        (
            r"[^\s]{0,300}/image/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.png)?(\?[^\s]{0,200})?$",
            "is the address of an image, which is not fetched; send the picture itself, or as 'image' its image_id",
        ),
        (
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
            "is the id of an image, which cannot be used here; send the picture itself",
        ),
        (r"(undefined|null|none|nan|true|false)$", "is the word for a missing value, not a picture; send a picture"),
        (
            r"blob:",
            "a blob: URL can be read only in the page that made it; read it there, and send its bytes",
        ),
        (
            r"(?!data:)[a-z][a-z0-9+.-]{1,30}:|//",
            "URLs are not fetched; send the picture itself, as base64 or as a data URI",
        ),
        (
            r"[a-z]:[\\/]fakepath[\\/]",
            "is the value of a file input, which is not a path; send the file itself: the input's files[0]",
        ),
        (
            r"@[^\s]{1,300}$",
            "only curl's -F reads a file from @ and its name; send the picture itself, as base64 or as a form's file",
        ),
        (
            r"~?/(?!9j/)|\.{1,2}[/\\]|[a-z]:|\\\\|[^\s/\\]{1,200}\.[a-z]{3,4}$",
            "file paths are not read; send the picture itself, as base64 or as a data URI",
        ),
        (
            r"(0x|\\x)?(89504e47|ffd8ff|52494646|424d[0-9a-f]{40})",
            "is the picture in hexadecimal; send it as base64",
        ),
    )
)

#: Why a text cannot be decoded, the most certain first. The remedies are those of the languages that cause it.
_MISTAKES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), message)
    for pattern, message in (
        (
            r"\[object \w+\]",
            "is an object that JavaScript turned into text ([object …]); send the picture's bytes as base64, "
            "as FileReader.readAsDataURL returns them",
        ),
        (
            r"b(?P<quote>['\"]).*(?P=quote)$|b['\"].{1990}",
            "is how Python prints bytes (b'…'); send base64.b64encode(data).decode() instead of str(…)",
        ),
        (r"(?P<quote>['\"]).*", "has quotes around it: it was encoded as JSON twice; send the base64 without them"),
        (
            r"(\d{1,3}[\s,]+){8}|\[\s*\d{1,3}\s*,",
            "is a list of numbers as text; send the picture's bytes as base64",
        ),
        (
            r"(\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\x89|\ufffd|\xef\xbf\xbd)png|\ufffd\ufffd|\xff\xd8|riff.{4,8}webp",
            "is a file's bytes that were read as text, which breaks them; read them as bytes, and send their base64",
        ),
        (r"<\?xml|<svg|<!doctype|<html", "is SVG or HTML; send a PNG, JPEG, WebP or BMP"),
        (r"<[\w.]+[\s>]", "is an object that was turned into text (<…>); send the picture's bytes as base64"),
        (r"\s*\{", "is JSON inside a string; send the picture itself, as base64 or as a data URI"),
        (
            r"(image/[\w.+-]+)?;?base64,",
            "is a data URI without its beginning; it must have the form data:image/...;base64,...",
        ),
    )
)

_STANDARD = "must be base64 in the standard alphabet (+ and /, not - and _) with its padding, or a data URI of it"
_URL_SAFE = "is base64 in the URL-safe alphabet; it must be the standard alphabet: + for each -, and / for each _"
_NO_PADDING = "is base64 without its padding; in the standard alphabet it ends in = or == to a multiple of 4 characters"
_CUT_OFF = "is cut off: base64 in the standard alphabet, padding included, has a multiple of 4 characters"
_BLANKS = "has spaces where + should be, as after passing through a URL or a form unencoded; send it as it was before"
_ENCODED = "is percent-encoded (%2B is +); send it as it was before"
_BACKSLASHES = "contains backslashes, which base64 never does; send it without them"
_SHORTENED = "is shortened: it ends in …; send the whole text"
_TWO_PREFIXES = "has its data URI's beginning (data:image/…;base64,) twice; send it once"
_TWICE = "is base64 of base64, or base64 text in a file; send the picture's bytes as a file, or their base64 as text"
_EMPTY_CANVAS = "is the data URI of an empty canvas (data:,): its width or its height was 0 when it was read"


def decode_base64(text: str) -> bytes:
    """
    A data URI (``data:image/png;base64,...``) or bare base64: standard alphabet with padding, white space allowed.

    The media type is ignored: the bytes decide what the picture is.

    :raises PictureError: it is anything else; the message says what.
    """
    payload = text.strip()
    if not payload:
        raise _refused("is empty; send a picture as base64", text)
    for pattern, message in _NOT_BASE64:
        if pattern.match(payload):
            raise _refused(message, text)
    if payload[:5].lower() == "data:":
        payload = _of_data_uri(payload, text)
    try:
        data = _decoded(payload)
    except ValueError as error:
        raise _refused(_what_is_wrong(payload), text) from error
    if not data:
        raise _refused("is empty; send a picture as base64", text)
    return data


def refuse_text(data: bytes) -> None:
    """
    Diagnoses bytes that are not a picture.

    :raises PictureError: they are a text that stands for a picture.
    """
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        return
    message = next((message for pattern, message in _MISTAKES if pattern.match(text[:_HEAD_CHARS])), None)
    if message is None and _is_base64_of_a_picture(text):
        message = _TWICE
    if message is not None:
        raise PictureError(message, received=f"text, {len(data)} bytes")


def _is_base64_of_a_picture(text: str) -> bool:
    try:
        return sniff(decode_base64(text)) is not None
    except PictureError:
        return False


def _of_data_uri(uri: str, text: str) -> str:
    """The part behind its comma."""
    head, comma, payload = uri.partition(",")
    if not payload and head.lower() == "data:":
        raise _refused(_EMPTY_CANVAS, text)
    if not comma or not head.lower().endswith(";base64"):
        raise _refused("a data URI must have the form data:image/...;base64,...", text)
    if payload.lstrip()[:5].lower() == "data:":
        raise _refused(_TWO_PREFIXES, text)
    return payload


def _decoded(text: str) -> bytes:
    """:raises ValueError:"""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        # Looking for white space costs several times as much as decoding, and hardly any text has it.
        return pybase64.b64decode(text.encode("ascii").translate(None, _WHITE_SPACE), validate=True)


def _what_is_wrong(payload: str) -> str:
    """The diagnosis for a text that cannot be decoded."""
    for pattern, message in _MISTAKES:
        if pattern.match(payload[:_HEAD_CHARS]):
            return message
    if payload.endswith(("...", "\u2026")):
        return _SHORTENED
    if re.search(r"%[0-9A-Fa-f]{2}", payload):
        return _ENCODED
    if "\\" in payload:
        return _BACKSLASHES
    try:
        bare = payload.encode("ascii").translate(None, _WHITE_SPACE)
    except UnicodeEncodeError:
        return _STANDARD
    if re.fullmatch(rb"[A-Za-z0-9+/]*[-_][A-Za-z0-9+/_-]*={0,2}", bare):
        return _URL_SAFE
    if re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", bare) is None:
        return _STANDARD
    if " " in payload.strip():
        return _BLANKS
    if b"=" in bare:
        return _STANDARD
    return _CUT_OFF if len(bare) % 4 == 1 else _NO_PADDING


def _refused(message: str, text: str) -> PictureError:
    return PictureError(message, received=f"{len(text)} characters")
