"""PNG files: what is accepted without a decoder is what a decoder accepts, and what is encoded is what it sees."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from zlib_ng import zlib_ng

from services.picture_decoding import decode_upright
from services.picture_formats import PictureError
from services.pictures import read_picture
from services.png import encode_png, has_all_rows, read_chunks
from services.results import ResultError, check_whole
from tests.services import picture_samples as samples

PNG = samples.encode(samples.noise())


def looked_at(data: bytes, *, trusted: bool = False) -> bool:
    return has_all_rows(data, read_chunks(data), trusted=trusted)


def with_pixels(rows: bytes, *, width: int = 16, height: int = 16, cut: int = 8192, **header: int) -> bytes:
    """A PNG of this compressed data, in chunks of ``cut`` bytes."""
    fields = {"depth": 8, "colour": 2, "compression": 0, "filter": 0, "interlace": 0} | header
    ihdr = struct.pack(">IIBBBBB", width, height, *fields.values())
    idat = [samples.chunk(b"IDAT", rows[start : start + cut]) for start in range(0, len(rows), cut)]
    return b"\x89PNG\r\n\x1a\n" + samples.chunk(b"IHDR", ihdr) + b"".join(idat) + samples.chunk(b"IEND", b"")


ROWS = (b"\4" + bytes(48)) * 16


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("cut", [1, 7, 8192])
def test_whole_pictures(cut: int, *, trusted: bool) -> None:
    assert looked_at(with_pixels(zlib.compress(ROWS), cut=cut), trusted=trusted)
    assert looked_at(PNG, trusted=trusted)
    assert looked_at(samples.encode(Image.new("RGB", (2000, 1500), "red")), trusted=trusted)
    assert looked_at(samples.encode(samples.noise(400, 300), compress_level=0), trusted=trusted)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(16, 3000), level=st.integers(0, 9), strategy=st.integers(0, 4), seed=st.binary(min_size=1))
def test_every_whole_picture_is_seen_to_be_whole(height: int, level: int, strategy: int, seed: bytes) -> None:
    """However much an inflater holds back of what it has taken."""
    row = (seed * 48)[:48]
    deflater = zlib.compressobj(level, strategy=strategy)
    stream = deflater.compress((b"\1" + row) * height) + deflater.flush()
    assert looked_at(with_pixels(stream, height=height), trusted=True)
    assert looked_at(with_pixels(stream, height=height), trusted=False)


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
    "grey, of too many bytes": with_pixels(zlib.compress(ROWS), colour=0),
    "16 bits": with_pixels(zlib.compress(ROWS), depth=16),
    "another compression": with_pixels(zlib.compress(ROWS), compression=1),
    "another filtering": with_pixels(zlib.compress(ROWS), filter=1),
}


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_a_decoder_must_judge(data: bytes, *, trusted: bool) -> None:
    assert not looked_at(data, trusted=trusted)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_few_bytes_that_inflate_to_gigabytes_are_not_kept(*, trusted: bool) -> None:
    bomb = with_pixels(zlib.compress(bytes(40_000_000), 1))
    tracemalloc.start()
    try:
        assert not looked_at(bomb, trusted=trusted)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2_000_000


@pytest.mark.parametrize("trusted", [False, True])
def test_damaged_pixels_are_found_as_a_decoder_finds_them(*, trusted: bool) -> None:
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
        if looked_at(data, trusted=trusted):
            decode_upright(data)  # raises where it is broken
        else:
            found += 1
    assert found > 300


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Compressed in any way, then cut off, lengthened or damaged, and the sum at its end made right again."""
    data = draw(st.one_of(st.binary(max_size=400), st.binary(max_size=20).map(lambda part: 300 * part)))
    deflater = zlib.compressobj(
        draw(st.integers(0, 9)), wbits=draw(st.integers(9, 15)), strategy=draw(st.integers(0, 4))
    )
    stream = bytearray(deflater.compress(data) + deflater.flush())
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, min(len(stream), 60) - 1))  # where the codes are
        stream[place] = draw(st.integers(0, 255))
    whole = stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream
    if draw(st.booleans()):
        with contextlib.suppress(zlib.error):
            raw = zlib.decompressobj(-15)
            pixels = raw.decompress(whole[2:])
            whole = whole[: len(whole) - len(raw.unused_data)] + zlib.adler32(pixels).to_bytes(4, "big")
    return bytes(whole + draw(st.binary(max_size=3)))


def inflated(inflater: Any, stream: bytes, errors: type[Exception]) -> tuple[object, ...] | None:
    """All that can be told of it; None for a broken one."""
    pixels, left = b"", stream
    try:
        while left and not inflater.eof:
            pixels += inflater.decompress(left, 100)
            left = inflater.unconsumed_tail
    except errors:
        return None
    return pixels, inflater.eof, inflater.unused_data


@settings(max_examples=500, deadline=None)
@given(stream=streams())
def test_every_stream_is_judged_as_zlib_judges_it(stream: bytes) -> None:
    """WebUIs decode with zlib: what it does not take must not be sent to them."""
    ours = inflated(zlib_ng.decompressobj(), stream, zlib_ng.error)
    assert ours == inflated(zlib.decompressobj(), stream, zlib.error)


#: There are inflaters that take these, whose sums are right. Codes that leave rows of bits without a meaning, and a
#: window of 64 kB.
ODD = [
    "785e658bd109003010c266d564ff19eabd0b1245d40269b1074b8d0b63a5ae98472ced0f0a",
    "78daecc13101000000c2a0f54f6d0d0fb000008077030000ffffc306000bcc0001",
    "c8c6f3e9bfdefdaf7ff2f2561f4a1900a55f2d24",
]


