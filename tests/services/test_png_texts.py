"""The texts in a PNG file, also where somebody wrote it by hand."""

from __future__ import annotations

import zlib

import pytest

from services.png import read_chunks
from services.png_texts import read_texts
from tests.services import picture_samples as samples

PNG = samples.encode(samples.noise())
LONG = b"a" * 300_000


def texts_of(*chunks: tuple[bytes, bytes]) -> dict[str, str]:
    png = PNG
    for kind, body in reversed(chunks):
        png = samples.insert_chunk(png, kind, body)
    return read_texts(png, read_chunks(png))


def test_a_picture_without_texts() -> None:
    assert texts_of() == {}


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (b"tEXt", b"parameters\0caf\xe9", "café"),
        (b"zTXt", b"parameters\0\0" + zlib.compress(b"caf\xe9"), "café"),
        (b"iTXt", b"parameters\0\0\0en\0x\0" + "café 🐈".encode(), "café 🐈"),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress("café".encode()), "café"),
        (b"tEXt", b"parameters\0", ""),
        (b"tEXt", b"parameters", ""),
        (b"iTXt", b"parameters\0\0\0\0\0\xff", "\ufffd"),
    ],
)
def test_each_kind(kind: bytes, body: bytes, text: str) -> None:
    assert texts_of((kind, body)) == {"parameters": text}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"tEXt", b"parameters\0" + LONG),
        (b"zTXt", b"parameters\0\0" + zlib.compress(LONG)),
        (b"iTXt", b"parameters\0\0\0\0\0" + LONG),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(LONG)),
        (b"zTXt", b"parameters\0\0no zlib"),
        (b"zTXt", b"parameters\0\0" + zlib.compress(b"cut")[:-5]),
        (b"zTXt", b"parameters"),
        (b"iTXt", b"parameters\0\0\0"),
    ],
)
def test_what_is_damaged_or_very_long_is_left_out(kind: bytes, body: bytes) -> None:
    assert texts_of((kind, body), (b"tEXt", b"Title\0b")) == {"Title": "b"}


def test_the_first_of_each_and_not_too_many() -> None:
    assert texts_of((b"tEXt", b"a\0first"), (b"tEXt", b"a\0second")) == {"a": "first"}
    assert len(texts_of(*((b"tEXt", b"%d\0x" % number) for number in range(100)))) == 40
