"""
Files that cannot be loaded, and no files at all: what A1111 and Forge do then, as the genuine ones were seen to.

Of SD.Next it was seen what it does with nothing loaded, and read in its source what it does with a broken file.
"""

import pytest
import requests

GOOD, OTHER, BROKEN = "one.safetensors", "two.safetensors", "vae.safetensors"


@pytest.fixture
def broken(start):
    def begin(flavour: str, models=(GOOD, OTHER, BROKEN)):
        return start(flavour=flavour, models=models, broken=(BROKEN,))

    return begin


def asked(api, model: str | None) -> requests.Response:
    override = {} if model is None else {"sd_model_checkpoint": model}
    body = {"prompt": "a", "steps": 1, "width": 64, "height": 64}
    return api.post("txt2img", {**body, "override_settings": override, "override_settings_restore_afterwards": False})


def test_a1111_keeps_what_is_loaded_and_its_option_stays_at_the_broken_file(broken):
    api = broken("a1111")
    assert asked(api, BROKEN).json()["error"] == "SafetensorError"
    assert api.get("options").json()["sd_model_checkpoint"] == BROKEN
    assert [asked(api, None).status_code for _ in range(2)] == [500, 500], "its own page's jobs"
    assert asked(api, GOOD).status_code == 200, "those that name a model"
    assert asked(api, None).status_code == 200, "healed by that"


def test_a1111s_option_can_be_put_back(broken):
    api = broken("a1111")
    asked(api, BROKEN)
    assert api.post("options", {"sd_model_checkpoint": GOOD}).status_code == 200
    assert asked(api, None).status_code == 200


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


def test_forge_loses_only_the_model_that_was_loaded_before(broken):
    api = broken("forge")
    assert asked(api, OTHER).status_code == 200
    assert asked(api, BROKEN).status_code == 500
    assert asked(api, GOOD).status_code == 200


def test_forge_with_one_good_file_is_dead_after_it(broken):
    api = broken("forge", models=(GOOD, BROKEN))
    assert [asked(api, model).status_code for model in (GOOD, BROKEN, GOOD, BROKEN, GOOD)] == [200, 500, 500, 500, 500]


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_without_any_model(start, flavour):
    api = start(flavour=flavour, models=())
    assert api.get("sd-models").json() == []
    assert api.get("options").status_code == 200
    answer = asked(api, None)
    assert (answer.status_code, answer.json()["error"]) == (500, "FileNotFoundError")


@pytest.fixture
def empty(start):
    return start(flavour="sdnext", models=(GOOD, OTHER, BROKEN), broken=(BROKEN,), nothing_loaded=True)


def painted_by(answer: requests.Response) -> tuple[int, int, bool]:
    """Its status, how many pictures it has, and whether it says anything about them."""
    return answer.status_code, len(answer.json()["images"]), bool(answer.json()["info"])


def test_sdnext_loads_nothing_for_jobs_where_nothing_is_loaded(empty):
    for model in (None, GOOD, OTHER):
        assert painted_by(asked(empty, model)) == (200, 0, False)
    assert empty.get("options").json()["sd_model_checkpoint"] == "model.safetensors"


def test_sdnext_loads_what_is_chosen_in_its_options(empty):
    assert empty.post("options", {"sd_model_checkpoint": OTHER}).status_code == 200
    assert [painted_by(asked(empty, model)) for model in (None, GOOD)] == [(200, 1, True)] * 2


def test_sdnext_has_nothing_loaded_after_a_broken_file(empty):
    empty.post("options", {"sd_model_checkpoint": GOOD})
    assert painted_by(asked(empty, BROKEN)) == (200, 0, True)
    assert painted_by(asked(empty, GOOD)) == (200, 0, False)
    assert empty.post("options", {"sd_model_checkpoint": BROKEN}).status_code == 200
    assert painted_by(asked(empty, None)) == (200, 0, False)
    empty.post("options", {"sd_model_checkpoint": GOOD})
    assert painted_by(asked(empty, GOOD)) == (200, 1, True)


def test_only_sdnext_starts_with_nothing_loaded(start):
    with pytest.raises(ValueError, match="always has a model"):
        start(flavour="a1111", nothing_loaded=True)
