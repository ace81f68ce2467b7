"""What A1111's fields become, and which of them are refused: by tables, without a WebUI."""

from __future__ import annotations

from typing import Any

import pytest

from api.doors.a1111_fields import CHOSEN, KNOWN, NEUTRAL, NEUTRAL_SETTINGS, UNREAD, translate
from api.doors.translation import ignored_header
from services.problems import Problem

PICTURE = {"init_images": ["QUJD"]}
MASKED = {**PICTURE, "mask": "QUJD"}


def of_txt2img(body: dict[str, Any], *, chosen: str | None = None) -> Any:
    return translate("txt2img", body, steps=20, chosen=lambda: chosen)


def of_img2img(body: dict[str, Any]) -> Any:
    return translate("img2img", body, steps=20, chosen=lambda: None)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ({"prompt": "a", "seed": "-1", "steps": "20", "cfg_scale": " 7.5 "}, {"prompt": "a", "seed": -1, "steps": 20}),
        ({"width": 640.0, "height": "384"}, {"width": 640.0, "height": 384}),
        ({"steps": "many"}, {"steps": "many"}),
        ({"sampler_name": "Euler", "sampler_index": "DDIM"}, {"sampler": "Euler"}),
        ({"sampler_name": "", "sampler_index": "DDIM"}, {"sampler": "DDIM"}),
        ({"sampler_name": None, "sampler_index": "DDIM"}, {"sampler": "DDIM"}),
        ({"scheduler": "Karras"}, {"scheduler": "Karras"}),
        ({"n_iter": 2, "batch_size": "3"}, {"batch_size": 6}),
        ({"n_iter": -1, "batch_size": -2}, {"batch_size": -1}),
        ({"batch_size": 2.5}, {"batch_size": 2.5}),
        ({"model": "sdxl"}, {"model": "sdxl"}),
        ({"model": "sdxl", "override_settings": {"sd_model_checkpoint": "x"}}, {"model": "x"}),
        ({"model": "sdxl", "override_settings": {"sd_model_checkpoint": ""}}, {"model": "sdxl"}),
        ({"clip_skip": "2"}, {"clip_skip": 2}),
        ({"clip_skip": 1, "override_settings": {"CLIP_stop_at_last_layers": 2}}, {"clip_skip": 2}),
        ({"clip_skip": 2, "override_settings": {"CLIP_stop_at_last_layers": None}}, {"clip_skip": 2}),
    ],
)
def test_carried(body: dict[str, Any], values: dict[str, Any]) -> None:
    found = of_txt2img(body)
    assert values.items() <= found.values.items()
    assert found.problems == []


@pytest.mark.parametrize("nothing", ["", "automatic", "Automatic", None])
def test_a_default_is_not_named(nothing: str | None) -> None:
    body = {"sampler_name": nothing, "scheduler": nothing, "model": nothing if nothing == "" else None, "clip_skip": 0}
    assert of_txt2img(body).values.keys() & {"sampler", "scheduler", "model", "clip_skip"} == set()


def test_the_callers_model_is_only_for_requests_that_name_none() -> None:
    assert of_txt2img({}, chosen="mine").values["model"] == "mine"
    assert of_txt2img({}, chosen="mine").names["model"] == CHOSEN
    assert of_txt2img({"model": "other"}, chosen="mine").values["model"] == "other"


def test_img2img_has_a1111s_defaults() -> None:
    found = of_img2img(PICTURE)
    assert found.mode == "img2img"
    assert found.values == {
        "image": "QUJD",
        "strength": 0.75,
        "width": 512,
        "height": 512,
        "resize_mode": "stretch",
        "batch_size": 1,
    }


def test_a_mask_makes_it_an_inpainting_with_a1111s_defaults() -> None:
    found = of_img2img(MASKED)
    assert found.mode == "inpainting"
    assert found.values == {
        **of_img2img(PICTURE).values,
        "mask": "QUJD",
        "steps": 20,
        "inpaint_area": "masked",
        "inpaint_padding": 0,
        "inpaint_fill": "fill",
    }
    assert of_img2img({**PICTURE, "mask": None}).mode == "img2img"


