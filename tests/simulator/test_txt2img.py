import json

import pytest

from simulator.checkpoints import Checkpoint
from tests.simulator.pixels import opened

FIRST_MODEL = Checkpoint("v1-5-pruned-emaonly.safetensors")


def info_of(answer: dict) -> dict:
    return json.loads(answer["info"])


def test_answer_has_the_three_keys_in_order(api):
    assert list(api.paint()) == ["images", "parameters", "info"]


def test_all_defaults_are_echoed(api):
    parameters = api.paint()["parameters"]
    assert parameters["sampler_name"] is None
    assert parameters["sampler_index"] == "Euler"
    assert parameters["denoising_strength"] is None
    assert parameters["seed"] == 42
    assert list(parameters)[:3] == ["prompt", "negative_prompt", "styles"]
    assert list(parameters)[-1] == "infotext"
    assert len(parameters) == 55


def test_info_says_what_was_used(api):
    info = info_of(api.paint(negative_prompt="blur"))
    assert info["seed"] == 42
    assert info["all_seeds"] == [42]
    assert info["sampler_name"] == "Euler"
    assert info["sd_model_name"] == "v1-5-pruned-emaonly"
    assert info["sd_model_hash"] == FIRST_MODEL.short_hash
    assert info["version"] == "v1.10.1"
    assert info["infotexts"] == [
        "a cat\nNegative prompt: blur\nSteps: 1, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.0, Seed: 42, "
        f"Size: 64x64, Model hash: {FIRST_MODEL.short_hash}, Model: v1-5-pruned-emaonly, Version: simulator"
    ]


def test_the_png_holds_the_infotext(api):
    answer = api.paint()
    picture = opened(answer["images"][0])
    assert picture.format == "PNG"
    assert picture.info["parameters"] == info_of(answer)["infotexts"][0]


def test_the_same_request_gives_the_same_bytes(api, start):
    first = api.paint(prompt="the sea")["images"]
    assert api.paint(prompt="the sea")["images"] == first
    assert start().paint(prompt="the sea")["images"] == first


def test_image_i_of_a_batch_is_the_image_of_seed_plus_i(api):
    answer = api.paint(batch_size=2, n_iter=2)
    assert info_of(answer)["all_seeds"] == [42, 43, 44, 45]
    assert answer["images"] == [api.paint(seed=seed)["images"][0] for seed in (42, 43, 44, 45)]
    assert len(set(answer["images"])) == 4


def test_with_variation_all_share_the_seed(api):
    info = info_of(api.paint(batch_size=2, subseed=7, subseed_strength=0.5))
    assert info["all_seeds"] == [42, 42]
    assert info["all_subseeds"] == [7, 8]
    assert "Variation seed: 8, Variation seed strength: 0.5" in info["infotexts"][1]


@pytest.mark.parametrize("seed", [-1, None])
def test_a_random_seed_is_told_only_in_info(api, seed):
    answer = api.paint(seed=seed)
    used = info_of(answer)["seed"]
    assert 0 <= used < 2**32 - 2
    assert answer["parameters"]["seed"] == seed
    assert api.paint(seed=used)["images"] == answer["images"]


@pytest.mark.parametrize(
    ("asked", "painted"), [((63, 64), (56, 64)), ((68, 64), (64, 64)), ((8, 8), (8, 8)), ((513, 64), (512, 64))]
)
def test_sizes_are_floored_to_eight_and_info_says_what_was_asked(api, asked, painted):
    answer = api.paint(width=asked[0], height=asked[1])
    assert opened(answer["images"][0]).size == painted
    assert (info_of(answer)["width"], info_of(answer)["height"]) == asked


def test_the_grid_comes_first_when_images_are_saved(api):
    answer = api.paint(batch_size=2, save_images=True)
    assert [opened(image).size for image in answer["images"]] == [(128, 64), (64, 64), (64, 64)]
    info = info_of(answer)
    assert info["index_of_first_image"] == 1
    assert len(info["infotexts"]) == 3
    assert len(api.paint(save_images=True)["images"]) == 1


def test_send_images_false_sends_none(api):
    assert api.paint(send_images=False)["images"] == []


def test_hires_fix_enlarges_the_picture_but_not_the_info(api):
    answer = api.paint(enable_hr=True, hr_scale=2, hr_upscaler="Latent", denoising_strength=0.5, hr_second_pass_steps=1)
    assert opened(answer["images"][0]).size == (128, 128)
    info = info_of(answer)
    assert info["width"] == 64
    assert info["extra_generation_params"]["Hires upscale"] == 2.0
    assert "Hires upscaler: Latent" in info["infotexts"][0]


