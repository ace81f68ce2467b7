"""ControlNet's units as real servers answered them, asked again of the simulator.

The recordings lie beside the project; without them these tests are skipped. Their weights were random and their
pictures are cut to kind, size and hash: it is compared what an answer has in it, and whether its picture is the plain
one, never what that shows.
"""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pybase64
import pytest
from PIL import Image

from simulator import Simulator
from tests.simulator.pixels import opened
from tests.simulator.test_extras_recordings import EXTRAS, MODELS, answer_of, pixels, recorded, status

pytestmark = pytest.mark.skipif(not EXTRAS.is_dir(), reason="no recordings beside the project")

#: The recordings' files, and those of the simulator that are like them.
HASHES = {"e39a2944": "6a3f6166", "83871c29": "6a3f6166", "1c439ac6": "a1e1e9b0", "5e4d9c7f": "a1e1e9b0"}
#: Pixels of the plain pictures.
PLAIN = {"a162c23749824939", "9ad16b0bc0e3394b"}

STRICT = [
    *("none", "ipadapter", "ipadapter_big", "ipadapter_batch2", "ipadapter_hires", "ipadapter_label"),
    *("ipadapter_auto", "ipadapter_wrong_encoder", "ipadapter_sdxl_on_sd15", "ipadapter_case"),
    *(
        "ipadapter_wrong_hash",
        "ipadapter_name_part",
        "ipadapter_name_no_hash",
        "ipadapter_weight0",
        "ipadapter_weight3",
    ),
    *("ipadapter_weight3", "reference_only", "reference_hires", "reference_weight0", "batch2_reference_only"),
    *(
        "ipadapter_and_reference",
        "script_unknown",
        "script_ControlNet",
        "module_unknown",
        "args_dict",
        "args_positional",
    ),
    *(
        "args_positional",
        "disabled",
        "enabled_absent",
        "four_units",
        "fourth_only",
        "two_units",
        "good_then_bad",
        "bad_then_good",
    ),
    *("image_bad_base64", "image_empty", "image_missing", "image_null", "image_not_image", "image_data_uri"),
    *("image_dict", "image_list_of_dict", "input_image_alias", "both_image_names", "weight_text"),
    *("resize_mode_int0", "resize_mode_text_fill", "resize_mode_bad", "control_mode_text"),
    *("guidance_reversed", "guidance_empty", "save_detected_map_false", "option_no_detectmap"),
]
FORGE = [
    *("none", "ipadapter", "ipadapter_big", "ipadapter_model_no_hash", "ipadapter_model_none"),
    *("ipadapter_model_unknown", "ipadapter_module_a1111_name", "ipadapter_wrong_encoder", "reference_only"),
    *("bad_then_good", "good_then_bad", "four_units", "two_units", "disabled", "enabled_absent"),
    *("image_bad_base64", "image_missing", "image_dict", "image_data_uri", "input_image_alias", "module_unknown"),
    *("guidance_reversed", "no_map", "option_no_detectmap", "resize_mode_bad", "weight_5", "repeat_fail_0"),
    *("probe1_ipadapter", "probe1_reference", "reference_fidelity_0", "reference_fidelity_05"),
]


def renamed(text: str) -> str:
    for theirs, ours in HASHES.items():
        text = text.replace(theirs, ours)
    return text


def with_pictures(value: Any) -> Any:
    """The recorded units, with pictures of the recorded sizes and the simulator's files."""
    if isinstance(value, dict) and "picture" in value and "pixels_sha256" in value:
        _, size, mode = value["picture"].split()
        width, height = map(int, size.split("x"))
        file = io.BytesIO()
        Image.linear_gradient("L").resize((width, height)).convert(mode).save(file, "PNG")
        text = pybase64.b64encode_as_string(file.getvalue())
        return f"data:image/png;base64,{text}" if value["data_uri"] else text
    if isinstance(value, dict):
        return {key: with_pictures(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_pictures(one) for one in value]
    return renamed(value) if isinstance(value, str) else value


def shapes(images: list[str]) -> list[tuple[str, bool]]:
    found = [opened(image) for image in images]
    return [(f"{image.width}x{image.height} {image.mode}", "parameters" in image.info) for image in found]


def compare(name: str, **settings: Any) -> None:
    case = recorded(name)
    body = case["request"]["body"]
    changes = {"alwayson_scripts": with_pictures(body["alwayson_scripts"])} if "alwayson_scripts" in body else {}
    if "forge" in name and "steps" in body:
        plain_case = recorded("forge_none" if body["steps"] > 1 else "forge_probe1_none")
    else:
        plain_case = recorded("cn_txt2img_none")
    with Simulator(models=MODELS, **settings) as sim:
        found, answer = answer_of(sim, case, **changes)
        shared = {key: body[key] for key in ("batch_size", "enable_hr", "hr_scale", "hr_upscaler") if key in body}
        more = {key: body[key] for key in ("denoising_strength", "hr_second_pass_steps") if key in body}
        _, plain = answer_of(sim, plain_case, **shared, **more)
    assert found == status(case)
    theirs = case["response"]["body"]
    if found != 200:
        assert re.sub(r"permitted:.*", "", json.dumps(answer)) == re.sub(r"permitted:.*", "", json.dumps(theirs))
        return
    recorded_shapes = [
        (" ".join(picture["picture"].split()[1:]), "text_parameters" in picture) for picture in theirs["images"]
    ]
    assert shapes(answer["images"]) == recorded_shapes
    hashes = {*PLAIN, plain_case["response"]["body"]["images"][0]["pixels_sha256"]}
    if not {"enable_hr", "batch_size"} & {key for key in shared if body[key] not in (1, False)}:
        assert (pixels(answer) == pixels(plain)) == (theirs["images"][0]["pixels_sha256"] in hashes)
    else:
        assert pixels(answer) != pixels(plain)
    lines = case["response"]["info_parsed"]["extra_generation_params"]
    assert json.loads(answer["info"])["extra_generation_params"] == json.loads(renamed(json.dumps(lines)))


@pytest.mark.parametrize("name", STRICT)
def test_the_extension(name: str) -> None:
    compare(f"cn_txt2img_{name}")


@pytest.mark.parametrize("name", FORGE)
def test_forge(name: str) -> None:
    compare(f"forge_{name}", flavour="forge")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("cn_get_version", {}), ("cn_get_settings", {}), ("forge_get_version", {"flavour": "forge"})),
        ("forge_get_settings", {"flavour": "forge"}),
        *(("cn_get_control_types_with_models", {}), ("forge_get_control_types", {"flavour": "forge"})),
    ],
)
def test_lists(name: str, settings: dict[str, Any]) -> None:
    case = recorded(name)
    with Simulator(**settings) as sim:
        found, ours = answer_of(sim, case)
    assert found == status(case)
    theirs = case["response"]["body"]
    if "control_types" not in theirs:
        assert ours == theirs
        return
    for kind in ("IP-Adapter", "Reference"):
        one, other = ours["control_types"][kind], theirs["control_types"][kind]
        assert one.keys() == other.keys()
        assert (one["module_list"], one["default_option"]) == (other["module_list"], other["default_option"])
        assert one["model_list"][0] == other["model_list"][0]


def test_without_the_extension() -> None:
    with Simulator(controlnet="none") as sim:
        found, answer = answer_of(sim, recorded("cn_get_version"))
        assert found == 404
        case = recorded("cn_txt2img_reference_only")
        found, answer = answer_of(sim, case)
    assert (found, answer["detail"]) == (422, "Script 'controlnet' not found")
