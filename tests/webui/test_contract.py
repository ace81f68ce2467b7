"""What the service relies on from any WebUI, through the whole service: ``make test-webui SD_WEBUI_URL=…``."""

from __future__ import annotations

import base64
import io
import struct
import warnings

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _painted(answer) -> Image.Image:
    assert answer.status_code == 200, answer.get_data(as_text=True)[:500]
    data = answer.get_json()["image_base64"].removeprefix("data:image/png;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    assert image.format == "PNG"
    return image


def _photo(width: int = 128, height: int = 128) -> Image.Image:
    gradient = Image.linear_gradient("L")
    bands = (gradient, gradient.transpose(Image.Transpose.ROTATE_90), ImageChops.invert(gradient))
    return Image.merge("RGB", bands).resize((width, height))


def _mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def _assert_it_can_paint(health: dict) -> None:
    # The default model of the service need not be among those of the WebUI: each test names its model.
    assert health["status"] == "healthy" or health["reasons"] == ["default_model_unknown"], health


def test_health_says_that_it_can_paint(service):
    health = service.get("health").get_json()
    _assert_it_can_paint(health)
    assert health["webuis"]["available"] == 1


def test_a_model_is_loaded(service):
    models = service.get("models").get_json()["models"]
    assert len({model["id"] for model in models}) == len(models)


def test_samplers_are_listed(service):
    assert service.get("options").get_json()["samplers"]


def test_txt2img_paints_the_size_asked_for(service):
    answer = service.post("txt2img")
    assert _painted(answer).size == (64, 64)
    assert (answer.get_json()["width"], answer.get_json()["height"]) == (64, 64)


def test_another_shape(service):
    assert _painted(service.post("txt2img", width=192, height=128)).size == (192, 128)


def test_the_same_seed_paints_the_same_picture(service):
    first, second, other = (_painted(service.post("txt2img", seed=seed)) for seed in (7, 7, 8))
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


def test_a_drawn_seed_can_be_used_again(service):
    drawn = service.post("txt2img", seed=-1)
    seed = drawn.get_json()["seed"]
    assert 0 <= seed < 2**31
    assert _painted(drawn).tobytes() == _painted(service.post("txt2img", seed=seed)).tobytes()


def test_the_largest_seed_that_fits_is_used(service):
    assert service.post("txt2img", seed=2**31 - 1).get_json()["seed"] == 2**31 - 1


def test_a_batch_counts_its_seeds_up(service):
    answer = service.post("txt2img", batch_size=2)
    _painted(answer)
    images = answer.get_json()["images"]
    assert [image["seed"] for image in images] == [42, 43]
    assert images[0]["image_base64"] != images[1]["image_base64"]


def test_each_picture_of_a_batch_is_that_of_its_seed(service):
    """Also where the server paints one picture a job. A batch rounds a little otherwise than a single picture."""
    images = service.post("txt2img", batch_size=3).get_json()["images"]
    for image in images:
        data = base64.b64decode(image["image_base64"].partition(",")[2])
        alone = _painted(service.post("txt2img", seed=image["seed"]))
        difference = ImageChops.difference(Image.open(io.BytesIO(data)).convert("RGB"), alone.convert("RGB"))
        assert max(ImageStat.Stat(difference).mean) < 2


def test_a_batch_of_an_inpainting(service):
    fields = {"image": _png(_photo()), "mask": _png(_mask((128, 128), (40, 40, 87, 87)))}
    answer = service.post("inpainting", **fields, width=128, height=128, batch_size=2)
    _painted(answer)
    images = answer.get_json()["images"]
    assert [image["seed"] for image in images] == [42, 43]
    assert images[0]["image_base64"] != images[1]["image_base64"]


@pytest.mark.parametrize(
    "options",
    [
        {"return_mask": True, "return_mask_composite": False},
        {"return_mask": False, "return_mask_composite": True},
        {"return_mask": True, "return_mask_composite": True},
    ],
    ids=["mask", "composite", "both"],
)
def test_masks_that_the_webui_returns_are_no_pictures(service, options):
    fields = {"image": _png(_photo()), "mask": _png(_mask((128, 128), (32, 32, 95, 95))), "mask_blur": 0}
    fields |= {"width": 128, "height": 128, "batch_size": 3}

    def pictures() -> list[Image.Image]:
        answer = service.post("inpainting", **fields)
        _painted(answer)
        images = answer.get_json()["images"]
        assert [image["seed"] for image in images] == [42, 43, 44]
        data = [base64.b64decode(image["image_base64"].partition(",")[2]) for image in images]
        return [Image.open(io.BytesIO(one)).convert("RGB") for one in data]

    pictures()  # the first one after another job may differ a little
    expected = pictures()
    with service.webui_options(**options):
        for found, same in zip(pictures(), expected, strict=True):
            assert max(ImageStat.Stat(ImageChops.difference(found, same)).mean) < 2


@pytest.mark.filterwarnings("default")
def test_a_broken_list_costs_nothing_but_what_it_lists(service):
    """Which of this WebUI's lists are broken is told by a warning; SD.Next's schedulers always were."""
    for broken in service.capabilities().broken:
        warnings.warn(f"{broken.route} gives no usable answer: {broken.reason}", stacklevel=1)
    _assert_it_can_paint(service.get("health").get_json())
    _painted(service.post("txt2img"))


def test_a_size_that_it_cannot_paint_is_refused_with_one_that_it_can(service):
    answer = service.post("txt2img", width=72, height=64)
    if answer.status_code == 200:
        assert _painted(answer).size == (72, 64)
        return
    assert answer.status_code == 422, answer.get_data(as_text=True)
    assert "multiple of" in answer.get_json()["detail"]


def test_many_steps_and_much_guidance_are_what_is_painted(service):
    """KoboldCpp clamps both in silence, unless it is asked not to."""
    answer = service.post("txt2img", steps=90, cfg_scale=27)
    if answer.status_code == 422:
        assert {error["field"] for error in answer.get_json()["errors"]} <= {"steps", "cfg_scale"}
        return
    text = str(_painted(answer).info.get("parameters", ""))
    assert "Steps: 90" in text or "Steps" not in text


def test_every_listed_sampler_is_accepted(service):
    samplers = service.get("options").get_json()["samplers"]
    named = [sampler for sampler in samplers if sampler in ("default", "Default", "DDIM")]
    for sampler in dict.fromkeys([*samplers[:4], *named]):
        _painted(service.post("txt2img", sampler=sampler))


def test_a_sampler_in_another_spelling(service):
    _painted(service.post("txt2img", sampler="EULER_A"))


def test_a_scheduler_is_accepted(service):
    schedulers = service.get("options").get_json()["schedulers"]
    if not schedulers:
        pytest.skip("this server lists no schedulers")
    _painted(service.post("txt2img", sampler="Euler", scheduler=schedulers[1]))


def test_each_lora_changes_the_picture_or_is_refused(service):
    """Those for another kind of model are listed as well, and do nothing."""
    loras = service.get("options").get_json()["loras"][:10]
    if not loras:
        pytest.skip("this WebUI has no LoRAs")
    plain = _painted(service.post("txt2img"))
    for lora in loras:
        answer = service.post("txt2img", loras=[{"name": lora["name"]}])
        if answer.status_code == 422:
            assert answer.get_json()["code"] == "capability_missing", answer.text
            continue
        assert _painted(answer).tobytes() != plain.tobytes(), lora
        assert [used["name"] for used in answer.get_json()["used"]["loras"]] == [lora["name"]]
    assert _painted(service.post("txt2img")).tobytes() == plain.tobytes(), "none stays"


@pytest.mark.parametrize("prompt", ["a lighthouse <lora:no such file:1>", "a lighthouse <hypernet:x:1>"])
def test_a_tag_is_never_ignored(service, prompt):
    assert service.post("txt2img", prompt=prompt).status_code == 422


def test_a_second_pass(service):
    hires = service.get("options").get_json()["hires"]
    if hires is None:
        assert service.post("txt2img", hires={}).get_json()["code"] == "capability_missing"
        return
    for upscaler in hires["upscalers"][:3]:
        answer = service.post("txt2img", hires={"upscaler": upscaler, "steps": 2})
        assert _painted(answer).size == (128, 128)
        assert answer.get_json()["used"]["hires"] == {"upscaler": upscaler}


def test_clip_skip_ends_with_its_job(service):
    if service.get("options").get_json()["clip_skip"] is None:
        assert service.post("txt2img", clip_skip=2).get_json()["code"] == "capability_missing"
        return
    plain = _painted(service.post("txt2img"))
    _painted(service.post("txt2img", clip_skip=2))
    assert _painted(service.post("txt2img")).tobytes() == plain.tobytes()


def test_a_prompt_in_any_script(service):
    _painted(service.post("txt2img", prompt='a "quoted" café, 灯台, 🗼', negative_prompt="\\ blurry\n"))


def test_img2img_has_the_pictures_size(service):
    answer = service.post("img2img", image=_png(_photo(128, 192)), leave_out=("width", "height"))
    assert _painted(answer).size == (128, 192)


def test_img2img_looks_at_the_picture(service):
    photo = _photo()
    changed = ImageChops.invert(photo)
    size = {"width": 128, "height": 128, "strength": 0.3}
    first = _painted(service.post("img2img", image=_png(photo), **size))
    second = _painted(service.post("img2img", image=_png(changed), **size))
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "fill"])
def test_img2img_of_another_shape(service, resize_mode):
    picture = _png(_photo(100, 300))
    answer = service.post("img2img", image=picture, width=128, height=128, resize_mode=resize_mode)
    assert _painted(answer).size == (128, 128)