@pytest.mark.parametrize(
    ("name", "value", "own", "becomes"),
    [
        *(("inpainting_fill", n, "inpaint_fill", v) for n, v in enumerate(("fill", "original", "noise", "nothing"))),
        *(("resize_mode", n, "resize_mode", v) for n, v in enumerate(("stretch", "crop", "fill"))),
        ("inpaint_full_res", False, "inpaint_area", "whole"),
        ("inpaint_full_res", 0, "inpaint_area", "whole"),
        ("inpaint_full_res", "true", "inpaint_area", "masked"),
        ("inpaint_full_res", 1, "inpaint_area", "masked"),
        ("inpainting_mask_invert", 1, "mask_mode", "black"),
        ("inpainting_mask_invert", True, "mask_mode", "black"),
        ("inpainting_mask_invert", 0, "mask_mode", None),
        ("inpaint_full_res_padding", "32", "inpaint_padding", 32),
        ("mask_blur", 8, "mask_blur", 8),
        ("denoising_strength", "0.5", "strength", 0.5),
    ],
)
def test_a_masks_fields(name: str, value: object, own: str, becomes: object) -> None:
    found = of_img2img({**MASKED, name: value})
    assert found.values.get(own) == becomes
    assert found.problems == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("resize_mode", value) for value in (3, -1, "x", 0.5, [], {})),
        *(("inpainting_fill", value) for value in (4, "original", [1])),
        ("inpaint_full_res", 2),
        ("inpainting_mask_invert", "white"),
        *(("init_images", value) for value in (["QUJD", "QUJD"], "QUJD", {}, 1)),
        *(("mask_blur_x", value) for value in (0, 16)),
        ("mask_round", False),
        ("latent_mask", "QUJD"),
        ("controlnet_units", [{"module": "canny"}]),
        ("alwayson_scripts", []),
        ("override_settings", "x"),
    ],
)
def test_refused_by_name(name: str, value: object) -> None:
    assert [problem.field for problem in of_img2img({**MASKED, name: value}).problems] == [name]


#: Of each neutral field some values that change nothing, and some that would.
NEUTRAL_VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    **dict.fromkeys(("restore_faces", "tiling", "disable_extra_networks"), ([False, 0, "false"], [True, 1])),
    "styles": ([[], [""], ["None", ""]], [["anime"], "anime", [1]]),
    **dict.fromkeys(
        ("subseed_strength", "s_churn", "s_tmin", "s_tmax", "s_min_uncond", "eta_noise_seed_delta"),
        ([0, 0.0, "0"], [0.5, "x", True]),
    ),
    **dict.fromkeys(("firstphase_width", "firstphase_height"), ([0], [512])),
    **dict.fromkeys(("s_noise", "initial_noise_multiplier"), ([1, 1.0], [0, 1.1])),
    "eta": ([0, 1, 1.0], [0.5, -1]),
    **dict.fromkeys(("seed_resize_from_w", "seed_resize_from_h"), ([0, -1], [512, "x"])),
    "send_images": ([True, 1], [False]),
    **dict.fromkeys(("script_name", "refiner_checkpoint", "infotext"), ([""], ["X/Y/Z plot"])),
    "script_args": ([[]], [[1]]),
}


