"""schemathesis makes requests from the description, right ones and wrong ones, and holds each answer against it.

Each operation is called with the examples, with the bounds of every field and parameter, and in chains of calls that
use what earlier ones answered; of an open service, and of one that asks for a key. ``make fuzz-api EXAMPLES=500`` also
tries random values, and tries longer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
import schemathesis.hooks
from flask import Flask
from hypothesis import strategies as st
from PIL import Image
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.schemas import BaseSchema

from api.schemas import root
from api.schemas.picture_fields import PICTURE_FIELDS
from simulator import Simulator
from tests.api.bad_inputs import SIZE, text
from tests.running import DEADLINE_S, running_service, service_in_process
from tests.services import picture_samples as samples

#: Random requests per operation, and chains of requests; in a short run chains alone. See also test_random_inputs.py.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
BY_HAND = "FUZZ_EXAMPLES" in os.environ

KEY = "secret"

#: Of a service with keys, in a short run: what is slow, and no other than without keys but for the key itself.
LEFT_OUT_IN_SHORT = "/(txt2img|img2img|inpainting)$"

#: They are lenient, as what they stand for is: null is absent, and numbers may be texts.
DOORS = "^/(v1/images|sdapi)/"

MAX_PIXELS = 512 * 512

SETTINGS = {
    # The description's own is relative to where it comes from.
    "base-url": "http://localhost",
    # The same requests every time; by hand, new ones.
    "generation": {"max-examples": EXAMPLES, "deterministic": not BY_HAND},
    "phases": {"fuzzing": {"enabled": BY_HAND}},
    "checks": {
        # 404: nobody has that id. 403: no API keys. 416, 412: that depends on the image.
        "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 403, 404, 412, 416]},
    },
}


def picture() -> bytes:
    """Of use as an image, and as a mask in every mode: a part of it is white, one black and one transparent."""
    made = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    made.paste((255, 255, 255, 255), (0, 0, 32, 32))
    made.paste((0, 0, 0, 0), (32, 32, 64, 64))
    return samples.encode(made)


PICTURE = picture()
NAMES = {"model": "sdxl", "sampler": "Euler a", "scheduler": "Karras"}

#: Names that a WebUI must have, bounds of several fields together, and a form's texts that are JSON.
BEYOND_SCHEMAS = {
    *NAMES,
    "width",
    "height",
    "seed",
    "mask",
    "loras",
    "hires",
    "scale",
    "upscaler",
    "reference_weight",
    "reference_method",
}


def keep_what_no_schema_says(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Makes right requests right in what JSON Schema has no words for; wrong ones stay as they are."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid4().hex  # one that was sent with another body is refused
    if "width" in case.query:
        case.query["width"] = 16  # the image's own is the most
    # Not a form: schemathesis takes whatever has bytes in it and was changed for wrong.
    if case.media_type == "application/json" and case.path.endswith("/upscale"):
        for name in {"width", "height", "scale"} & case.body.keys():
            del case.body[name]
        case.body |= {"image": text(PICTURE), "upscaler": "Lanczos"}
    elif case.media_type == "application/json":
        _repair(case.body)


def _repair(body: dict[str, Any]) -> None:
    body.update({name: text(PICTURE) for name in PICTURE_FIELDS if name in body})
    if {"reference_weight", "reference_method"} & body.keys():
        body.setdefault("reference", text(PICTURE))
    if "mask" in body:
        body.setdefault("mask_mode", "white")  # it has a transparent part, so that it must be said what it means
    body.update({name: known for name, known in NAMES.items() if name in body})
    if "loras" in body:
        body["loras"] = [{"name": "add-detail"}]
    if "hires" in body:
        body["hires"] = {"scale": 1.5}
    # Two bounds are of several fields together; and what is painted should not take long.
    if body.get("width", 512) * body.get("height", 512) > MAX_PIXELS or not {"width", "height"} & body.keys():
        body |= {"width": 64, "height": 64}
    if "seed" in body:
        body["seed"] = min(body["seed"], 2**32 - 16)


def is_a_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """A right form may be refused for what no schema says, and for nothing else."""
    if not isinstance(failure, RejectedPositiveData) or case.media_type != "multipart/form-data":
        return True
    # With a file in it, schemathesis leaves the form's texts empty, whatever the schema says.
    excused = BEYOND_SCHEMAS if case.body.get("prompt", "none due") else {*BEYOND_SCHEMAS, "prompt"}
    return not {root(error["field"]) for error in response.json()["errors"]} <= excused


def closing(app: Flask) -> Callable[..., list[bytes]]:
    """As a server does: schemathesis leaves open the file of an image whose body it does not read."""

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        answer = app.wsgi_app(environ, start_response)
        try:
            return list(answer)
        finally:
            answer.close()

    return wsgi


@pytest.fixture
def hooked() -> Iterator[None]:
    schemathesis.openapi.media_type("image/png", st.just(PICTURE), aliases=["image/jpeg", "image/webp", "image/bmp"])
    schemathesis.hook("before_call")(keep_what_no_schema_says)
    schemathesis.hook("filter_failure")(is_a_failure)
    yield
    schemathesis.hooks.unregister(keep_what_no_schema_says)
    schemathesis.hooks.unregister(is_a_failure)


@pytest.fixture
def described(hooked: None, shared_simulator: Simulator, tmp_path: Path) -> Iterator[BaseSchema]:
    """The description of a service in this process."""
    with service_in_process(tmp_path, shared_simulator.url, MAX_PIXELS=str(MAX_PIXELS)) as app:
        config = schemathesis.Config.from_dict(SETTINGS)
        schema = schemathesis.openapi.from_wsgi("/openapi.json", closing(app), config=config)
        yield schema.exclude(path_regex=DOORS)


@pytest.fixture
def described_with_keys(hooked: None, shared_simulator: Simulator, tmp_path: Path) -> Iterator[BaseSchema]:
    """
    That of a service that asks for a key, and the key; schemathesis also tries without it, and with others. Over HTTP:
    that check of its cannot call a WSGI application.
    """
    settings = {"MAX_PIXELS": str(MAX_PIXELS), "API_KEYS": KEY}
    with running_service(tmp_path, shared_simulator.url, workers=1, **settings) as service:
        service.wait_until_answering()
        own = {"headers": {"Authorization": f"Bearer {KEY}"}, "request-timeout": DEADLINE_S}
        config = schemathesis.Config.from_dict({**SETTINGS, "base-url": service.root, **own})
        schema = schemathesis.openapi.from_url(f"{service.root}/openapi.json", config=config).exclude(path_regex=DOORS)
        yield schema if BY_HAND else schema.exclude(path_regex=LEFT_OUT_IN_SHORT)


def test_nothing_is_other_than_described(described: BaseSchema) -> None:
    cases = cases_without_findings(described)
    assert cases.keys() == {"EXAMPLES", "COVERAGE", "STATEFUL_TESTING"} | ({"FUZZING"} if BY_HAND else set())
    assert cases.total() > 500


def test_nothing_is_other_than_described_where_keys_are_on(described_with_keys: BaseSchema) -> None:
    assert cases_without_findings(described_with_keys).total() > 200


def cases_without_findings(described: BaseSchema) -> Counter[str]:
    """How many requests each phase made of all operations, once there is nothing to be told of any."""
    cases: Counter[str] = Counter()
    labels = set()
    found = []
    for event in from_schema(described).execute():
        if isinstance(event, events.NonFatalError):
            found.append(str(event.value))
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            cases[event.phase.name] += len(event.recorder.interactions)
            labels |= {label for label in [event.recorder.label] if " /" in label}
            found += failures(event)

    print(f"{len(labels)} operations, {cases.total()} requests: {dict(cases)}")
    assert not found, "\n\n".join(found)
    assert labels == {result.ok().label for result in described.get_all_operations()}
    return cases


def failures(event: events.ScenarioFinished) -> Iterator[str]:
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                yield f"{event.phase.name}: {check.failure_info.failure}\n{check.failure_info.code_sample[:2000]}"
