"""Decoded pixels that are needed again soon: kept within a bound for the whole process, otherwise decoded again."""

from __future__ import annotations

import threading
from typing import Final

from PIL import Image

#: Of pixels that a process keeps, for all its requests together: one photo of 12 million pixels, or nine 1024 x 1024
#: with their masks.
MOST_BYTES: Final = 48 * 1024 * 1024


class Room:
    """:param most_bytes: that may be taken."""

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes
        # Garbage may be collected while it is held, and give room back.
        self._mutex = threading.RLock()

    def take(self, size: int) -> bool:
        """Whether there was so much room."""
        with self._mutex:
            if size > self._free:
                return False
            self._free -= size
            return True

    def give_back(self, size: int) -> None:
        with self._mutex:
            self._free += size


_ROOM: Final = Room(MOST_BYTES)


class KeptPixels:
    """
    An image, which is kept if there is room for it until it is taken or nobody has this object any more.

    Whoever needs the image must be able to decode it once more.
    """

    def __init__(self, image: Image.Image, room: Room = _ROOM) -> None:
        size = image.width * image.height * (1 if len(image.getbands()) == 1 else 4)  # as Pillow holds them
        self._room, self._size = room, size if room.take(size) else 0
        self._image = image if self._size else None

    @property
    def image(self) -> Image.Image | None:
        """None if it is not kept. It must not be changed."""
        return self._image

    def take(self) -> Image.Image | None:
        """The image, which is not kept any longer."""
        image, self._image = self._image, None
        size, self._size = self._size, 0
        self._room.give_back(size)
        return image

    def __del__(self) -> None:
        self.take()