HIRES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"scale": 2.0}),
    ({"hr_scale": "1.5", "hr_upscaler": "", "hr_second_pass_steps": 0}, {"scale": 1.5, "steps": 0}),
    ({"hr_upscaler": "Lanczos", "denoising_strength": "0.4"}, {"scale": 2.0, "upscaler": "Lanczos", "strength": 0.4}),
    ({"hr_resize_x": 1024, "hr_resize_y": "768", "hr_scale": 2}, {"width": 1024, "height": 768}),
    ({"hr_resize_x": 1000, "width": 640, "height": 512}, {"width": 1000, "height": 800}),
    ({"hr_resize_y": 1024, "width": 512, "height": 640}, {"width": 816, "height": 1024}),
    ({"hr_resize_x": "wide"}, {"width": "wide"}),
    ({"hr_resize_x": []}, {"width": []}),
    ({"hr_resize_x": 10**400}, {"width": 10**400}),
    ({"hr_resize_x": 1024, "width": "wide"}, {"width": 1024}),
    ({"hr_resize_x": 1024, "height": 10**400}, {"width": 1024}),
    ({"hr_scale": [2]}, {"scale": [2]}),
]


@pytest.mark.parametrize(("body", "hires"), HIRES)
def test_hires_fix(body: dict[str, Any], hires: dict[str, Any]) -> None:
    found = of_txt2img({"enable_hr": True, **body})
    assert found.values["hires"] == hires
    assert found.problems == []
    assert "hires" not in of_txt2img({"enable_hr": False, **body}).values


def test_hires_fix_is_not_for_img2img() -> None:
    assert [problem.field for problem in of_img2img({**PICTURE, "enable_hr": True}).problems] == ["enable_hr"]
    assert of_img2img({**PICTURE, "enable_hr": 0, "hr_scale": 2}).problems == []


@pytest.mark.parametrize(
    ("name", "same", "other"),
    [
        ("hr_prompt", ["", "7"], "b"),
        ("hr_negative_prompt", ["", "n"], "b"),
        ("hr_checkpoint_name", ["", "Use same checkpoint"], "sdxl"),
        ("hr_sampler_name", ["", "Use same sampler", "Euler a"], "Euler"),
        ("hr_scheduler", ["", "Use same scheduler", "Simple"], "Karras"),
        ("hr_additional_modules", [[], ["Use same choices"]], ["vae"]),
        ("hr_cfg", [7, "7.0"], 1),
    ],
)
def test_the_second_pass_is_made_like_the_first(name: str, same: list[Any], other: object) -> None:
    body = {"prompt": "7", "negative_prompt": "n", "cfg_scale": 7, "enable_hr": True}
    body |= {"sampler_index": "Euler a", "scheduler": "Simple"}
    for value in [None, *same]:
        assert of_txt2img({**body, name: value}).problems == []
    assert [problem.field for problem in of_txt2img({**body, name: other}).problems] == [name]
    assert of_txt2img({**body, name: other, "enable_hr": False}).problems == []


def test_every_neutral_field_is_tried() -> None:
    assert NEUTRAL_VALUES.keys() == NEUTRAL.keys()


@pytest.mark.parametrize("name", sorted(NEUTRAL_VALUES))
def test_neutral_fields(name: str) -> None:
    harmless, others = NEUTRAL_VALUES[name]
    for value in [None, *harmless]:
        assert of_txt2img({name: value}).problems == [], value
    for value in others:
        (problem,) = of_txt2img({name: value}).problems
        assert problem.field == name
        assert problem.message


SETTINGS: dict[str, tuple[Any, Any]] = {
    "sd_vae": ("Automatic", "x.safetensors"),
    "sd_hypernetwork": ("None", "x"),
    "eta_noise_seed_delta": (0, 31337),
    "ddim_discretize": ("uniform", "quad"),
    "img2img_fix_steps": (False, True),
    "inpainting_mask_weight": (1, 0.5),
    "initial_noise_multiplier": (1, 1.05),
    "comma_padding_backtrack": (20, 0),
    "samples_format": ("png", "jpg"),
    "forge_additional_modules": ([], ["ae.safetensors"]),
}


def test_every_setting_is_tried() -> None:
    assert SETTINGS.keys() == NEUTRAL_SETTINGS.keys()


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_settings(name: str) -> None:
    harmless, other = SETTINGS[name]
    assert of_txt2img({"override_settings": {name: harmless}}).problems == []
    (problem,) = of_txt2img({"override_settings": {name: other}}).problems
    assert problem.field == f"override_settings.{name}"


