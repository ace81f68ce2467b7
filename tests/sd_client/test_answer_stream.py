"""Both roads of an answer, decoded as it arrives or read whole, give the same for any answer however it is cut."""

from __future__ import annotations

import base64
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from sd_client.answer_stream import read_object
from sd_client.errors import InvalidAnswerError

PICTURE = bytes(range(256)) * 3
TEXT = base64.b64encode(PICTURE)


def pieces(body: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The body cut at these places; no piece is empty, as none is that comes from a socket."""
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return (body[start:end] for start, end in itertools.pairwise(places) if end > start)


def outcome(body: bytes, cuts: list[int]) -> object:
    try:
        return plain(read_object(pieces(body, cuts)))
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
cuts = st.lists(st.integers(min_value=0), max_size=6)


@given(answer=answers, shape=shapes, ascii_only=st.booleans(), cut=cuts)
def test_answers_as_servers_write_them(
    answer: object, shape: tuple[str, str], ascii_only: bool, cut: list[int]
) -> None:
    body = json.dumps(answer, separators=shape, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert outcome(body, cut) == read_whole(body)


@given(answer=json_values, shape=shapes, cut=cuts)
def test_any_json(answer: object, shape: tuple[str, str], cut: list[int]) -> None:
    body = json.dumps(answer, separators=shape).encode()
    assert outcome(body, cut) == read_whole(body)


@given(answer=answers, cut=cuts, place=st.integers(min_value=0), damage=st.binary(max_size=4), lost=st.integers(0, 4))
@example(answer={"images": ["001=0"]}, cut=[], place=0, damage=b"", lost=0)
@example(answer={"images": ["0000", "01=="]}, cut=[], place=0, damage=b"", lost=0)
def test_damaged_answers(answer: object, cut: list[int], place: int, damage: bytes, lost: int) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    place %= len(body) + 1
    broken = body[:place] + damage + body[place + lost :]
    assert outcome(broken, cut) == read_whole(broken)


@given(answer=answers, cut=cuts, place=st.integers(min_value=0))
def test_answers_that_end_early(answer: object, cut: list[int], place: int) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    body = body[: place % (len(body) + 1)]
    assert outcome(body, cut) == read_whole(body)


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
@pytest.mark.parametrize("size", [1, 3, 7, 64, 10_000])
def test_odd_answers(body: bytes, size: int) -> None:
    assert outcome(body, list(range(0, len(body), size))) == read_whole(body)


def test_pictures_are_decoded_on_the_way() -> None:
    body = b'{"images": ["' + TEXT + b'", "' + TEXT + b'"], "parameters": {}, "info": "{}"}'
    assert read_object([body]) == {"images": [PICTURE, PICTURE], "parameters": {}, "info": "{}"}


@pytest.mark.parametrize("count", [64, 65, 1000])
@pytest.mark.parametrize("text", [b"", TEXT])
def test_more_pictures_than_anybody_asks_for_are_read_by_an_ordinary_reader(count: int, text: bytes) -> None:
    body = b'{"images":[' + b",".join([b'"' + text + b'"'] * count) + b'],"info":""}'
    assert outcome(body, [10, 500]) == read_whole(body)
    kinds = {type(image) for image in read_object([body])["images"]}
    assert kinds == ({bytes} if count <= 64 else {str})


def test_base64_whose_bytes_would_be_encoded_otherwise_stays_as_it_is() -> None:
    assert read_object([b'{"images":["QR=="]}']) == {"images": ["QR=="]}
    assert read_object([b'{"images":["QR==",5]}']) == {"images": ["QR==", 5]}
    assert read_object([b'{"images":["QR==0"]}']) == {"images": ["QR==0"]}


def test_a_picture_is_held_once() -> None:
    """Twice the picture would be its base64 beside it, or pieces that are joined."""
    picture = bytes(6_000_000)
    body = b'{"images":["' + base64.b64encode(picture) + b'"],"info":""}'
    view = memoryview(body)
    tracemalloc.start()
    try:
        answer = read_object(bytes(view[start : start + 262_144]) for start in range(0, len(view), 262_144))
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer["images"] == [picture]
    assert held < 1.01 * len(picture)
    assert most < 1.4 * len(picture)
