import base64
import io
import json

import pytest
from PIL import Image, ImageChops

from tests.simulator.pixels import encoded, mask, opened, sample

INIT = encoded(sample())
NOISE = encoded(Image.effect_noise((64, 64), 90).convert("RGB"))


def paint(api, **body):
    return api.post("img2img", {"prompt": "sea", "steps": 2, "width": 64, "height": 64, "seed": 5, **body})


def picture(api, **body) -> Image.Image:
    response = paint(api, **{"init_images": [INIT], **body})
    assert response.status_code == 200, response.text
    found = opened(response.json()["images"][0])
    # Without the text chunk, which would count in a comparison.
    return Image.frombytes(found.mode, found.size, found.tobytes())


def test_strength_0_leaves_the_picture_untouched(api):
    assert picture(api, denoising_strength=0).tobytes() == sample().tobytes()


def test_strength_1_is_all_new(api):
    other = encoded(Image.new("RGB", (64, 64), "red"))
    assert (
        picture(api, denoising_strength=1).tobytes()
        == picture(api, denoising_strength=1, init_images=[other]).tobytes()
    )


def test_between_them_the_picture_is_seen_less_and_less(api):
    def distance(strength):
        difference = ImageChops.difference(picture(api, denoising_strength=strength), sample()).convert("L")
        return sum(value * count for value, count in enumerate(difference.histogram()))

    assert 0 < distance(0.2) < distance(0.5) < distance(0.9)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_formats(api, kind):
    assert paint(api, init_images=[encoded(sample(), kind)]).status_code == 200


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "RGB"])
def test_modes(api, mode):
    assert picture(api, init_images=[encoded(sample().convert(mode))]).mode == "RGB"


def test_transparency_becomes_white(api):
    empty = encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 0)))
    assert picture(api, init_images=[empty], denoising_strength=0).getpixel((5, 5)) == (255, 255, 255)


def test_line_breaks_and_data_uris_are_read(api):
    broken = "\n".join(INIT[start : start + 76] for start in range(0, len(INIT), 76))
    assert picture(api, init_images=[broken]) == picture(api, init_images=[f"data:image/png;base64,{INIT}"])


def test_a_picture_lying_on_its_side_is_turned_upright(api):
    exif = Image.Exif()
    exif[0x0112] = 3  # Upside down.
    out = io.BytesIO()
    sample().save(out, "PNG", exif=exif)
    lying = base64.b64encode(out.getvalue()).decode()
    turned = picture(api, init_images=[lying], denoising_strength=0)
    assert turned == sample().transpose(Image.Transpose.ROTATE_180)


@pytest.mark.parametrize(
    ("images", "status", "body"),
    [
        (None, 404, {"error": "HTTPException", "detail": "Init image not found"}),
        ([], 500, {"error": "RuntimeError", "detail": ""}),
        ([""], 500, {"error": "HTTPException", "detail": "Invalid encoded image"}),
        (["!!!"], 500, {"error": "HTTPException", "detail": "Invalid encoded image"}),
        (["aGVsbG8="], 500, {"error": "HTTPException", "detail": "Invalid encoded image"}),
        ([INIT[:-3]], 500, {"error": "HTTPException", "detail": "Invalid encoded image"}),
        ([NOISE[:400]], 500, {"error": "OSError", "errors": "image file is truncated"}),
        ([5], 500, {"error": "AttributeError", "errors": "'int' object has no attribute 'startswith'"}),
        (["data:image/png;charset=utf-8;base64," + INIT], 500, {"error": "IndexError"}),
        (["data:image/png;base64"], 500, {"error": "IndexError"}),
        (["file:///etc/passwd"], 500, {"detail": "Invalid encoded image"}),
        (["http://127.0.0.1:1/x.png"], 500, {"detail": "Request to local resource not allowed"}),
        (["https://example.org/x.png"], 500, {"detail": "Request to local resource not allowed"}),
        (["HTTP://127.0.0.1/x.png"], 500, {"detail": "Invalid encoded image"}),
        ([INIT, INIT], 500, {"errors": "bad number of images passed: 2; expecting 1 or less"}),
    ],
)
def test_bad_init_images(api, images, status, body):
    response = paint(api, init_images=images)
    assert response.status_code == status
    assert response.json().items() >= body.items()