@pytest.mark.parametrize(
    ("asked", "used", "schedule"),
    [
        ({"sampler_name": "Nope"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "k_euler"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "euler"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "DPM++ 2M Karras"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "Euler a Exponential"}, "Euler a", "Exponential"),
        ({"sampler_name": ""}, "Euler", "Automatic"),
        ({"sampler_index": "DDIM"}, "DDIM", "Automatic"),
        ({"scheduler": "Nope"}, "Euler", "Automatic"),
        ({"scheduler": "karras"}, "Euler", "Karras"),
        ({"scheduler": "SGM Uniform"}, "Euler", "SGM Uniform"),
    ],
)
def test_unknown_names_are_replaced_without_a_word(api, asked, used, schedule):
    info = info_of(api.paint(**asked))
    assert info["sampler_name"] == used
    assert f"Sampler: {used}, Schedule type: {schedule}" in info["infotexts"][0]


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ({"steps": 0}, "ZeroDivisionError", "integer division or modulo by zero"),
        ({"steps": -1}, "RuntimeError", "number of steps must be non-negative"),
        ({"batch_size": 0}, "IndexError", "list index out of range"),
        ({"width": 0}, "RuntimeError", "Kernel size can't be greater than actual input size"),
        ({"width": -64}, "RuntimeError", "negative dimension -8: [4, 8, -8]"),
        ({"width": None}, "TypeError", "'NoneType' and 'int'"),
        ({"prompt": None}, "AssertionError", ""),
        ({"prompt": "\ud800"}, "UnicodeEncodeError", "surrogates not allowed"),
        ({"seed": 2**64}, "ValueError", "Overflow when unpacking long long"),
        ({"width": 10**12}, "RuntimeError", "Cannot allocate memory"),
        ({"width": 10**19}, "RuntimeError", "Storage size calculation overflowed"),
        ({"n_iter": 10**9}, "RuntimeError", "Cannot allocate memory"),
        ({"override_settings": {"nope": 1}}, "KeyError", "'nope'"),
        ({"enable_hr": True, "hr_upscaler": "Nope"}, "Exception", "could not find upscaler named Nope"),
        ({"refiner_checkpoint": "nope"}, "Exception", "Could not find checkpoint with name nope"),
        ({"enable_hr": True, "hr_scale": 0}, "RuntimeError", "greater than 0"),
    ],
)
def test_most_mistakes_are_a_500(api, body, error, text):
    response = api.post("txt2img", {"steps": 1, "width": 64, "height": 64, **body})
    assert response.status_code == 500
    assert list(response.json()) == ["error", "detail", "body", "errors"]
    assert response.json()["error"] == error
    assert text in response.json()["errors"]
    assert "x-process-time" not in response.headers


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_not_a_number_reaches_the_sampler(api, value):
    response = api.session.post(
        f"{api.sim.url}/sdapi/v1/txt2img", data=f'{{"cfg_scale":{value},"width":64}}', timeout=9
    )
    assert (response.status_code, response.json()["error"]) == (500, "NansException")


@pytest.mark.parametrize("body", [{"script_name": "nope"}, {"alwayson_scripts": {"nope": {"args": []}}}])
def test_an_unknown_script_is_a_422_of_the_other_shape(api, body):
    response = api.post("txt2img", body)
    assert response.status_code == 422
    assert response.json()["detail"] == "Script 'nope' not found"


def test_comments_are_cut_out_of_the_prompt(api):
    assert info_of(api.paint(prompt="a cat # comment"))["prompt"] == "a cat \n"


@pytest.mark.parametrize(("kind", "signature"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_another_format(start, kind, signature):
    answer = start(samples_format=kind).paint()
    picture = opened(answer["images"][0])
    assert picture.format == signature
    comment = picture.getexif().get_ifd(0x8769)[0x9286]
    assert comment[8:].decode("utf-16-be") == info_of(answer)["infotexts"][0]


def test_png_info_reads_what_was_written(api):
    answer = api.paint(prompt="katze, 猫")
    found = api.post("png-info", {"image": answer["images"][0]}).json()
    assert found["info"] == info_of(answer)["infotexts"][0]
    assert found["parameters"]["Seed"] == "42"
    assert found["parameters"]["Size-1"] == "64"
    assert found["parameters"]["Prompt"] == "katze, 猫"
