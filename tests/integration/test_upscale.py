"""``POST …/upscale``: exact sizes, what is refused, and no picture that another upscaler has made."""

from __future__ import annotations

import base64
import io
import json
import threading
from typing import Any
from uuid import uuid4

import pytest
import requests
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from simulator import Simulator
from tests.api.answers import a1111_failure_of, problem_of
from tests.integration.conftest import Start
from tests.running import PREFIX, wait_until
from tests.scraped import scraped
from tests.services import picture_samples as samples

PICTURE = samples.encode(samples.noise(80, 64))
TEXT = base64.b64encode(PICTURE).decode()
ROUTE = f"{PREFIX}/upscale"
EXTRAS = "/sdapi/v1/extra-single-image"


def upscale(client: FlaskClient, *, headers: dict[str, str] | None = None, **fields: Any) -> TestResponse:
    return client.post(ROUTE, json={"image": TEXT, "upscaler": "Nearest", **fields}, headers=headers)


def enlarged(answer: TestResponse) -> Image.Image:
    """The picture of an answer, whose size is the one that the answer names."""
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    picture = samples.pixels(base64.b64decode(body["image_base64"].partition(",")[2]))
    assert picture.size == (body["width"], body["height"])
    return picture


def fetched(client: FlaskClient, path: str) -> bytes:
    with client.get(path) as answer:
        return answer.data


def job(webui: Simulator) -> dict[str, Any]:
    """The last that was sent."""
    return dict(json.loads(webui.generations[-1].body))


@pytest.mark.parametrize("flavour", ["a1111", "a1111-1.6", "forge", "sdnext"])
def test_an_enlarged_picture(start: Start, flavour: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    answer = upscale(client)

    due = samples.pixels(PICTURE).resize((160, 128), Image.Resampling.NEAREST)
    assert enlarged(answer).tobytes() == due.tobytes()
    body = answer.get_json()
    assert body.keys() == {
        *("image_id", "image_url", "image_base64", "width", "height", "processing_time", "request_id", "used")
    }
    assert body["used"] == {"upscale": {"upscaler": "Nearest"}}
    assert fetched(client, body["image_url"]) == base64.b64decode(body["image_base64"].partition(",")[2])
    assert webui.generations[-1].path == EXTRAS
    sent = job(webui)
    assert (sent["resize_mode"], sent["upscaling_resize"], sent["upscaler_1"]) == (0, 2, "Nearest")
    assert base64.b64decode(sent["image"]) == PICTURE
    assert (sent["gfpgan_visibility"], sent["codeformer_visibility"], sent["extras_upscaler_2_visibility"]) == (0, 0, 0)
    assert "Nearest" in client.get(f"{PREFIX}/options").get_json()["upscale"]["upscalers"]


@pytest.mark.parametrize(
    ("picture", "fields", "size"),
    [
        ((80, 64), {"scale": 1.5}, (120, 96)),
        ((80, 64), {"scale": 4}, (320, 256)),
        ((80, 64), {"scale": 1.1}, (88, 64)),
        ((100, 75), {}, (200, 144)),
        ((49, 49), {"width": 56, "height": 56}, (56, 56)),
        ((100, 75), {"width": 200, "height": 152}, (200, 152)),
        ((333, 500), {"width": 664, "height": 1000}, (664, 1000)),
        ((333, 500), {"width": 672.0, "height": 1000}, (672, 1000)),
        ((101, 203), {"width": 400, "height": 808}, (400, 808)),
    ],
)
def test_sizes_are_exact(start: Start, picture: tuple[int, int], fields: dict[str, Any], size: tuple[int, int]) -> None:
    client = start(Simulator())
    image = base64.b64encode(samples.encode(samples.noise(*picture))).decode()
    for upscaler in ("Lanczos", "4x-ultrasharp"):
        assert enlarged(upscale(client, image=image, upscaler=upscaler, **fields)).size == size


def test_what_is_over_is_cut_off_around_it(start: Start) -> None:
    """101 x 203 by 4 is larger than 400 x 808: the middle is kept, and nothing is black."""
    image = samples.noise(101, 203)
    client = start(Simulator())
    text = base64.b64encode(samples.encode(image)).decode()
    found = enlarged(upscale(client, image=text, width=400, height=808))
    whole = image.resize((400, 808), Image.Resampling.NEAREST)
    assert abs(found.resize((1, 1)).getpixel((0, 0))[0] - whole.resize((1, 1)).getpixel((0, 0))[0]) <= 2
    for corner in ((0, 0, 8, 8), (392, 800, 400, 808)):
        assert found.crop(corner).getbbox() is not None


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"image": None}, "image", "must be a picture"),
        ({"image": "xyz"}, "image", "base64"),
        ({"image": "00000000-0000-4000-8000-000000000000"}, "image", "names no stored image"),
        ({"scale": 1}, "scale", "between 1.1 and 4"),
        ({"scale": 4.1}, "scale", "between 1.1 and 4"),
        ({"scale": "2"}, "scale", "without the quotes"),
        ({"width": 160}, "height", "is required with width"),
        ({"height": 128}, "width", "is required with height"),
        ({"width": 160, "height": 128, "scale": 2}, "scale", "cannot be sent with width and height"),
        ({"width": 161, "height": 128}, "width", "multiple of 8"),
        ({"width": 160, "height": 160}, "height", "within 1 %; with this width, it is 128"),
        ({"width": 80, "height": 64}, "height", "must be larger than 80 x 64"),
        ({"width": 400, "height": 320}, "height", "4 times as long"),
        ({"upscaler": "nosuch"}, "upscaler", "known: Lanczos, Nearest, 4x-UltraSharp"),
        ({"upscaler": "R-ESRGAN 4x+"}, "upscaler", "is not an upscaler"),
        ({"upscaler": "None"}, "upscaler", "is not an upscaler"),
        ({"upscaler": ""}, "upscaler", "must not be empty"),
        ({"prompt": "a fox"}, "prompt", "is not a field of upscale"),
        ({"seed": 1}, "seed", "is not a field of upscale"),
        ({"factor": 2}, "factor", "use 'scale'"),
        ({"response_format": "png"}, "response_format", "must be one of"),
    ],
)
def test_what_is_refused(
    client: FlaskClient, simulator: Simulator, fields: dict[str, Any], field: str, says: str
) -> None:
    problem = problem_of(upscale(client, **fields))
    assert (problem["status"], problem["code"]) == (422, "validation_error")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert says in problem["errors"][0]["message"]
    assert not simulator.generations


