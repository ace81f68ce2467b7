"""A checkpoint that a WebUI cannot load costs the caller who asks for it, and nobody else."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import Answer, problem_of
from tests.conftest import MakeApp
from tests.running import PREFIX, wait_until

GOOD, OTHER, BROKEN = "v1-5-pruned-emaonly.safetensors", "dream.safetensors", "vae.safetensors"
THIRD = "anime.safetensors"
REFUSAL = "the WebUIs that have this model cannot load it now; choose another model, or try again later"
BODY = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


def health(client: FlaskClient) -> dict[str, Any]:
    return dict(client.get(f"{PREFIX}/health").json)


def paint(client: FlaskClient, model: str) -> Answer:
    return client.post(f"{PREFIX}/txt2img", json={**BODY, "model": model})


def wait_until_free(client: FlaskClient) -> None:
    wait_until(lambda: health(client)["webuis"]["busy"] == 0, "the WebUI is free")


def page_job(webui: Simulator) -> int:
    """As the WebUI's own page sends it: without naming a model."""
    return requests.post(f"{webui.url}/sdapi/v1/txt2img", json={"steps": 1, "width": 64, "height": 64}).status_code


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_the_next_job_is_painted(make_app: MakeApp, flavour: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Simulator(flavour=flavour, models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url, LOG_LEVEL="WARNING").test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        problem = problem_of(paint(client, "vae"))
        assert (problem["status"], problem["code"]) == (502, "webui_error")
        for _ in range(2):
            assert paint(client, "sd-v1-5").status_code == 200
        assert paint(client, "dream").status_code == 200
        wait_until(lambda: health(client)["reasons"] == ["checkpoint_broken"], "health tells")
        assert health(client)["status"] == "degraded"
        assert "a webui cannot paint with vae; " in capfd.readouterr().out


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_what_failed_twice_is_not_sent_again(make_app: MakeApp, flavour: str) -> None:
    with Simulator(flavour=flavour, models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        assert paint(client, "vae").status_code == 502
        wait_until_free(client)
        webui.forget_requests()
        answer = paint(client, "vae")
        problem = problem_of(answer)
        assert (problem["status"], problem["code"], problem["retryable"]) == (503, "webui_unavailable", True)
        assert problem["detail"] == REFUSAL
        assert int(answer.headers["Retry-After"]) == 60
        assert webui.generations == []


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_what_waits_meanwhile_is_not_sent_either(make_app: MakeApp, flavour: str) -> None:
    """Both were accepted before the look at the models had ended."""
    with Simulator(flavour=flavour, models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        app = make_app(webui.url)
        assert paint(app.test_client(), "sd-v1-5").status_code == 200
        webui.forget_requests()
        webui.set_fault("slow", seconds=1, route="txt2img")
        with ThreadPoolExecutor(3) as callers:
            answers = list(callers.map(lambda _: paint(app.test_client(), "vae"), range(3)))
        webui.clear_faults()
        assert sorted(answer.status_code for answer in answers) == [502, 503, 503]
        assert {problem_of(answer)["detail"] for answer in answers if answer.status_code == 503} == {REFUSAL}
        wait_until_free(app.test_client())
        sent = [json.loads(one.body)["override_settings"]["sd_model_checkpoint"] for one in webui.generations]
        assert sent.count(BROKEN) == 2, "the job, and the look after it"


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_one_look_decides_where_nothing_was_painted_before(make_app: MakeApp, flavour: str) -> None:
    with Simulator(flavour=flavour, models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "vae").status_code == 502
        wait_until_free(client)
        assert paint(client, "vae").status_code == 503
        assert health(client)["reasons"] == ["checkpoint_broken"]
        assert [paint(client, model).status_code for model in ("sd-v1-5", "dream")] == [200, 200]


def test_beside_a_single_whole_checkpoint_the_second_failure_decides(make_app: MakeApp) -> None:
    """To try the broken one once more could leave Forge with nothing to be healed by."""
    with Simulator(models=(GOOD, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        for status in (502, 502, 503):
            assert paint(client, "vae").status_code == status
            wait_until_free(client)
        assert paint(client, "sd-v1-5").status_code == 200


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_the_webuis_own_page_goes_on_with_its_model(make_app: MakeApp, flavour: str) -> None:
    with Simulator(flavour=flavour, models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        assert paint(client, "vae").status_code == 502
        wait_until_free(client)
        option = requests.get(f"{webui.url}/sdapi/v1/options").json()["sd_model_checkpoint"]
        assert option.startswith(GOOD), "what it was before"
        assert page_job(webui) == 200


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
@pytest.mark.parametrize("models", [(GOOD, OTHER, THIRD, BROKEN), (GOOD, OTHER, BROKEN)])
def test_what_the_operator_has_chosen_is_put_back(make_app: MakeApp, flavour: str, models: tuple[str, ...]) -> None:
    with Simulator(flavour=flavour, models=models, broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        options = f"{webui.url}/sdapi/v1/options"
        assert requests.post(options, json={"sd_model_checkpoint": OTHER}).status_code == 200
        assert page_job(webui) == 200
        for status in (502, 503):
            assert paint(client, "vae").status_code == status
            wait_until_free(client)
            assert requests.get(options).json()["sd_model_checkpoint"].startswith(OTHER)
            assert page_job(webui) == 200


def test_the_choice_is_put_back_where_nobody_waits_any_more_as_well(make_app: MakeApp) -> None:
    with Simulator(models=(GOOD, OTHER, BROKEN), broken=(BROKEN,), load_time=2) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "dream").status_code == 200
        answer = client.post(f"{PREFIX}/txt2img", json={**BODY, "model": "vae"}, headers={"Prefer": "wait=1"})
        assert answer.status_code == 504
        wait_until_free(client)
        assert requests.get(f"{webui.url}/sdapi/v1/options").json()["sd_model_checkpoint"].startswith(OTHER)
        assert page_job(webui) == 200
        assert paint(client, "vae").status_code == 503


def test_a_broken_choice_of_the_operator_is_not_put_back(make_app: MakeApp) -> None:
    with Simulator(models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        assert requests.post(f"{webui.url}/sdapi/v1/options", json={"sd_model_checkpoint": BROKEN}).status_code == 500
        assert page_job(webui) == 500
        assert paint(client, "vae").status_code == 502
        wait_until_free(client)
        assert page_job(webui) == 200


def test_where_nothing_else_is_left_health_says_so(make_app: MakeApp) -> None:
    """Forge with one whole checkpoint: nothing but a restart helps it."""
    with Simulator(flavour="forge", models=(GOOD, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        assert paint(client, "vae").status_code == 502
        wait_until(lambda: health(client)["status"] == "unhealthy", "nothing can be painted")
        assert health(client)["reasons"] == ["no_checkpoint", "checkpoint_broken"]
        assert problem_of(paint(client, "sd-v1-5"))["status"] == 503
        port = int(webui.url.rpartition(":")[2])
    wait_until(lambda: health(client)["reasons"] == ["no_webui"], "it is gone")
    with Simulator(flavour="forge", models=(GOOD, BROKEN), broken=(BROKEN,), port=port):
        wait_until(lambda: health(client)["status"] == "healthy", "it was started anew")
        assert paint(client, "sd-v1-5").status_code == 200


def test_another_webui_paints_meanwhile(make_app: MakeApp, simulator: Simulator) -> None:
    with Simulator(flavour="forge", models=(GOOD, BROKEN), broken=(BROKEN,)) as dead:
        client = make_app(f"{dead.url},{simulator.url}").test_client()
        wait_until(lambda: health(client)["webuis"]["available"] == 2, "both are there")
        assert paint(client, "vae").status_code == 502
        assert [paint(client, "sd-v1-5").status_code for _ in range(4)] == [200] * 4


def test_a_job_that_fails_by_itself_breaks_no_model(make_app: MakeApp) -> None:
    with Simulator(models=(GOOD, OTHER)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        webui.set_fault("nan", times=1)
        assert paint(client, "dream").status_code == 502
        wait_until_free(client)
        assert health(client)["status"] == "healthy"
        assert paint(client, "dream").status_code == 200


def test_a_model_that_was_dead_before_the_service_came_is_healed(make_app: MakeApp) -> None:
    with Simulator(flavour="forge", models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        stranger = {"steps": 1, "width": 64, "height": 64, "override_settings": {"sd_model_checkpoint": BROKEN}}
        url = f"{webui.url}/sdapi/v1/txt2img"
        assert requests.post(url, json={**stranger, "override_settings_restore_afterwards": False}).status_code == 500
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 502
        wait_until_free(client)
        assert paint(client, "sd-v1-5").status_code == 200
        assert health(client)["status"] == "healthy"


def test_sdnext_with_nothing_loaded_is_made_to_load(make_app: MakeApp) -> None:
    with Simulator(flavour="sdnext", models=(GOOD, OTHER), nothing_loaded=True) as webui:
        client = make_app(webui.url).test_client()
        answer = client.post(f"{PREFIX}/txt2img", json={**BODY, "model": "dream", "batch_size": 2})
        assert (answer.status_code, len(answer.json["images"])) == (200, 2)
        assert len(webui.generations) == 2, "the one that painted nothing, and the one that did"
        for model in ("dream", "sd-v1-5"):
            assert paint(client, model).status_code == 200
        assert len(webui.generations) == 4
        assert health(client)["status"] == "healthy"


def test_sdnext_that_cannot_load_the_model_either_says_so(make_app: MakeApp) -> None:
    models = (GOOD, OTHER, BROKEN)
    with Simulator(flavour="sdnext", models=models, broken=(BROKEN,), nothing_loaded=True) as webui:
        client = make_app(webui.url).test_client()
        problem = problem_of(paint(client, "vae"))
        assert (problem["status"], problem["code"], problem["reason"]) == (502, "webui_error", "model_not_loaded")
        assert problem["detail"] == "the WebUI has no model loaded, and could not load this one"
        wait_until_free(client)
        assert health(client)["reasons"] == ["checkpoint_broken"]
        assert problem_of(paint(client, "vae"))["status"] == 503
        assert [paint(client, model).status_code for model in ("sd-v1-5", "dream")] == [200, 200]


def test_sdnext_that_dropped_its_model_for_a_broken_one_goes_on(make_app: MakeApp) -> None:
    with Simulator(flavour="sdnext", models=(GOOD, OTHER, BROKEN), broken=(BROKEN,)) as webui:
        client = make_app(webui.url).test_client()
        assert paint(client, "sd-v1-5").status_code == 200
        assert problem_of(paint(client, "vae"))["reason"] == "missing_images"
        wait_until_free(client)
        assert health(client)["reasons"] == ["checkpoint_broken"]
        assert page_job(webui) == 200
        assert [paint(client, model).status_code for model in ("sd-v1-5", "vae", "dream")] == [200, 503, 200]


def test_where_sdnext_can_load_nothing_health_says_so(make_app: MakeApp) -> None:
    with Simulator(flavour="sdnext", models=(BROKEN,), broken=(BROKEN,), nothing_loaded=True) as webui:
        client = make_app(webui.url).test_client()
        assert problem_of(paint(client, "vae"))["reason"] == "model_not_loaded"
        wait_until(lambda: health(client)["status"] == "unhealthy", "nothing can be painted")
        assert health(client)["reasons"] == ["no_checkpoint", "checkpoint_broken"]