def test_two_init_images_make_two_pictures(api):
    other = encoded(Image.new("RGB", (64, 64), "red"))
    answer = paint(api, init_images=[INIT, other], batch_size=2, denoising_strength=0).json()
    assert [opened(one).getpixel((3, 3)) for one in answer["images"]] == [sample().getpixel((3, 3)), (255, 0, 0)]


def test_pictures_are_echoed_only_on_demand(api):
    assert paint(api, init_images=[INIT]).json()["parameters"]["init_images"] is None
    assert paint(api, init_images=[INIT], include_init_images=True).json()["parameters"]["init_images"] == [INIT]


def test_the_steps_depend_on_the_strength(start):
    api = start(step_time=0.001)
    paint(api, init_images=[INIT], steps=10, denoising_strength=0.5)
    assert api.get("progress").json()["state"]["sampling_steps"] == 6


BOX = (20, 20, 43, 43)
PLAIN = {"init_images": [INIT], "mask": encoded(mask(BOX)), "mask_blur": 0, "inpainting_fill": 1}


@pytest.mark.parametrize("full_res", [True, False])
def test_a_mask_keeps_everything_else_pixel_for_pixel(api, full_res):
    result = picture(api, **PLAIN, inpaint_full_res=full_res, denoising_strength=1)
    outside = Image.eval(mask(BOX), lambda value: 255 - value)
    kept = Image.composite(result, Image.new("RGB", result.size), outside)
    assert kept == Image.composite(sample(), Image.new("RGB", result.size), outside)
    assert ImageChops.difference(result, sample()).getbbox() == (20, 20, 44, 44)


def test_inverted_it_keeps_what_is_white(api):
    result = picture(api, **PLAIN, inpainting_mask_invert=1, inpaint_full_res=False, denoising_strength=1)
    assert result.crop((20, 20, 44, 44)) == sample().crop((20, 20, 44, 44))
    assert result.getpixel((2, 40)) != sample().getpixel((2, 40))


def test_blur_reaches_a_little_outwards(api):
    result = picture(api, **{**PLAIN, "mask_blur": 4}, inpaint_full_res=False, denoising_strength=1)
    box = ImageChops.difference(result, sample()).getbbox()
    assert box is not None
    assert 0 < box[0] < 20
    assert result.getpixel((1, 1)) == sample().getpixel((1, 1))


def test_transparency_of_a_mask_counts_instead_of_its_colours(api):
    by_alpha = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    by_alpha.paste((0, 0, 0, 255), (20, 20, 44, 44))
    as_asked = {**PLAIN, "inpaint_full_res": False, "denoising_strength": 1}
    assert picture(api, **{**as_asked, "mask": encoded(by_alpha)}) == picture(api, **as_asked)


def test_an_all_black_mask(api):
    black = {**PLAIN, "mask": encoded(Image.new("L", (64, 64)))}
    assert picture(api, **black, inpaint_full_res=False) == sample()
    redone = picture(api, **black, inpaint_full_res=True, denoising_strength=0.6)
    assert redone == picture(api, denoising_strength=0.6)


def test_only_masked_gives_the_size_of_the_init_image(api):
    wide = encoded(sample((96, 48)))
    response = paint(api, init_images=[wide], mask=encoded(mask(BOX, (96, 48))), inpaint_full_res=True)
    assert opened(response.json()["images"][0]).size == (96, 48)
    response = paint(api, init_images=[wide], mask=encoded(mask(BOX, (96, 48))), inpaint_full_res=False)
    assert opened(response.json()["images"][0]).size == (64, 64)


def test_a_mask_of_another_size_is_accepted(api):
    assert paint(api, init_images=[INIT], mask=encoded(mask((90, 80, 120, 90), (128, 96)))).status_code == 200


@pytest.mark.parametrize(
    ("bad", "error"), [("", "AttributeError"), ("!!!", "HTTPException"), ("http://127.0.0.1/m.png", "HTTPException")]
)
def test_bad_masks(api, bad, error):
    response = paint(api, init_images=[INIT], mask=bad)
    assert (response.status_code, response.json()["error"]) == (500, error)


def test_info_tells_about_the_mask(api):
    answer = paint(api, **{**PLAIN, "mask_blur": 4}, inpaint_full_res_padding=8, inpainting_mask_invert=1).json()
    assert json.loads(answer["info"])["extra_generation_params"] == {
        "Denoising strength": 0.75,
        "Mask mode": "Inpaint not masked",
        "Mask blur": 4,
        "Inpaint area": "Only masked",
        "Masked area padding": 8,
    }
