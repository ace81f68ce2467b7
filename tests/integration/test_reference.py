"""A reference picture is proven to have been used, or the request fails: never a picture without it."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from typing import Any

import pybase64
import pytest
from flask.testing import FlaskClient
from PIL import Image

from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import VALID
from tests.conftest import MakeApp
from tests.integration.conftest import Start
from tests.running import PREFIX, wait_until

SMALL = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 2, "seed": 7}
BOTH = {"methods": ["adapter", "attention"]}
SMALL_PROMPT = "a small picture"


def garment(colour: str = "red", size: tuple[int, int] = (100, 160)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def base64(picture: bytes) -> str:
    return pybase64.b64encode_as_string(picture)


REFERENCE = {"reference": base64(garment())}


def generate(client: FlaskClient, route: str = "txt2img", **fields: Any) -> dict[str, Any]:
    answer = client.post(f"{PREFIX}/{route}", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def refused(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    return problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, **fields}))


def sent(webui: Simulator) -> list[dict[str, Any]]:
    return [json.loads(received.body) for received in webui.generations]


def jobs(webui: Simulator) -> list[dict[str, Any]]:
    """Without the small pictures by which it is tried."""
    return [job for job in sent(webui) if job["prompt"] != SMALL_PROMPT]


def unit(job: dict[str, Any]) -> dict[str, Any]:
    [only] = job["alwayson_scripts"]["controlnet"]["args"]
    return dict(only)


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(pybase64.b64decode(text)))


def stored(client: FlaskClient) -> list[str]:
    lines = client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith("sd_api_images_stored_total")]


def trials(client: FlaskClient) -> dict[str, int]:
    lines = client.get("/metrics").text.splitlines()
    found = [line.split() for line in lines if line.startswith("sd_api_reference_trials_total{")]
    return {name.partition('"')[2].partition('"')[0]: int(float(count)) for name, count in found}


def options(client: FlaskClient) -> dict[str, Any]:
    return dict(client.get(f"{PREFIX}/options").get_json())


@pytest.mark.parametrize("flavour", ["a1111", "a1111-1.6"])
def test_an_adapter(start: Start, flavour: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    plain = generate(client)
    red = generate(client, **REFERENCE)
    blue = generate(client, reference=base64(garment("blue")))

    assert len({answer["image_base64"] for answer in (plain, red, blue)}) == 3
    assert "used" not in plain
    assert red["used"] == {"reference": {"method": "adapter", "model": "ip-adapter-plus_sd15"}}
    assert options(client)["reference"] == {**BOTH, "webuis": 1}
    assert options(client)["controls"] is None
    first, second, _ = jobs(webui)
    assert "alwayson_scripts" not in first
    image = picture(unit(second).pop("image"))
    assert (image.size, image.mode, image.getpixel((0, 0)), image.getpixel((80, 80))) == (
        *((160, 160), "RGB"),
        *((255, 255, 255), (255, 0, 0)),
    )
    assert {name: value for name, value in unit(second).items() if name != "image"} == {
        "enabled": True,
        "module": "ip-adapter_clip_h",
        "model": "ip-adapter-plus_sd15 [836b5c2e]",
        "weight": 0.8,
        "resize_mode": "Crop and Resize",
        "processor_res": 512,
        "threshold_a": 0.5,
        "threshold_b": 0.5,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "control_mode": "Balanced",
        "pixel_perfect": False,
        "save_detected_map": True,
        "inpaint_crop_input_image": False,
    }
    assert second["override_settings"]["control_net_no_detectmap"] is False
    assert second["override_settings_restore_afterwards"] is True


@pytest.mark.parametrize("method", ["adapter", "attention"])
@pytest.mark.parametrize("route", ["txt2img", "img2img", "inpainting"])
def test_all_three_routes(start: Start, route: str, method: str) -> None:
    webui = Simulator()
    client = start(webui)
    body = {**VALID[route], "steps": 2, "seed": 7, "batch_size": 2}
    asked = {**REFERENCE, "reference_method": method, "reference_weight": 0.5}
    answers = [client.post(f"{PREFIX}/{route}", json={**body, **more}) for more in ({}, asked)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
    plain, used = (answer.get_json() for answer in answers)
    assert used["used"]["reference"]["method"] == method
    assert len(used["images"]) == len(plain["images"]) == 2
    for one, other in zip(plain["images"], used["images"], strict=True):
        assert one["image_base64"] != other["image_base64"]
    assert unit(jobs(webui)[1])["weight"] == 0.5


def test_attention(start: Start) -> None:
    """The picture is sent at the size of the generation, on white."""
    webui = Simulator()
    client = start(webui)
    answer = generate(client, width=128, reference=base64(garment(size=(40, 20))), reference_method="attention")
    assert answer["used"] == {"reference": {"method": "attention", "model": None}}
    asked = unit(jobs(webui)[0])
    assert (asked["module"], asked["model"]) == ("reference_only", "None")
    image = picture(asked["image"])
    assert image.size == (128, 64)
    assert [image.getpixel(place) for place in ((0, 0), (43, 32), (44, 22), (83, 41), (84, 32))] == [
        *((255, 255, 255), (255, 255, 255), (255, 0, 0), (255, 0, 0), (255, 255, 255)),
    ]


@pytest.mark.parametrize("method", ["adapter", "attention"])
def test_with_a_second_pass_and_a_lora(start: Start, method: str) -> None:
    client = start(Simulator())
    answer = generate(
        client, **REFERENCE, reference_method=method, hires={"scale": 2}, loras=[{"name": "add-detail"}], batch_size=2
    )
    assert answer["used"]["reference"]["method"] == method
    assert {(image["width"], image["height"]) for image in answer["images"]} == {(128, 128)}
    assert set(answer["used"]) == {"reference", "loras", "hires"}


def test_a_caller_s_own_padding_makes_no_difference(start: Start) -> None:
    long = Image.new("RGB", (400, 1200), "white")
    long.paste("darkgreen", (40, 100, 333, 1111))
    square = Image.new("RGB", (1200, 1200), "white")
    square.paste(long, (400, 0))
    files = []
    for image in (long, square):
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append(file.getvalue())
    webui = Simulator()
    client = start(webui)
    first, second = (generate(client, reference=base64(file))["image_base64"] for file in files)
    assert first == second
    images = [picture(unit(job)["image"]) for job in jobs(webui)]
    assert images[0].size == (512, 512)
    assert images[0].tobytes() == images[1].tobytes()


def test_a_small_mask_shows_the_whole_garment(start: Start) -> None:
    webui = Simulator()
    body = {**VALID["inpainting"], "steps": 2, "inpaint_area": "masked", **REFERENCE}
    answer = start(webui).post(f"{PREFIX}/inpainting", json=body)
    assert answer.status_code == 200, answer.text


def test_a_form(start: Start) -> None:
    webui = Simulator()
    fields = {**SMALL, "reference": (io.BytesIO(garment()), "dress.png"), "reference_weight": "0.6"}
    answer = start(webui).post(f"{PREFIX}/txt2img", data=fields, content_type="multipart/form-data")
    assert answer.status_code == 200, answer.text
    assert unit(jobs(webui)[0])["weight"] == 0.6


def test_the_same_request_twice(start: Start) -> None:
    client = start(Simulator())
    first, second = (generate(client, **REFERENCE)["image_base64"] for _ in range(2))
    assert first == second


def test_it_is_tried_once_with_each_model(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    for _ in range(2):
        generate(client, **REFERENCE)
        generate(client, **REFERENCE, model="sd_xl_base_1.0")
    tried = [job for job in sent(webui) if job["prompt"] == SMALL_PROMPT]
    models = [unit(job)["model"] for job in tried if "alwayson_scripts" in job]
    assert models == [
        "ip-adapter-plus_sd15 [836b5c2e]",
        # The other model's: those that do not fit are left out without a word.
        "ip-adapter-plus_sd15 [836b5c2e]",
        "ip-adapter-plus_sdxl_vit-h [f1f19f7d]",
    ]
    assert {job["width"] for job in tried} == {64}
    assert trials(client) == {"passed": 2, "failed": 1}


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"reference_weight": 0.5}, "reference_weight", "which is missing"),
        ({"reference_method": "adapter"}, "reference_method", "which is missing"),
        ({**REFERENCE, "reference_weight": 0}, "reference_weight", "must be between 0.1 and 1"),
        ({**REFERENCE, "reference_weight": 1.5}, "reference_weight", "must be between 0.1 and 1"),
        ({**REFERENCE, "reference_method": "style"}, "reference_method", "must be one of"),
        ({"reference": "nonsense"}, "reference", "must be a PNG, JPEG, WebP or BMP picture"),
        ({"garment_image": base64(garment())}, "garment_image", "use 'reference'"),
        ({"alwayson_scripts": {}}, "alwayson_scripts", "'reference'"),
    ],
)
def test_fields(start: Start, fields: Any, field: str, says: str) -> None:
    webui = Simulator()
    told = refused(start(webui), **fields)
    assert (told["status"], told["code"]) == (422, "validation_error")
    assert [entry["field"] for entry in told["errors"]] == [field]
    assert says in told["detail"]
    assert webui.generations == []


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"controlnet": "none"},
            {"controlnet": "strict-unloaded"},
            {"flavour": "sdcpp"},
            {"flavour": "koboldcpp"},
            {"samples_format": "jpg"},
        ),
        *({"flavour": "forge", "has_page": False}, {"flavour": "forge", "controlnet": "forge-nosysinfo"}),
    ],
)
def test_no_proof_no_reference(start: Start, settings: dict[str, Any]) -> None:
    """Pictures that come as JPEG cannot be compared."""
    webui = Simulator(**settings)
    client = start(webui)
    told = refused(client, **REFERENCE)
    assert (told["status"], told["code"], told["retryable"]) == (422, "capability_missing", False)
    assert [entry["field"] for entry in told["errors"]] == ["reference"]
    assert "install the ControlNet extension" in told["detail"]
    assert webui.generations == []
    assert options(client)["reference"] is None


def test_no_adapter_for_this_model(start: Start) -> None:
    webui = Simulator(models=("sd_xl_base_1.0.safetensors",))
    webui.set_fault("cn-drop")
    client = start(webui, SD_MODEL="sd_xl_base_1.0")
    for _ in range(2):
        told = refused(client, **REFERENCE, reference_method="adapter")
        assert (told["status"], told["code"], told["retryable"]) == (422, "capability_missing", False)
        assert [entry["field"] for entry in told["errors"]] == ["reference_method"]
        assert "none of 5 IP-Adapter models works with model sd_xl_base_1.0" in told["detail"]
    assert jobs(webui) == []
    assert trials(client) == {"passed": 0, "failed": 5}


# --- What is not believed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cn-drop", "cn-drop-keep-map"])
def test_one_that_never_works(start: Start, fault: str) -> None:
    """A map without an effect does not pass the trial."""
    webui = Simulator()
    webui.set_fault(fault)
    told = refused(start(webui), **REFERENCE)
    assert (told["status"], told["code"]) == (422, "capability_missing")
    assert [entry["field"] for entry in told["errors"]] == ["reference"]
    assert jobs(webui) == []


@pytest.mark.parametrize("method", ["adapter", "attention"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_one_that_is_dropped_after_its_trial(start: Start, method: str, batch_size: int) -> None:
    webui = Simulator()
    client = start(webui)
    asked = {**REFERENCE, "reference_method": method, "batch_size": batch_size}
    generate(client, **asked)
    before = stored(client)
    webui.set_fault("cn-drop", times=1)
    told = refused(client, **asked)
    assert (told["status"], told["code"], told["reason"]) == (502, "webui_error", "reference_dropped")
    assert told["retryable"] is True
    assert "the reference picture" in told["detail"]
    assert stored(client) == before
    # It is not used for a while, and jobs without it are.
    assert refused(client, **asked)["code"] == "capability_missing"
    generate(client)


def test_the_other_method_goes_on(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    generate(client, **REFERENCE)
    webui.set_fault("cn-drop", times=1)
    assert refused(client, **REFERENCE)["status"] == 502
    assert generate(client, **REFERENCE)["used"]["reference"]["method"] == "attention"


def test_another_webui_makes_it_good(start: Start) -> None:
    first, second = Simulator(), Simulator()
    client = start(first, second)
    wait_until(lambda: options(client)["reference"] == {**BOTH, "webuis": 2}, what="both WebUIs are seen")
    for _ in range(4):
        generate(client, **REFERENCE)
    for webui in (first, second):
        webui.forget_requests()
    first.set_fault("cn-drop")
    for _ in range(4):
        assert generate(client, **REFERENCE)["used"]["reference"]["method"] == "adapter"
    assert jobs(second)


def test_jobs_go_where_it_can_be_done(start: Start) -> None:
    plain, able = Simulator(controlnet="none"), Simulator()
    client = start(plain, able)
    wait_until(lambda: options(client)["reference"] == {**BOTH, "webuis": 1}, what="both WebUIs are seen")
    for _ in range(3):
        generate(client, **REFERENCE)
    assert all("alwayson_scripts" not in job for job in jobs(plain))
    assert len([job for job in jobs(able) if "alwayson_scripts" in job]) == 3
    able.close()
    wait_until(lambda: client.get(f"{PREFIX}/health").get_json()["webuis"]["available"] == 1, what="one is down")
    told = refused(client, **REFERENCE)
    assert (told["status"], told["retryable"]) == (503, True)
    generate(client)


def test_an_operator_who_hides_maps(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    webui_options(webui, control_net_no_detectmap=True)
    generate(client, **REFERENCE)


def webui_options(webui: Simulator, **changes: Any) -> None:
    import requests

    answer = requests.post(f"{webui.url}/sdapi/v1/options", json=changes, timeout=10)
    assert answer.status_code == 200


def test_too_little_memory(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    generate(client, **REFERENCE)
    webui.set_fault("cn-oom", times=1)
    assert refused(client, **REFERENCE)["code"] == "gpu_out_of_memory"
    generate(client, **REFERENCE)


def test_the_first_job_waits_for_the_encoder(start: Start) -> None:
    webui = Simulator()
    webui.set_fault("cn-slow-first:times=2:seconds=1.5")
    answer = generate(start(webui), **REFERENCE)
    assert answer["processing_time"] > 1.5


# --- SD.Next ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["txt2img", "img2img", "inpainting"])
def test_sdnext(start: Start, route: str) -> None:
    webui = Simulator(flavour="sdnext")
    client = start(webui)
    body = {**VALID[route], "steps": 2, "seed": 7}
    plain, used = (
        client.post(f"{PREFIX}/{route}", json={**body, **more}).get_json()
        for more in ({}, {**REFERENCE, "reference_weight": 1})
    )
    assert used["used"] == {"reference": {"method": "adapter", "model": "Plus"}}
    assert used["image_base64"] != plain["image_base64"]
    assert options(client)["reference"] == {"methods": ["adapter"], "webuis": 1}
    [asked] = jobs(webui)[1]["ip_adapter"]
    assert picture(asked.pop("images")[0]).size == (160, 160)
    assert asked == {"adapter": "Plus", "scale": 1.0, "start": 0.0, "end": 1.0, "crop": False}
    assert "alwayson_scripts" not in jobs(webui)[1]
    assert "ip_adapter" not in jobs(webui)[0]


def test_sdnext_with_another_kind_of_model(start: Start) -> None:
    webui = Simulator(flavour="sdnext", models=("sd_xl_base_1.0.safetensors",))
    client = start(webui, SD_MODEL="sd_xl_base_1.0")
    assert generate(client, **REFERENCE)["used"]["reference"]["model"] == "Plus ViT-H SDXL"
    assert trials(client) == {"passed": 1, "failed": 2}


def test_sdnext_has_no_attention(start: Start) -> None:
    webui = Simulator(flavour="sdnext")
    told = refused(start(webui), **REFERENCE, reference_method="attention")
    assert (told["status"], told["code"]) == (422, "capability_missing")
    assert [entry["field"] for entry in told["errors"]] == ["reference_method"]
    assert "there is adapter" in told["detail"]
    assert webui.generations == []


def test_sdnext_drops_it_after_its_trial(start: Start) -> None:
    webui = Simulator(flavour="sdnext")
    client = start(webui)
    generate(client, **REFERENCE)
    before = stored(client)
    webui.set_fault("cn-drop", times=1)
    told = refused(client, **REFERENCE)
    assert (told["status"], told["code"], told["reason"]) == (502, "webui_error", "reference_dropped")
    assert stored(client) == before


# --- Forge ------------------------------------------------------------------------------------------------------------


def looks(webui: Simulator) -> int:
    return sum(received.path.endswith("/internal/sysinfo") for received in webui.requests)


@pytest.mark.parametrize("method", ["adapter", "attention"])
@pytest.mark.parametrize("route", ["txt2img", "img2img", "inpainting"])
def test_forge(start: Start, route: str, method: str) -> None:
    webui = Simulator(flavour="forge")
    client = start(webui)
    body = {**VALID[route], "steps": 2, "seed": 7, "batch_size": 2}
    asked = {**REFERENCE, "reference_method": method}
    answers = [client.post(f"{PREFIX}/{route}", json={**body, **more}) for more in ({}, asked)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
    plain, used = (answer.get_json() for answer in answers)
    assert used["used"]["reference"]["method"] == method
    assert used["image_base64"] != plain["image_base64"]
    module, model = unit(jobs(webui)[1])["module"], unit(jobs(webui)[1])["model"]
    assert (module, model) == {
        "adapter": ("CLIP-ViT-H (IPAdapter)", "ip-adapter-plus_sd15 [836b5c2e]"),
        "attention": ("reference_only", "None"),
    }[method]


def test_forge_with_a_second_pass(start: Start) -> None:
    client = start(Simulator(flavour="forge"))
    answer = generate(client, **REFERENCE, reference_method="attention", hires={"scale": 2})
    assert (answer["width"], answer["used"]["reference"]["method"]) == (128, "attention")


def test_forge_with_another_kind_of_model(start: Start) -> None:
    """There the map of an adapter that does not fit is in the answer all the same."""
    webui = Simulator(flavour="forge", models=("sd_xl_base_1.0.safetensors",))
    client = start(webui, SD_MODEL="sd_xl_base_1.0")
    assert generate(client, **REFERENCE)["used"]["reference"]["model"] == "ip-adapter-plus_sdxl_vit-h"


@pytest.mark.parametrize("fault", ["cn-drop", "cn-drop-keep-map"])
@pytest.mark.parametrize("method", ["adapter", "attention"])
def test_forge_drops_it_after_its_trial(start: Start, fault: str, method: str) -> None:
    """The answer may have everything in it but the effect; the exceptions say so."""
    webui = Simulator(flavour="forge")
    client = start(webui)
    asked = {**REFERENCE, "reference_method": method}
    generate(client, **asked)
    before = stored(client)
    webui.set_fault(fault, times=1)
    told = refused(client, **asked)
    assert (told["status"], told["code"], told["reason"]) == (502, "webui_error", "reference_dropped")
    assert stored(client) == before
    assert refused(client, **asked)["code"] == "capability_missing"
    generate(client)


def test_forge_whose_list_of_exceptions_is_full(start: Start, make_app: MakeApp) -> None:
    """One more of the same leaves it as it is: a trial after the job decides."""
    webui = Simulator(flavour="forge", models=("sd_xl_base_1.0.safetensors",))
    client = start(webui, SD_MODEL="sd_xl_base_1.0")
    webui.set_fault("cn-drop-keep-map", times=12)  # five adapters and attention, and the plain pictures between
    refused(client, **REFERENCE)
    webui.clear_faults()
    second = make_app(webui.url, SD_MODEL="sd_xl_base_1.0").test_client()  # knows nothing of that
    asked = {**REFERENCE, "reference_method": "attention"}
    generate(second, **asked)
    webui.forget_requests()
    generate(second, **asked)
    assert [job["prompt"] == SMALL_PROMPT for job in sent(webui)] == [False, True, True], "the trial follows"
    before = stored(second)
    webui.set_fault("cn-drop-keep-map")
    told = refused(second, **asked)
    assert (told["status"], told["reason"]) == (502, "reference_dropped")
    assert stored(second) == before


def test_jobs_without_it_cost_forge_nothing(start: Start) -> None:
    webui = Simulator(flavour="forge")
    client = start(webui)
    generate(client)
    assert looks(webui) == 1, "with the first look at what it can do"
    generate(client, **REFERENCE)
    assert looks(webui) == 5, "before and after the trial and the job"


def test_a_webui_that_was_started_anew_is_tried_again(stack: ExitStack, start: Start) -> None:
    webui = Simulator(flavour="forge")
    client = start(webui)
    generate(client, **REFERENCE)
    port = int(webui.url.rpartition(":")[2])
    webui.close()
    wait_until(lambda: available(client) == 0, what="it is seen to be down")
    again = stack.enter_context(Simulator(flavour="forge", port=port))
    wait_until(lambda: available(client) == 1, what="it is there again")
    generate(client, **REFERENCE)
    assert len([job for job in sent(again) if job["prompt"] == SMALL_PROMPT]) == 2


def available(client: FlaskClient) -> int:
    return int(client.get(f"{PREFIX}/health").get_json()["webuis"]["available"])


def test_a_stored_image_by_its_id(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    image_id = generate(client)["image_id"]
    assert generate(client, reference=image_id)["used"]["reference"]["method"] == "adapter"
    told = refused(client, reference="00000000-0000-4000-8000-000000000000")
    assert (told["status"], [entry["field"] for entry in told["errors"]]) == (422, ["reference"])


# --- The other doors --------------------------------------------------------------------------------------------------


def a1111_unit(**changes: Any) -> dict[str, Any]:
    image = base64(garment())
    return {"enabled": True, "module": "ip-adapter_clip_sd15", "model": "ip-adapter_sd15", "image": image, **changes}


def test_a_unit_of_a1111_s_api(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    args = [{"enabled": False, "module": "canny"}, a1111_unit(weight="0.5", control_mode="Balanced", guidance_end=1)]
    body = {**SMALL, "alwayson_scripts": {"ControlNet": {"args": args}}}
    answer = client.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    sent_unit = unit(jobs(webui)[0])
    assert (sent_unit["model"], sent_unit["weight"]) == ("ip-adapter-plus_sd15 [836b5c2e]", 0.5)
    assert picture(sent_unit["image"]).size == (160, 160)

    body["alwayson_scripts"] = {"controlnet": {"args": [a1111_unit(module="reference_only", model="None")]}}
    assert client.post("/sdapi/v1/txt2img", json=body).status_code == 200
    assert (unit(jobs(webui)[1])["module"], unit(jobs(webui)[1])["weight"]) == ("reference_only", 1.0)


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ([a1111_unit(), a1111_unit()], "alwayson_scripts.controlnet"),
        ([True, "ip-adapter-auto"], "alwayson_scripts.controlnet"),
        ([a1111_unit(module="canny")], "alwayson_scripts.controlnet.args[0].module"),
        ([a1111_unit(module="ip-adapter_face_id")], "alwayson_scripts.controlnet.args[0].module"),
        ([a1111_unit(module="reference_adain")], "alwayson_scripts.controlnet.args[0].module"),
        ([a1111_unit(weight=1.5)], "alwayson_scripts.controlnet.args[0].weight"),
        ([a1111_unit(image="")], "alwayson_scripts.controlnet.args[0].image"),
        ([a1111_unit(image="nonsense")], "alwayson_scripts.controlnet.args[0].image"),
        ([a1111_unit(guidance_start=0.5)], "alwayson_scripts.controlnet.args[0].guidance_start"),
        ([a1111_unit(control_mode="ControlNet is more important")], "alwayson_scripts.controlnet.args[0].control_mode"),
        ([a1111_unit(mask="x")], "alwayson_scripts.controlnet.args[0].mask"),
        ([a1111_unit(pulid_mode="Fidelity")], "alwayson_scripts.controlnet.args[0].pulid_mode"),
    ],
)
def test_units_that_are_no_reference(start: Start, args: Any, field: str) -> None:
    webui = Simulator()
    body = {**SMALL, "alwayson_scripts": {"controlnet": {"args": args}}}
    answer = start(webui).post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.get_json()["error"].startswith(f"{field}: ")
    assert webui.generations == []


def test_a_large_unit(start: Start) -> None:
    """As large as a body may be, as every picture."""
    file = io.BytesIO()
    Image.effect_noise((1400, 1400), 90).convert("RGB").save(file, "PNG", compress_level=0)
    body = {**SMALL, "alwayson_scripts": {"controlnet": {"args": [a1111_unit(image=base64(file.getvalue()))]}}}
    webui = Simulator()
    answer = start(webui).post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    assert picture(unit(jobs(webui)[0])["image"]).size == (512, 512)


def test_the_second_picture_of_openai_s_edits(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    fields = {"prompt": "a harbour", "size": "64x64", "steps": "2", "seed": "7"}
    files = [(io.BytesIO(garment("grey", (64, 64))), "photo.png"), (io.BytesIO(garment()), "dress.png")]
    answer = client.post("/v1/images/edits", data={**fields, "image[]": files}, content_type="multipart/form-data")
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["used"]["reference"]["method"] == "adapter"
    [job] = jobs(webui)
    assert picture(unit(job)["image"]).getpixel((80, 80)) == (255, 0, 0)
    assert picture(job["init_images"][0]).getpixel((0, 0)) == (128, 128, 128)


def test_openai_s_generations_take_the_field(start: Start) -> None:
    webui = Simulator()
    body = {"prompt": "a harbour", "size": "64x64", "steps": 2, **REFERENCE, "reference_method": "attention"}
    answer = start(webui).post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    assert unit(jobs(webui)[0])["module"] == "reference_only"


def test_a_replay_says_the_same(start: Start) -> None:
    client = start(Simulator())
    asked = {"json": {**SMALL, **REFERENCE}, "headers": {"Idempotency-Key": "one"}}
    first, second = (client.post(f"{PREFIX}/txt2img", **asked) for _ in range(2))  # type: ignore[arg-type]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.get_json()["used"] == second.get_json()["used"] != {}
    other = {**SMALL, "reference": base64(garment("blue"))}
    assert client.post(f"{PREFIX}/txt2img", json=other, headers={"Idempotency-Key": "one"}).status_code == 422