def test_all_that_is_wrong_is_said_at_once(client: FlaskClient) -> None:
    problem = problem_of(upscale(client, scale=9, upscaler="nosuch", steps=1, image="x"))
    assert {error["field"] for error in problem["errors"]} == {"scale", "upscaler", "steps", "image"}


def test_an_upscaler_must_be_named_where_there_is_no_default(start: Start) -> None:
    client = start(Simulator())
    problem = problem_of(client.post(ROUTE, json={"image": TEXT}))
    assert problem["errors"][0]["field"] == "upscaler"
    assert "SD_UPSCALER" in problem["errors"][0]["message"]


@pytest.mark.parametrize(("default", "status"), [("4x-ultrasharp", 200), ("nosuch", 422)])
def test_the_default(start: Start, default: str, status: int) -> None:
    webui = Simulator()
    client = start(webui, SD_UPSCALER=default)
    answer = client.post(ROUTE, json={"image": TEXT})
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.get_json()["used"] == {"upscale": {"upscaler": "4x-UltraSharp"}}
    else:
        assert "SD_UPSCALER, this service's default" in problem_of(answer)["errors"][0]["message"]


def test_the_bound_of_pixels(start: Start) -> None:
    client = start(Simulator(), MAX_UPSCALE_PIXELS="262144")
    image = base64.b64encode(samples.encode(samples.gradient(264, 264))).decode()
    problem = problem_of(upscale(client, image=image))
    assert problem["errors"] == [
        {"field": "scale", "message": "the enlarged picture must have at most 262144 pixels", "received": "528 x 528"}
    ]
    assert client.get(f"{PREFIX}/options").get_json()["limits"]["upscale width x height"] == {"maximum": 262144}