@pytest.mark.parametrize("area", ["whole", "masked"])
@pytest.mark.parametrize("fill", ["original", "noise"])
def test_inpainting_keeps_what_the_mask_keeps(service, area, fill):
    photo = _photo()
    fields = {"image": _png(photo), "mask": _png(_mask((128, 128), (40, 40, 87, 87))), "mask_blur": 2}
    answer = service.post("inpainting", **fields, width=128, height=128, inpaint_area=area, inpaint_fill=fill)
    if answer.status_code == 422 and fill == "noise":
        assert answer.get_json()["code"] == "capability_missing"
        pytest.skip("this server cannot begin with noise, and a caller is told so")
    painted = _painted(answer).convert("RGB")
    difference = ImageChops.difference(painted, photo)
    inside = difference.crop((48, 48, 80, 80)).getbbox()
    assert inside is not None, "nothing was repainted"
    reach = 5  # of a blur of 2
    difference.paste(0, (40 - reach, 40 - reach, 88 + reach, 88 + reach))
    assert difference.getbbox() is None, "what the mask keeps has changed"


# A display's wide gamut, as phones have it: primaries as XYZ under D50, and a curve near sRGB's.
_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


def _wide_gamut_profile() -> bytes:
    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, 563, 0)  # to the power of 563 / 256
    tags = {name: b"XYZ \0\0\0\0" + fixed(*xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _P3, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve) | {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(">I4x4s4s4s4s12x4s28x", start + len(data), b"\x02\x40\0\0", b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return head + fixed(0.9642, 1, 0.8249) + bytes(48) + struct.pack(">I", len(tags)) + table + data


def test_what_is_kept_of_a_wide_gamut_photo_looks_as_it_did(service):
    stored = (200, 120, 100)
    # From light of this space to light of sRGB; the curve of both is a power of 2.2, within two levels.
    matrix = ((1.22494, -0.22494, 0.0), (-0.04206, 1.04206, 0.0), (-0.01964, -0.07864, 1.09827))
    light = [(level / 255) ** 2.2 for level in stored]
    expected = [round(255 * sum(a * b for a, b in zip(row, light, strict=True)) ** (1 / 2.2)) for row in matrix]
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), stored).save(buffer, "PNG", icc_profile=_wide_gamut_profile())
    fields = {"image": base64.b64encode(buffer.getvalue()).decode(), "mask": _png(_mask((128, 128), (40, 40, 87, 87)))}
    kept = _painted(service.post("inpainting", **fields, width=128, height=128)).convert("RGB").getpixel((8, 8))
    assert abs(expected[0] - stored[0]) > 8
    assert all(abs(a - b) <= 3 for a, b in zip(kept, expected, strict=True)), (kept, expected)


def test_the_masked_area_is_painted_by_itself(service):
    photo = _photo(256, 256)
    fields = {"image": _png(photo), "mask": _png(_mask((256, 256), (96, 96, 160, 160))), "inpaint_padding": 8}
    size = {"width": 256, "height": 256, "strength": 1}
    whole, masked = (
        _painted(service.post("inpainting", **fields, **size, inpaint_area=area)).convert("RGB")
        for area in ("whole", "masked")
    )
    assert ImageChops.difference(whole, masked).crop((104, 104, 152, 152)).getbbox() is not None


def test_a_picture_is_enlarged(service):
    """By the first upscaler that a program can tell from Lanczos, if the WebUI has one; by Lanczos where not."""
    offered = service.get("options").get_json()["upscale"]
    if offered is None:
        pytest.skip("this WebUI enlarges no pictures")
    names = offered["upscalers"]
    name = next((one for one in names if "lanczos" not in one.lower()), names[0])
    blots = Image.effect_noise((12, 8), 120).convert("RGB").resize((96, 64), Image.Resampling.BICUBIC)
    answer = service.upscale(image=_png(blots), upscaler=name, scale=2)
    enlarged = _painted(answer)
    assert enlarged.size == (192, 128)
    assert answer.get_json()["used"] == {"upscale": {"upscaler": name}}
    # It is the same picture, and none of one colour.
    small = enlarged.convert("RGB").resize(blots.size, Image.Resampling.BOX)
    assert max(ImageStat.Stat(ImageChops.difference(small, blots)).mean) < 16
    assert min(ImageStat.Stat(enlarged.convert("RGB")).stddev) > 8


def test_the_stored_image_is_the_answered_one(service):
    answer = service.post("txt2img")
    data = answer.get_json()["image_base64"].removeprefix("data:image/png;base64,")
    with service.get(f"image/{answer.get_json()['image_id']}") as stored:
        assert stored.data == base64.b64decode(data)


def test_an_unknown_model_is_refused(service):
    answer = service.post("txt2img", model="no-such-model")
    assert (answer.status_code, answer.get_json()["code"]) == (422, "model_not_found")


def test_an_unknown_sampler_is_refused(service):
    answer = service.post("txt2img", sampler="no such sampler")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == ["sampler"]


def test_another_model_paints_with_that_model(service):
    models = [model["id"] for model in service.get("models").get_json()["models"]]
    other = next((model for model in models if model != service.smallest["model"]), None)
    if other is None:
        pytest.skip("this WebUI has one model")
    assert service.post("txt2img", model=other).get_json()["model"] == other


@pytest.mark.parametrize("method", ["adapter", "attention"])
@pytest.mark.parametrize("route", ["txt2img", "inpainting"])
def test_a_reference_picture_is_used(service, method, route):
    """By the service's own proofs and to the eye of a program; the first may fetch an encoder of 2.5 GB."""
    offered = service.get("options").get_json()["reference"]
    if offered is None or method not in offered["methods"]:
        pytest.skip("this WebUI cannot be asked for that")
    fields = {}
    if route == "inpainting":
        fields = {"image": _png(_photo()), "mask": _png(_mask((128, 128), (40, 40, 87, 87))), "strength": 1}
    size = {"width": 128, "height": 128}
    plain = _painted(service.post(route, **fields, **size))
    asked = {"reference": _png(_photo(96, 160)), "reference_method": method, "reference_weight": 1}
    answer = service.post(route, **fields, **size, **asked)
    used = _painted(answer)
    assert answer.get_json()["used"]["reference"]["method"] == method
    assert used.size == plain.size
    assert used.convert("RGB").tobytes() != plain.convert("RGB").tobytes()
    if route == "txt2img":
        assert _painted(service.post(route, **size, **asked)).tobytes() == used.tobytes()
    else:
        assert used.convert("RGB").getpixel((8, 8)) == _photo().getpixel((8, 8))
