"""A JSON body: its fields as a strict parser has them, however it arrives, and refused where it costs too much."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder

from api.body import PIECE_BYTES, JsonKind, read_json, read_values
from api.errors import MalformedRequestError, PayloadTooLargeError
from api.schemas import FIELDS
from api.schemas.picture_fields import PICTURE_FIELDS
from services.masks import Mask
from services.pictures import Picture
from services.problems import InvalidParamsError

#: Its base64 comes in more than one piece.
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1000
TEXT = base64.b64encode(PICTURE).decode()
URI_HEAD = "data:image/png;base64,"
URI = URI_HEAD + TEXT
#: Far less than the picture's text.
MOST_TEXT = 1000


def values_of(body: bytes) -> Any:
    """The fields, or what is said about the body."""
    builder = EnvironBuilder(method="POST", data=body, content_type="application/json")
    with Flask(__name__).request_context(builder.get_environ()):
        try:
            return read_values(Request(builder.get_environ()), "inpainting")[0]
        except MalformedRequestError as error:
            return str(error)


def in_pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def as_texts(values: dict[str, object]) -> dict[str, object]:
    """Of a large picture its bytes may come, for its base64 or its data URI."""
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else str(value).removeprefix(URI_HEAD)
        for name, value in values.items()
    }


APART = {
    "another alphabet": f'{{"image":"{TEXT[:-4]}-_--"}}',
    "a path": f'{{"image":"/home/{TEXT}"}}',
    "escaped slashes": json.dumps({"image": TEXT + "/" * 4}).replace("/", "\\/"),
    "deeper": f'{{"image":{{"image":"{TEXT}"}}}}',
    "deeper beside it": f'{{"a":{{"mask":"{TEXT}"}},"image":"QUJD"}}',
    "in a list": f'{{"a":[{{"image":"{TEXT}"}}]}}',
}


@pytest.mark.parametrize("body", APART.values(), ids=APART)
def test_what_is_not_a_fields_base64_is_not_taken_for_it(body: str) -> None:
    values = values_of(body.encode())
    assert values.keys() == json.loads(body).keys()
    assert bytes not in map(type, values.values())


WITHIN = {
    "bare": f'{{"prompt":"a","image":"{TEXT}","seed":7}}',
    "spaced": f'{{ "image" : \n "{TEXT}" , "prompt": "\\"image\\": \\"x\\"" }}',
    "a data URI": f'{{"image":"{URI}"}}',
    "with a mask": f'{{"mask":"{TEXT}","image":"{URI}"}}',
    "beside a small one": f'{{"mask":"QUJD","image":"{TEXT}"}}',
    "escaped": f'{{"image":"{TEXT[:-8]}\\u0051{TEXT[-7:]}"}}',
    "with line breaks": json.dumps({"image": "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76))}),
    "no base64": f'{{"image":"{TEXT}!"}}',
    "not closed": f'{{"image":"{TEXT}',
}
BEYOND = {
    "a field of another name": f'{{"picture":"{TEXT}"}}',
    "a prompt": f'{{"prompt":"{TEXT}"}}',
    "behind a picture": f'{{"image":"QUJD","prompt":"{TEXT}"}}',
    "a list": f'{{"image":["{TEXT}"]}}',
    "blanks": '{"image":"QUJD"' + " " * len(TEXT),
    "again and again": "{" + '"image":"QUJD",' * 1000,
    "as text": json.dumps({"prompt": f'"image":"{TEXT}"'}),
    "behind an escaped quote": f'{{"image":"\\"{TEXT}"}}',
}


@pytest.mark.parametrize("size", [1, 7, 300, PIECE_BYTES])
@pytest.mark.parametrize("body", WITHIN.values(), ids=WITHIN)
def test_pictures_are_no_text(body: str, size: int) -> None:
    try:
        expected = json.loads(body)
    except json.JSONDecodeError:
        with pytest.raises(MalformedRequestError):
            read_json(in_pieces(body.encode(), size), most_text=MOST_TEXT)
        return
    assert as_texts(read_json(in_pieces(body.encode(), size), most_text=MOST_TEXT)) == as_texts(expected)


@pytest.mark.parametrize("size", [1, 7, 300, PIECE_BYTES])
@pytest.mark.parametrize("body", BEYOND.values(), ids=BEYOND)
def test_more_text_than_any_request_needs(body: str, size: int) -> None:
    with pytest.raises(PayloadTooLargeError):
        read_json(in_pieces(body.encode(), size), most_text=MOST_TEXT)


def test_it_is_refused_before_all_of_it_has_arrived() -> None:
    pieces = in_pieces(b'{"prompt":[' + b"[]," * 100_000, 100)
    with pytest.raises(PayloadTooLargeError):
        read_json(pieces, most_text=MOST_TEXT)
    assert sum(map(len, pieces)) > 290_000, "what was left to be read"


#: Pieces of bodies: such as belong there, and such as do not.
PARTS = st.sampled_from(
    [
        *('"image"', '"mask"', '"prompt"', ":", ",", "{", "}", "[", "]", '"', '"a"', " ", "\n", "\\", "=", "/", "1"),
        *('"image":"', '","mask":"', "data:image/png;base64,", '"}', '{"image":"', "é", "QUJD", TEXT[:1200]),
    ]
)


@given(parts=st.lists(PARTS, max_size=16), size=st.integers(1, 400))
def test_whatever_arrives_is_parsed_or_refused(parts: list[str], size: int) -> None:
    """Nothing that a parser takes for more than a string of a picture may be larger than the bound."""
    body = "".join(parts)
    try:
        values = read_json(in_pieces(body.encode(), size), most_text=MOST_TEXT)
    except (MalformedRequestError, PayloadTooLargeError):
        return
    assert values.keys() == json.loads(body).keys()
    beside = {name: value for name, value in values.items() if name not in PICTURE_FIELDS}
    assert len(json.dumps(beside)) < 2 * MOST_TEXT


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
def test_what_is_wrong_with_a_body_is_said(body: str, said: str) -> None:
    found = values_of(body.encode())
    assert found.startswith(said.removesuffix(": "))


def test_the_place_of_a_fault_is_that_in_the_body_that_was_sent() -> None:
    body = f'{{"image":"{TEXT}" "seed":7}}'
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(body)
    assert values_of(body.encode()).endswith(f"line 1 column {caught.value.colno}")


@pytest.mark.parametrize("expected", [True, False], ids=["with its length", "chunked"])
@pytest.mark.parametrize("room", [1, 0, -1])
def test_a_body_may_be_as_large_as_bodies_may_be(expected: bool, room: int) -> None:
    body = f'{{"image":"{TEXT}"}}'.encode()
    environ = EnvironBuilder(method="POST", data=body, content_type="application/json").get_environ()
    environ["wsgi.input_terminated"] = True
    if not expected:
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


#: What A1111's programs send: a picture may be the one entry of a list, and other fields have lists and objects.
NESTED = JsonKind(pictures=("init_images", "mask"), flat=False)

WITHIN_NESTED = {
    "in a list": f'{{"init_images":["{TEXT}"],"seed":7}}',
    "spaced": f'{{ "init_images" : [ \n "{URI}" ] , "mask" : "{TEXT}"}}',
    "with lists and objects": f'{{"styles":["a",{{"b":[]}}],"init_images":["{TEXT}"],"override_settings":{{"x":[1]}}}}',
    "not in a list": f'{{"init_images":"{TEXT}","mask":["{TEXT}"]}}',
    "with a small one behind": f'{{"init_images":["{TEXT}","QUJD"]}}',
    "empty": '{"init_images":[],"mask":null}',
    "small": '{"init_images":["QUJD"]}',
    "no base64": f'{{"init_images":["{TEXT}!"]}}',
    "cut off": f'{{"init_images":["{TEXT}"',
    "deeper": f'{{"init_images":[["{TEXT[:500]}"]]}}',
}


def as_nested_texts(value: Any) -> Any:
    """Of a large picture its bytes may come, for its base64 or its data URI."""
    if isinstance(value, list):
        return [as_nested_texts(entry) for entry in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.removeprefix(URI_HEAD) if isinstance(value, str) else value


@pytest.mark.parametrize("size", [1, 300, PIECE_BYTES])
@pytest.mark.parametrize("body", WITHIN_NESTED.values(), ids=WITHIN_NESTED)
def test_pictures_in_lists_are_no_text(body: str, size: int) -> None:
    try:
        expected = json.loads(body)
    except json.JSONDecodeError:
        with pytest.raises(MalformedRequestError):
            read_json(in_pieces(body.encode(), size), most_text=MOST_TEXT, kind=NESTED)
        return
    found = read_json(in_pieces(body.encode(), size), most_text=MOST_TEXT, kind=NESTED)
    assert {name: as_nested_texts(value) for name, value in found.items()} == {
        name: as_nested_texts(value) for name, value in expected.items()
    }


def test_a_large_picture_in_a_list_is_decoded_before_the_rest_is_parsed() -> None:
    body = f'{{"init_images":["{TEXT}"],"mask":"{URI}"}}'.encode()
    assert read_json([body], most_text=MOST_TEXT, kind=NESTED) == {"init_images": [PICTURE], "mask": PICTURE}


def test_several_pictures_are_refused_as_that() -> None:
    for second in (TEXT, "QUJD" * 1000):
        body = f'{{"init_images":["{TEXT}" , "{second}"]}}'.encode()
        with pytest.raises(InvalidParamsError, match="init_images: must have exactly one picture"):
            read_json(in_pieces(body, 300), most_text=MOST_TEXT, kind=NESTED)


BEYOND_NESTED = {
    "another field": f'{{"junk":["{TEXT}"]}}',
    "behind the picture": f'{{"init_images":["QUJD"],"junk":"{TEXT}"}}',
    "the service's own name": f'{{"image":"{TEXT}"}}',
    "blanks": '{"init_images":' + " " * 10_000 + "[" + " " * 10_000 + '"QUJD"]}',
}


@pytest.mark.parametrize("body", BEYOND_NESTED.values(), ids=BEYOND_NESTED)
def test_more_than_any_request_needs_beside_pictures_in_lists(body: str) -> None:
    with pytest.raises(PayloadTooLargeError, match="'init_images' and 'mask'"):
        read_json(in_pieces(body.encode(), 300), most_text=MOST_TEXT, kind=NESTED)


def test_blanks_take_no_time() -> None:
    """A pattern that looks at each of them again and again would take minutes."""
    body = b'{"init_images":' + b" " * 1_000_000 + b"}"
    begun = time.process_time()
    with pytest.raises(MalformedRequestError):
        read_json([body], most_text=2_000_000, kind=NESTED)
    assert time.process_time() - begun < 5
