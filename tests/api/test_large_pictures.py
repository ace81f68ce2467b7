"""A body is the same request whether its pictures are taken out before it is parsed or not."""

from __future__ import annotations

import base64
import contextlib
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from flask import Flask, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder

from api.body import PIECE_BYTES, read_values
from api.errors import MalformedRequestError
from api.large_pictures import take_out
from api.schemas import FIELDS
from api.schemas.picture_fields import PICTURE_FIELDS
from services.masks import Mask
from services.pictures import Picture

#: Its base64 comes in more than one piece.
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1000
TEXT = base64.b64encode(PICTURE).decode()
JPEG = b"\xff\xd8\xff\xe0" + PICTURE
JPEG_TEXT = base64.b64encode(JPEG).decode()
URI = f"data:image/png;base64,{TEXT}"


def values_of(body: bytes) -> Any:
    """The fields, or what is said about the body."""
    builder = EnvironBuilder(method="POST", data=body, content_type="application/json")
    with Flask(__name__).request_context(builder.get_environ()):
        try:
            return read_values(Request(builder.get_environ()), "inpainting")[0]
        except MalformedRequestError as error:
            return str(error)


TAKEN = {
    "bare": (f'{{"prompt":"a","image":"{TEXT}","seed":7}}', {"image": PICTURE}),
    "spaced": (f'{{ "image" : \n "{TEXT}" , "prompt": "\\"image\\": \\"x\\"" }}', {"image": PICTURE}),
    "a data URI": (f'{{"image":"{URI}"}}', {"image": PICTURE}),
    "a JPEG": (f'{{"image":"{JPEG_TEXT}"}}', {"image": JPEG}),
    "with a mask": (f'{{"mask":"{TEXT}","image":"{URI}"}}', {"image": PICTURE, "mask": PICTURE}),
    "beside a small one": (f'{{"mask":"QUJD","image":"{TEXT}"}}', {"image": PICTURE, "mask": "QUJD"}),
}


@pytest.mark.parametrize(("body", "pictures"), TAKEN.values(), ids=TAKEN)
def test_pictures_come_as_bytes(body: str, pictures: dict[str, object]) -> None:
    expected = json.loads(body) | pictures
    assert values_of(body.encode()) == expected


