"""The texts in a PNG file: where programs write how a picture was made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from zlib_ng import zlib_ng

from services.png import Chunk

#: Where A1111 writes how a picture was made, and all programs after it.
PARAMETERS: Final = "parameters"

#: Of one text; longer ones are left out. Inflated, a few kB may be a thousand times as long.
_MOST_BYTES: Final = 256 * 1024
_MOST_TEXTS: Final = 40


def read_texts(data: bytes, chunks: Iterable[Chunk]) -> dict[str, str]:
    """
    By their keywords, the first of each; without those that are damaged or very long.

    :param chunks: of :func:`services.png.read_chunks`.
    """
    found: dict[str, str] = {}
    for chunk in chunks:
        if chunk.type in _READERS and len(found) < _MOST_TEXTS:
            keyword, _, rest = chunk.body(data).partition(b"\0")
            text = _READERS[chunk.type](rest)
            if text is not None:
                found.setdefault(keyword[:79].decode("latin-1"), text)
    return found


def _plain(rest: bytes) -> str | None:
    return rest.decode("latin-1") if len(rest) <= _MOST_BYTES else None


def _compressed(rest: bytes) -> str | None:
    text = _inflated(rest[1:])
    return None if text is None else text.decode("latin-1")


def _international(rest: bytes) -> str | None:
    is_compressed, texts = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    text = texts[-1] if len(texts) == 3 else None
    if text is not None and is_compressed:
        text = _inflated(text)
    return None if text is None or len(text) > _MOST_BYTES else text.decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes | None:
    inflater = zlib_ng.decompressobj()
    try:
        text = inflater.decompress(data, _MOST_BYTES)
    except zlib_ng.error:  # type: ignore[misc]  # an exception, whatever its types say
        return None
    return text if inflater.eof else None


_READERS: Final = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international}