@pytest.mark.parametrize("flavour", ["sdcpp", "koboldcpp"])
def test_a_pool_that_enlarges_nothing(start: Start, flavour: str) -> None:
    client = start(Simulator(flavour=flavour))
    problem = problem_of(upscale(client))
    assert (problem["status"], problem["code"], problem["retryable"]) == (422, "capability_missing", False)
    assert problem["errors"][0]["field"] == "upscaler"
    assert client.get(f"{PREFIX}/options").get_json()["upscale"] is None


def test_a_job_goes_to_a_webui_that_can(start: Start) -> None:
    native, able = Simulator(flavour="sdcpp"), Simulator()
    client = start(native, able)
    for _ in range(3):
        assert enlarged(upscale(client)).size == (160, 128)
    assert (len(native.generations), len(able.generations)) == (0, 3)


# --- What a WebUI does wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"scale": 3.3}, {"upscaler": "4x-UltraSharp"}, {"width": 168, "height": 136}])
def test_lanczos_that_calls_itself_something_else(start: Start, fields: dict[str, Any]) -> None:
    """A small picture shows that it was this one only."""
    webui = Simulator()
    client = start(webui)
    webui.set_fault("upscaler-fake", times=1)
    problem = problem_of(upscale(client, **fields))
    assert (problem["status"], problem["code"], problem["reason"]) == (502, "webui_error", "wrong_upscaler")
    assert problem["retryable"] is True
    assert enlarged(upscale(client, upscaler="Lanczos")).size == (160, 128)  # which it is
    assert upscale(client, **fields).status_code == 200


def test_an_upscaler_whose_weights_are_not_there(start: Start) -> None:
    """It is found out once, for a second pass as well."""
    webui = Simulator()
    client = start(webui)
    hires = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "hires": {"upscaler": "LDSR"}}
    for answer, field in (
        (upscale(client, upscaler="ldsr"), "upscaler"),
        (upscale(client, upscaler="LDSR", scale=3), "upscaler"),
        (client.post(f"{PREFIX}/txt2img", json=hires), "hires.upscaler"),
    ):
        problem = problem_of(answer)
        assert (problem["status"], problem["code"], problem["retryable"]) == (422, "capability_missing", False)
        assert [error["field"] for error in problem["errors"]] == [field]
        assert "asks for the upscaler 'LDSR', which was tried" in problem["errors"][0]["message"]
    assert [json.loads(one.body)["upscaling_resize"] for one in webui.generations] == [2, 2]
    assert enlarged(upscale(client)).size == (160, 128)


def test_another_webui_has_the_weights(start: Start) -> None:
    fake, true = Simulator(), Simulator()
    client = start(fake, true)
    fake.set_fault("upscaler-fake")
    for _ in range(4):
        assert enlarged(upscale(client)).size == (160, 128)
    assert len(fake.generations) in (0, 2), "the picture and a small one, if it came first"
    assert len(true.generations) == 4


def test_a_smooth_picture_is_judged_by_what_it_has(start: Start) -> None:
    """All upscalers make the same of one colour."""
    client = start(Simulator())
    plain = base64.b64encode(samples.encode(Image.new("RGB", (80, 64), "teal"))).decode()
    assert enlarged(upscale(client, image=plain)).size == (160, 128)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        *(("garbage", "invalid_answer"), ("not-json", "invalid_answer"), ("not-base64", "damaged_image")),
        *(("not-picture", "damaged_image"), ("damaged", "damaged_image"), ("empty-images", "missing_images")),
        *(("wrong-size", "wrong_size"), ("no-info", "wrong_upscaler"), ("error-json", "http_500")),
    ],
)
def test_an_answer_that_is_wrong(start: Start, fault: str, reason: str) -> None:
    webui = Simulator()
    client = start(webui)
    webui.set_fault(fault)
    problem = problem_of(upscale(client))
    assert (problem["status"], problem["code"], problem["reason"]) == (502, "webui_error", reason)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_picture_of_another_format_becomes_a_png(start: Start, kind: str) -> None:
    webui = Simulator()
    client = start(webui)
    webui.set_fault(kind)
    assert enlarged(upscale(client)).size == (160, 128)


