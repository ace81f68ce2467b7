"""Whatever comes to A1111's door is painted, or refused in its shape: never a fault of the service."""

from __future__ import annotations

import json
from typing import Any

from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from api.doors.a1111_fields import CARRIED_SETTINGS, KNOWN, NEUTRAL_SETTINGS
from api.doors.a1111_hires import FIELDS
from simulator import Simulator
from tests.api.answers import a1111_failure_of
from tests.api.bad_inputs import MASK, PNG, text

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(["", "0", "1", "1.5", "true", "None", "automatic", "Latent", "Euler", "\ud800", "\0", "x" * 300]),
    st.text(max_size=8),
    st.just(text(PNG)),
    st.just(text(MASK)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
SETTINGS = st.dictionaries(st.sampled_from(sorted(CARRIED_SETTINGS | NEUTRAL_SETTINGS.keys())), VALUES, max_size=3)
#: Names that a body may have, and those whose values are objects.
NAMES = sorted(
    (KNOWN["img2img"] | {*FIELDS, "hr_prompt", "hr_cfg", "sampler", "\ud800"}) - {"width", "height", "steps"}
)
BODIES = st.builds(
    lambda fields, own: fields | own,
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4),
    st.fixed_dictionaries({}, optional={"override_settings": SETTINGS, "enable_hr": st.booleans()}),
)


def hold(app: Flask, route: str, body: dict[str, Any]) -> None:
    answer = app.test_client().post(f"/sdapi/v1/{route}", data=json.dumps(body))
    if answer.status_code == 200:
        assert answer.get_json().keys() >= ({"images", "info"} if route.endswith("2img") else set())
    else:
        assert answer.status_code in (400, 413, 422), answer.text[:500]
        a1111_failure_of(answer)


@settings(max_examples=60)
@given(fields=BODIES)
def test_txt2img(app: Flask, fields: dict[str, Any]) -> None:
    hold(app, "txt2img", SMALL | fields)


@settings(max_examples=60)
@given(fields=BODIES, masked=st.booleans())
def test_img2img(app: Flask, fields: dict[str, Any], masked: bool) -> None:
    picture = {"init_images": [text(PNG)], **({"mask": text(MASK)} if masked else {})}
    hold(app, "img2img", SMALL | picture | fields)


@settings(max_examples=40)
@given(body=st.dictionaries(st.sampled_from(["sd_vae", "sd_model_checkpoint", "image", "samples_format", "x"]), VALUES))
def test_the_other_routes(app: Flask, body: dict[str, Any]) -> None:
    # What one of them has chosen is nobody's model in the other tests.
    body = {**body, "samples_format": "jpg"} if "sd_model_checkpoint" in body else body
    for route in ("options", "png-info"):
        answer = app.test_client().post(f"/sdapi/v1/{route}", data=json.dumps(body))
        assert answer.status_code in (200, 400, 422), answer.text[:500]
        if answer.status_code != 200:
            a1111_failure_of(answer)


def test_the_simulator_was_asked(app: Flask, simulator: Simulator) -> None:
    hold(app, "txt2img", SMALL)
    assert len(simulator.generations) == 1
