"""The pixels of a WebUI's pictures, to be compared."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from sd_client.errors import InvalidAnswerError

#: Hashed at a time.
_STRIP_ROWS = 64


def rgb(file: bytes, *, size: tuple[int, int], message: str) -> bytes:
    """
    Its colours alone, whatever its alpha is.

    :param message: what to say of another size.
    :raises InvalidAnswerError: it is damaged, or has another size.
    """
    return decoded(file, size=size, message=message).tobytes()


def decoded(file: bytes, *, size: tuple[int, int], message: str) -> Image.Image:
    """As :func:`rgb`, which says what the arguments are, and what is raised."""
    try:
        picture = Image.open(io.BytesIO(file))
        if picture.size != size:
            raise InvalidAnswerError(message, reason="wrong_size")
        picture.load()
        return picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy it
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidAnswerError("the WebUI sent a damaged picture", reason="damaged_image") from error


def fingerprint(image: Image.Image) -> bytes:
    """
    SHA-256 of its pixels, row by row: as good as the pixels to compare pictures of one size, and found in a tenth of
    the time that decoding takes.

    :param image: of mode RGB.
    """
    found = hashlib.sha256()
    for top in range(0, image.height, _STRIP_ROWS):  # all at once would be copied twice
        found.update(image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height))).tobytes())
    return found.digest()


def size_of(file: object) -> tuple[int, int] | None:
    """By its header; None if it is no picture."""
    try:
        with Image.open(io.BytesIO(file if isinstance(file, bytes) else b"")) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
