"""Which ways a WebUI lists, and what its answers prove."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from sd_client.errors import DroppedError
from sd_client.models import Hires, Reference, ReferencePicture, ReferenceWay
from sd_client.pixels import fingerprint
from sd_client.references import check_maps, check_words, controlnet_ways, map_count, met_exception, sdnext_ways
from tests.sd_client.jobs import job


def encoded_image(size: tuple[int, int], colour: str, *, text: str = "") -> bytes:
    file, chunks = io.BytesIO(), PngImagePlugin.PngInfo()
    if text:
        chunks.add_text("parameters", text)
    Image.new("RGB", size, colour).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


OURS = encoded_image((64, 64), "red")
OTHER = encoded_image((64, 64), "blue")
LARGE = encoded_image((128, 128), "red")
PICTURE = ReferencePicture(file=OURS, size=(64, 64), fingerprint=fingerprint(Image.new("RGB", (64, 64), "red")))
REFERENCE = Reference(pictures={"adapter": PICTURE, "attention": PICTURE}, weight=0.8)
ADAPTER = ReferenceWay(method="adapter", model="ip-adapter_sd15 [6a3f6166]", module="ip-adapter_clip_h")
ATTENTION = ReferenceWay(method="attention", model="None", module="reference_only")
HIRES = Hires(width=128, height=128, upscaler="Latent", steps=5, strength=0.6)


def types(*models: str, modules: tuple[str, ...] = ("none", "ip-adapter_clip_h", "ip-adapter_clip_g")) -> Any:
    return {"control_types": {"IP-Adapter": {"module_list": list(modules), "model_list": ["None", *models]}}}


def test_those_for_what_a_picture_looks_like() -> None:
    listed = types(
        *("ip-adapter_sd15 [1]", "ip-adapter-plus-face_sd15", "ip-adapter_pulid_sdxl_fp16", "ip-adapter_sdxl"),
        *("ip-adapter_sd15_vit-G", "ip-adapter-faceid-plusv2_sd15", "ip-adapter-plus_sdxl_vit-h"),
    )
    assert [(way.model, way.module) for way in controlnet_ways(listed)] == [
        ("ip-adapter-plus_sdxl_vit-h", "ip-adapter_clip_h"),
        ("ip-adapter_sd15 [1]", "ip-adapter_clip_h"),
        ("ip-adapter_sdxl", "ip-adapter_clip_g"),
        ("ip-adapter_sd15_vit-G", "ip-adapter_clip_g"),
    ]


def test_without_an_encoder_that_is_known() -> None:
    assert controlnet_ways(types("ip-adapter_sd15", modules=("none", "InsightFace+CLIP-H (IPAdapter)"))) == ()


@pytest.mark.parametrize(
    "answer",
    [
        *(None, [], {}, "text", {"control_types": None}, {"control_types": {"IP-Adapter": []}}),
        {"control_types": {"IP-Adapter": {"module_list": None, "model_list": 1}, "Reference": {"module_list": {}}}},
    ],
)
def test_other_shapes(answer: Any) -> None:
    assert controlnet_ways(answer) == sdnext_ways(answer) == ()


def words(text: object) -> dict[str, Any]:
    return {"extra_generation_params": {"ControlNet 0": text}}


def test_the_words_of_a_unit() -> None:
    said = "Module: ip-adapter_clip_h, Model: ip-adapter_sd15 [6a3f6166], Weight: 0.8, Resize Mode: Crop and Resize"
    used = check_words(words(said), REFERENCE, ADAPTER)
    assert (used.method, used.model) == ("adapter", "ip-adapter_sd15")
    for wrong in ("", None, said.replace("0.8", "0.85"), said.replace("[6a3f6166]", ""), said.replace("_h", "_g")):
        with pytest.raises(DroppedError, match="the reference picture"):
            check_words(words(wrong), REFERENCE, ADAPTER)
    with pytest.raises(DroppedError):
        check_words({}, REFERENCE, ADAPTER)


@pytest.mark.parametrize(
    ("maps", "way", "hires", "is_proof"),
    [
        *(([OURS], ADAPTER, None, True), ([OURS], ATTENTION, None, True), ([OURS], ADAPTER, HIRES, True)),
        *(([OURS, LARGE], ATTENTION, HIRES, True), ([LARGE, OURS], ATTENTION, HIRES, True)),
        *(([OTHER], ADAPTER, None, False), ([LARGE], ADAPTER, None, False), ([], ADAPTER, None, False)),
        *(([OURS], ATTENTION, HIRES, False), ([OURS, OTHER], ATTENTION, HIRES, False)),
        *(([LARGE, LARGE], ATTENTION, HIRES, False), ([b"no picture"], ADAPTER, None, False)),
        *((["text"], ADAPTER, None, False), ([OURS[:60]], ADAPTER, None, False)),
        ([encoded_image((64, 64), "red", text="a cat\nSteps: 20")], ADAPTER, None, False),
    ],
)
def test_maps(maps: list[object], way: ReferenceWay, hires: Hires | None, is_proof: bool) -> None:
    params = job(reference=REFERENCE, hires=hires)
    assert not is_proof or map_count(params, way) == len(maps)
    if is_proof:
        check_maps(maps, params, REFERENCE, way)
    else:
        with pytest.raises(DroppedError):
            check_maps(maps, params, REFERENCE, way)


def test_one_other_pixel_is_another_picture() -> None:
    image = Image.new("RGB", (64, 64), "red")
    image.putpixel((63, 63), (255, 0, 1))
    file = io.BytesIO()
    image.save(file, "PNG")
    with pytest.raises(DroppedError):
        check_maps([file.getvalue()], job(reference=REFERENCE), REFERENCE, ADAPTER)


FAILED = {"exception": "no attribute", "traceback": [["extensions-builtin/sd_forge_controlnet/controlnet.py", ""]]}
ELSEWHERE = {"exception": "no attribute", "traceback": [["modules/images.py", ""]]}


@pytest.mark.parametrize(
    ("before", "after", "met"),
    [
        *(([], [], False), ([], [FAILED], True), ([FAILED], [FAILED, FAILED], True), ([FAILED], [FAILED], False)),
        *(([ELSEWHERE] * 5, [ELSEWHERE] * 5, False), ([ELSEWHERE] * 5, [FAILED, *[ELSEWHERE] * 4], True)),
        *(([FAILED] * 5, [FAILED] * 5, None), ([FAILED, *[ELSEWHERE] * 4], [FAILED, FAILED, *[ELSEWHERE] * 3], True)),
        ([ELSEWHERE, *[FAILED] * 4], [ELSEWHERE, *[FAILED] * 4], False),
    ],
)
def test_exceptions(before: list[object], after: list[object], met: bool | None) -> None:
    assert met_exception(before, after) is met