def test_somebody_elses_interrupt(start: Start) -> None:
    """A1111 ends with what Lanczos makes of the picture, and with the flag still set."""
    webui = Simulator(step_time=0.5)
    client = start(webui)
    answers: list[TestResponse] = []
    thread = threading.Thread(target=lambda: answers.append(upscale(client)))
    thread.start()
    wait_until(lambda: bool(webui.generations), "the picture is being enlarged")
    wait_until(lambda: requests_progress(webui) != "", "its job has begun")
    post(webui, "interrupt")
    thread.join()
    problem = problem_of(answers[0])
    assert (problem["status"], problem["reason"]) == (502, "interrupted")


# --- The rest that every job has ------------------------------------------------------------------------------------


def test_as_a_form_and_as_a_png(client: FlaskClient) -> None:
    form = {"image": (io.BytesIO(PICTURE), "a.png"), "scale": "1.5", "upscaler": "nearest"}
    answer = client.post(ROUTE, data=form, headers={"Accept": "image/png"})
    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    assert samples.pixels(answer.data).size == (120, 96)
    assert "X-Seed" not in answer.headers
    assert "X-Model" not in answer.headers
    assert fetched(client, answer.headers["Location"]) == answer.data


def test_a_stored_image_is_enlarged_by_its_id(client: FlaskClient, simulator: Simulator) -> None:
    made = client.post(f"{PREFIX}/txt2img", json={"prompt": "a fox", "width": 64, "height": 64, "steps": 1}).get_json()
    assert enlarged(upscale(client, image=made["image_id"])).size == (128, 128)
    again = upscale(client, image=made["image_id"], response_format="url").get_json()
    assert "image_base64" not in again
    assert enlarged(upscale(client, image=again["image_id"])).size == (256, 256)


def test_its_record_is_stored(start: Start, tmp_path: Any) -> None:
    folder = tmp_path / "images"
    client = start(Simulator(), IMAGE_DIR=str(folder))
    body = upscale(client, width=168, height=136).get_json()
    (file,) = folder.glob(f"*/*/{body['image_id']}.json")
    record = json.loads(file.read_text())
    assert (record["mode"], record["upscaler"], record["request_id"]) == ("upscale", "Nearest", body["request_id"])
    assert (record["from_width"], record["from_height"], record["width"], record["height"]) == (80, 64, 168, 136)


