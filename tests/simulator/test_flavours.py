import json
import threading

import pytest
import requests
from PIL import Image, ImageChops

from simulator import Simulator
from simulator.flavours import NAMES
from tests.simulator.pixels import encoded, mask, opened, sample, until

INIT = encoded(sample())


def info_of(answer: dict) -> dict:
    return json.loads(answer["info"])


@pytest.mark.parametrize("flavour", NAMES)
def test_every_flavour_paints_the_same_for_the_same_request(start, flavour):
    api = start(flavour=flavour)
    answer = api.paint(sampler_name="Euler", batch_size=2)
    painted = 1 if flavour.startswith("koboldcpp") else 2
    assert len(answer["images"]) == painted
    assert info_of(answer)["all_seeds"] == [42, 43][:painted]
    assert opened(answer["images"][0]).size == (64, 64)
    assert api.paint(sampler_name="Euler", batch_size=2)["images"] == answer["images"]
    body = {"prompt": "a", "seed": 1, "steps": 1, "init_images": [INIT], "width": 64, "height": 64}
    assert api.post("img2img", {**body, "sampler_name": "Euler"}).status_code == 200
    assert api.get("sd-models").json()[0]["title"]
    assert "sd_model_checkpoint" in api.get("options").json()


def test_an_unknown_flavour():
    with pytest.raises(ValueError, match="known are a1111"):
        Simulator(flavour="nope")


class TestOldA1111:
    @pytest.fixture
    def api(self, start):
        return start(flavour="a1111-1.6")

    def test_the_scheduler_is_part_of_the_sampler(self, api):
        info = info_of(api.paint(sampler_name="DPM++ 2M Karras"))
        assert info["sampler_name"] == "DPM++ 2M Karras"
        assert "Schedule type" not in info["infotexts"][0]
        assert "version" not in info
        assert api.get("schedulers").json() == {"detail": "Not Found"}

    def test_an_unknown_sampler_is_a_404_of_the_other_shape(self, api):
        response = api.post("txt2img", {"sampler_name": "Nope"})
        assert (response.status_code, response.json()["detail"]) == (404, "Sampler not found")

    def test_later_fields_are_ignored(self, api):
        parameters = api.paint(scheduler="karras", force_task_id="x")["parameters"]
        assert "scheduler" not in parameters
        assert "force_task_id" not in parameters


class TestForge:
    @pytest.fixture
    def api(self, start):
        return start(flavour="forge")

    def test_modules_instead_of_vaes(self, api):
        assert api.get("sd-vae").status_code == 404
        assert set(api.get("sd-modules").json()[0]) == {"model_name", "filename"}

    def test_fractions_and_numbers_for_texts_are_refused_with_the_value(self, api):
        response = api.post("txt2img", {"steps": 4.7, "prompt": 5, "seed": "12", "width": None})
        assert response.status_code == 422
        entries = {entry["loc"][1]: entry for entry in response.json()["detail"]}
        assert set(entries) == {"steps", "prompt"}
        assert (entries["steps"]["type"], entries["steps"]["input"]) == ("int_from_float", 4.7)
        assert entries["steps"]["url"].startswith("https://errors.pydantic.dev/2.")
        assert entries["prompt"]["type"] == "string_type"

    @pytest.mark.parametrize("field", ["sampler_index", "script_args", "alwayson_scripts", "send_images"])
    def test_some_nulls_are_refused(self, api, field):
        assert api.post("txt2img", {field: None}).status_code == 422

    def test_a_list_is_no_object(self, api):
        assert api.post("txt2img", []).json()["detail"][0]["type"] == "model_attributes_type"

    def test_errors(self, api):
        response = api.post("txt2img", {"steps": 0})
        assert response.status_code == 500
        assert list(response.json()) == ["error", "detail", "body", "message"]
        response = api.post("img2img", {})
        assert (response.status_code, response.json()) == (404, {"detail": "Init image not found"})
        assert "x-process-time" not in api.get("progress").headers
        malformed = requests.post(f"{api.sim.url}/sdapi/v1/txt2img", data='{"prompt": "secret"', timeout=20)
        assert malformed.json()["detail"][0]["type"] == "json_invalid"
        assert "secret" not in malformed.text

    def test_unauthorized_has_a_challenge(self, start):
        response = start(flavour="forge", api_auth="a:b").get("progress")
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Basic")

    def test_hires_fix_needs_its_modules(self, api):
        hires = {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.5}
        response = api.post("txt2img", {"width": 64, "height": 64, **hires})
        assert (response.status_code, response.json()["error"]) == (500, "TypeError")
        assert opened(api.paint(**hires, hr_additional_modules=[])["images"][0]).size == (128, 128)

    def test_options_only_note_the_model(self, start):
        api = start(flavour="forge", load_time=0.2)
        assert api.post("options", {"sd_model_checkpoint": "dreamshaper_8"}).json() is None
        loaded = {entry["model_name"]: entry["hash"] for entry in api.get("sd-models").json()}
        assert loaded["dreamshaper_8"] is None
        assert info_of(api.paint())["sd_model_name"] == "dreamshaper_8"


