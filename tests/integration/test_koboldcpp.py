"""KoboldCpp, and models that are no UNets: what they clamp in silence is refused or avoided, never delivered."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from PIL import Image, ImageChops, ImageStat

from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import VALID, text
from tests.running import PREFIX, service_in_process, wait_until
from tests.services import picture_samples as samples

V15 = ("v1-5-pruned-emaonly.safetensors",)
FLUX = ("flux1-dev-q8.gguf",)


class Bench:
    """Some WebUIs and the service before them."""

    def __init__(self, app: Flask, webuis: list[Simulator]) -> None:
        self.app = app
        self.webuis = webuis

    @property
    def webui(self) -> Simulator:
        return self.webuis[0]

    def post(self, route: str = "txt2img", *, request_id: str | None = None, **fields: Any) -> Any:
        headers = {"X-Request-ID": request_id} if request_id else {}
        body = {**VALID[route], "width": 64, "height": 64, "steps": 1, **fields}
        body = {name: value for name, value in body.items() if value is not None}
        return self.app.test_client().post(f"{PREFIX}/{route}", json=body, headers=headers)

    def paint(self, route: str = "txt2img", **fields: Any) -> dict[str, Any]:
        answer = self.post(route, **fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.get_json())

    def state(self, request_id: str) -> dict[str, Any]:
        answer = self.app.test_client().get(f"{PREFIX}/requests/{request_id}")
        return dict(answer.get_json())

    def cancel(self, request_id: str) -> int:
        return self.app.test_client().delete(f"{PREFIX}/requests/{request_id}").status_code


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:

        def make(*flavours: str, **settings: Any) -> Bench:
            own = {"models": V15, **settings}
            webuis = [stack.enter_context(Simulator(flavour=flavour, **own)) for flavour in flavours]
            urls = ",".join(webui.url for webui in webuis)
            model = own["models"][0].rpartition(".")[0]
            app = stack.enter_context(service_in_process(tmp_path / "service", urls, SD_MODEL=model))
            return Bench(app, webuis)

        yield make


def picture(image: dict[str, Any]) -> Image.Image:
    return samples.pixels(base64.b64decode(image["image_base64"].partition(",")[2]))


def jobs(webui: Simulator) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in webui.generations]


# --- What it cannot do at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["koboldcpp", "koboldcpp-1.115"])
def test_a_batch_is_sent_as_single_jobs_to_one_webui(bench: Callable[..., Bench], flavour: str) -> None:
    service = bench(flavour)
    body = service.paint(batch_size=3, seed=20)
    assert [image["seed"] for image in body["images"]] == [20, 21, 22]
    assert [(job["seed"], job["batch_size"]) for job in jobs(service.webui)] == [(20, 1), (21, 1), (22, 1)]
    for image in body["images"]:
        assert picture(image).tobytes() == picture(service.paint(seed=image["seed"])).tobytes()


def test_an_inpainting_batch(bench: Callable[..., Bench]) -> None:
    body = bench("koboldcpp").paint("inpainting", batch_size=2, seed=5, strength=1)
    assert len({picture(image).tobytes() for image in body["images"]}) == 2


def test_a_server_that_paints_batches_is_sent_one(bench: Callable[..., Bench]) -> None:
    service = bench("sdcpp")
    service.paint(batch_size=3)
    assert [job["batch_size"] for job in jobs(service.webui)] == [3]


def test_every_sampler_that_it_lists(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp")
    listed = service.app.test_client().get(f"{PREFIX}/options").json["samplers"]
    assert {"DDIM", "default"} <= set(listed)
    for sampler in listed:
        service.paint(sampler=sampler)


def test_steps_and_guidance_are_those_that_were_asked_for(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp")
    image = picture(service.paint(steps=150, cfg_scale=30))
    assert "Steps: 150, CFG scale: 30" in image.info["parameters"]


@pytest.mark.parametrize(("flavour", "most"), [("koboldcpp", 2999), ("koboldcpp-1.115", 2047)])
def test_a_prompt_that_it_cuts_is_refused(bench: Callable[..., Bench], flavour: str, most: int) -> None:
    service = bench(flavour)
    for _ in range(2):
        problem = problem_of(service.post(prompt="x" * 5000))
        assert [entry["field"] for entry in problem["errors"]] == ["prompt"]
        assert f"at most {most} bytes" in problem["detail"]
        assert len(service.webui.generations) == 1
    service.paint(prompt="x" * most)


@pytest.mark.parametrize("flavour", ["a1111", "sdcpp"])
def test_others_are_not_sent_its_fields(bench: Callable[..., Bench], flavour: str) -> None:
    service = bench(flavour)
    service.paint()
    (job,) = jobs(service.webui)
    assert not {"genkey", "add_sd_step_limit", "add_sd_cfg_limit"} & job.keys()


# --- Sizes -----------------------------------------------------------------------------------------------------------


def test_a_size_above_its_area_is_painted_once_and_refused_from_then_on(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp")
    for _ in range(2):
        problem = problem_of(service.post(width=1024, height=1024))
        assert (problem["status"], problem["code"]) == (422, "validation_error")
        assert {entry["field"] for entry in problem["errors"]} == {"width", "height"}
        assert f"{832 * 832} pixels can be generated" in problem["detail"]
        assert len(service.webui.generations) == 1
    assert service.paint(width=832, height=832)["width"] == 832


def test_a_size_that_is_left_to_the_service_is_one_that_can_be_painted(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp")
    image = text(samples.encode(samples.gradient(1200, 900)))
    for most in (2, 3):  # the first job shows the limit, and is done again within it
        body = service.paint("img2img", image=image, width=None, height=None)
        assert (body["width"], body["height"]) == picture(body).size
        assert body["width"] * body["height"] <= 832 * 832
        assert (body["width"] % 64, body["height"] % 64) == (0, 0)
        assert len(service.webui.generations) == most


def test_an_inpainting_is_done_again_within_a_limit_that_it_met(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp")
    photo, mask = samples.gradient(1200, 900), Image.new("L", (1200, 900))
    mask.paste(255, (400, 300, 800, 600))
    fields = {"image": text(samples.encode(photo)), "mask": text(samples.encode(mask)), "strength": 1}
    body = service.paint("inpainting", **fields, width=None, height=None)
    assert len(service.webui.generations) == 2
    assert body["width"] * body["height"] <= 832 * 832
    kept = picture(body).crop((0, 0, body["width"] // 4, body["height"])).convert("RGB")
    due = photo.resize((body["width"], body["height"])).crop((0, 0, *kept.size)).convert("RGB")
    assert max(ImageStat.Stat(ImageChops.difference(kept, due)).mean) < 2


@pytest.mark.parametrize("flavour", ["koboldcpp", "sdcpp"])
@pytest.mark.parametrize("route", ["txt2img", "img2img", "inpainting"])
def test_a_model_that_is_no_unet_paints_multiples_of_8(bench: Callable[..., Bench], flavour: str, route: str) -> None:
    service = bench(flavour, models=FLUX)
    body = service.paint(route, width=72, height=104)
    assert (body["width"], body["height"]) == (72, 104) == picture(body).size
    # From now on it is known, so that derived sizes follow the picture as closely.
    image = text(samples.encode(samples.gradient(200, 136)))
    derived = service.paint("img2img", image=image, width=None, height=None)
    assert (derived["width"], derived["height"]) == (200, 136)


@pytest.mark.parametrize("flavour", ["koboldcpp", "sdcpp"])
def test_a_unet_is_found_out_and_its_nearest_sizes_are_told(bench: Callable[..., Bench], flavour: str) -> None:
    service = bench(flavour)
    problem = problem_of(service.post(width=520, height=512))
    assert [entry["field"] for entry in problem["errors"]] == ["width"]
    assert "must be a multiple of" in problem["detail"]
    painted = len(service.webui.generations)
    assert problem_of(service.post(width=520, height=512))["status"] == 422
    assert len(service.webui.generations) == painted


def test_another_webui_of_the_pool_paints_what_one_cannot(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp", "a1111")
    for _ in range(3):
        assert picture(service.paint(width=520, height=1000)).size == (520, 1000)
    assert len(service.webuis[0].generations) <= 1
    assert len(service.webuis[1].generations) == 3


def test_jobs_that_wait_while_a_limit_is_met_are_told_so_or_done_within_it(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp", step_time=0.2)
    image = text(samples.encode(samples.gradient(1200, 900)))
    asked: list[dict[str, Any]] = [{"route": "img2img", "image": image, "width": None, "height": None}] * 2
    asked += [{"width": 1024, "height": 1024}] * 2
    with ThreadPoolExecutor() as pool:
        jobs_under_way = [pool.submit(service.post, **fields) for fields in asked]
        answers = [job.result() for job in jobs_under_way]
    assert [answer.status_code for answer in answers] == [200, 200, 422, 422]
    for answer in answers[:2]:
        assert picture(answer.get_json()).size == (answer.json["width"], answer.json["height"])


def test_while_the_webui_that_could_is_away_the_answer_is_that_none_is_reachable(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp", "a1111")
    service.paint(width=520)
    service.webuis[1].close()
    wait_until(
        lambda: service.app.test_client().get(f"{PREFIX}/health").json["webuis"]["available"] == 1, "one is away"
    )
    problem = problem_of(service.post(width=520))
    assert (problem["status"], problem["code"]) == (503, "webui_unavailable")


def test_what_was_learned_outlives_the_service(tmp_path: Path) -> None:
    with Simulator(flavour="sdcpp", models=V15) as webui:
        for _ in range(2):
            with service_in_process(tmp_path, webui.url) as app:
                bench = Bench(app, [webui])
                assert problem_of(bench.post(width=520, height=520))["status"] == 422
                assert len(webui.generations) == 1


# --- Following and ending a job --------------------------------------------------------------------------------------


def painting(service: Bench, pool: ThreadPoolExecutor, **fields: Any) -> Future[Any]:
    job = pool.submit(service.post, request_id="mine", **fields)
    wait_until(lambda: len(service.webui.generations) > 0, "the job has come")
    return job


def test_progress_is_of_the_whole_batch(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp", step_time=4.0)
    seen: list[float] = []

    def look() -> bool:
        state = service.state("mine")
        if state["status"] == "running" and state["progress"] is not None:
            seen.append(state["progress"])
        return state["status"] == "done"

    with ThreadPoolExecutor() as pool:
        job = painting(service, pool, batch_size=2, steps=24)
        wait_until(look, "the batch is done")
        assert job.result().status_code == 200
    assert seen == sorted(seen)
    assert any(0.05 < progress < 0.5 for progress in seen)
    assert any(0.5 < progress < 1 for progress in seen)


def test_no_progress_where_it_tells_none(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp-1.115", step_time=4.0)
    with ThreadPoolExecutor() as pool:
        job = painting(service, pool, steps=8)
        assert service.state("mine")["progress"] is None
        assert job.result().status_code == 200


def test_closing_the_connection_ends_the_job(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp", step_time=4.0)
    with ThreadPoolExecutor() as pool:
        job = painting(service, pool, batch_size=3, steps=150)
        assert service.cancel("mine") == 204
        assert job.result().status_code == 409
    # The cancelled job would have run for 27 s.
    service.paint(seed=3)
    assert [job["seed"] for job in jobs(service.webui)][-1] == 3
    assert len(service.webui.generations) == 2
    assert not [request for request in service.webui.requests if request.route == "interrupt"]
    health = service.app.test_client().get(f"{PREFIX}/health").json
    assert health["status"] == "healthy"


def test_where_nothing_ends_a_job_the_rest_of_the_batch_is_not_begun(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp-1.115", step_time=4.0)
    with ThreadPoolExecutor() as pool:
        job = painting(service, pool, batch_size=4, steps=16)
        assert service.cancel("mine") == 204
        assert job.result().status_code == 409
        following = service.post(seed=99)
    assert following.status_code == 200
    assert len(service.webui.generations) == 2
    assert not [request for request in service.webui.requests if request.route == "interrupt"]


def test_a_batch_ends_within_its_time(bench: Callable[..., Bench]) -> None:
    service = bench("koboldcpp", step_time=4.0)
    answer = service.app.test_client().post(
        f"{PREFIX}/txt2img",
        json={"prompt": "a", "width": 64, "height": 64, "steps": 16, "batch_size": 4},
        headers={"Prefer": "wait=2"},
    )
    assert answer.status_code == 504, answer.text
    service.paint()
    assert len(service.webui.generations) < 5
