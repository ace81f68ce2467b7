"""Inpaintings as a WebUI gets them that knows neither areas nor fills."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from sd_client.models import Inpainting
from services.inpainting import area_box, filled, with_plain_form
from services.overlay import keep_unmasked, reach_of
from tests.services import picture_samples as samples

SIZE = (256, 128)
HOLE = (150, 40, 190, 70)
PICTURE = samples.noise(*SIZE)


def mask_of(box: tuple[int, int, int, int] = HOLE, size: tuple[int, int] = SIZE) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def inpainting(**changes: object) -> Inpainting:
    own: dict[str, object] = {"mask": samples.encode(mask_of()), "mask_blur": 4, "area": "masked", "padding": 8}
    return Inpainting(**{**own, "fill": "original", **changes})  # type: ignore[arg-type]


def plain_of(**changes: object):
    plain = with_plain_form(inpainting(**changes), samples.encode(PICTURE)).plain
    assert plain is not None
    return plain


def test_what_every_webui_can_do_stays_as_it_is() -> None:
    whole = inpainting(area="whole")
    assert with_plain_form(whole, samples.encode(PICTURE)) is whole
    assert whole.has_plain_form()


@pytest.mark.parametrize("fill", ["noise", "nothing"])
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_latent_fills_have_no_plain_form(area: str, fill: str) -> None:
    assert not with_plain_form(inpainting(area=area, fill=fill), samples.encode(PICTURE)).has_plain_form()


def test_the_area_is_cut_out_and_enlarged_with_its_mask() -> None:
    plain = plain_of()
    # 40 x 30 pixels of hole, with 8 of padding and 10 of blur around them: 76 x 66, in the picture's shape 132 x 66.
    assert plain.box == (104, 22, 236, 88)
    assert samples.pixels(plain.init_image).tobytes() == PICTURE.crop(plain.box).resize(SIZE, 1).tobytes()
    mask = samples.pixels(plain.mask)
    assert (mask.mode, mask.size, set(mask.get_flattened_data())) == ("L", SIZE, {0, 255})
    left, top, right, bottom = mask.getbbox() or SIZE + SIZE
    scale = 256 / 132
    expected = [(150 - 104) * scale, (40 - 22) * scale, (190 - 104) * scale, (70 - 22) * scale]
    assert all(abs(a - b) <= 1 for a, b in zip((left, top, right, bottom), expected, strict=True))


boxes = st.tuples(st.integers(0, 255), st.integers(0, 127), st.integers(1, 256), st.integers(1, 128)).map(
    lambda box: (box[0], box[1], min(256, box[0] + box[2]), min(128, box[1] + box[3]))
)


@settings(max_examples=60, deadline=None)
@given(hole=boxes, margin=st.integers(0, 300))
def test_the_area_has_the_pictures_shape_and_all_of_the_mask(hole: tuple[int, int, int, int], margin: int) -> None:
    left, top, right, bottom = area_box(mask_of(hole), margin=margin)
    assert 0 <= left <= max(0, hole[0] - margin)
    assert 0 <= top <= max(0, hole[1] - margin)
    assert 256 >= right >= min(256, hole[2] + margin)
    assert 128 >= bottom >= min(128, hole[3] + margin)
    assert abs((right - left) - 2 * (bottom - top)) <= 2
    assert right - left == 256 or bottom - top == 128 or not margin or (right - left) // 2 <= max(1, bottom - top)


def test_what_was_painted_comes_back_into_its_place() -> None:
    plain = plain_of()
    painted = samples.noise(*SIZE, seed=9)
    answer = samples.encode(painted, pnginfo=samples.text_info())
    kept = keep_unmasked(answer, samples.encode(PICTURE), inpainting(), box=plain.box)
    result = samples.pixels(kept)
    assert result.info == {"parameters": "a secret prompt"}
    expected = PICTURE.copy()
    left, top, right, bottom = plain.box
    expected.paste(painted.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    inner = tuple(side + inwards for side, inwards in zip(HOLE, (5, 5, -5, -5), strict=True))
    assert result.crop(inner).tobytes() == expected.crop(inner).tobytes()
    difference = ImageChops.difference(result, PICTURE)
    difference.paste(0, tuple(side + out * reach_of(4) for side, out in zip(HOLE, (-1, -1, 1, 1), strict=True)))
    assert difference.getbbox() is None


def test_fill_is_made_of_what_surrounds_the_mask() -> None:
    picture = Image.new("RGB", SIZE, (200, 30, 30))
    picture.paste((30, 30, 200), (128, 0, 256, 128))
    picture.paste((0, 255, 0), (100, 40, 156, 88))
    mask = mask_of((100, 40, 156, 88))
    result = filled(picture, mask)
    difference = ImageChops.difference(result, picture)
    difference.paste(0, (100, 40, 156, 88))
    assert difference.getbbox() is None, "what is kept is not touched"
    within = result.crop((100, 40, 156, 88))
    assert max(green for _, green, _ in within.get_flattened_data()) < 60, "nothing of what was there shines through"
    red, _, blue = result.getpixel((104, 64))
    assert red > blue
    red, _, blue = result.getpixel((152, 64))
    assert blue > red


def test_fill_of_everything_is_the_pictures_mean() -> None:
    picture = Image.new("RGB", SIZE, (10, 20, 30))
    picture.paste((30, 40, 50), (0, 0, 128, 128))
    assert filled(picture, Image.new("L", SIZE, 255)).getcolors() == [(256 * 128, (20, 30, 40))]


def test_an_area_of_everything_has_all_of_the_picture() -> None:
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).line((0, 0, 255, 127), fill=255)
    plain = plain_of(mask=samples.encode(mask))
    assert plain.box == (0, 0, *SIZE)
    assert samples.pixels(plain.init_image).tobytes() == PICTURE.tobytes()