class TestSDNext:
    @pytest.fixture
    def api(self, start):
        return start(flavour="sdnext")

    def test_jpeg_and_its_own_defaults(self, api):
        answer = api.paint()
        assert opened(answer["images"][0]).format == "JPEG"
        assert answer["parameters"]["cfg_scale"] == 6.0
        response = api.post("txt2img", {"prompt": "a", "steps": 1})
        assert opened(response.json()["images"][0]).size == (1024, 1024)

    @pytest.mark.parametrize("name", ["interrupt", "skip", "refresh-checkpoints", "unload-checkpoint"])
    def test_204_without_a_body(self, api, name):
        response = api.post(name)
        assert (response.status_code, response.content) == (204, b"")
        assert "content-length" not in response.headers

    def test_errors(self, api):
        response = api.post("img2img", {})
        assert (response.status_code, response.json()) == (400, {"error": "Init image is none"})
        response = api.post("txt2img", {"sampler_name": "Nope"})
        assert (response.status_code, response.json()["code"]) == (404, 404)
        assert info_of(api.paint(sampler_name="euler A"))["sampler_name"] == "Euler a"

    def test_lists(self, api):
        assert set(api.get("samplers").json()[0]) == {"name", "options"}
        schedulers = api.get("schedulers")
        assert (schedulers.status_code, schedulers.json()["error"]) == (500, "ResponseValidationError")
        assert api.get("embeddings").json() == {"loaded": [], "skipped": []}
        assert api.get("sd-models").json()[0]["type"] == "safetensors"
        assert "id" in api.get("progress").json()
        assert api.get("status").json()["status"] == "idle"
        assert api.get("checkpoint").json()["model_name"] == "v1-5-pruned-emaonly"
        assert api.get("latent-upscale-modes").status_code == 404
        assert requests.get(f"{api.sim.url}/internal/ping", timeout=20).status_code == 404
        task = requests.post(f"{api.sim.url}/internal/progress", json={"id_task": "x"}, timeout=20).json()
        assert (task["active"], task["queued"], task["completed"]) == (False, False, False)

    def test_options_say_what_was_changed(self, api):
        assert api.post("options", {"jpeg_quality": 90}).json() == {"updated": [{"jpeg_quality": True}]}


