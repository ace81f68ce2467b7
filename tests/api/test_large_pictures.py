"""A body is the same request whether its pictures are taken out before it is parsed or not."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest
from flask import Flask, Request
from werkzeug.test import EnvironBuilder

from api.body import read_values
from api.errors import MalformedRequestError
from api.large_pictures import take_out

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300
TEXT = base64.b64encode(PICTURE).decode()
JPEG = b"\xff\xd8\xff\xe0" + PICTURE
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
    "a JPEG": (f'{{"image":"{base64.b64encode(JPEG).decode()}"}}', {"image": JPEG}),
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
    assert values_of(body.encode()) == json.loads(body)


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


def test_a_field_that_is_there_again_and_again_is_looked_at_twice() -> None:
    assert take_out(f'{{"image":"","mask":"","image":"","mask":"{TEXT}"}}'.encode()) is None
    assert take_out(f'{{"image":"","mask":"{TEXT}"}}'.encode()) is not None


def test_no_text_is_made_of_a_picture() -> None:
    picture = bytes(3_000_000)
    body = b'{"image":"' + base64.b64encode(picture) + b'"}'
    tracemalloc.start()
    try:
        short = take_out(body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert short is not None
    assert short.pictures["image"][1] == picture
    assert most < 1.1 * len(picture)
