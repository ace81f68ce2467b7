"""Images that a WebUI answers, made PNG."""

import struct
import zlib

import pytest
from PIL import Image

from services.exif import user_comment
from services.results import ResultError, png_size, to_png
from tests.services import picture_samples as samples

TEXT = "a cat\nNegative prompt: ein Hund, 猫\nSteps: 20, Seed: 42"
IMAGE = samples.gradient()


def with_comment(kind: str, comment: bytes) -> bytes:
    """EXIF as A1111 writes it: big-endian, the comment in the Exif IFD."""
    exif = Image.Exif()
    exif.endian = ">"
    exif.get_ifd(0x8769)[0x9286] = comment
    return samples.encode(IMAGE, kind, exif=exif.tobytes())


@pytest.mark.parametrize("data", [samples.encode(IMAGE), b"\x89PNG\r\n\x1a\nbroken, but not looked at"])
def test_a_png_is_given_back_as_it_is(data: bytes) -> None:
    assert to_png(data, parameters="other") is data


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_pixels_and_the_given_text_are_in_the_png(kind: str) -> None:
    data = with_comment(kind, b"UNICODE\0" + "not this".encode("utf-16-be"))
    image = samples.pixels(to_png(data, parameters=TEXT))
    assert image.tobytes() == samples.pixels(data).tobytes()
    assert image.info == {"parameters": TEXT}


def test_latin_text_is_written_as_text_chunk() -> None:
    assert b"tEXtparameters\0a cat" in to_png(samples.encode(IMAGE, "JPEG"), parameters="a cat")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (b"UNICODE\0" + TEXT.encode("utf-16-be"), TEXT),
        (b"ASCII\0\0\0a cat", "a cat"),
        (b"UNICODE\0odd", None),
        (b"ASCII\0\0\0\xff", None),
        (b"\0\0\0\0\0\0\0\0a cat", None),
        (b"short", None),
    ],
)
def test_else_the_text_of_the_exif(kind: str, comment: bytes, expected: str | None) -> None:
    image = samples.pixels(to_png(with_comment(kind, comment), parameters=None))
    assert image.info == ({"parameters": expected} if expected else {})


def test_no_text_at_all() -> None:
    assert samples.pixels(to_png(samples.encode(IMAGE, "JPEG"), parameters=None)).info == {}


def test_a_profile_is_not_taken_over() -> None:
    data = samples.encode(IMAGE, "WEBP", icc_profile=b"profile")
    assert samples.pixels(to_png(data, parameters=None)).info == {}


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_modes_of_a_jpeg(mode: str) -> None:
    image = samples.pixels(to_png(samples.encode(IMAGE.convert(mode), "JPEG"), parameters=None))
    assert image.mode == {"CMYK": "RGB"}.get(mode, mode)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        samples.encode(IMAGE, "BMP"),
        samples.encode(IMAGE.convert("P"), "GIF"),
        samples.encode(IMAGE, "JPEG")[:-30],
        samples.encode(IMAGE, "WEBP")[:-30],
    ],
    ids=["nothing", "HTML", "BMP", "GIF", "cut JPEG", "cut WebP"],
)
def test_anything_else_is_an_unusable_answer(data: bytes) -> None:
    with pytest.raises(ResultError):
        to_png(data, parameters=None)


def test_png_size() -> None:
    assert png_size(samples.encode(IMAGE)) == samples.SIZE
    assert png_size(samples.raw_png(70_000, 3, 8, 2, b"", idat=zlib.compress(b""))) == (70_000, 3)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", samples.encode(IMAGE)[:30], samples.encode(IMAGE, "JPEG")])
def test_png_size_of_what_is_no_png(data: bytes) -> None:
    with pytest.raises(ResultError, match="is not a PNG"):
        png_size(data)


def ifd(byte_order: str, *entries: tuple[int, int, int, int]) -> bytes:
    return struct.pack(byte_order + "H", len(entries)) + b"".join(
        struct.pack(byte_order + "HHII", *entry) for entry in entries
    )


@pytest.mark.parametrize(
    "tiff",
    [
        b"",
        b"II*\0",
        b"MM\0*\0\0\0\x08",
        b"MM\0*\0\0\0\x08" + ifd(">", (0x8769, 4, 1, 8)),  # the Exif IFD is the first IFD itself
        b"MM\0*\0\0\0\x08" + ifd(">", (0x8769, 4, 1, 2**32 - 1)),
        b"MM\0*\0\0\0\x08" + ifd(">", (0x8769, 7, 4, 26)) + ifd(">", (0x9286, 7, 9, 8)),
        b"II*\0\x08\0\0\0" + ifd("<", (0x8769, 4, 1, 22)) + ifd("<", (0x9286, 7, 2**32 - 1, 0)),
    ],
)
def test_broken_exif_holds_no_comment(tiff: bytes) -> None:
    assert user_comment(tiff) is None