class TestSdCpp:
    @pytest.fixture
    def api(self, shared_sdcpp):
        return shared_sdcpp

    def test_one_model_with_a_dummy_hash(self, api):
        (entry,) = api.get("sd-models").json()
        assert (entry["hash"], entry["title"]) == ("8888888888", "v1-5-pruned-emaonly")
        own = {"samples_format": "png", "sd_model_checkpoint": "v1-5-pruned-emaonly"}
        assert api.get("options").json() == own | {"simulator": True}

    @pytest.mark.parametrize("name", ["progress", "memory", "sd-vae", "embeddings", "txt2img", "samplers/"])
    def test_what_is_not_there_is_an_empty_404(self, api, name):
        response = api.get(name)
        assert (response.status_code, response.content) == (404, b"")
        assert response.headers["Connection"] == "close"

    @pytest.mark.parametrize("name", ["interrupt", "options", "refresh-checkpoints", "samplers"])
    def test_nothing_can_be_changed(self, api, name):
        assert api.post(name, {}).status_code == 404

    @pytest.mark.parametrize(
        ("asked", "painted"), [((1, 1), (64, 64)), ((65, 64), (128, 64)), ((100, 60), (128, 64)), ((512, 8), (512, 64))]
    )
    def test_sizes_go_up_to_64_and_info_says_what_was_asked(self, api, asked, painted):
        answer = api.paint(width=asked[0], height=asked[1])
        assert opened(answer["images"][0]).size == painted
        assert (info_of(answer)["width"], info_of(answer)["height"]) == asked

    @pytest.mark.parametrize(
        ("seed", "used"), [(2**32 + 42, 42), (2**40, 0), (2**63, 0), (1.9, 1), (2**31 - 1, 2**31 - 1)]
    )
    def test_seeds_are_cut_to_int32(self, api, seed, used):
        assert info_of(api.paint(seed=seed))["seed"] == used

    @pytest.mark.parametrize("seed", [-1, -5, 3_000_000_000])
    def test_negative_as_int32_is_random(self, api, seed):
        assert 0 <= info_of(api.paint(seed=seed))["seed"] < 2**31

    @pytest.mark.parametrize(
        ("body", "status", "error"),
        [
            ({}, 400, "prompt required"),
            ({"prompt": ""}, 400, "prompt required"),
            ({"prompt": "a", "width": 0}, 400, "width and height must be positive"),
            ({"prompt": "a", "cfg_scale": -1}, 400, "invalid params"),
            ({"prompt": "a", "enable_hr": True, "hr_upscaler": "Nope"}, 400, "invalid params"),
            ({"prompt": "a", "lora": [{"path": "nosuch.safetensors"}]}, 400, "invalid lora path: nosuch.safetensors"),
            ({"prompt": None}, 500, "type must be string, but is null"),
            ({"prompt": "a", "seed": None}, 500, "type must be number, but is null"),
            ({"prompt": "a", "steps": "1"}, 500, "type must be number, but is string"),
            ({"prompt": "a", "enable_hr": None}, 500, "type must be boolean, but is null"),
            ([], 500, "cannot use value() with array"),
        ],
    )
    def test_errors(self, api, body, status, error):
        response = api.post("txt2img", body)
        assert response.status_code == status
        assert error in response.json()["error" if status == 400 else "message"]

    @pytest.mark.parametrize(
        ("body", "status"), [(b"", 400), (b"{", 500), (b'{"prompt":"\xff"}', 500), (b'{"prompt":"a","seed":NaN}', 500)]
    )
    def test_bad_bodies(self, api, body, status):
        response = requests.post(f"{api.sim.url}/sdapi/v1/txt2img", data=body, timeout=20)
        assert response.status_code == status

    @pytest.mark.parametrize(("batch", "count"), [(0, 1), (2, 2), (9, 8)])
    def test_batches(self, api, batch, count):
        assert len(api.paint(batch_size=batch)["images"]) == count

    @pytest.mark.parametrize(
        "ignored",
        [
            {"override_settings": {"sd_model_checkpoint": "x"}},
            {"sampler_index": "DDIM"},
            {"n_iter": 3},
            {"styles": ["x"]},
            {"script_name": "x"},
            {"send_images": False},
            {"subseed": 4, "subseed_strength": 1},
            {"scheduler": "Karras"},
            {"sampler_name": "Nonsense"},
            {"nonsense": 1},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_most_fields_are_ignored_and_all_are_echoed(self, api, ignored):
        plain, answer = api.paint(), api.paint(**ignored)
        assert opened(answer["images"][0]).tobytes() == opened(plain["images"][0]).tobytes()
        assert answer["parameters"] == {**plain["parameters"], **ignored}
        assert info_of(answer)["sampler_name"] == "NONE"

    @pytest.mark.parametrize(("asked", "used"), [("Euler a", "euler_a"), ("DPM++ 2M", "dpm++2m"), ("lms", "lms")])
    def test_samplers(self, api, asked, used):
        assert info_of(api.paint(sampler_name=asked))["sampler_name"] == used

    def test_settings_hidden_in_the_prompt(self, api):
        hidden = '{"seed": 777, "sample_params": {"sample_steps": 2}}'
        info = info_of(api.paint(prompt=f"a cat <sd_cpp_extra_args>{hidden}</sd_cpp_extra_args>"))
        assert (info["seed"], info["steps"], info["prompt"]) == (777, 2, "a cat ")

    def paint(self, api, **body) -> Image.Image:
        response = api.post("img2img", {"prompt": "a cat", "steps": 1, "seed": 42, **body})
        assert response.status_code == 200, response.text
        picture = opened(response.json()["images"][0])
        return Image.frombytes("RGB", picture.size, picture.tobytes())

    @pytest.mark.parametrize("bad", ["!!!", "", "aGVsbG8=", "http://127.0.0.1/x.png"])
    def test_a_bad_picture_is_ignored(self, api, bad):
        painted = self.paint(api, width=64, height=64, init_images=[bad])
        assert painted == Image.frombytes("RGB", (64, 64), opened(api.paint()["images"][0]).tobytes())

    def test_without_a_size_the_picture_decides(self, api):
        assert self.paint(api, init_images=[encoded(sample((128, 192)))]).size == (128, 192)

    def test_a_mask_does_not_keep_the_rest_exactly(self, api):
        body = {"init_images": [INIT], "mask": encoded(mask((20, 20, 43, 43))), "denoising_strength": 1}
        difference = ImageChops.difference(self.paint(api, **body), sample()).convert("L")
        outside, inside = difference.crop((0, 0, 18, 18)), difference.crop((20, 20, 44, 44))
        assert 0 < outside.getextrema()[1] < inside.getextrema()[1]

    def test_pictures_are_echoed(self, api):
        body = {"prompt": "a", "steps": 1, "init_images": [INIT], "mask": "!!!", "width": 64, "height": 64}
        answer = api.post("img2img", body).json()
        assert list(answer) == ["images", "info", "parameters"]
        assert answer["parameters"] == body

    def test_any_origin_is_reflected(self, api):
        headers = api.get("samplers", headers={"Origin": "http://evil.example"}).headers
        assert headers["Access-Control-Allow-Origin"] == "http://evil.example"
        assert headers["Access-Control-Allow-Credentials"] == "true"
        assert requests.options(f"{api.sim.url}/sdapi/v1/txt2img", timeout=20).status_code == 204
        assert requests.head(f"{api.sim.url}/sdapi/v1/samplers", timeout=20).status_code == 200

    def test_eight_connections_and_no_more(self, start):
        api = start(flavour="sdcpp", step_time=1000)
        threads = [threading.Thread(target=self._ignored, args=(api.sim.url,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(api.sim.generations) == 8, "all have come")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{api.sim.url}/sdapi/v1/samplers", timeout=0.2)
        api.sim.close()
        for thread in threads:
            thread.join()

    def _ignored(self, url: str) -> None:
        with pytest.raises(requests.ConnectionError):
            requests.post(f"{url}/sdapi/v1/txt2img", json={"prompt": "a"}, timeout=60)

    def test_it_tells_what_it_is(self, api):
        capabilities = requests.get(f"{api.sim.url}/sdcpp/v1/capabilities", timeout=20).json()
        assert capabilities["features"]["cancel_generating"] is False
        assert capabilities["limits"]["max_width"] == 4096

    @pytest.mark.parametrize(("model", "painted"), [("flux1-dev.gguf", (72, 64)), ("flux2-dev.gguf", (80, 64))])
    def test_models_that_are_no_unets_paint_finer_sizes(self, start, model, painted):
        api = start(flavour="sdcpp", models=(model,))
        assert opened(api.paint(width=72, height=64)["images"][0]).size == painted


class TestKoboldCpp:
    @pytest.fixture
    def api(self, start):
        return start(flavour="koboldcpp")

    def test_it_tells_what_it_is(self, api):
        told = requests.get(f"{api.sim.url}/api/extra/version", timeout=20).json()
        assert (told["result"], told["version"]) == ("KoboldCpp", "1.121")
        (entry,) = api.get("sd-models").json()
        assert (entry["hash"], entry["title"]) == ("8888888888", "v1-5-pruned-emaonly")

    def test_what_is_not_there_is_a_page_without_a_length_over_http_1_0(self, api):
        response = requests.get(f"{api.sim.url}/sdcpp/v1/capabilities", timeout=20)
        assert (response.status_code, response.raw.version) == (404, 10)
        assert response.headers["Content-Type"] == "text/html"
        assert "Content-Length" not in response.headers
        assert "does not exist" in response.text

    def test_steps_and_guidance_are_clamped_unless_a_field_lifts_that(self, api):
        info = info_of(api.paint(steps=100, cfg_scale=30))
        assert (info["steps"], info["cfg_scale"]) == (80, 25)
        info = info_of(api.paint(steps=100, cfg_scale=30, add_sd_step_limit=150, add_sd_cfg_limit=30))
        assert (info["steps"], info["cfg_scale"]) == (100, 30)

    @pytest.mark.parametrize(
        ("model", "asked", "painted"),
        [
            ("v1-5.safetensors", (100, 60), (64, 64)),
            ("v1-5.safetensors", (1536, 1536), (832, 832)),
            ("sd_xl.safetensors", (1536, 768), (1408, 704)),
            ("flux1.gguf", (72, 64), (72, 64)),
        ],
    )
    def test_sizes_go_down_to_the_step_and_the_area(self, start, model, asked, painted):
        answer = start(flavour="koboldcpp", models=(model,)).paint(width=asked[0], height=asked[1])
        assert opened(answer["images"][0]).size == painted
        assert (info_of(answer)["width"], info_of(answer)["height"]) == painted

    @pytest.mark.parametrize(
        ("asked", "told"),
        [("DDIM", "ddim_trailing"), ("default", "euler_a"), ("DPM++ 2M Karras", "dpm++2m"), ("Nonsense", "euler_a")],
    )
    def test_samplers_are_told_by_their_other_name(self, api, asked, told):
        info = info_of(api.paint(sampler_name=asked))
        assert info["sampler_name"] == told
        assert "extra_generation_params" not in info

    def test_a_failure_is_a_picture_of_nothing(self, api):
        answer = api.post("img2img", {"prompt": "a", "init_images": ["!!!"]}).json()
        assert answer["images"] == [""]
        assert set(info_of(answer)) == {"job_timestamp"}

    def test_progress_is_told_to_whoever_names_the_job(self, start):
        api = start(flavour="koboldcpp", step_time=1)
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{api.sim.url}/sdapi/v1/txt2img",
                json={"prompt": "a", "steps": 100, "genkey": "mine"},
                timeout=1.0,
            )
        # It stops for a client that has gone, at its next step.
        until(lambda: api.get("progress", params={"genkey": "mine"}).json()["state"]["job_count"] == 0, "it stopped")
        thread = threading.Thread(
            target=api.post, args=("txt2img", {"prompt": "a", "steps": 3, "genkey": "mine"}), daemon=True
        )
        thread.start()
        until(lambda: api.get("progress", params={"genkey": "mine"}).json()["progress"] > 0.3, "it is told")
        assert api.get("progress").json()["progress"] == 0.0
        assert api.get("progress", params={"genkey": "other"}).json()["state"]["job_count"] == 0
        thread.join()

    def test_older_ones_tell_no_progress(self, start):
        api = start(flavour="koboldcpp-1.115")
        assert api.get("progress").status_code == 404

    def test_an_interrupt_waits_behind_the_job(self, start):
        api = start(flavour="koboldcpp", step_time=0.5)
        thread = threading.Thread(target=api.post, args=("txt2img", {"prompt": "a", "steps": 2, "width": 512}))
        thread.start()
        until(lambda: len(api.sim.generations) == 1, "the job has come")
        assert requests.post(f"{api.sim.url}/sdapi/v1/interrupt", timeout=20).status_code == 404
        assert not thread.is_alive() or thread.join(5) is None
        thread.join()

    def test_ten_may_wait(self, start):
        api = start(flavour="koboldcpp", step_time=1000)

        def ask() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.post(f"{api.sim.url}/sdapi/v1/txt2img", json={"prompt": "a"}, timeout=60)

        threads = [threading.Thread(target=ask) for _ in range(11)]
        for thread in threads:
            thread.start()
        until(lambda: len(api.sim.generations) == 11, "all have come")
        response = api.post("txt2img", {"prompt": "a"})
        assert (response.status_code, response.json()["detail"]["type"]) == (503, "service_unavailable")
        api.sim.close()
        for thread in threads:
            thread.join()
