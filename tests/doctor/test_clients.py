"""What a person is to paste into a program that speaks another API."""

from __future__ import annotations

import pytest

from config import Config
from doctor.clients import check


@pytest.mark.parametrize(
    ("given", "pasted"),
    [
        ({}, "http://localhost:5002 (AUTOMATIC1111's API), http://localhost:5002/v1 (OpenAI's API)"),
        ({"HOST": "127.0.0.1", "PORT": "81", "DOORS": "a1111"}, "http://localhost:81 (AUTOMATIC1111's API)"),
        ({"HOST": "192.0.2.7", "DOORS": "openai"}, "http://192.0.2.7:5002/v1 (OpenAI's API)"),
        ({"HOST": "2001:db8::1", "DOORS": "openai"}, "http://[2001:db8::1]:5002/v1 (OpenAI's API)"),
        ({"PUBLIC_URL": "https://a.example/", "DOORS": "openai"}, "https://a.example/v1 (OpenAI's API)"),
        ({"PUBLIC_URL": "https://a.example/ai", "DOORS": "a1111"}, "https://a.example/ai (AUTOMATIC1111's API)"),
    ],
)
def test_the_addresses_of_what_is_open(given: dict[str, str], pasted: str) -> None:
    (found,) = check(Config.from_env(given))
    assert (found.level, found.subject, found.text) == ("ok", "clients", f"paste into other programs: {pasted}")


def test_nothing_where_nothing_is_open() -> None:
    (found,) = check(Config.from_env({"DOORS": "none"}))
    assert (found.level, found.text) == ("ok", "DOORS is none: only the service's own API")
