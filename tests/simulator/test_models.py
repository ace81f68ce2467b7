"""Model files: how they are named, switched and loaded, and files that cannot be loaded, or none at all.

What the flavours do with broken files was seen on genuine ones; of SD.Next it was read in its source.
"""

from __future__ import annotations

import json
import threading

import pytest
import requests

from tests.simulator.pixels import opened, until

MODELS = ("one.safetensors", "sub/two.safetensors", "three.ckpt")
GOOD, OTHER, BROKEN = "one.safetensors", "two.safetensors", "vae.safetensors"


@pytest.fixture
def api(start):
    return start(models=MODELS)


def models(api) -> dict[str, dict]:
    return {entry["model_name"]: entry for entry in api.get("sd-models").json()}


def used(api, model: object) -> str:
    answer = api.paint(override_settings={"sd_model_checkpoint": model})
    return json.loads(answer["info"])["sd_model_name"]


def test_models_are_listed_by_file_name_and_only_the_first_is_loaded(api):
    entries = api.get("sd-models").json()
    assert [entry["model_name"] for entry in entries] == ["one", "sub_two", "three"]
    assert entries[0]["title"] == f"one.safetensors [{entries[0]['hash']}]"
    assert entries[0]["sha256"].startswith(entries[0]["hash"])
    assert entries[1].items() >= {"title": "sub/two.safetensors", "hash": None, "sha256": None}.items()
    assert api.get("options").json()["sd_model_checkpoint"] == entries[0]["title"]


def test_a_model_may_be_named_in_many_ways_once_it_was_loaded(api):
    for name in ("sub/two.safetensors", "sub_two", "two", "two.safetensors"):
        assert used(api, name) == "sub_two", name
    entry = models(api)["sub_two"]
    for name in (entry["title"], entry["hash"], entry["sha256"]):
        assert used(api, name) == "sub_two", name
    for name in ("Three", "three.safetensors", "", 5, None, "0123456789"):
        assert used(api, name) == "one", f"{name}: unknown, and replaced in silence"


def test_the_option_is_restored_but_not_the_model(api):
    before = api.get("options").json()
    other = api.paint(override_settings={"sd_model_checkpoint": "three"})
    after = api.get("options").json()
    assert after["sd_model_checkpoint"] == before["sd_model_checkpoint"]
    assert after["sd_checkpoint_hash"] == models(api)["three"]["sha256"]
    assert other["images"] != api.paint()["images"], "each model paints its own picture"
    assert api.get("options").json()["sd_checkpoint_hash"] == models(api)["one"]["sha256"]
    api.paint(override_settings={"sd_model_checkpoint": "three"}, override_settings_restore_afterwards=False)
    assert api.get("options").json()["sd_model_checkpoint"] == "three"
    assert api.paint()["images"] == other["images"]


def test_options_change_the_model_and_refuse_what_they_do_not_know(api):
    assert api.post("options", {"sd_model_checkpoint": "three.ckpt"}).json() is None
    assert api.get("options").json()["sd_model_checkpoint"] == models(api)["three"]["title"]
    response = api.post("options", {"sd_model_checkpoint": "nope", "jpeg_quality": 1})
    assert (response.status_code, response.json()["errors"]) == (500, "model 'nope' not found")
    response = api.post("options", {"nope": 1})
    assert (response.status_code, response.json()["error"]) == (500, "KeyError")
    assert api.post("options", {"api_forbid_local_requests": False}).status_code == 200
    unchanged = {"jpeg_quality": 80, "api_forbid_local_requests": True}
    assert api.get("options").json().items() >= unchanged.items()


def test_loading_takes_its_time_and_is_paid_by_whoever_needs_it(start):
    api = start(models=MODELS, load_time=0.3)
    answers = []
    switching = threading.Thread(target=lambda: answers.append(used(api, "three")))
    switching.start()
    until(lambda: _progress(api)["state"]["job_count"] == -1 or answers, "the model is being loaded")
    assert (answers, _progress(api)["progress"]) == ([], 0.01)
    switching.join()
    assert answers == ["three"]


def _progress(api) -> dict:
    return requests.get(f"{api.sim.url}/sdapi/v1/progress", timeout=9).json()


