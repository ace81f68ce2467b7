"""LoRAs, second passes, clip skip and upscalers as real servers answered, asked again of the simulator.

The recordings lie beside the project; without them these tests are skipped. Their weights were random, so it is
compared which pictures are the same and which differ, never the pictures.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from simulator import Simulator
from tests.services import picture_samples as samples
from tests.simulator.pixels import opened
from tests.simulator.test_recordings import asked

EXTRAS = Path(__file__).parents[3] / "shared" / "recordings" / "extras"
pytestmark = pytest.mark.skipif(not EXTRAS.is_dir(), reason="no recordings beside the project")

MODELS = ("v1-5-pruned-emaonly.safetensors",)
#: The recordings' files, and those of the simulator that are like them.
NAMES = {"tiny": "add-detail", "Tiny": "Add-detail", "nomatch": "foreign", "wrongshape": "foreign"}
#: Pixels of the plain picture, before and after an earlier case's VAE had leaked into the server.
PLAIN = {"a162c23749824939", "9ad16b0bc0e3394b"}
#: Random, of a machine, or leaked from an earlier case.
NOISE = re.compile(
    r"Model hash: \w+|Seed: \d+|Version: [\w.+-]+|, VAE hash: \w+, VAE: [\w.-]+|Lora hashes: \"[^\"]*\"|Model: [\w-]+"
)


def recorded(name: str) -> dict[str, Any]:
    return dict(json.loads((EXTRAS / f"{name}.json").read_bytes()))


def renamed(prompt: str, *, alias: str = "add-detail") -> str:
    names = {**NAMES, "tinyalias": alias}
    return re.sub(r"(?<=<lora:)\w+(?=[:>])", lambda found: names.get(found[0], found[0]), prompt)


def answer_of(sim: Simulator, case: dict[str, Any], **changes: Any) -> tuple[int, Any]:
    request = case["request"]
    body = json.dumps({**request["body"], **changes}).encode() if request["body"] else b""
    response, data = asked(sim, request["method"], request["path"], body, {"Content-Type": "application/json"})
    return response.status, json.loads(data)


def pixels(answer: dict[str, Any]) -> bytes:
    return opened(answer["images"][0]).convert("RGB").tobytes()


def size(picture: dict[str, Any]) -> str:
    return str(picture["picture"].split()[1])


def status(case: dict[str, Any]) -> int:
    return int(case["response"]["status_line"].split()[1])


# --- LoRAs in prompts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("lora_ok", "lora_ok_half", "lora_alias", "lora_missing", "lora_case", "lora_subfolder", "lora_bad_weight"),
        *("lora_weight0", "lora_ok_and_missing", "lora_twice", "lora_spaces", "lora_corrupt", "lora_no_key_matches"),
        *("lora_wrong_shape", "lora_alias_shared", "lora_none", "lora_after", "lora_negative", "lora_hash_option_off"),
    ],
)
def test_what_a_tag_does(name: str) -> None:
    case = recorded(name)
    alias = "dress" if name == "lora_alias_shared" else "add-detail"
    with Simulator(models=MODELS) as sim:
        found, answer = answer_of(sim, case, prompt=renamed(case["request"]["body"]["prompt"], alias=alias))
        _, plain = answer_of(sim, case, prompt="a red shirt")
    assert found == status(case) == 200
    is_plain = case["response"]["body"]["images"][0]["pixels_sha256"] in PLAIN
    assert (pixels(answer) == pixels(plain)) == is_plain
    theirs = case["response"]["info_parsed"]["extra_generation_params"]
    ours = json.loads(answer["info"])["extra_generation_params"]
    assert list(ours) == list(theirs)
    mentioned = [entry.partition(": ")[0] for entry in theirs.get("Lora hashes", "").split(", ")]
    assert [entry.partition(": ")[0] for entry in ours.get("Lora hashes", "").split(", ")] == [
        {**NAMES, "tinyalias": "add-detail"}.get(mention, mention) for mention in mentioned
    ]


def test_a_tag_in_the_negative_prompt_is_words() -> None:
    case = recorded("lora_negative_prompt")
    with Simulator(models=MODELS) as sim:
        _, answer = answer_of(sim, case)
        _, without = answer_of(sim, case, negative_prompt="bad")
    assert pixels(answer) != pixels(without)
    assert json.loads(answer["info"])["extra_generation_params"] == {}


# --- The second pass ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("hires_latent", "hires_lanczos", "hires_scale_1_3", "hires_scale_1_5", "hires_scale1", "hires_smaller"),
        *(
            "hires_resize",
            "hires_resize_x_only",
            "hires_no_steps",
            "hires_batch2",
            "hires_denoise0",
            "hires_no_denoise",
        ),
        *("hires_upscaler_unknown", "hires_upscaler_case", "hires_none_upscaler", "hires_esrgan_no_weights"),
        *("clip_skip_2", "clip_skip_2_hires", "clip_skip_99", "clip_skip_1"),
    ],
)
def test_a1111(name: str) -> None:
    case = recorded(name)
    settings = case["request"]["body"]["override_settings"]
    own = {key: value for key, value in settings.items() if key != "sd_vae"}
    with Simulator(models=MODELS) as sim:
        compare(case, *answer_of(sim, case, override_settings=own))


@pytest.mark.parametrize("name", ["forge_hires_none", "forge_hires_without_additional_modules", "forge_clip_skip_2"])
def test_forge(name: str) -> None:
    case = recorded(name)
    with Simulator(flavour="forge", models=MODELS) as sim:
        compare(case, *answer_of(sim, case))


def compare(case: dict[str, Any], found: int, answer: dict[str, Any]) -> None:
    assert found == status(case)
    if found != 200:
        assert answer == case["response"]["body"]
        return
    theirs, ours = case["response"]["info_parsed"], json.loads(answer["info"])
    sizes = ["{}x{}".format(*opened(image).size) for image in answer["images"]]
    assert sizes == [size(picture) for picture in case["response"]["body"]["images"]]
    for key in ("extra_generation_params", "width", "height", "clip_skip", "denoising_strength"):
        assert ours[key] == theirs[key], key
    assert list(ours["extra_generation_params"]) == list(theirs["extra_generation_params"])
    assert [NOISE.sub("", text) for text in ours["infotexts"]] == [NOISE.sub("", text) for text in theirs["infotexts"]]


def test_upscalers_without_weights_are_lanczos() -> None:
    """Which second passes gave the same picture, and which did not."""
    names = ["hires_latent", "hires_lanczos", "hires_none_upscaler", "hires_esrgan_no_weights", "hires_scale_1_5"]
    cases = [recorded(name) for name in names]
    with Simulator(models=MODELS) as sim:
        ours = [pixels(answer_of(sim, case)[1]) for case in cases]
    theirs = [case["response"]["body"]["images"][0]["pixels_sha256"] for case in cases]
    for one in range(len(names)):
        for other in range(one):
            assert (ours[one] == ours[other]) == (theirs[one] == theirs[other]), (names[one], names[other])


def test_a_clip_skip_stays() -> None:
    names = ["clip_skip_2", "clip_skip_after", "clip_skip_reset"]
    with Simulator(models=MODELS) as sim:
        for name in names:
            case = recorded(name)
            _, answer = answer_of(sim, case)
            assert json.loads(answer["info"])["clip_skip"] == case["response"]["info_parsed"]["clip_skip"], name


# --- Pictures enlarged by an upscaler -------------------------------------------------------------------------------


def enlarging(sim: Simulator, name: str) -> tuple[int, Any, dict[str, Any]]:
    """Status, answer and recording, with a picture of the recorded size and mode."""
    case = recorded(name)
    _, across, mode = case["request"]["body"]["image"]["picture"].split()
    picture = Image.effect_noise(tuple(map(int, across.split("x"))), 90).convert(mode)
    found, answer = answer_of(sim, case, image=base64.b64encode(samples.encode(picture)).decode())
    return found, answer, case


@pytest.mark.parametrize(
    "name",
    [
        *("extras_lanczos_2", "extras_lanczos_2_again", "extras_lanczos_size", "extras_lanczos_size_crop"),
        *("extras_none", "extras_default", "extras_alpha", "extras_resize_9"),
        *("extras_esrgan_no_weights", "extras_dat_no_weights"),
    ],
)
def test_an_enlarged_picture(name: str) -> None:
    with Simulator(models=MODELS) as sim:
        found, answer, case = enlarging(sim, name)
    theirs = case["response"]["body"]
    assert found == status(case) == 200
    assert list(answer) == list(theirs)
    assert answer["html_info"] == theirs["html_info"]
    picture = opened(answer["image"])
    assert f"PNG {picture.width}x{picture.height} {picture.mode}" == theirs["image"]["picture"]


@pytest.mark.parametrize("name", ["extras_unknown", "extras_resize_0"])
def test_what_is_not_enlarged(name: str) -> None:
    with Simulator(models=MODELS) as sim:
        found, answer, case = enlarging(sim, name)
    assert (found, answer) == (status(case), case["response"]["body"])


def test_weights_that_are_missing_are_lanczos() -> None:
    """Recorded: the same pixels under another name."""
    names = ["extras_lanczos_2", "extras_esrgan_no_weights", "extras_dat_no_weights"]
    assert len({recorded(name)["response"]["body"]["image"]["pixels_sha256"] for name in names}) == 1
    picture = base64.b64encode(samples.encode(samples.noise(128, 128))).decode()
    with Simulator(models=MODELS) as sim:
        answers = [answer_of(sim, recorded(name), image=picture)[1] for name in names]
    assert len({opened(answer["image"]).tobytes() for answer in answers}) == 1
    assert len({answer["html_info"] for answer in answers}) == 3


# --- Lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flavour"),
    [
        *(("x_get_loras", "a1111"), ("x_get_upscalers", "a1111"), ("x_get_latent-upscale-modes", "a1111")),
        *(("forge_get_upscalers", "forge"), ("sdcpp_plain_get_loras", "sdcpp"), ("sdcpp_plain_get_upscalers", "sdcpp")),
    ],
)
def test_lists(name: str, flavour: str) -> None:
    case = recorded(name)
    with Simulator(flavour=flavour) as sim:
        _, ours = answer_of(sim, case)
    theirs = case["response"]["body"]
    assert list(ours[0]) == list(theirs[0])
    paths = {one["name"]: one.get("model_path") for one in theirs}
    if "upscalers" in name:
        for one in ours:
            is_missing = str(paths.get(one["name"])).startswith("http")
            assert str(one["model_path"]).startswith("http") == is_missing or one["name"] == "4x-UltraSharp"


# --- stable-diffusion.cpp -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("sdcpp_plain_none", "sdcpp_plain_lora_field", "sdcpp_plain_lora_field_after_list", "sdcpp_plain_lora_tag"),
        *("sdcpp_plain_lora_and_tag", "sdcpp_plain_lora_missing_after_list", "sdcpp_plain_lora_field_no_path"),
        *("sdcpp_plain_lora_nomatch_after_list", "sdcpp_plain_lora_field_name_after_list", "sdcpp_plain_clip_skip_2"),
        *("sdcpp_plain_clip_skip_override", "sdcpp_plain_hires_latent", "sdcpp_plain_hires_lanczos"),
        *("sdcpp_plain_hires_1_5", "sdcpp_plain_hires_resize", "sdcpp_plain_hires_unknown"),
    ],
)
def test_sdcpp(name: str) -> None:
    case = recorded(name)
    changes = {}
    if "lora" in case["request"]["body"]:
        loras = json.dumps(case["request"]["body"]["lora"]).replace('"tiny', '"add-detail')
        changes["lora"] = json.loads(loras)
    with Simulator(flavour="sdcpp", models=("sd-v1-5-tiny.safetensors",)) as sim:
        if "lora" not in name or "after_list" in name or "and_tag" in name:
            answer_of(sim, recorded("sdcpp_plain_get_loras"))
        found, answer = answer_of(sim, case, **changes)
        _, plain = answer_of(sim, recorded("sdcpp_plain_none"))
    assert found == status(case)
    theirs = case["response"]["body"]
    if found != 200:
        assert json.dumps(answer).replace("add-detail", "tiny") == json.dumps(theirs)
        return
    assert "{}x{}".format(*opened(answer["images"][0]).size) == size(theirs["images"][0])
    plain_pixels = recorded("sdcpp_plain_none")["response"]["body"]["images"][0]["pixels_sha256"]
    assert (pixels(answer) == pixels(plain)) == (theirs["images"][0]["pixels_sha256"] == plain_pixels)
    info, recorded_info = json.loads(answer["info"]), case["response"]["info_parsed"]
    assert (info.get("clip_skip"), info["width"]) == (recorded_info.get("clip_skip"), recorded_info["width"])
    (text, account), (their_text, their_account) = map(text_and_account, (info, recorded_info))
    assert NOISE.sub("", text) == NOISE.sub("", their_text)
    shown = json.dumps(account).replace("add-detail", "tiny")
    for key in ("loras", "hires", "clip_skip", "mode", "schema", "seed", "width", "height", "prompt"):
        assert rounded(json.loads(shown).get(key)) == rounded(their_account.get(key)), key


def text_and_account(info: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    text, _, account = info["infotexts"][0].partition(", SDCPP: ")
    return re.sub(r"Model: [^,]+", "", text), json.loads(account)


def rounded(value: Any) -> Any:
    """Its numbers have 24 bits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value
