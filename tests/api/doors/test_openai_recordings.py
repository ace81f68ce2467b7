"""What real programs sent, where the recordings stand beside the project: accepted, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.bad_inputs import BOUNDARY, PNG
from tests.api.doors.openai_requests import HOLED, error_of
from tests.running import ROOT, service_in_process

RECORDINGS = ROOT.parent / "shared" / "recordings" / "clients"

#: Names that are fixed in programs, or were made up for a recording.
FOREIGN = ("gpt-image-1", "gpt-image-2", "dall-e-2", "dall-e-3", "m")

#: Recordings of what is not there, and a word that the sentence must have.
REFUSED = {
    "openai_edit_background": "background",
    "compatible_generate_options": "cannot be combined with steps",
    "variation": "there is nothing at this path",
}


def recorded() -> Iterator[Any]:
    """Each different request to ``/v1``, once."""
    seen = set()
    for file in sorted(RECORDINGS.glob("*/*.json")):
        for request in json.loads(file.read_text())["requests"]:
            key = json.dumps([request["method"], request["path"], request["body"], *_kind(request)])
            if request["path"].startswith("/v1") and key not in seen:
                seen.add(key)
                yield pytest.param(file.stem, request, id=f"{file.parent.name}-{file.stem}")


def _kind(request: dict[str, Any]) -> list[str]:
    return [value.partition(";")[0] for name, value in request["headers"].items() if name.lower() == "content-type"]


@pytest.fixture(scope="module")
def client(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    aliases = ",".join(f"{name}=v1-5-pruned-emaonly" for name in FOREIGN)
    settings = {"SD_MODEL_ALIASES": aliases, "PUBLIC_URL": "https://pictures.example"}
    app: Flask
    with service_in_process(tmp_path_factory.mktemp("service"), shared_simulator.url, **settings) as app:
        yield app.test_client()


def sent(client: FlaskClient, request: dict[str, Any]) -> Any:
    headers = {
        name: value for name, value in request["headers"].items() if name.lower() not in ("content-length", "host")
    }
    headers = {name: value for name, value in headers.items() if name.lower() != "transfer-encoding"}
    body = request["body"]
    data = None if body is None else _form(body["multipart"]) if "multipart" in body else json.dumps(body).encode()
    if body is not None and "multipart" in body:
        headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    return client.open(request["path"], method=request["method"], data=data, headers=headers)


def _form(pieces: list[dict[str, str]]) -> bytes:
    body = b""
    for part in pieces:
        file = f'; filename="{part["filename"]}"' if "filename" in part else ""
        kind = f"Content-Type: {part['content_type']}\r\n" if "content_type" in part else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part["name"]}"{file}\r\n{kind}\r\n'
        value = part["value"].encode()
        if "filename" in part:
            value = HOLED if part["name"] == "mask" else PNG
        body += head.encode() + value + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not beside the project")
@pytest.mark.parametrize(("name", "request_"), list(recorded()))
def test_recorded(client: FlaskClient, name: str, request_: dict[str, Any]) -> None:
    answer = sent(client, request_)
    if name in REFUSED:
        assert REFUSED[name] in error_of(answer)["message"]
        return
    assert answer.status_code == 200, answer.text
    if (request_["body"] or {}).get("stream") or name == "edit_stream":
        assert answer.mimetype == "text/event-stream"
        assert ".completed" in answer.text
    elif request_["method"] == "POST":
        assert all(item.keys() & {"b64_json", "url"} for item in answer.get_json()["data"])
