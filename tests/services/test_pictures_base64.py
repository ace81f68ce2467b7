"""Base64 and data URIs."""

import base64
import textwrap
import time
import tracemalloc

import pytest

from services.base64_pictures import decode_base64
from services.picture_formats import PictureError
from tests.services import picture_samples as samples

PNG = samples.encode(samples.noise())
TEXT = base64.b64encode(PNG).decode()

ACCEPTED = {
    "bare": TEXT,
    "data URI": f"data:image/png;base64,{TEXT}",
    "data URI of another type": f"data:image/jpeg;base64,{TEXT}",
    "data URI without a type": f"data:;base64,{TEXT}",
    "data URI with a parameter": f"data:image/png;charset=utf-8;base64,{TEXT}",
    "data URI in capitals": f"DATA:image/png;BASE64,{TEXT}",
    "line breaks": textwrap.fill(TEXT, 76),
    "CRLF": TEXT[:76] + "\r\n" + TEXT[76:],
    "white space around": f"\n\t {TEXT} \n",
    "data URI with white space": f" data:image/png;base64, {TEXT[:40]} {TEXT[40:]}\n",
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(text: str) -> None:
    assert decode_base64(text) == PNG


URL, PATH, URI = ("URLs are not fetched", "file paths are not read", "a data URI must have")
STANDARD, TEXT_OF = "standard alphabet", "that were read as text"
REFUSED = {
    "http": ("http://example.org/secret.png", URL),
    "https": ("https://example.org/secret.png", URL),
    "https after white space": (" \nHTTPS://example.org/secret.png", URL),
    "without a scheme": ("//example.org/secret.png", URL),
    "ftp": ("ftp://example.org/secret.png", URL),
    "file URL": ("file:///etc/secret", URL),
    "Android's URL": ("content://media/external/secret", URL),
    "blob": ("blob:https://example.org/secret", "only in the page that made it"),
    "absolute path": ("/etc/secrets", PATH),
    "path of base64 letters": ("/home/secret/a", PATH),
    "relative path": ("./secret.png", PATH),
    "parent path": ("../../secret", PATH),
    "home path": ("~/secret.png", PATH),
    "file name": ("secret.png", PATH),
    "Windows path": ("C:\\Users\\secret.png", PATH),
    "network path": ("\\\\server\\secret.png", PATH),
    "value of a file input": ("C:\\fakepath\\secret.png", "the input's files"),
    "curl's file outside of -F": ("@secret.png", "only curl's -F reads"),
    "URL-safe alphabet": ("secret-_" * 4, "for each -, and / for each _"),
    "URL-safe alphabet without padding": ("secret-_ab", "for each -, and / for each _"),
    "no comma": ("data:image/png;base64", URI),
    "not base64": ("data:image/png,secret", URI),
    "SVG in a data URI": ("data:image/svg+xml;utf8,%3Csvg%20secret", URI),
    "without data:": (f"image/png;base64,{TEXT}", "without its beginning"),
    "of an empty canvas": ("data:,", "empty canvas"),
    "two data URIs": (f"data:image/png;base64,data:image/png;base64,{TEXT}", "twice; send it once"),
    "empty": ("", "is empty"),
    "white space": (" \n", "is empty"),
    "empty data URI": ("data:image/png;base64,", "is empty"),
    "a letter too many": (TEXT + "A", STANDARD),
    "a letter too few": (TEXT.rstrip("=")[:-1], "is cut off"),
    "cut padding": (base64.b64encode(b"secret!").decode().rstrip("="), "without its padding"),
    "padding within": ("c2Vj=cmV0", STANDARD),
    "padding twice": ("AAAA====", STANDARD),
    "JPEG of a cut base64": ("/9j/4AAQSkZJRgABA", "is cut off"),
    "percent signs": (TEXT.replace("=", "%3D") + "%3D", "percent-encoded"),
    "blanks for +": (TEXT.replace("+", " "), "spaces where \\+ should be"),
    "other letters": ("sécret==", STANDARD),
    "NUL": ("c2Vj\0", STANDARD),
    "lone surrogate": ("c2Vj\ud800", STANDARD),
    "an object": ("[object Object]", "JavaScript turned into text"),
    "a file object": ("[object File]", "JavaScript turned into text"),
    "Python's bytes": (f"b'{TEXT}'", "is how Python prints bytes"),
    "Python's bytes of a picture": (str(PNG), "is how Python prints bytes"),
    "Python's bytes cut off": (str(PNG)[:-1], "is how Python prints bytes"),
    "Python's object": ("<_io.BytesIO object at secret>", "turned into text"),
    "Python's picture": ("<PIL.Image.Image image mode=RGB>", "turned into text"),
    "undefined": ("undefined", "a missing value"),
    "None": ("None", "a missing value"),
    "JSON twice": (f'"{TEXT}"', "encoded as JSON twice"),
    "JSON in a text": ('{"secret": 1}', "is JSON inside a string"),
    "numbers": ("137,80,78,71,13,10,26,10,0,0,0,13", "a list of numbers"),
    "numbers in brackets": ("[137, 80, 78, 71]", "a list of numbers"),
    "hexadecimal": (PNG.hex(), "in hexadecimal"),
    "hexadecimal of a JPEG": ("FFD8FFE000104A46", "in hexadecimal"),
    "a PNG read as UTF-8": (PNG.decode("utf-8", "replace"), TEXT_OF),
    "a PNG read as Latin-1": (PNG.decode("latin-1"), TEXT_OF),
    "a JPEG read as UTF-8": (b"\xff\xd8\xff\xe0\0\x10JFIF\0".decode("utf-8", "replace"), TEXT_OF),
    "SVG": ("<svg xmlns='secret'>", "SVG or HTML"),
    "shortened": (TEXT[:40] + "...", "is shortened"),
    "line breaks written out": (TEXT[:76] + "\\n" + TEXT[76:], "backslashes"),
}


@pytest.mark.parametrize(("text", "complaint"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_a_reason_and_without_an_echo(text: str, complaint: str) -> None:
    with pytest.raises(PictureError, match=complaint) as caught:
        decode_base64(text)
    assert caught.value.received == f"{len(text)} characters"
    assert "secret" not in caught.value.message
    assert caught.value.message == str(caught.value)


@pytest.mark.parametrize("letter", ["/", "-", "a.", "a", "data:", " ", "a ", "%", "b'", "1,", "\ufffd", "\\", "["])
def test_megabytes_of_nonsense_are_refused_promptly(letter: str) -> None:
    begun = time.process_time()
    with pytest.raises(PictureError):
        decode_base64(letter * 2_000_000 + "!")
    assert time.process_time() - begun < 2


def test_white_space_costs_no_more_memory_than_its_text() -> None:
    text = "A " * 2_000_000 + "!"
    tracemalloc.start()
    try:
        with pytest.raises(PictureError):
            decode_base64(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * len(text)
