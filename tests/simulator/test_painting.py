"""txt2img, img2img and inpainting as A1111 does them: what comes back, what `info` says, and what breaks."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from simulator.checkpoints import Checkpoint
from simulator.fields import fields_of, read_fields
from simulator.flavour import load_profile
from simulator.jobs import job_of, step_time
from simulator.painter import Scene, paint
from simulator.samplers import Sampling
from tests.simulator.pixels import encoded, mask, opened, pixels, sample

HASH = Checkpoint("v1-5-pruned-emaonly.safetensors").short_hash
SMALL = {"prompt": "sea", "steps": 2, "width": 64, "height": 64, "seed": 5}
INIT = encoded(sample())
NOISE = encoded(Image.effect_noise((64, 64), 90).convert("RGB"))
BOX = (20, 20, 43, 43)
INPAINT = {"init_images": [INIT], "mask": encoded(mask(BOX)), "mask_blur": 0, "inpainting_fill": 1}


def info_of(answer: dict) -> dict:
    return json.loads(answer["info"])


def test_an_answer_says_what_was_asked_and_what_was_used(api):
    answer = api.paint(negative_prompt="blur # comment")
    assert list(answer) == ["images", "parameters", "info"]
    assert (answer["parameters"]["sampler_index"], answer["parameters"]["denoising_strength"]) == ("Euler", None)
    assert len(answer["parameters"]) == 55
    info = info_of(answer)
    assert (info["all_seeds"], info["sampler_name"], info["version"]) == ([42], "Euler", "v1.10.1")
    assert (info["sd_model_name"], info["sd_model_hash"]) == ("v1-5-pruned-emaonly", HASH)
    assert info["infotexts"] == [
        "a cat\nNegative prompt: blur \n\n"  # Comments are cut out.
        "Steps: 1, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.0, Seed: 42, "
        f"Size: 64x64, Model hash: {HASH}, Model: v1-5-pruned-emaonly, Version: simulator"
    ]
    assert opened(answer["images"][0]).info["parameters"] == info["infotexts"][0]


def test_the_same_request_gives_the_same_bytes(api, start):
    first = api.paint(prompt="the sea")["images"]
    assert api.paint(prompt="the sea")["images"] == first
    assert start().paint(prompt="the sea")["images"] == first


def test_image_i_of_a_batch_is_the_image_of_seed_plus_i(api):
    answer = api.paint(batch_size=2, n_iter=2)
    assert info_of(answer)["all_seeds"] == [42, 43, 44, 45]
    assert answer["images"] == [api.paint(seed=seed)["images"][0] for seed in (42, 43, 44, 45)]


@pytest.mark.parametrize("seed", [-1, None])
def test_a_random_seed_is_in_info_only(api, seed):
    answer = api.paint(seed=seed)
    used = info_of(answer)["seed"]
    assert (answer["parameters"]["seed"], 0 <= used < 2**32 - 2) == (seed, True)
    assert api.paint(seed=used)["images"] == answer["images"]


@pytest.mark.parametrize(("asked", "painted"), [((63, 64), (56, 64)), ((8, 8), (8, 8)), ((513, 68), (512, 64))])
def test_sizes_are_floored_to_eight_and_info_says_what_was_asked(api, asked, painted):
    answer = api.paint(width=asked[0], height=asked[1])
    assert opened(answer["images"][0]).size == painted
    assert (info_of(answer)["width"], info_of(answer)["height"]) == asked


@pytest.mark.parametrize(
    ("asked", "used", "schedule"),
    [
        ({"sampler_name": "Nope"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "k_euler"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "DPM++ 2M Karras"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "Euler a Exponential"}, "Euler a", "Exponential"),
        ({"sampler_name": ""}, "Euler", "Automatic"),
        ({"sampler_index": "DDIM"}, "DDIM", "Automatic"),
        ({"scheduler": "Nope"}, "Euler", "Automatic"),
        ({"scheduler": "SGM Uniform"}, "Euler", "SGM Uniform"),
    ],
)
def test_unknown_names_are_replaced_in_silence(api, asked, used, schedule):
    info = info_of(api.paint(**asked))
    assert info["sampler_name"] == used
    assert f"Sampler: {used}, Schedule type: {schedule}" in info["infotexts"][0]


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ({"steps": 0}, "ZeroDivisionError", "integer division or modulo by zero"),
        ({"batch_size": 0}, "IndexError", "list index out of range"),
        ({"width": 0}, "RuntimeError", "Kernel size can't be greater than actual input size"),
        ({"width": -64}, "RuntimeError", "negative dimension -8: [4, 8, -8]"),
        ({"width": None}, "TypeError", "'NoneType' and 'int'"),
        ({"prompt": "\ud800"}, "UnicodeEncodeError", "surrogates not allowed"),
        ({"seed": 2**64}, "ValueError", "Overflow when unpacking long long"),
        ({"n_iter": 10**9}, "RuntimeError", "Cannot allocate memory"),
        ({"override_settings": {"nope": 1}}, "KeyError", "'nope'"),
    ],
)
def test_most_mistakes_are_a_500(api, body, error, text):
    response = api.post("txt2img", {"steps": 1, "width": 64, "height": 64, **body})
    assert (response.status_code, list(response.json())) == (500, ["error", "detail", "body", "errors"])
    assert (response.json()["error"], text in response.json()["errors"]) == (error, True)
    assert "x-process-time" not in response.headers


def post(api, **body):
    return api.post("img2img", {**SMALL, **body})


def painted(api, **body) -> Image.Image:
    response = post(api, **{"init_images": [INIT], **body})
    assert response.status_code == 200, response.text
    return pixels(opened(response.json()["images"][0]))


def test_strength_is_how_much_is_painted_anew(api):
    def distance(strength):
        difference = ImageChops.difference(painted(api, denoising_strength=strength), sample()).convert("L")
        return sum(value * count for value, count in enumerate(difference.histogram()))

    assert distance(0) == 0
    assert distance(0) < distance(0.2) < distance(0.5) < distance(0.9)
    other = encoded(Image.new("RGB", (64, 64), "red"))
    assert painted(api, denoising_strength=1) == painted(api, denoising_strength=1, init_images=[other])


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_pictures_of_many_kinds(api, kind, mode):
    picture = sample().convert(mode) if kind == "GIF" or mode != "P" else sample()
    assert painted(api, init_images=[encoded(picture, kind)]).mode == "RGB"


def test_how_a_picture_is_read(api):
    def read(text: str) -> Image.Image:
        return painted(api, init_images=[text], denoising_strength=0)

    empty = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert read(encoded(empty)).getpixel((5, 5)) == (255, 255, 255), "what is transparent becomes white"
    lines = "\n".join(INIT[start : start + 76] for start in range(0, len(INIT), 76))
    assert read(lines) == read(f"data:image/png;base64,{INIT}") == sample()
    exif = Image.Exif()
    exif[0x0112] = 3  # Upside down.
    out = io.BytesIO()
    sample().save(out, "PNG", exif=exif)
    assert read(base64.b64encode(out.getvalue()).decode()) == sample().transpose(Image.Transpose.ROTATE_180)


@pytest.mark.parametrize(
    ("images", "status", "body"),
    [
        (None, 404, {"error": "HTTPException", "detail": "Init image not found"}),
        ([], 500, {"error": "RuntimeError", "detail": ""}),
        ([""], 500, {"error": "HTTPException", "detail": "Invalid encoded image"}),
        (["aGVsbG8="], 500, {"error": "HTTPException", "detail": "Invalid encoded image"}),
        ([NOISE[:400]], 500, {"error": "OSError", "errors": "image file is truncated"}),
        ([5], 500, {"error": "AttributeError", "errors": "'int' object has no attribute 'startswith'"}),
        (["data:image/png;base64"], 500, {"error": "IndexError"}),
        (["http://127.0.0.1:1/x.png"], 500, {"detail": "Request to local resource not allowed"}),
        ([INIT, INIT], 500, {"errors": "bad number of images passed: 2; expecting 1 or less"}),
    ],
)
def test_bad_init_images(api, images, status, body):
    response = post(api, init_images=images)
    assert response.status_code == status
    assert response.json().items() >= body.items()


@pytest.mark.parametrize(("bad", "error"), [("", "AttributeError"), ("!!!", "HTTPException")])
def test_bad_masks(api, bad, error):
    response = post(api, init_images=[INIT], mask=bad)
    assert (response.status_code, response.json()["error"]) == (500, error)


def test_pictures_are_echoed_only_on_demand(api):
    assert post(api, init_images=[INIT]).json()["parameters"]["init_images"] is None
    assert post(api, init_images=[INIT], include_init_images=True).json()["parameters"]["init_images"] == [INIT]


@pytest.mark.parametrize("full_res", [True, False])
def test_a_mask_keeps_everything_else_pixel_for_pixel(api, full_res):
    result = painted(api, **INPAINT, inpaint_full_res=full_res, denoising_strength=1)
    assert ImageChops.difference(result, sample()).getbbox() == (20, 20, 44, 44)


def test_a_mask_inverted_blurred_or_empty(api):
    whole = {**INPAINT, "inpaint_full_res": False, "denoising_strength": 1}
    inverted = painted(api, **{**whole, "inpainting_mask_invert": 1})
    assert inverted.crop((20, 20, 44, 44)) == sample().crop((20, 20, 44, 44))
    assert inverted.getpixel((2, 40)) != sample().getpixel((2, 40))
    box = ImageChops.difference(painted(api, **{**whole, "mask_blur": 4}), sample()).getbbox()
    assert box is not None
    assert 0 < box[0] < 20
    black = {**INPAINT, "mask": encoded(Image.new("L", (64, 64)))}
    assert painted(api, **black, inpaint_full_res=False) == sample()
    assert painted(api, **black, inpaint_full_res=True) == painted(api), "nothing to repaint: all of it is"


def test_only_masked_gives_the_size_of_the_init_image(api):
    wide = {"init_images": [encoded(sample((96, 48)))], "mask": encoded(mask(BOX, (96, 48)))}
    assert painted(api, **wide, inpaint_full_res=True).size == (96, 48)
    assert painted(api, **wide, inpaint_full_res=False).size == (64, 64)
    assert post(api, init_images=[INIT], mask=encoded(mask((90, 80, 120, 90), (128, 96)))).status_code == 200


def test_info_says_what_the_mask_did(api):
    answer = post(api, **{**INPAINT, "mask_blur": 4}, inpaint_full_res_padding=8, inpainting_mask_invert=1).json()
    assert info_of(answer)["extra_generation_params"] == {
        "Denoising strength": 0.75,
        "Mask mode": "Inpaint not masked",
        "Mask blur": 4,
        "Inpaint area": "Only masked",
        "Masked area padding": 8,
    }


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
@pytest.mark.parametrize(
    ("options", "behind"),
    [
        ({}, []),
        ({"return_mask": True}, ["RGB"]),
        ({"return_mask": True, "return_mask_composite": True}, ["RGB", "RGBA"]),
    ],
)
def test_masks_and_composites_stand_behind_each_picture(start, flavour, options, behind):
    api = start(flavour=flavour)
    api.post("options", options)
    answer = post(api, **INPAINT, batch_size=3).json()
    pictures = [opened(image) for image in answer["images"]]
    assert [picture.mode for picture in pictures] == ["RGB", *behind] * 3
    assert ["parameters" in picture.info for picture in pictures] == [True, *(False for _ in behind)] * 3
    assert len(info_of(answer)["infotexts"]) == 3
    if behind == ["RGB"]:
        assert set(pictures[1].getcolors()) == {(64 * 64 - 24 * 24, (0, 0, 0)), (24 * 24, (255, 255, 255))}
    assert len(api.post("txt2img", SMALL).json()["images"]) == 1, "only inpainting has masks"
    off = {"return_mask": False, "return_mask_composite": False}
    assert len(post(api, **INPAINT, override_settings=off).json()["images"]) == 1
    assert api.get("options").json().items() >= options.items(), "they are on again"


def test_without_pnginfo_no_picture_has_its_text(start):
    api = start()
    api.post("options", {"enable_pnginfo": False})
    answer = api.paint(batch_size=2)
    assert ["parameters" in opened(image).info for image in answer["images"]] == [False, False]
    assert len(info_of(answer)["infotexts"]) == 2


@pytest.mark.parametrize(("kind", "name"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_another_format_has_its_text_in_a_comment(start, kind, name):
    answer = start(samples_format=kind).paint()
    picture = opened(answer["images"][0])
    comment = picture.getexif().get_ifd(0x8769)[0x9286]
    assert (picture.format, comment[8:].decode("utf-16-be")) == (name, info_of(answer)["infotexts"][0])


@pytest.mark.parametrize("samples_format", ["avif", "bmp"])
def test_formats_that_can_be_saved_and_not_sent(start, samples_format):
    api = start()
    api.post("options", {"samples_format": samples_format})
    answer = api.post("txt2img", SMALL)
    assert (answer.status_code, "Invalid image format" in answer.text) == (500, True)


#: sampler, steps, strength (None: txt2img), the exception of A1111 and of Forge; None where it paints.
FEW_STEPS = [
    ("UniPC", 1, None, "AssertionError", "AssertionError"),
    ("UniPC", 2, None, "AssertionError", "AssertionError"),
    ("UniPC", 3, None, None, None),
    ("UniPC", 4, 0, "IndexError", "IndexError"),
    ("UniPC", 4, 0.05, "IndexError", "IndexError"),
    ("UniPC", 4, 0.3, "AssertionError", "AssertionError"),
    ("UniPC", 10, 0.3, None, None),
    ("DPM++ 2M SDE", 1, None, "UnboundLocalError", None),
    ("DPM++ 2M SDE Heun", 1, None, "UnboundLocalError", None),
    ("DPM++ 3M SDE", 1, None, "UnboundLocalError", None),
    ("DPM++ 3M SDE", 4, 0.05, "UnboundLocalError", None),
    ("DPM++ 3M SDE", 4, 0.3, None, None),
    ("DPM fast", 1, None, None, None),
    ("DPM fast", 4, 0, "ValueError", "ValueError"),
    ("DPM adaptive", 4, 0.05, "ValueError", "ValueError"),
    ("DPM adaptive", 4, 0.3, None, None),
    ("Euler", 1, None, None, None),
    ("Euler", 4, 0, None, None),
]


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_samplers_that_break_down_with_few_steps(start, flavour):
    api = start(flavour=flavour)
    for sampler, steps, strength, a1111, forge in FEW_STEPS:
        body = {**SMALL, "sampler_name": sampler, "steps": steps}
        source = {} if strength is None else {"init_images": [INIT], "denoising_strength": strength}
        response = api.post("img2img" if source else "txt2img", {**body, **source})
        expected = a1111 if flavour == "a1111" else forge
        found = (response.status_code, response.json().get("error"))
        assert found == (500 if expected else 200, expected), (sampler, steps, strength)


def test_time_grows_with_pixels_and_batch():
    def seconds(**body):
        fields = read_fields(fields_of(load_profile("a1111"), "txt2img"), body, echoes=False)
        return step_time(0.1, job_of("txt2img", fields, Sampling(sampler="Euler")))

    assert [seconds(), seconds(width=1024, height=1024), seconds(batch_size=3), seconds(n_iter=3)] == pytest.approx(
        [0.1, 0.4, 0.3, 0.1]
    )


SCENE = Scene(
    prompt="a lighthouse",
    negative_prompt="",
    seed=1,
    steps=20,
    cfg_scale=7.0,
    sampler="Euler",
    model="model",
    width=96,
    height=64,
)
CHANGES = {"prompt": "the sea", "negative_prompt": "blurry", "seed": 2, "steps": 21, "cfg_scale": 7.5} | {
    "sampler": "DDIM",
    "model": "other",
}


def test_everything_in_a_scene_shows_in_the_picture_and_nothing_else():
    assert paint(SCENE).tobytes() == paint(SCENE).tobytes()
    for name, value in CHANGES.items():
        assert paint(replace(SCENE, **{name: value})).tobytes() != paint(SCENE).tobytes(), name
    assert paint(SCENE, done=0.3).tobytes() != paint(SCENE, done=0.6).tobytes() != paint(SCENE).tobytes()


@pytest.mark.parametrize("prompt", ["the sea", "a forest", "city at night", "", "\ud800", "猫 🐱"])
def test_any_motif_in_any_size(prompt):
    for size in ((8, 8), (64, 64), (8, 200), (512, 64)):
        picture = paint(replace(SCENE, prompt=prompt, width=size[0], height=size[1]))
        assert (picture.size, picture.mode) == (size, "RGB")


def test_prompts_and_seeds_differ_at_a_glance():
    def distance(one, other):
        histogram = ImageChops.difference(paint(one), paint(other)).convert("L").histogram()
        return sum(value * count for value, count in enumerate(histogram)) / sum(histogram)

    assert distance(SCENE, replace(SCENE, prompt="the sea at night")) > 15
    assert distance(SCENE, replace(SCENE, seed=2)) > 4


def test_the_word_is_written_into_the_lower_right_corner():
    big = replace(SCENE, width=256, height=256)
    box = ImageChops.difference(paint(big), paint(big, stamped=False)).getbbox()
    assert box is not None
    assert (box[0] > 128, box[1] > 200) == (True, True)