def test_an_unknown_setting_is_refused_without_its_value() -> None:
    (problem,) = of_txt2img({"override_settings": {"token": "hunter2"}}).problems
    assert problem.field == "override_settings.token"
    assert "hunter2" not in repr(problem)


@pytest.mark.parametrize("idle", [{}, {"args": []}, {"args": [False]}, None, []])
def test_scripts_that_are_only_listed(idle: object) -> None:
    assert of_txt2img({"alwayson_scripts": {"ControlNet": idle}}).problems == []


@pytest.mark.parametrize("asked", [{"args": [True]}, {"args": [False, 1]}, {"args": {"a": 1}}, [1], "x"])
def test_scripts_that_are_asked_for_are_refused_by_name(asked: object) -> None:
    (problem,) = of_txt2img({"alwayson_scripts": {"ADetailer": asked, "Idle": {"args": []}}}).problems
    assert problem.field == "alwayson_scripts"
    assert "ADetailer" in problem.message
    assert "Idle" not in problem.message


def test_unread_fields_are_silent_and_unknown_ones_are_named() -> None:
    unread = dict.fromkeys([*UNREAD, "hr_scale", "hr_upscaler", "hr_whatever"], "anything")
    found = of_txt2img({**unread, "url": "http://x", "auth": "user:pass"})
    assert found.problems == []
    assert found.ignored == ["auth", "url"]
    assert found.values.keys() == {"batch_size"}


def test_a_picture_is_unknown_to_txt2img() -> None:
    assert of_txt2img(MASKED).ignored == ["init_images", "mask"]
    assert {"init_images", "mask"} <= KNOWN["img2img"]


def test_problems_are_in_a1111s_terms() -> None:
    found = of_img2img({**MASKED, "inpainting_fill": 2, "n_iter": 3, "batch_size": 2, "model": "x"})
    own = [
        Problem(field="inpaint_fill", message='no; use "original" or "fill"', received="noise", is_text=True),
        Problem(field="batch_size", message="must be between 1 and 4", received=6),
        Problem(field="model", message="is not a model", received="x"),
        Problem(field="image", message="is damaged", received="PNG, 3 bytes"),
        Problem(field="mask", message='x; say with mask_mode what is repainted ("white", "black" or "alpha")'),
        Problem(field="strength", message="must be between 0 and 1", received=2),
    ]
    renamed = found.renamed(own)
    assert [(problem.field, problem.received) for problem in renamed] == [
        ("inpainting_fill", 2),
        ("n_iter", "3 x 2"),
        ("model", "x"),
        ("init_images", "PNG, 3 bytes"),
        ("mask", None),
        ("denoising_strength", 2),
    ]
    assert "use 1 or 0" in renamed[0].message
    assert "mask_mode" not in renamed[4].message


def test_what_the_door_says_itself_is_not_renamed() -> None:
    found = of_img2img({**MASKED, "n_iter": 2, "resize_mode": 3})
    assert found.renamed(found.problems) == found.problems


def test_only_what_the_answer_repeats_is_kept() -> None:
    body = {"prompt": "a", "mask_blur": 4, "resize_mode": 0, "comments": ["x"], "junk": [0] * 1000}
    assert of_txt2img(body).given == {}
    assert of_img2img({**PICTURE, **body}).given == {"resize_mode": 0}
    assert of_img2img({**MASKED, **body}).given == {"mask_blur": 4, "resize_mode": 0}


def test_the_header_is_bounded() -> None:
    header = ignored_header(["b", "a\n,", *("é" * 100 + str(n) for n in range(100))])
    assert header.startswith("a%0A%2C, b, ")
    assert len(header.split(", ")) == 40
    assert len(header) < 4000
    header.encode("ascii")