def test_an_override_leaks_on_a_fresh_server_and_not_once_it_is_configured(api):
    leaked = api.paint(override_settings={"samples_format": "jpeg"})
    assert opened(leaked["images"][0]).format == "JPEG"
    assert opened(api.paint()["images"][0]).format == "JPEG"
    api.post("options", {"samples_format": "png"})
    assert opened(api.paint(override_settings={"samples_format": "webp"})["images"][0]).format == "PNG"


def asked(api, model: str | None) -> requests.Response:
    override = {} if model is None else {"sd_model_checkpoint": model}
    body = {"prompt": "a", "steps": 1, "width": 64, "height": 64}
    return api.post("txt2img", {**body, "override_settings": override, "override_settings_restore_afterwards": False})


@pytest.fixture
def broken(start):
    def begin(flavour: str, models=(GOOD, OTHER, BROKEN), **settings):
        return start(flavour=flavour, models=models, broken=(BROKEN,), **settings)

    return begin


def test_a1111_keeps_what_is_loaded_and_its_option_stays_at_the_broken_file(broken):
    api = broken("a1111")
    assert asked(api, BROKEN).json()["error"] == "SafetensorError"
    assert api.get("options").json()["sd_model_checkpoint"] == BROKEN
    assert [asked(api, None).status_code for _ in range(2)] == [500, 500], "its own page's jobs"
    assert asked(api, GOOD).status_code == 200, "those that name a model"
    assert asked(api, None).status_code == 200, "healed by that"
    asked(api, BROKEN)
    assert api.post("options", {"sd_model_checkpoint": GOOD}).status_code == 200
    assert asked(api, None).status_code == 200, "the option can be put back"


def test_forge_loses_the_model_before_until_another_is_painted(broken):
    api = broken("forge")
    assert asked(api, GOOD).status_code == 200
    assert asked(api, BROKEN).json()["error"] == "ValueError"
    for _ in range(2):
        dead = asked(api, GOOD)
        assert (dead.status_code, dead.json()["error"]) == (500, "AttributeError")
    assert api.post("options", {"sd_model_checkpoint": GOOD}).status_code == 200
    assert asked(api, GOOD).status_code == 500, "naming it in the options heals nothing"
    assert asked(api, OTHER).status_code == 200
    assert asked(api, GOOD).status_code == 200


def test_forge_with_one_good_file_is_dead_after_a_broken_one(broken):
    api = broken("forge", models=(GOOD, BROKEN))
    assert [asked(api, model).status_code for model in (GOOD, BROKEN, GOOD, BROKEN, GOOD)] == [200, 500, 500, 500, 500]


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_without_any_model(start, flavour):
    api = start(flavour=flavour, models=())
    assert (api.get("sd-models").json(), api.get("options").status_code) == ([], 200)
    answer = asked(api, None)
    assert (answer.status_code, answer.json()["error"]) == (500, "FileNotFoundError")


def painted_by(answer: requests.Response) -> tuple[int, int, bool]:
    """Its status, how many pictures it has, and whether it says anything about them."""
    return answer.status_code, len(answer.json()["images"]), bool(answer.json()["info"])


def test_sdnext_loads_nothing_for_jobs_until_a_model_is_chosen(broken):
    api = broken("sdnext", nothing_loaded=True)
    for model in (None, GOOD, OTHER):
        assert painted_by(asked(api, model)) == (200, 0, False)
    assert api.get("options").json()["sd_model_checkpoint"] == "model.safetensors"
    assert api.post("options", {"sd_model_checkpoint": OTHER}).status_code == 200
    assert [painted_by(asked(api, model)) for model in (None, GOOD)] == [(200, 1, True)] * 2


def test_sdnext_has_nothing_loaded_after_a_broken_file(broken):
    api = broken("sdnext")
    assert painted_by(asked(api, BROKEN)) == (200, 0, True)
    assert painted_by(asked(api, GOOD)) == (200, 0, False)
    assert api.post("options", {"sd_model_checkpoint": BROKEN}).status_code == 200
    assert painted_by(asked(api, None)) == (200, 0, False)
    api.post("options", {"sd_model_checkpoint": GOOD})
    assert painted_by(asked(api, GOOD)) == (200, 1, True)