@pytest.mark.parametrize("stream", ODD)
def test_streams_that_only_some_inflaters_refuse(stream: str) -> None:
    for inflater, errors in ((zlib_ng.decompressobj(), zlib_ng.error), (zlib.decompressobj(), zlib.error)):
        with pytest.raises(errors, match="invalid"):
            inflater.decompress(bytes.fromhex(stream))


@pytest.mark.parametrize("stream", ODD)
def test_a_caller_cannot_send_a_webui_what_only_some_inflaters_take(stream: str) -> None:
    odd = with_pixels(bytes.fromhex(stream))
    assert not looked_at(odd)
    with pytest.raises(PictureError, match="damaged or cut off"):
        read_picture(odd, max_pixels=256)


def test_a_picture_that_only_a_decoder_forgives_is_accepted_still() -> None:
    forgiven = with_pixels(zlib.compress(ROWS + b"\0" * 49))
    assert not looked_at(forgiven)
    assert read_picture(forgiven, max_pixels=256).width == 16


def test_a_broken_one_is_refused_still() -> None:
    with pytest.raises(PictureError, match="damaged or cut off"):
        read_picture(REFUSED["no zlib"], max_pixels=256)


# --- A whole file -----------------------------------------------------------------------------

MODES = ["RGB", "RGBA", "L", "LA"]
LEFT_TO_A_DECODER = ["P", "1", "I;16"]


@pytest.mark.parametrize("mode", [*MODES, *LEFT_TO_A_DECODER])
def test_a_whole_file(mode: str) -> None:
    data = samples.encode(samples.noise(200, 100).convert("L").convert(mode))
    assert looked_at(data) == (mode in MODES)
    check_whole(data)


def rubbish(png: bytes) -> bytes:
    """The right header, checksums and end, and no pixels between."""
    return png[:33] + samples.chunk(b"IDAT", bytes(range(7, 251)) * 8) + png[-12:]


@pytest.mark.parametrize(
    "damaged",
    [
        rubbish(PNG),
        with_pixels(zlib.compress(ROWS[:-49])),
        with_pixels(zlib.compress(ROWS)[:-1]),
        with_pixels(b""),
        PNG[:-16] + b"\0\0\0\0" + PNG[-12:],
        PNG[:-20],
        PNG[: len(PNG) // 2],
        PNG[:40],
    ],
    ids=["rubbish", "a row too few", "cut off", "nothing", "a wrong checksum", "no end", "half", "a header alone"],
)
def test_a_damaged_answer(damaged: bytes) -> None:
    with pytest.raises(ResultError, match="cannot be decoded"):
        check_whole(damaged)


def test_the_pixels_of_a_large_file_are_not_kept() -> None:
    file = samples.encode(samples.noise(1024, 1024))
    assert len(file) > 3_000_000
    tracemalloc.start()
    try:
        check_whole(file)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


@given(st.data())
@settings(max_examples=60)
def test_what_is_whole_is_what_a_decoder_accepts(data: st.DataObject) -> None:
    """Any byte changed: nothing is let through that Pillow refuses."""
    place = data.draw(st.integers(33, len(PNG) - 1))
    changed = PNG[:place] + bytes([PNG[place] ^ data.draw(st.integers(1, 255))]) + PNG[place + 1 :]
    try:
        check_whole(changed)
    except ResultError:
        return
    decode_upright(changed)


# --- Encoding ---------------------------------------------------------------------------------------------------------

ENCODED_MODES = {"L": 1, "RGB": 3, "RGBA": 4}


@st.composite
def images(draw: st.DrawFn) -> Image.Image:
    mode = draw(st.sampled_from(sorted(ENCODED_MODES)))
    width, height = draw(st.integers(1, 70)), draw(st.sampled_from([1, 2, 63, 64, 65, 128, 130]))
    seed = draw(st.binary(min_size=1, max_size=64))
    size = width * height * ENCODED_MODES[mode]
    return Image.frombytes(mode, (width, height), (seed * (size // len(seed) + 1))[:size])


@given(image=images())
def test_it_comes_back_pixel_for_pixel(image: Image.Image) -> None:
    encoded = encode_png(image)
    read_chunks(encoded)  # and their checksums
    with Image.open(io.BytesIO(encoded), formats=("PNG",)) as decoded:
        decoded.load()
        assert (decoded.mode, decoded.size, decoded.info) == (image.mode, image.size, {})
        assert decoded.tobytes() == image.tobytes()


@pytest.mark.parametrize("text", ["a lighthouse\nSteps: 20", "灯台 🗼"])
def test_the_text_is_kept(text: str) -> None:
    info = PngInfo()
    info.add_text("parameters", text)
    with Image.open(io.BytesIO(encode_png(samples.noise(64, 64), text=info)), formats=("PNG",)) as decoded:
        assert decoded.info == {"parameters": text}


def test_it_is_no_larger_than_pillows_quickest() -> None:
    smooth = Image.radial_gradient("L").resize((512, 512), Image.Resampling.BICUBIC)
    photo = Image.blend(smooth, Image.effect_noise((512, 512), 20), 0.2).convert("RGB")
    pillows = io.BytesIO()
    photo.save(pillows, "PNG", compress_level=1)
    assert len(encode_png(photo)) < 1.05 * len(pillows.getvalue())


def test_another_mode_is_refused() -> None:
    with pytest.raises(KeyError):
        encode_png(Image.new("CMYK", (8, 8)))
