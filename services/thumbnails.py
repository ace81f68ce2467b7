"""Smaller copies of stored images, kept in memory up to a bound."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, get_args
from uuid import UUID

import cachetools
from PIL import Image

from services.colours import in_channels, to_srgb
from services.decoders import Decoders
from services.picture_decoding import decode
from services.picture_files import read_file
from services.pictures import flatten

Format = Literal["png", "jpeg", "webp"]
FORMATS: tuple[Format, ...] = get_args(Format)

#: Bytes of encoded copies, in each worker.
CACHE_BYTES = 32 * 1024 * 1024

#: How long a request may wait for its copy: as many as may be requested at a time take less.
MAKING_WAIT_S = 30.0

_OPTIONS: dict[Format, dict[str, object]] = {
    "png": {"compress_level": 6},
    "jpeg": {"quality": 90, "optimize": True},
    "webp": {"quality": 85, "method": 4},
}


class Thumbnails:
    """
    Each copy is kept while it is among those used last.

    :param at_a_time: copies made at a time; None: as many as there are processors. More would only add up their memory.
    """

    def __init__(self, *, cache_bytes: int = CACHE_BYTES, at_a_time: int | None = None) -> None:
        self._cache: cachetools.LRUCache[tuple[UUID, Format, int], bytes] = cachetools.LRUCache(
            maxsize=cache_bytes, getsizeof=len
        )
        self._mutex = threading.Lock()
        self._making = Decoders(count=at_a_time or os.cpu_count() or 1)

    def get(
        self,
        image_id: UUID,
        read: Callable[[], bytes],
        *,
        form: Format,
        width: int,
        check: Callable[[], None] = lambda: None,
        wait_s: float = MAKING_WAIT_S,
    ) -> bytes:
        """
        The image ``width`` pixels wide, its height in proportion.

        :param read: returns the stored PNG; called if the copy has to be made.
        :param check: called while others are made first; what it raises ends the wait.
        :raises QueueTimeoutError: too many others are made first.
        """
        key = (image_id, form, width)
        if (found := self._kept(key)) is not None:
            return found
        self._making.acquire(until=time.monotonic() + wait_s, check=check)
        try:
            if (found := self._kept(key)) is not None:  # made while this one waited
                return found
            made = _encoded(read(), form=form, width=width)
            with self._mutex:
                if len(made) <= self._cache.maxsize:
                    self._cache[key] = made
        finally:
            self._making.release()
        return made

    def _kept(self, key: tuple[UUID, Format, int]) -> bytes | None:
        with self._mutex:
            return self._cache.get(key)


def converted(png: bytes, *, form: Format, quality: int) -> bytes:
    """
    A stored image in another format, in its own size.

    :param quality: of JPEG and WebP, 0 … 100.
    """
    return _saved(_shown(png, with_alpha=form != "jpeg"), form, _OPTIONS[form] | {"quality": quality})


def _encoded(png: bytes, *, form: Format, width: int) -> bytes:
    image = _shown(png, with_alpha=form != "jpeg")
    if width != image.width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return _saved(image, form, _OPTIONS[form])


def _saved(image: Image.Image, form: Format, options: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    visible = image.convert("RGBA") if image.mode == "RGBa" else image
    visible.save(buffer, form.upper(), **options)
    return buffer.getvalue()


def _shown(png: bytes, *, with_alpha: bool) -> Image.Image:
    """The image in sRGB: RGBa where it has and may have transparent parts, else RGB over white.

    RGBa has colours weighed by their opacity, so that those of hidden pixels do not bleed into their neighbours.
    """
    file = read_file(png)
    stored = decode(png, file, max_pixels=None)
    image = in_channels(stored)
    convert = to_srgb(stored.mode, file.colours.profile)
    if convert is not None:
        image = convert(image)
    if with_alpha and image.has_transparency_data:
        return image.convert("RGBA").convert("RGBa")
    return flatten(image, "white")