def test_a_retry_gets_the_first_answer(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    headers = {"Idempotency-Key": str(uuid4())}
    first, second = (upscale(client, headers=headers) for _ in range(2))
    assert (first.status_code, first.get_json()) == (200, second.get_json())
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(webui.generations) == 1
    assert problem_of(upscale(client, headers=headers, scale=3))["code"] == "idempotency_mismatch"


def test_it_counts_as_a_generation(start: Start) -> None:
    client = start(Simulator(), RATE_LIMIT_GENERATION="2/hour")
    assert [upscale(client).status_code for _ in range(3)] == [200, 200, 429]


def test_metrics(start: Start) -> None:
    client = start(Simulator())
    upscale(client)
    found = scraped(client.get("/metrics").text)
    assert found.value("sd_api_jobs_total", mode="upscale", outcome="done") == 1


def test_no_model_is_loaded_for_it(start: Start) -> None:
    """A WebUI's model stays what it is, for the service as well: the next job of that model switches nothing."""
    webui = Simulator()
    client = start(webui)
    small = {"prompt": "a fox", "width": 64, "height": 64, "steps": 1, "model": "dreamshaper_8"}
    for _ in range(2):
        assert client.post(f"{PREFIX}/txt2img", json=small).status_code == 200
        assert upscale(client).status_code == 200
    assert scraped(client.get("/metrics").text).value("sd_api_model_switches_total") == 1
    assert not [one for one in webui.requests if one.method == "POST" and one.route == "options"]


def test_a_cancelled_one_keeps_its_place_until_it_has_ended(start: Start) -> None:
    webui = Simulator(step_time=3.0)
    client = start(webui)
    answers: list[TestResponse] = []
    headers = {"X-Request-ID": str(uuid4())}
    thread = threading.Thread(target=lambda: answers.append(upscale(client, headers=headers)))
    thread.start()
    path = f"{PREFIX}/requests/{headers['X-Request-ID']}"
    wait_until(lambda: client.get(path).get_json().get("status") == "running", "it runs")
    assert client.delete(path).status_code == 204
    thread.join()
    assert problem_of(answers[0])["code"] == "cancelled"
    assert webui.generations[-1].finished is None
    assert upscale(client).status_code == 200
    first, second = webui.generations
    assert first.finished is not None
    assert second.started >= first.finished
    assert not [one for one in webui.requests if one.route == "interrupt"]


# --- A1111's door ---------------------------------------------------------------------------------------------------


def test_by_a1111s_api(client: FlaskClient, simulator: Simulator) -> None:
    answer = client.post(EXTRAS, json={"image": TEXT, "upscaler_1": "Nearest", "upscaling_resize": "1.5"})
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert body["html_info"] == "<p>Postprocess upscale by: 1.5, Postprocess upscaler: Nearest</p>"
    assert samples.pixels(base64.b64decode(body["image"])).size == (120, 96)
    assert fetched(client, f"{PREFIX}/image/{answer.headers['X-Image-Id']}") == base64.b64decode(body["image"])


def test_to_a_size_by_a1111s_api(client: FlaskClient) -> None:
    """With all that webuiapi sends."""
    body = {
        "resize_mode": 1,
        "show_extras_results": True,
        "gfpgan_visibility": 0,
        "codeformer_visibility": 0,
        "codeformer_weight": 0,
        "upscaling_resize": 2,
        "upscaling_resize_w": 168,
        "upscaling_resize_h": 136,
        "upscaling_crop": True,
        "upscaler_1": "Lanczos",
        "upscaler_2": "None",
        "extras_upscaler_2_visibility": 0,
        "upscale_first": False,
        "image": f"data:image/png;base64,{TEXT}",
    }
    answer = client.post(EXTRAS, json=body)
    assert answer.status_code == 200, answer.text
    assert "upscale to: 168x136" in answer.get_json()["html_info"]
    assert samples.pixels(base64.b64decode(answer.get_json()["image"])).size == (168, 136)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"upscaler_1": "nosuch"}, "upscaler_1: is not an upscaler"),
        ({"upscaler_1": "None"}, "upscaler_1: is not an upscaler"),
        ({"upscaling_resize": 8}, "upscaling_resize: must be between 1.1 and 4"),
        ({"resize_mode": 2}, "resize_mode: must be 0"),
        ({"resize_mode": True}, "resize_mode: must be 0"),
        ({"resize_mode": 1}, "upscaling_resize_h: "),
        (
            {"resize_mode": 1, "upscaling_resize_w": 168, "upscaling_resize_h": 137},
            "upscaling_resize_h: must be",
        ),
        ({"resize_mode": 1, "upscaling_crop": False}, "upscaling_crop: must be true"),
        ({"gfpgan_visibility": 0.5}, "gfpgan_visibility: faces are not restored"),
        ({"codeformer_visibility": 1}, "codeformer_visibility: faces are not restored"),
        ({"extras_upscaler_2_visibility": 0.5}, "extras_upscaler_2_visibility: a second upscaler"),
        ({"image": "xyz"}, "image: "),
        ({"image": None}, "image: is required"),
    ],
)
def test_what_a1111s_api_refuses(client: FlaskClient, simulator: Simulator, fields: dict[str, Any], says: str) -> None:
    answer = client.post(EXTRAS, json={"image": TEXT, "upscaler_1": "Nearest", **fields})
    assert answer.status_code == 422
    assert says in a1111_failure_of(answer)["detail"]
    assert not simulator.generations


def requests_progress(webui: Simulator) -> str:
    return str(requests.get(f"{webui.url}/sdapi/v1/progress", timeout=10).json()["state"]["job"])


def post(webui: Simulator, name: str) -> None:
    requests.post(f"{webui.url}/sdapi/v1/{name}", timeout=10)
