"""Whatever the fields hold, the answer is an image or a refusal in OpenAI's shape, and never a fault of the service."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.doors.openai_fields import KNOWN, PICTURES
from tests.api.bad_inputs import FORM, PNG, form, part, text
from tests.api.doors.openai_requests import error_of

NAMES = sorted({*KNOWN["edits"], "svg", "width", "batch_size", "zzz", "", "é"} - {"size", "prompt"})
#: Some are right for some field.
WORDS = [
    "auto",
    "low",
    "hd",
    "true",
    "url",
    "b64_json",
    "webp",
    "white",
    "whole",
    "7",
    "1.0",
    "1e400",
    "-0",
    "",
    "\x00",
    "\ud800",
]
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([*WORDS, text(PNG)]), st.text(max_size=20)
)
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=2), st.dictionaries(st.text(max_size=5), PLAIN, max_size=2))
CALM = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def judged(answer: Any) -> None:
    if answer.status_code == 200:
        assert answer.mimetype in ("application/json", "text/event-stream")
    else:
        error_of(answer)
        assert answer.status_code in (400, 404, 413), answer.text
    answer.close()


@CALM
@example(fields={"stream": True, "seed": 4294967295, "n": 2})
@example(fields={"loras": [{"name": None}]})
@given(fields=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_generations(client: FlaskClient, fields: dict[str, Any]) -> None:
    body = json.dumps({"prompt": "a", "size": "64x64", **fields})
    judged(client.post("/v1/images/generations", data=body, content_type="application/json"))


@CALM
@given(
    fields=st.dictionaries(
        st.sampled_from([name for name in NAMES if name]), st.text(max_size=20) | st.sampled_from(WORDS[:-1])
    ),
    pictures=st.dictionaries(
        st.sampled_from(PICTURES), st.sampled_from([PNG, PNG[:50], b"", text(PNG).encode()]), max_size=2
    ),
)
def test_edits(client: FlaskClient, fields: dict[str, str], pictures: dict[str, bytes]) -> None:
    texts = {"prompt": "a", "size": "64x64", **fields}
    pieces = [part(name, value.encode("utf-8", "replace")) for name, value in texts.items() if name not in pictures]
    pieces += [part(name, data, "p") for name, data in pictures.items()]
    judged(client.post("/v1/images/edits", data=form(*pieces), content_type=FORM))
