"""LoRAs, a second pass and clip skip: what is sent to which WebUI, and what in its answer is taken for proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sd_client.errors import DroppedError
from sd_client.loras import by_path, by_tag, listed_loras
from sd_client.matching import Match, is_within, match
from sd_client.models import DUMMY_HASH, Capabilities, Checkpoint, GenerationParams, Hires, ListedLora, Lora, UsedLora
from sd_client.payloads import payload, read_answer
from sd_client.result import read_object
from sd_client.samplers import Spelling
from tests.sd_client.jobs import CAPABILITIES, CHECKPOINT, job
from tests.sd_client.servers import encoded_image, in_base64

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "extras"

HIRES = Hires(width=128, height=192, upscaler="Latent", steps=5, strength=0.6)
TINY = ListedLora(name="tiny")
SDCPP_TINY = ListedLora(name="tiny", path="tiny.safetensors")
NATIVE = Capabilities(checkpoints=(Checkpoint(title="sd15", model_name="sd15", hash=DUMMY_HASH),), clip_skip="field")

# --- What is sent ---------------------------------------------------------------------------------------------------


def sent(params: GenerationParams, capabilities: Capabilities, *loras: ListedLora) -> Any:
    matched = Match(checkpoint=CHECKPOINT, spelling=Spelling(), loras=loras)
    return json.loads(b"".join(payload(params, capabilities, matched, task_id="t")))


def test_jobs_without_extras_say_nothing_of_them() -> None:
    body = sent(job(), CAPABILITIES)
    assert body["override_settings"].keys() == {"sd_model_checkpoint"}
    assert not [name for name in body if name.startswith(("hr_", "enable", "lora", "clip"))]
    assert "denoising_strength" not in body


def test_loras_are_tags_before_the_prompt_or_paths() -> None:
    params = job(loras=(Lora(name="tiny", weight=0.123456789), Lora(name="red dress v1.2", weight=-2.0)))
    body = sent(params, CAPABILITIES, TINY, ListedLora(name="red dress v1.2"))
    assert body["prompt"] == "<lora:tiny:0.123456789> <lora:red dress v1.2:-2.0> a cat"
    assert "lora" not in body
    body = sent(params, NATIVE, SDCPP_TINY, ListedLora(name="red dress v1.2", path="a/red.safetensors"))
    assert body["prompt"] == "a cat"
    assert body["lora"] == [
        {"path": "tiny.safetensors", "multiplier": 0.123456789},
        {"path": "a/red.safetensors", "multiplier": -2.0},
    ]


@pytest.mark.parametrize("has_option", [False, True])
def test_the_option_that_hides_loras_is_turned_on_and_back(has_option: bool) -> None:
    able = replace(CAPABILITIES, lora_hashes=has_option)
    body = sent(job(loras=(Lora(name="tiny", weight=1.0),)), able, TINY)
    assert body["override_settings"].get("lora_add_hashes_to_infotext") is (True if has_option else None)
    assert body["override_settings_restore_afterwards"] is has_option
    assert "lora_add_hashes_to_infotext" not in sent(job(), able)["override_settings"]


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_clip_skip(clip_skip: int) -> None:
    params = job(clip_skip=clip_skip)
    body = sent(params, replace(CAPABILITIES, clip_skip="option"))
    assert body["override_settings"]["CLIP_stop_at_last_layers"] == clip_skip
    assert body["override_settings_restore_afterwards"] is False
    assert sent(params, NATIVE).get("clip_skip") == (None if clip_skip == 1 else clip_skip)
    assert "clip_skip" not in body


def test_a_second_pass() -> None:
    body = sent(job(hires=HIRES), CAPABILITIES)
    expected = {
        "enable_hr": True,
        "hr_resize_x": 128,
        "hr_resize_y": 192,
        "hr_upscaler": "Latent",
        "hr_second_pass_steps": 5,
        "denoising_strength": 0.6,
        "hr_additional_modules": [],
        "hr_cfg": 7.5,
    }
    assert body.items() >= expected.items()
    native = sent(job(hires=HIRES), NATIVE)
    assert (native["hr_steps"], native["enable_hr"]) == (5, True)
    assert native.keys().isdisjoint({"hr_second_pass_steps", "hr_additional_modules", "hr_cfg"})


# --- Who can do it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "able"),
    [
        ({"loras": (Lora(name="tiny", weight=1.0),)}, {"loras": (TINY,)}),
        ({"clip_skip": 2}, {"clip_skip": "option"}),
        ({"hires": HIRES}, {"hires_upscalers": ("Latent",)}),
    ],
)
def test_a_job_goes_to_whom_can_do_it(changes: dict[str, Any], able: dict[str, Any]) -> None:
    assert match(CAPABILITIES, job(**changes)) is None
    assert match(replace(CAPABILITIES, **able), job(**changes)) is not None
    assert match(CAPABILITIES, job()) is not None


def test_sides_of_a_second_pass_are_sure() -> None:
    native = replace(NATIVE.limits, sure_size_step=64)
    assert is_within(native, job(hires=HIRES))
    assert not is_within(native, job(hires=replace(HIRES, width=136)))
    assert not is_within(native, job(width=72, hires=HIRES))
    assert is_within(native, job(width=72))


def test_which_loras_can_be_asked_for() -> None:
    entries = [
        {"name": "tiny", "alias": "a", "path": "/srv/tiny", "metadata": {"ss_base_model_version": "sd_v1"}},
        {"name": "other", "path": "other.safetensors", "metadata": {"ss_base_model_version": "sdxl_base_v1-0"}},
        *({"name": name, "path": "x"} for name in ("a:b", "a,b", "a<b", "a>b")),
        *({"name": "twice", "path": path} for path in ("a/twice", "b/twice")),
        {"name": "unlisted"},
        *({"name": name} for name in (None, 5, "", "x" * 2000)),
    ]
    listed = listed_loras(entries)
    assert by_tag(listed) == (
        ListedLora(name="tiny", base="sd1"),
        ListedLora(name="other", base="sdxl"),
        ListedLora(name="unlisted"),
    )
    assert [lora.name for lora in by_path(listed)] == ["tiny", "other", "a:b", "a,b", "a<b", "a>b"]


# --- What is taken for proof ----------------------------------------------------------------------------------------


def read(info: dict[str, Any], params: GenerationParams, **kwargs: Any) -> Any:
    picture = in_base64(encoded_image((64, 64)))
    body = json.dumps({"images": [picture], "info": json.dumps({"all_seeds": [42], **info})}).encode()
    own = {"checkpoint": CHECKPOINT, "spelling": Spelling(), **kwargs}
    return read_answer(read_object(body), params, **own)[0].used


LORAS = job(loras=(Lora(name="tiny", weight=1.0),))


@pytest.mark.parametrize(
    ("extra", "hash_"),
    [
        ({"Lora hashes": "tiny: e868019ec2cc"}, "e868019ec2cc"),
        ({"Lora hashes": "red dress v1.2: 0bd8, tiny: e868019ec2cc"}, "e868019ec2cc"),
        ({"LoRA networks": "other, tiny", "LoRA hashes": "aa, bb"}, "bb"),
        ({"LoRA networks": "other, tiny", "LoRA hashes": "aa"}, None),
        ({"LoRA networks": "tiny"}, None),
    ],
)
def test_a_lora_that_is_named(extra: dict[str, str], hash_: str | None) -> None:
    used = read({"extra_generation_params": extra}, LORAS, loras=(TINY,))
    assert used.loras == (UsedLora(name="tiny", hash=hash_),)


@pytest.mark.parametrize(
    "extra",
    [
        *(
            {"Lora hashes": text}
            for text in ("", "tin: e868", "tinyer: e868", "tiny", "tiny: ", "Tiny: e868", "x tiny: e")
        ),
        *({"Lora hashes": value} for value in (None, 5, ["tiny: e868"], {"tiny": "e868"})),
        *({"LoRA networks": text} for text in ("", "Tiny", "tiny2")),
        {},
        None,
        "Lora hashes: tiny: e868",
    ],
)
def test_a_lora_that_is_not_named(extra: Any) -> None:
    with pytest.raises(DroppedError, match="left out 1 of 1") as caught:
        read({"extra_generation_params": extra, "infotexts": ['Lora hashes: "tiny: e868"']}, LORAS, loras=(TINY,))
    assert caught.value.reason == "lora_dropped"


def account(**told: Any) -> str:
    return f"a cat\nSteps: 2, Version: stable-diffusion.cpp, SDCPP: {json.dumps(told)}"


@pytest.mark.parametrize(
    ("texts", "proves"),
    [
        ([account(loras=[{"name": "tiny.safetensors"}])], True),
        (["SDCPP: {SDCPP: { " + account(loras=[{"name": "tiny.safetensors"}, {"name": "x"}])], True),
        ([account(loras=[{"name": "tiny.safetensors"}]), account()], False),
        ([account(loras=[{"name": "tiny"}])], False),
        ([account(loras="tiny.safetensors"), account(loras=None)], False),
        ([account(prompt='SDCPP: {"loras":[{"name":"tiny.safetensors"}]}')], False),
        (["SDCPP: {" * 50_000], False),
        ([], False),
        (None, False),
        ([None], False),
    ],
)
def test_what_stable_diffusion_cpp_says_of_each_picture(texts: Any, proves: bool) -> None:
    info = {"infotexts": texts}
    if proves:
        assert read(info, LORAS, loras=(SDCPP_TINY,)).loras == (UsedLora(name="tiny", hash=None),)
        return
    with pytest.raises(DroppedError):
        read(info, LORAS, loras=(SDCPP_TINY,))


@pytest.mark.parametrize(
    ("info", "proves"),
    [
        ({"extra_generation_params": {"Hires upscaler": "Latent"}}, True),
        ({"infotexts": [account(hires={"enabled": True, "upscaler": "Latent"})]}, True),
        ({"extra_generation_params": {"Hires upscaler": "Lanczos"}}, False),
        ({"extra_generation_params": {"Hires upscale": "Latent"}}, False),
        ({"infotexts": [account(hires={"enabled": False, "upscaler": "Latent"})]}, False),
        ({"infotexts": [account(hires={"enabled": True, "upscaler": "Lanczos"})]}, False),
        ({"infotexts": ["Hires upscaler: Latent"]}, False),
        ({}, False),
    ],
)
def test_the_upscaler_is_named(info: dict[str, Any], proves: bool) -> None:
    if proves:
        assert read(info, job(hires=HIRES)).upscaler == "Latent"
        return
    with pytest.raises(DroppedError) as caught:
        read(info, job(hires=HIRES))
    assert caught.value.reason == "wrong_upscaler"


@pytest.mark.parametrize(
    ("told", "asked", "right"),
    [
        *((told, None, True) for told in (None, 1, 2, "x")),
        *((told, 1, True) for told in (..., None, 1, 1.0, 0)),
        *((told, 1, False) for told in (2, 12)),
        *((told, 2, True) for told in (2, 2.0)),
        *((told, 2, False) for told in (..., None, 1, 3, "2", 0)),
    ],
)
def test_clip_skip_is_what_was_asked_for(told: Any, asked: int | None, right: bool) -> None:
    info = {} if told is ... else {"clip_skip": told}
    if right:
        read(info, job(), clip_skip=asked)
        return
    with pytest.raises(DroppedError) as caught:
        read(info, job(), clip_skip=asked)
    assert caught.value.reason == "wrong_clip_skip"


# --- Real answers ---------------------------------------------------------------------------------------------------

recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings beside the project")


def recorded(name: str, params: GenerationParams, **kwargs: Any) -> Any:
    told = json.loads((RECORDINGS / f"{name}.json").read_text())["response"]["info_parsed"]
    own = {"seed": told["seed"], "steps": told["steps"], "cfg_scale": told["cfg_scale"]}
    own["batch_size"] = len(told["all_seeds"])
    body = {"images": [in_base64(encoded_image((64, 64)))] * own["batch_size"], "info": json.dumps(told)}
    model = Checkpoint(title=told.get("sd_model_name") or "x", model_name=told.get("sd_model_name") or "x")
    answer = read_object(json.dumps(body).encode())
    return read_answer(answer, replace(params, **own), checkpoint=model, spelling=Spelling(), **kwargs)[0].used


@recordings
@pytest.mark.parametrize("name", ["lora_ok", "lora_batch2", "lora_hires", "lora_inpaint", "lora_ok_half", "lora_twice"])
def test_real_answers_that_name_the_lora(name: str) -> None:
    assert recorded(name, LORAS, loras=(TINY,)).loras == (UsedLora(name="tiny", hash="e868019ec2cc"),)


@recordings
@pytest.mark.parametrize(
    "name",
    [
        *("lora_missing", "lora_case", "lora_bad_weight", "lora_corrupt", "lora_hash_option_off", "lora_none"),
        *("lora_alias_shared", "lora_subfolder", "lora_negative_prompt", "lora_after"),
    ],
)
def test_real_answers_that_left_it_out(name: str) -> None:
    with pytest.raises(DroppedError):
        recorded(name, LORAS, loras=(TINY,))


@recordings
def test_real_answers_of_stable_diffusion_cpp() -> None:
    name = "sdcpp_plain_lora_field_after_list"
    assert recorded(name, LORAS, loras=(SDCPP_TINY,)).loras == (UsedLora(name="tiny", hash=None),)
    for name in ("sdcpp_plain_none", "sdcpp_plain_lora_tag"):
        with pytest.raises(DroppedError):
            recorded(name, LORAS, loras=(SDCPP_TINY,))
    for name in ("sdcpp_plain_hires_latent", "sdcpp_plain_hires_resize"):
        assert recorded(name, job(hires=HIRES)).upscaler == "Latent"
    with pytest.raises(DroppedError):
        recorded("sdcpp_plain_hires_lanczos", job(hires=HIRES))
    recorded("sdcpp_plain_clip_skip_2", job(clip_skip=2), clip_skip=2)
    with pytest.raises(DroppedError):
        recorded("sdcpp_plain_clip_skip_override", job(clip_skip=2), clip_skip=2)


@recordings
@pytest.mark.parametrize(
    "name", ["hires_latent", "hires_batch2", "hires_resize", "clip_skip_2_hires", "forge_hires_none"]
)
def test_real_second_passes(name: str) -> None:
    assert recorded(name, job(hires=HIRES)).upscaler == "Latent"


@recordings
@pytest.mark.parametrize("name", ["lora_none", "hires_in_img2img", "hires_lanczos"])
def test_real_answers_without_the_second_pass(name: str) -> None:
    with pytest.raises(DroppedError):
        recorded(name, job(hires=HIRES))
