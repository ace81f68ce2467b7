"""Base64 and data URIs."""

import base64
import textwrap

import pytest

from services.picture_formats import PictureError
from services.pictures import decode_base64
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


URL, PATH, ALPHABET, URI = (
    "URLs are not fetched",
    "file paths are not read",
    "not the URL-safe one",
    "data URI must have",
)
REFUSED = {
    "http": ("http://example.org/secret.png", URL),
    "https": ("https://example.org/secret.png", URL),
    "https after white space": (" \nHTTPS://example.org/secret.png", URL),
    "without a scheme": ("//example.org/secret.png", URL),
    "ftp": ("ftp://example.org/secret.png", URL),
    "file URL": ("file:///etc/secret", URL),
    "blob": ("blob:https://example.org/secret", URL),
    "absolute path": ("/etc/secrets", PATH),
    "path of base64 letters": ("/home/secret/a", PATH),
    "relative path": ("./secret.png", PATH),
    "parent path": ("../../secret", PATH),
    "home path": ("~/secret.png", PATH),
    "file name": ("secret.png", PATH),
    "Windows path": ("C:\\Users\\secret.png", PATH),
    "network path": ("\\\\server\\secret.png", PATH),
    "URL-safe alphabet": ("secret-_" * 4, "standard alphabet"),
    "no comma": ("data:image/png;base64", URI),
    "not base64": ("data:image/png,secret", URI),
    "percent-encoded": ("data:image/svg+xml;utf8,%3Csvg%20secret", URI),
    "empty": ("", "is empty"),
    "white space": (" \n", "is empty"),
    "empty data URI": ("data:image/png;base64,", "is empty"),
    "a letter too many": (TEXT + "A", "standard alphabet"),
    "cut padding": (base64.b64encode(b"secret!").decode().rstrip("="), "standard alphabet"),
    "padding within": ("c2Vj=cmV0", "standard alphabet"),
    "padding twice": ("AAAA====", "standard alphabet"),
    "JPEG of a cut base64": ("/9j/4AAQSkZJRgABA", "standard alphabet"),
    "percent signs": (TEXT.replace("=", "%3D") + "%3D", "standard alphabet"),
    "other letters": ("sécret==", "standard alphabet"),
    "NUL": ("c2Vj\0", "standard alphabet"),
    "lone surrogate": ("c2Vj\ud800", "standard alphabet"),
    "two data URIs": (f"data:image/png;base64,data:image/png;base64,{TEXT}", "standard alphabet"),
}


@pytest.mark.parametrize(("text", "complaint"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_a_reason_and_without_an_echo(text: str, complaint: str) -> None:
    with pytest.raises(PictureError, match=complaint) as caught:
        decode_base64(text)
    assert caught.value.received == f"{len(text)} characters"
    assert "secret" not in caught.value.message
    assert caught.value.message == str(caught.value)


@pytest.mark.parametrize("letter", ["/", "-", "a.", "a", "data:", " "])
def test_megabytes_of_nonsense_are_refused_promptly(letter: str) -> None:
    with pytest.raises(PictureError):
        decode_base64(letter * 2_000_000 + "!")
