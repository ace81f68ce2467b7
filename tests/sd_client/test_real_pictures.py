"""Which images of an answer are pictures: by the facts of the answer, and an error where they do not tell."""

from __future__ import annotations

import io

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sd_client.errors import InvalidAnswerError
from sd_client.real_pictures import has_generation_text, real_pictures
from simulator.pictures import encode

P, M = True, False  # a picture with its text, a mask or map without

CASES: list[tuple[str, list[bool], int, tuple[int, ...] | str]] = [
    ("one", [P], 1, (0,)),
    ("one without text", [M], 1, (0,)),
    ("four", [P, P, P, P], 4, (0, 1, 2, 3)),
    ("four without text", [M, M, M, M], 4, (0, 1, 2, 3)),
    ("a mask behind each", [P, M, P, M, P, M], 3, (0, 2, 4)),
    ("mask and composite behind each", [P, M, M, P, M, M], 2, (0, 3)),
    ("maps behind all", [P, P, P, M, M, M], 3, (0, 1, 2)),
    ("a map in front", [M, P, P], 2, (1, 2)),
    ("one map for all", [P, P, M], 2, (0, 1)),
    ("extras behind one picture", [P, M, M], 1, (0,)),
    ("extras behind one picture, no text at all", [M, M, M], 1, (0,)),
    ("nothing", [], 1, "missing_images"),
    ("too few", [P], 2, "missing_images"),
    ("too few, with a mask", [P, M], 2, "missing_images"),
    ("too few, with masks", [P, M, P, M], 3, "missing_images"),
    ("masks and no text at all", [M, M, M, M], 2, "ambiguous_images"),
    ("layers: more pictures than asked for", [P, P, P], 1, "ambiguous_images"),
    ("a grid that is not told", [P, P, P], 2, "ambiguous_images"),
]


@pytest.mark.parametrize(("with_text", "wanted", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_which_images_are_pictures(with_text: list[bool], wanted: int, expected: tuple[int, ...] | str) -> None:
    if isinstance(expected, tuple):
        assert real_pictures(with_text, wanted=wanted) == expected
        return
    with pytest.raises(InvalidAnswerError) as caught:
        real_pictures(with_text, wanted=wanted)
    assert caught.value.reason == expected


@given(with_text=st.lists(st.booleans(), max_size=12), wanted=st.integers(1, 8))
def test_never_a_guess(with_text: list[bool], wanted: int) -> None:
    """Whatever is chosen is in order, has the right number, and leaves no image with text out."""
    try:
        places = real_pictures(with_text, wanted=wanted)
    except InvalidAnswerError:
        return
    assert len(places) == wanted
    assert list(places) == sorted(set(places))
    if any(with_text):
        assert places == tuple(place for place, has in enumerate(with_text) if has)


@pytest.mark.parametrize("text", ["a cat\nSteps: 20", "猫", ""])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_the_text_in_a_picture(kind: str, text: str) -> None:
    data = pybase64.b64decode(encode(Image.new("RGB", (64, 64), "red"), kind, text))
    assert has_generation_text(data) == bool(text)


def test_text_behind_the_pixels_counts_too() -> None:
    before = io.BytesIO()
    Image.new("L", (8, 8)).save(before, "PNG")
    png = before.getvalue()
    chunk = b"\0\0\0\x0dtEXtparameters\0hi\0\0\0\0"
    assert not has_generation_text(png)
    assert has_generation_text(png[:-12] + chunk + png[-12:])


@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b""]), st.binary(max_size=80))
def test_any_bytes_have_text_or_not(head: bytes, rest: bytes) -> None:
    has_generation_text(head + rest)
