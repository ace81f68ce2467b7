"""Forms as real clients write them: pictures with and without a file's name, as bytes and as text."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from api.errors import MalformedRequestError, PayloadTooLargeError
from api.forms import MOST_PARTS, read_form
from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import BOUNDARY, FORM, MASK, PNG, form, part, text
from tests.running import PREFIX
from tests.services import picture_samples as samples

PROMPT = part("prompt", b"a harbour"), part("steps", b"1")
JPEG = samples.encode(samples.gradient(64, 64), "JPEG")


def headed(name: str, value: bytes, *headers: str) -> bytes:
    """A part without a file's name, with other headers."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n' + "".join(f"{h}\r\n" for h in headers)
    return head.encode() + b"\r\n" + value + b"\r\n"


#: How clients send the same PNG.
PICTURES = {
    "a file": part("image", PNG, "a.png"),
    "a file with an empty name": part("image", PNG, "a.png").replace(b'"a.png"', b'""'),
    "bytes without a file name": part("image", PNG),
    "bytes with a type": headed("image", PNG, "Content-Type: image/png"),
    "bytes with another type": headed("image", PNG, "Content-Type: text/plain; charset=utf-8"),
    "bytes with a length": headed("image", PNG, f"Content-Length: {len(PNG)}"),
    "base64 as text": part("image", text(PNG).encode()),
    "a data URI as text": part("image", f"data:image/png;base64,{text(PNG)}".encode()),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_taken_as_the_file_that_it_is(client: FlaskClient, simulator: Simulator, name: str) -> None:
    answer = client.post(f"{PREFIX}/img2img", data=form(*PROMPT, PICTURES[name]), content_type=FORM)

    assert answer.status_code == 200, answer.text
    assert json.loads(simulator.generations[0].body)["init_images"] == [text(PNG)]


def test_a_mask_and_a_jpeg_without_names(client: FlaskClient) -> None:
    body = form(*PROMPT, part("image", JPEG), part("mask", MASK))
    assert client.post(f"{PREFIX}/inpainting", data=body, content_type=FORM).status_code == 200


def test_bytes_that_are_no_picture_are_told_as_such(client: FlaskClient) -> None:
    body = form(*PROMPT, part("image", b"\xff\xfe\x00 no picture"))
    (error,) = problem_of(client.post(f"{PREFIX}/img2img", data=body, content_type=FORM))["errors"]
    assert error["received"] == "unknown format, 14 bytes"


def test_a_replacement_character_that_was_sent_is_one(client: FlaskClient, simulator: Simulator) -> None:
    body = form(part("prompt", "a \ufffd".encode()), part("steps", b"1"))
    assert client.post(f"{PREFIX}/txt2img", data=body, content_type=FORM).status_code == 200
    assert json.loads(simulator.generations[0].body)["prompt"] == "a \ufffd"


def read(body: bytes, size: int, most_text: int = 1000) -> tuple[dict[str, str], dict[str, bytes]]:
    def pieces() -> Iterator[bytes]:
        yield from (body[at : at + size] for at in range(0, len(body), size))

    read_ = read_form(pieces(), BOUNDARY, piece_bytes=size, most_text=most_text)
    assert read_.problems == []
    return read_.texts, read_.files


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
def test_however_it_is_cut_it_is_the_same_form(size: int) -> None:
    tricky = PNG + b"\r\n--the-boundar\r\n--\r\n\r" * 3
    body = form(part("prompt", "é\r\n".encode()), part("image", tricky, "a.png"), part("mask", MASK))
    assert read(body, size) == ({"prompt": "é\r\n"}, {"image": tricky, "mask": MASK})


def test_text_is_bounded_and_pictures_are_not() -> None:
    assert read(form(part("image", PNG * 100), part("prompt", b"a" * 900)), 4096)[1] == {"image": PNG * 100}
    with pytest.raises(PayloadTooLargeError, match="besides the pictures"):
        read(form(part("prompt", b"a" * 1001)), 4096)
    with pytest.raises(PayloadTooLargeError, match="besides the pictures"):
        read(form(*(part("a" * 300 + str(number), b"") for number in range(4))), 4096)


def test_parts_are_counted_while_they_come() -> None:
    def endless() -> Iterator[bytes]:
        for number in range(10 * MOST_PARTS):
            assert number <= 2 * MOST_PARTS, "it reads on"
            yield part(f"image{number}", b"")

    with pytest.raises(PayloadTooLargeError, match="more than 100 parts"):
        read_form(endless(), BOUNDARY, piece_bytes=4096, most_text=10**6)


@pytest.mark.parametrize("endless", [b"a", b"--the-boundary\r\nX-A: ", b"\r\n--the"])
def test_what_is_no_part_is_not_collected(endless: bytes) -> None:
    pieces = (b"--the-boundary\r\nX: " if number == 0 else endless * 100 for number in range(100_000))
    with pytest.raises(MalformedRequestError):
        read_form(pieces, BOUNDARY, piece_bytes=4096, most_text=10**6)
    assert next(pieces, None) is not None
