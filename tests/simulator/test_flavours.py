"""How the other flavours differ from A1111 1.10."""

from __future__ import annotations

import json
import threading

import pytest
import requests
from PIL import ImageChops

from simulator import Simulator
from simulator.flavours import NAMES
from tests.simulator.pixels import encoded, mask, opened, pixels, sample, until

INIT = encoded(sample())


def info_of(answer: dict) -> dict:
    return json.loads(answer["info"])


@pytest.fixture(scope="module")
def servers():
    """One of each flavour, for tests that change nothing."""
    made = {name: Simulator(flavour=name) for name in NAMES}
    for server in made.values():
        server.start()
    yield made
    for server in made.values():
        server.close()


@pytest.fixture
def flavoured(servers, api_of):
    return lambda name: api_of(servers[name])


@pytest.mark.parametrize("flavour", NAMES)
def test_every_flavour_paints_the_same_for_the_same_request(flavoured, flavour):
    api = flavoured(flavour)
    answer = api.paint(sampler_name="Euler", batch_size=2)
    painted = 1 if flavour.startswith("koboldcpp") else 2
    assert len(answer["images"]) == painted
    assert info_of(answer)["all_seeds"] == [42, 43][:painted]
    assert opened(answer["images"][0]).size == (64, 64)
    assert opened(answer["images"][0]).format == ("JPEG" if flavour == "sdnext" else "PNG")
    assert api.paint(sampler_name="Euler", batch_size=2)["images"] == answer["images"]
    body = {"prompt": "a", "seed": 1, "steps": 1, "init_images": [INIT], "width": 64, "height": 64}
    assert api.post("img2img", {**body, "sampler_name": "Euler"}).status_code == 200
    assert api.get("sd-models").json()[0]["title"]
    assert "sd_model_checkpoint" in api.get("options").json()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flavour": "nope"}, "known are a1111"),
        ({"flavour": "sdcpp", "models": ()}, "at least one model"),
        ({"flavour": "sdcpp", "samples_format": "jpg"}, "nothing but png"),
        ({"flavour": "a1111", "nothing_loaded": True}, "always has a model"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        Simulator(**settings)


#: flavour, route, body, status, and a part of the answer
REFUSALS = [
    ("a1111-1.6", "txt2img", {"sampler_name": "Nope"}, 404, '"detail":"Sampler not found"'),
    ("forge", "txt2img", {"steps": "x"}, 422, '"type":"int_type","loc":["body","steps"]'),
    ("forge", "txt2img", {"steps": "x"}, 422, '"input":"x","url":"https://errors.pydantic.dev/2.'),
    ("forge", "txt2img", {"send_images": None}, 422, '"type":"null_type"'),
    ("forge", "txt2img", 5, 422, '"type":"dict_type"'),
    ("forge", "txt2img", {"steps": 0}, 500, '"body":"","message":"integer division'),
    ("forge", "img2img", {}, 404, '{"detail":"Init image not found"}'),
    ("sdnext", "img2img", {}, 400, '{"error":"Init image is none"}'),
    ("sdnext", "txt2img", {"sampler_name": "Nope"}, 404, '"code":404,"detail":"Sampler not found"'),
    ("sdcpp", "txt2img", {}, 400, "prompt required"),
    ("sdcpp", "txt2img", {"prompt": "a", "width": 0}, 400, "width and height must be positive"),
    ("sdcpp", "txt2img", {"prompt": "a", "cfg_scale": -1}, 400, "invalid params"),
    ("sdcpp", "txt2img", {"prompt": None}, 500, "type must be string, but is null"),
    ("sdcpp", "txt2img", {"prompt": "a", "steps": "1"}, 500, "type must be number, but is string"),
    ("sdcpp", "txt2img", [], 500, "cannot use value() with array"),
]


@pytest.mark.parametrize(("flavour", "route", "body", "status", "part"), REFUSALS)
def test_each_refuses_in_its_own_shape(flavoured, flavour, route, body, status, part):
    response = flavoured(flavour).post(route, body)
    assert (response.status_code, part in response.text) == (status, True), response.text


#: flavour, GET route, status, and a part of the answer
LISTS = [
    ("a1111-1.6", "schedulers", 404, "Not Found"),
    ("forge", "sd-vae", 404, "Not Found"),
    ("forge", "sd-modules", 200, '"model_name":"ae.safetensors"'),
    ("forge", "schedulers", 200, '"Align Your Steps GITS"'),
    ("sdnext", "samplers", 200, '{"name":"Default","options":{}}'),
    ("sdnext", "schedulers", 500, '"error":"ResponseValidationError"'),
    ("sdnext", "embeddings", 200, '{"loaded":[],"skipped":[]}'),
    ("sdnext", "sd-models", 200, '"type":"safetensors"'),
    ("sdnext", "version", 200, '"app":"sd.next"'),
    ("sdcpp", "sd-models", 200, '"hash":"8888888888","model_name":"v1-5-pruned-emaonly"'),
    ("sdcpp", "progress", 404, ""),
    ("sdcpp", "memory", 404, ""),
    ("koboldcpp", "samplers", 200, '"aliases":["euler_a","k_euler_a","k_euler_ancestral"]'),
    ("koboldcpp", "memory", 404, "this endpoint does not exist"),
    ("koboldcpp", "progress", 200, '"progress":0.0'),
    ("koboldcpp-1.115", "progress", 404, "this endpoint does not exist"),
]


@pytest.mark.parametrize(("flavour", "route", "status", "part"), LISTS)
def test_each_has_its_own_lists(flavoured, flavour, route, status, part):
    response = flavoured(flavour).get(route)
    assert (response.status_code, part in response.text) == (status, True), response.text


#: flavour, fields that are sent, and what info says was used
USED = [
    ("a1111-1.6", {"sampler_name": "DPM++ 2M Karras"}, {"sampler_name": "DPM++ 2M Karras"}),
    ("sdnext", {"sampler_name": "euler A"}, {"sampler_name": "Euler a", "cfg_scale": 6.0}),
    ("sdcpp", {"width": 65, "height": 60}, {"width": 65, "height": 60}),
    ("sdcpp", {"seed": 2**32 + 42}, {"seed": 42}),
    ("sdcpp", {"seed": 1.9}, {"seed": 1}),
    ("sdcpp", {"sampler_name": "Euler a"}, {"sampler_name": "euler_a"}),
    ("sdcpp", {"sampler_name": "Nonsense"}, {"sampler_name": "NONE"}),
    ("sdcpp", {"batch_size": 9}, {"all_seeds": list(range(42, 50))}),
    ("koboldcpp", {"width": 100, "height": 65}, {"width": 64, "height": 64}),
    ("koboldcpp", {"width": 1536, "height": 768}, {"width": 1152, "height": 576}),
    ("koboldcpp", {"steps": 100, "cfg_scale": 30}, {"steps": 80, "cfg_scale": 25}),
    ("koboldcpp", {"steps": 100, "add_sd_step_limit": 150}, {"steps": 100}),
    ("koboldcpp", {"sampler_name": "DDIM"}, {"sampler_name": "ddim_trailing"}),
    ("koboldcpp", {"sampler_name": "DPM++ 2M Karras"}, {"sampler_name": "dpm++2m"}),
    ("koboldcpp", {"sampler_name": "default"}, {"sampler_name": "euler_a"}),
    ("koboldcpp", {"prompt": "x" * 4000}, {"all_prompts": ["x" * 2999]}),
    ("koboldcpp-1.115", {"prompt": "x" * 4000}, {"all_prompts": ["x" * 2047]}),
]


@pytest.mark.parametrize(("flavour", "sent", "used"), USED)
def test_each_makes_something_else_of_some_fields(flavoured, flavour, sent, used):
    assert info_of(flavoured(flavour).paint(**sent)).items() >= used.items()


@pytest.mark.parametrize(
    ("flavour", "model", "asked", "painted"),
    [
        ("sdcpp", "sd15.safetensors", (65, 60), (128, 64)),
        ("sdcpp", "flux1.gguf", (65, 60), (72, 64)),
        ("koboldcpp", "v1-5.safetensors", (1536, 1536), (832, 832)),
        ("koboldcpp", "sd_xl.safetensors", (1536, 768), (1408, 704)),
        ("koboldcpp", "flux1.gguf", (79, 64), (72, 64)),
    ],
)
def test_sizes_follow_the_model(start, flavour, model, asked, painted):
    answer = start(flavour=flavour, models=(model,)).paint(width=asked[0], height=asked[1])
    assert opened(answer["images"][0]).size == painted


def test_fields_that_came_later_are_ignored_by_a1111_1_6(flavoured):
    answer = flavoured("a1111-1.6").paint(scheduler="karras", force_task_id="x")
    assert not {"scheduler", "force_task_id"} & answer["parameters"].keys()
    assert "version" not in info_of(answer)
    assert "Schedule type" not in info_of(answer)["infotexts"][0]


def test_forge_only_names_the_model_until_a_job_needs_it(start):
    api = start(flavour="forge", load_time=0.2, api_auth="a:b")
    assert api.get("progress").headers["www-authenticate"] == "Basic"
    api.session.auth = ("a", "b")
    assert "x-process-time" not in api.get("progress").headers
    assert api.post("options", {"sd_model_checkpoint": "dreamshaper_8"}).json() is None
    loaded = {entry["model_name"]: entry["hash"] for entry in api.get("sd-models").json()}
    assert loaded["dreamshaper_8"] is None
    assert info_of(api.paint())["sd_model_name"] == "dreamshaper_8"


def test_sdnext_says_little_and_knows_no_task(start):
    api = start(flavour="sdnext")
    for name in ("interrupt", "skip"):
        response = api.post(name)
        assert (response.status_code, response.content, "content-length" in response.headers) == (204, b"", False)
    assert api.post("options", {"jpeg_quality": 90}).json() == {"updated": [{"jpeg_quality": True}]}
    assert requests.get(f"{api.sim.url}/internal/ping", timeout=20).status_code == 404
    task = requests.post(f"{api.sim.url}/internal/progress", json={"id_task": "x"}, timeout=20).json()
    assert (task["active"], task["queued"], task["completed"]) == (False, False, False)


class TestSdCpp:
    @pytest.fixture
    def api(self, flavoured):
        return flavoured("sdcpp")

    @pytest.mark.parametrize("name", ["interrupt", "options", "samplers"])
    def test_nothing_can_be_changed(self, api, name):
        response = api.post(name, {})
        assert (response.status_code, response.content, response.headers["Connection"]) == (404, b"", "close")

    @pytest.mark.parametrize(
        ("body", "status"), [(b"", 400), (b"{", 500), (b'{"prompt":"\xff"}', 500), (b'{"prompt":"a","seed":NaN}', 500)]
    )
    def test_bad_bodies(self, api, body, status):
        response = requests.post(f"{api.sim.url}/sdapi/v1/txt2img", data=body, timeout=20)
        assert response.status_code == status

    def test_most_fields_are_ignored_and_all_are_echoed(self, api):
        ignored = {"override_settings": {"sd_model_checkpoint": "x"}, "sampler_index": "DDIM", "n_iter": 3}
        ignored |= {"styles": ["x"], "send_images": False, "scheduler": "Karras", "nonsense": 1}
        plain, answer = api.paint(), api.paint(**ignored)
        assert opened(answer["images"][0]).tobytes() == opened(plain["images"][0]).tobytes()
        assert answer["parameters"] == {**plain["parameters"], **ignored}
        assert 0 <= info_of(api.paint(seed=3_000_000_000))["seed"] < 2**31, "negative as int32: random"

    def paint(self, api, **body):
        response = api.post("img2img", {"prompt": "a cat", "steps": 1, "seed": 42, **body})
        assert response.status_code == 200, response.text
        assert response.json()["parameters"].items() >= body.items(), "pictures are echoed"
        return pixels(opened(response.json()["images"][0]))

    def test_a_bad_picture_is_ignored(self, api):
        without = pixels(opened(api.paint()["images"][0]))
        for bad in ("!!!", "", "aGVsbG8=", "http://127.0.0.1/x.png"):
            assert self.paint(api, width=64, height=64, init_images=[bad]) == without

    def test_without_a_size_the_picture_decides(self, api):
        assert self.paint(api, init_images=[encoded(sample((128, 192)))]).size == (128, 192)

    def test_a_mask_does_not_keep_the_rest_exactly(self, api):
        body = {"init_images": [INIT], "mask": encoded(mask((20, 20, 43, 43))), "denoising_strength": 1}
        difference = ImageChops.difference(self.paint(api, **body), sample()).convert("L")
        outside, inside = difference.crop((0, 0, 18, 18)), difference.crop((20, 20, 44, 44))
        assert 0 < outside.getextrema()[1] < inside.getextrema()[1]

    def test_what_it_is_recognised_by(self, api):
        assert requests.get(f"{api.sim.url}/sdcpp/v1/capabilities", timeout=20).status_code == 200
        assert (
            api.get("samplers", headers={"Origin": "http://a.example"}).headers["Access-Control-Allow-Origin"]
            == "http://a.example"
        )


class TestKoboldCpp:
    def test_errors_have_no_length_over_http_1_0(self, flavoured):
        response = requests.get(f"{flavoured('koboldcpp').sim.url}/sdcpp/v1/capabilities", timeout=20)
        assert (response.status_code, response.raw.version) == (404, 10)
        assert response.headers["Content-Type"] == "text/html"
        assert "Content-Length" not in response.headers

    def test_a_failure_is_a_picture_of_nothing(self, flavoured):
        answer = flavoured("koboldcpp").post("img2img", {"prompt": "a", "init_images": ["!!!"]}).json()
        assert answer["images"] == [""]
        assert set(info_of(answer)) == {"job_timestamp"}

    def test_progress_is_for_whoever_names_the_job(self, start):
        api = start(flavour="koboldcpp", step_time=1)

        def of(genkey: str) -> dict:
            return api.get("progress", params={"genkey": genkey}).json()

        body = {"prompt": "a", "steps": 100, "genkey": "mine"}
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"{api.sim.url}/sdapi/v1/txt2img", json=body, timeout=0.5)
        until(lambda: of("mine")["state"]["job_count"] == 0, "it stopped for a client that has gone")
        thread = threading.Thread(target=api.post, args=("txt2img", {**body, "steps": 2}), daemon=True)
        thread.start()
        until(lambda: of("mine")["progress"] > 0.3, "its progress is seen")
        assert api.get("progress").json()["progress"] == 0.0
        assert of("other")["state"]["job_count"] == 0
        thread.join()

    def test_an_interrupt_waits_behind_the_job(self, start):
        api = start(flavour="koboldcpp", step_time=0.25)
        thread = threading.Thread(target=api.post, args=("txt2img", {"prompt": "a", "steps": 2, "width": 512}))
        thread.start()
        until(lambda: len(api.sim.generations) == 1, "the job has come")
        assert requests.post(f"{api.sim.url}/sdapi/v1/interrupt", timeout=20).status_code == 404
        until(lambda: api.sim.generations[0].finished, "the job has ended")
        interrupt = next(one for one in api.sim.requests if one.route == "interrupt")
        assert interrupt.finished > api.sim.generations[0].started + 0.5
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
