import json
import threading

import pytest
import requests

from tests.simulator.pixels import opened, until

MODELS = ("one.safetensors", "sub/two.safetensors", "three.ckpt")


@pytest.fixture
def api(start):
    return start(models=MODELS)


def models(api) -> dict[str, dict]:
    return {entry["model_name"]: entry for entry in api.get("sd-models").json()}


def used(answer: dict) -> str:
    return json.loads(answer["info"])["sd_model_name"]


def test_models_are_listed_by_file_name_and_only_the_first_is_loaded(api):
    entries = api.get("sd-models").json()
    assert [entry["model_name"] for entry in entries] == ["one", "sub_two", "three"]
    assert entries[0]["title"] == f"one.safetensors [{entries[0]['hash']}]"
    assert entries[0]["sha256"].startswith(entries[0]["hash"])
    assert entries[1].items() >= {"title": "sub/two.safetensors", "hash": None, "sha256": None}.items()
    assert entries[1]["filename"].endswith("/models/Stable-diffusion/sub/two.safetensors")
    assert api.get("options").json()["sd_model_checkpoint"] == entries[0]["title"]


def test_a_model_may_be_named_in_many_ways_once_it_was_loaded(api):
    for name in ("sub/two.safetensors", "sub_two", "two", "two.safetensors"):
        assert used(api.paint(override_settings={"sd_model_checkpoint": name})) == "sub_two", name
    entry = models(api)["sub_two"]
    for name in (entry["title"], entry["hash"], entry["sha256"]):
        assert used(api.paint(override_settings={"sd_model_checkpoint": name})) == "sub_two", name
    assert entry["title"].endswith(f"[{entry['hash']}]")


@pytest.mark.parametrize("name", ["Three", "three.safetensors", "", 5, None, "0123456789"])
def test_an_unknown_model_is_replaced_without_a_word(api, name):
    assert used(api.paint(override_settings={"sd_model_checkpoint": name})) == "one"


def test_the_option_is_restored_but_not_the_model(api):
    before = api.get("options").json()
    api.paint(override_settings={"sd_model_checkpoint": "three"})
    after = api.get("options").json()
    assert after["sd_model_checkpoint"] == before["sd_model_checkpoint"]
    assert after["sd_checkpoint_hash"] == models(api)["three"]["sha256"]
    assert used(api.paint()) == "one"
    assert api.get("options").json()["sd_checkpoint_hash"] == models(api)["one"]["sha256"]


def test_without_restoring_the_option_stays(api):
    api.paint(override_settings={"sd_model_checkpoint": "three"}, override_settings_restore_afterwards=False)
    assert api.get("options").json()["sd_model_checkpoint"] == "three"
    assert used(api.paint()) == "three"


def test_each_model_paints_its_own_picture(api):
    other = api.paint(override_settings={"sd_model_checkpoint": "three"})
    assert other["images"] != api.paint()["images"]


def test_options_change_the_model_and_gain_its_hash(api):
    assert api.post("options", {"sd_model_checkpoint": "three.ckpt"}).json() is None
    assert api.get("options").json()["sd_model_checkpoint"] == models(api)["three"]["title"]
    assert used(api.paint()) == "three"


def test_options_refuse_what_they_do_not_know(api):
    response = api.post("options", {"sd_model_checkpoint": "nope", "jpeg_quality": 1})
    assert (response.status_code, response.json()["errors"]) == (500, "model 'nope' not found")
    assert api.get("options").json()["jpeg_quality"] == 80
    response = api.post("options", {"nope": 1})
    assert (response.status_code, response.json()["error"]) == (500, "KeyError")
    assert api.post("options", {"api_forbid_local_requests": False}).status_code == 200
    assert api.get("options").json()["api_forbid_local_requests"] is True


def test_loading_takes_its_time_and_is_paid_by_whoever_needs_it(start):
    api = start(models=MODELS, load_time=0.3)
    answers = []
    switching = threading.Thread(
        target=lambda: answers.append(api.paint(override_settings={"sd_model_checkpoint": "three"}))
    )
    switching.start()
    until(lambda: progress(api)["state"]["job_count"] == -1 or answers, "the model is being loaded")
    assert not answers
    assert progress(api)["progress"] == 0.01
    switching.join()
    assert used(answers[0]) == "three"


def progress(api) -> dict:
    return requests.get(f"{api.sim.url}/sdapi/v1/progress", timeout=9).json()


def test_an_override_leaks_on_a_fresh_server_and_not_once_it_is_configured(api):
    leaked = api.paint(override_settings={"samples_format": "jpeg"})
    assert opened(leaked["images"][0]).format == "JPEG"
    assert opened(api.paint()["images"][0]).format == "JPEG"
    api.post("options", {"samples_format": "png"})
    assert opened(api.paint(override_settings={"samples_format": "webp"})["images"][0]).format == "PNG"


def test_an_unknown_format_is_found_out_after_the_work(api):
    response = api.post(
        "txt2img", {"steps": 1, "width": 64, "height": 64, "override_settings": {"samples_format": "bmp"}}
    )
    assert (response.status_code, response.json()["detail"]) == (500, "Invalid image format")


def test_clip_skip_is_told(api):
    info = json.loads(api.paint(override_settings={"CLIP_stop_at_last_layers": 2})["info"])
    assert info["clip_skip"] == 2
    assert "Clip skip: 2" in info["infotexts"][0]
