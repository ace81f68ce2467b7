"""The pixels of a WebUI's pictures, to be compared."""

from __future__ import annotations

import io

from PIL import Image

from sd_client.errors import InvalidAnswerError


def rgb(file: bytes, *, size: tuple[int, int], message: str) -> bytes:
    """
    Its colours alone, whatever its alpha is.

    :param message: what to say of another size.
    :raises InvalidAnswerError: it is damaged, or has another size.
    """
    try:
        with Image.open(io.BytesIO(file)) as picture:
            if picture.size != size:
                raise InvalidAnswerError(message, reason="wrong_size")
            return picture.convert("RGB").tobytes()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidAnswerError("the WebUI sent a damaged picture", reason="damaged_image") from error


def size_of(file: object) -> tuple[int, int] | None:
    """By its header; None if it is no picture."""
    try:
        with Image.open(io.BytesIO(file if isinstance(file, bytes) else b"")) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
