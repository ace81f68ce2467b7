"""
A result reads the same whether its images are decoded before it is parsed or by its parser. Which of them are pictures
is decided by the facts of the result, and is an error where they do not show it.
"""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
from typing import Any

import pybase64
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from pydantic_core import from_json

from sd_client.errors import InvalidAnswerError
from sd_client.result import has_generation_text, read_object, real_pictures
from simulator.pictures import encode

PICTURE = bytes(range(256)) * 3
TEXT = base64.b64encode(PICTURE)


def outcome(body: bytes) -> object:
    try:
        return plain(read_object(body))
    except InvalidAnswerError as error:
        return str(error)


def read_whole(body: bytes) -> object:
    """What an ordinary JSON reader makes of it."""
    try:
        answer = from_json(body)
    except ValueError:
        return "the WebUI's answer is not JSON"
    return plain(answer) if isinstance(answer, dict) else "the WebUI's answer is not an object"


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """With the bytes of the pictures where their text is base64; the rest as text that two NaN are equal in."""
    images = answer.get("images")
    if isinstance(images, list):
        answer = {**answer, "images": [image if isinstance(image, bytes) else decoded(image) for image in images]}
    return {name: repr(value) for name, value in answer.items()}


def decoded(image: object) -> object:
    if not isinstance(image, str):
        return image
    try:
        return base64.b64decode(image, validate=True)
    except ValueError:
        return image


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
base64_texts = st.binary(max_size=300).map(lambda data: base64.b64encode(data).decode())
odd_texts = st.text(max_size=20) | st.text(alphabet="QUJDA=+/-_ \n", max_size=12)
images = base64_texts | odd_texts | base64_texts.map(lambda text: f"data:image/png;base64,{text}") | json_values
answers = st.fixed_dictionaries({"images": st.lists(images, max_size=4)}).flatmap(
    lambda first: st.dictionaries(st.text(max_size=6) | st.just("info"), json_values, max_size=3).map(
        lambda rest: first | rest
    )
)
shapes = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: \r\n")])


@given(answer=answers, shape=shapes, ascii_only=st.booleans())
def test_answers_as_servers_write_them(answer: object, shape: tuple[str, str], ascii_only: bool) -> None:
    body = json.dumps(answer, separators=shape, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert outcome(body) == read_whole(body)


@given(answer=json_values, shape=shapes)
def test_any_json(answer: object, shape: tuple[str, str]) -> None:
    body = json.dumps(answer, separators=shape).encode()
    assert outcome(body) == read_whole(body)


@given(answer=answers, place=st.integers(min_value=0), damage=st.binary(max_size=4), lost=st.integers(0, 4))
@example(answer={"images": ["001=0"]}, place=0, damage=b"", lost=0)
@example(answer={"images": ["0000", "01=="]}, place=0, damage=b"", lost=0)
def test_damaged_answers(answer: object, place: int, damage: bytes, lost: int) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    place %= len(body) + 1
    broken = body[:place] + damage + body[place + lost :]
    assert outcome(broken) == read_whole(broken)


@given(answer=answers, place=st.integers(min_value=0))
def test_answers_that_end_early(answer: object, place: int) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    body = body[: place % (len(body) + 1)]
    assert outcome(body) == read_whole(body)


ODD = {
    "an escaped slash": b'{"images":["' + TEXT.replace(b"/", b"\\/") + b'"],"info":""}',
    "an escaped letter": b'{"images":["\\u0051UJD"],"info":""}',
    "another order": b'{"info":"","images":["' + TEXT + b'"]}',
    "images twice": b'{"images":["QUJD"],"images":["' + TEXT + b'"]}',
    "images twice, escaped": b'{"images":["QUJD"],"im\\u0061ges":["' + TEXT + b'"]}',
    "images alone": b'{"images":["' + TEXT + b'"]}',
    "a comma too many": b'{"images":["' + TEXT + b'"],}',
    "two commas": b'{"images":["' + TEXT + b'"],,"info":""}',
    "no comma": b'{"images":["' + TEXT + b'"]"info":""}',
    "no bracket": b'{"images":["' + TEXT + b'","info":""}',
    "no brace": b'{"images":["' + TEXT + b'"],"info":""',
    "more after it": b'{"images":["' + TEXT + b'"],"info":""}}',
    "more after images alone": b'{"images":["' + TEXT + b'"]} x',
    "blanks after it": b'{"images":["' + TEXT + b'"]} \r\n\t',
    "null beside a picture": b'{"images":["' + TEXT + b'",null],"info":""}',
    "no string first": b'{"images":[5,"' + TEXT + b'"],"info":""}',
    "a data URI second": b'{"images":["QUJD","data:image/png;base64,' + TEXT + b'"],"info":""}',
    "no base64 after base64": b'{"images":["' + TEXT + b"!" + TEXT + b'"],"info":""}',
    "padding in the middle": b'{"images":["QQ==' + TEXT + b'"],"info":""}',
    "too much padding": b'{"images":["QUJD===="],"info":""}',
    "too little": b'{"images":["QQ="],"info":""}',
    "a line break": b'{"images":["QUJD\nQUJD"],"info":""}',
    "no picture": b'{"images":[],"info":""}',
    "an empty one": b'{"images":["","QUJD"],"info":""}',
    "a thousand blanks": b"{" + b" " * 1000 + b'"images":["' + TEXT + b'"]}',
    "a byte order mark": b'\xef\xbb\xbf{"images":["QUJD"]}',
    "no UTF-8": b'{"images":["QUJD"],"info":"\xff"}',
    "nothing": b"",
    "a list": b'[{"images":["QUJD"]}]',
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_odd_answers(body: bytes) -> None:
    assert outcome(body) == read_whole(body)


def test_images_are_decoded_beforehand() -> None:
    body = b'{"images": ["' + TEXT + b'", "' + TEXT + b'"], "parameters": {}, "info": "{}"}'
    assert read_object(body) == {"images": [PICTURE, PICTURE], "parameters": {}, "info": "{}"}


def test_many_empty_images_take_no_time() -> None:
    body = b'{"images":[' + b",".join([b'""'] * 100_000) + b'],"info":""}'
    assert outcome(body) == read_whole(body)


def test_a_result_is_held_once_beside_its_image() -> None:
    """Its base64 as a separate text would be a third time."""
    picture = bytes(6_000_000)
    body = b'{"images":["' + base64.b64encode(picture) + b'"],"info":""}'
    tracemalloc.start()
    try:
        result = read_object(body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result["images"] == [picture]
    assert most < 1.1 * len(picture)


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