LEFT = {
    "small": '{"image":"QUJD"}',
    "escaped": f'{{"image":"{TEXT[:-8]}\\u0051{TEXT[-7:]}"}}',
    "escaped slashes": json.dumps({"image": TEXT + "/" * 4}).replace("/", "\\/"),
    "with line breaks": json.dumps({"image": "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76))}),
    "no base64": f'{{"image":"{TEXT}!"}}',
    "another alphabet": f'{{"image":"{TEXT[:-4]}-_--"}}',
    "a path": f'{{"image":"/home/{TEXT}"}}',
    "a field of another name": f'{{"picture":"{TEXT}"}}',
    "deeper": f'{{"image":{{"image":"{TEXT}"}}}}',
    "deeper beside it": f'{{"a":{{"mask":"{TEXT}"}},"image":"{TEXT}"}}',
    "in a list": f'{{"a":[{{"image":"{TEXT}"}}]}}',
    "as text": json.dumps({"prompt": f'"image":"{TEXT}"'}),
}


@pytest.mark.parametrize("body", LEFT.values(), ids=LEFT)
def test_what_is_unusual_is_parsed_as_ever(body: str) -> None:
    assert values_of(body.encode()) == without_inside(json.loads(body))


def without_inside(values: dict[str, object]) -> dict[str, object]:
    """Of an object or a list in a large body it is kept that it is one."""
    kept = {dict: lambda value: dict.fromkeys(value), list: lambda value: [None] * len(value)}
    return {name: kept.get(type(value), lambda value: value)(value) for name, value in values.items()}


BROKEN = {
    "twice": (f'{{"image":"{TEXT}","image":"{TEXT}"}}', "the body names 'image' twice"),
    "twice, one is small": (f'{{"image":"{TEXT}","image":"QUJD"}}', "the body names 'image' twice"),
    "twice, escaped": (f'{{"im\\u0061ge":"QUJD","image":"{TEXT}"}}', "the body names 'image' twice"),
    "cut off": (f'{{"image":"{TEXT}', "the body is not JSON: Unterminated string"),
    "cut off behind it": (f'{{"image":"{TEXT}"', "the body is not JSON: Expecting ',' delimiter: "),
    "a list": (f'[{{"image":"{TEXT}"}}]', "the body must be a JSON object"),
    "a comma too many": (f'{{"image":"{TEXT}",}}', "the body is not JSON: "),
    "no number": (f'{{"image":"{TEXT}","seed":NaN}}', "the body is not JSON: NaN is not a JSON number"),
}


@pytest.mark.parametrize(("body", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_told_as_ever(body: str, said: str) -> None:
    told = values_of(body.encode())
    assert told.startswith(said.removesuffix(": "))


def test_the_place_of_a_fault_is_that_in_the_body_that_was_sent() -> None:
    body = f'{{"image":"{TEXT}" "seed":7}}'
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(body)
    assert values_of(body.encode()).endswith(f"line 1 column {caught.value.colno}")


@pytest.mark.parametrize("told", [True, False], ids=["with its length", "chunked"])
@pytest.mark.parametrize("room", [1, 0, -1])
def test_a_body_may_be_as_large_as_bodies_may_be(told: bool, room: int) -> None:
    body = f'{{"image":"{TEXT}"}}'.encode()
    environ = EnvironBuilder(method="POST", data=body, content_type="application/json").get_environ()
    environ["wsgi.input_terminated"] = True
    if not told:
        del environ["CONTENT_LENGTH"]
    request = Request(environ)
    request.max_content_length = len(body) + room
    if room < 0:
        with pytest.raises(RequestEntityTooLarge):
            read_values(request, "img2img")
    else:
        assert read_values(request, "img2img")[0] == {"image": PICTURE}


def test_every_picture_field_may_be_large() -> None:
    fields = {
        name
        for model in FIELDS.values()
        for name, field in model.model_fields.items()
        if field.annotation in (Picture, Mask)
    }
    assert fields == set(PICTURE_FIELDS)


def in_pieces(body: bytes, sizes: Sequence[int] = (PIECE_BYTES,)) -> Iterator[bytes]:
    """Of these sizes in turn, the last one again and again."""
    at, coming = 0, iter(sizes)
    size = sizes[0]
    while at < len(body):
        size = next(coming, size)
        yield body[at : at + size]
        at += size


def test_bits_behind_the_last_byte_are_told_as_ever() -> None:
    """Decoded and encoded again it would be another text; what is wrong with it is said elsewhere."""
    body = f'{{"image":"{TEXT[:-4]}QR=="}}'
    assert values_of(body.encode()) == json.loads(body)


def test_padding_where_a_piece_ends_is_none() -> None:
    text = "A" * 400_000
    for padded in (f"{text[:99_998]}=={text}", f"{text[:99_999]}={text}"):
        for begin in range(4):
            head = " " * begin + '{"image":"'
            body = f'{head}{padded}"}}'
            short = take_out(in_pieces(body.encode(), [len(head) + 100_000]))
            assert (short.text, short.pictures) == (body.encode(), {})


def test_a_field_that_is_there_again_and_again_is_looked_at_twice() -> None:
    assert not take_out([f'{{"image":"","mask":"","image":"","mask":"{TEXT}"}}'.encode()]).pictures
    assert take_out([f'{{"image":"","mask":"{TEXT}"}}'.encode()]).pictures


def test_a_beginning_may_be_cut_in_two() -> None:
    head = '{"prompt":"a", "image" : "data:image/png;base64,'
    body = f'{head}{TEXT}"}}'.encode()
    for first in range(1, len(head) + 4):
        assert take_out(in_pieces(body, [first, PIECE_BYTES])).pictures == {"image": PICTURE}
    path = f'{{"image":"/{TEXT}"}}'.encode()
    for first in range(8, 14):
        assert not take_out(in_pieces(path, [first, PIECE_BYTES])).pictures


#: Pieces of bodies: such as belong there, and such as do not.
PARTS = st.sampled_from(
    [
        *('"image"', '"mask"', '"prompt"', ":", ",", "{", "}", "[", "]", '"', '"a"', " ", "\n", "\\", "=", "/", "1"),
        *('"image":"', '","mask":"', "data:image/png;base64,", "data:", '"}', '{"image":"', "é", "/9j/"),
        *(TEXT[:66_000], TEXT[:65_537], TEXT[:65_536], TEXT[-66_000:], JPEG_TEXT[:70_000], "QUJD", "QQ==", "QR=="),
    ]
)
BODIES = st.one_of(
    st.lists(PARTS, max_size=12).map("".join),
    st.sampled_from([body for body, _ in TAKEN.values()] + list(LEFT.values())),
    st.tuples(PARTS, PARTS, PARTS).map(lambda parts: '{{"image":"{}{}","mask":"{}"}}'.format(*parts)),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    body=BODIES,
    sizes=st.lists(st.sampled_from([1, 3, 10, 255, 4096, 65_536, 65_537, PIECE_BYTES]), min_size=1, max_size=40),
    last=st.sampled_from([4096, 65_535, PIECE_BYTES]),
    told=st.none() | st.integers(0, 500_000),
)
def test_however_it_comes_it_is_the_same_body(body: str, sizes: list[int], last: int, told: int | None) -> None:
    data = body.encode()
    short = take_out(in_pieces(data, [*sizes, last]), size=told)
    assert short.whole() == data
    values = parsed(short.text)
    if isinstance(values, dict) and short.put_back(values):
        expected = parsed(data)
        assert values.keys() == expected.keys()
        for field, value in expected.items():
            assert values[field] == (base64.b64decode(base64_of(value)) if field in short.pictures else value)
    elif values is None:
        assert parsed(data) is None


def parsed(body: bytes) -> Any:
    """None for what is no JSON."""
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(body)


def base64_of(text: str) -> str:
    return text.rpartition(",")[2]


@pytest.mark.parametrize("told", [None, 0, 60_000_000])
def test_memory_follows_what_has_come_and_not_what_was_told(told: int | None) -> None:
    """Those who tell much and send little would hold it."""
    body = f'{{"image":"{TEXT}'.encode()

    def then_a_look(body: bytes) -> Iterator[bytes]:
        yield from in_pieces(body)
        looks.append(tracemalloc.get_traced_memory()[0])

    looks: list[int] = []
    tracemalloc.start()
    try:
        assert take_out(then_a_look(body), size=told).text == body
    finally:
        tracemalloc.stop()
    assert looks[0] < 5_000_000
