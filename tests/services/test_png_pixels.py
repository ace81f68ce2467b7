"""What is accepted without a decoder is what a decoder accepts."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from services.picture_files import read_file
from services.picture_formats import PictureError
from services.pictures import decode_upright, read_picture
from services.png_pixels import inflates
from tests.services import picture_samples as samples

PNG = samples.encode(samples.noise())


def looked_at(data: bytes) -> bool:
    return inflates(read_file(data).idat, header=data[16:29])


def with_pixels(rows: bytes, *, width: int = 16, height: int = 16, cut: int = 8192, **header: int) -> bytes:
    """A PNG of this compressed data, in chunks of ``cut`` bytes."""
    fields = {"depth": 8, "colour": 2, "compression": 0, "filter": 0, "interlace": 0} | header
    ihdr = struct.pack(">IIBBBBB", width, height, *fields.values())
    idat = [samples.chunk(b"IDAT", rows[start : start + cut]) for start in range(0, len(rows), cut)]
    return b"\x89PNG\r\n\x1a\n" + samples.chunk(b"IHDR", ihdr) + b"".join(idat) + samples.chunk(b"IEND", b"")


ROWS = (b"\4" + bytes(48)) * 16


@pytest.mark.parametrize("cut", [1, 7, 8192])
def test_whole_pictures(cut: int) -> None:
    assert looked_at(with_pixels(zlib.compress(ROWS), cut=cut))
    assert looked_at(PNG)
    assert looked_at(samples.encode(Image.new("RGB", (2000, 1500), "red")))


REFUSED = {
    "a row too few": with_pixels(zlib.compress(ROWS[:-49])),
    "a byte too few": with_pixels(zlib.compress(ROWS[:-1])),
    "a byte too many": with_pixels(zlib.compress(ROWS + b"\0")),
    "an unknown filter": with_pixels(zlib.compress(ROWS[:-49] + b"\5" + bytes(48))),
    "an unknown filter first": with_pixels(zlib.compress(b"\xff" + ROWS[1:])),
    "cut off": with_pixels(zlib.compress(ROWS)[:-1]),
    "a wrong sum": with_pixels(zlib.compress(ROWS)[:-1] + b"\0"),
    "no zlib": with_pixels(b"\0" * 100),
    "nothing": with_pixels(b""),
    "interlaced": with_pixels(zlib.compress(ROWS), interlace=1),
    "grey": with_pixels(zlib.compress(ROWS), colour=0),
    "16 bits": with_pixels(zlib.compress(ROWS), depth=16),
    "another compression": with_pixels(zlib.compress(ROWS), compression=1),
    "another filtering": with_pixels(zlib.compress(ROWS), filter=1),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_a_decoder_must_judge(data: bytes) -> None:
    assert not looked_at(data)


def test_a_few_bytes_that_inflate_to_gigabytes_are_not_kept() -> None:
    bomb = with_pixels(zlib.compress(bytes(40_000_000), 1))
    tracemalloc.start()
    try:
        assert not looked_at(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2_000_000


def test_damaged_pixels_are_found_as_a_decoder_finds_them() -> None:
    """The compressed data is damaged, and the checksums made right again."""
    draw = random.Random(1)
    rows = b"".join(bytes([draw.randrange(5)]) + draw.randbytes(48) for _ in range(16))
    compressed = zlib.compress(rows)
    found = 0
    for _ in range(400):
        damaged = bytearray(compressed)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        data = with_pixels(bytes(damaged))
        if looked_at(data):
            decode_upright(data)  # raises where it is broken
        else:
            found += 1
    assert found > 300


def test_a_picture_that_only_a_decoder_forgives_is_accepted_still() -> None:
    forgiven = with_pixels(zlib.compress(ROWS + b"\0" * 49))
    assert not looked_at(forgiven)
    assert read_picture(forgiven, max_pixels=256).width == 16


def test_a_broken_one_is_refused_still() -> None:
    with pytest.raises(PictureError, match="damaged or cut off"):
        read_picture(REFUSED["no zlib"], max_pixels=256)
