"""Files of counts as prometheus_client keeps them (its ``mmap_dict``), for gunicorn's master, which must not import it.

Four bytes tell how much of the file is used, four are empty; then come keys, each with its length before it and padded
to a multiple of eight bytes, with a value and a time, which counts do not have.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

_LENGTH = struct.Struct("=i")
_VALUE = struct.Struct("=dd")
_HEAD_BYTES = 8


def key_of(name: str, text: str) -> str:
    """
    Of a counter without labels.

    :param name: without ``_total``.
    """
    return json.dumps([name, f"{name}_total", {}, text])


def read_counts(path: Path) -> dict[str, float]:
    """
    By key.

    :raises OSError:
    """
    return dict(_entries(path.read_bytes()))


def write_counts(path: Path, counts: Mapping[str, float]) -> None:
    """
    Whoever reads meanwhile finds what was there before.

    :raises OSError:
    """
    body = b"".join(_entry(key.encode(), value) for key, value in counts.items())
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(_LENGTH.pack(_HEAD_BYTES + len(body)).ljust(_HEAD_BYTES, b"\0") + body)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _entries(data: bytes) -> Iterator[tuple[str, float]]:
    """Of a file that was set aside and never written to: none."""
    (used,) = _LENGTH.unpack_from(data)
    at = _HEAD_BYTES
    while at < used:
        (length,) = _LENGTH.unpack_from(data, at)
        start = at + _LENGTH.size
        end = start + _padded(length)
        yield data[start : start + length].decode(), _VALUE.unpack_from(data, end)[0]
        at = end + _VALUE.size


def _entry(key: bytes, value: float) -> bytes:
    return _LENGTH.pack(len(key)) + key.ljust(_padded(len(key))) + _VALUE.pack(value, 0.0)


def _padded(length: int) -> int:
    return length + 8 - (length + _LENGTH.size) % 8
