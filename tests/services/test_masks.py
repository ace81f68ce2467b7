"""Masks: whatever the caller's convention, white is repainted and black is kept."""

from typing import get_args

import pytest
from PIL import Image, ImageDraw

from services.masks import Mask, MaskMode, fit_mask, read_mask
from services.picture_formats import PictureError
from services.pictures import fit, read_picture
from tests.services import picture_samples as samples

BOX = (16, 8, 32, 24)
INSIDE, OUTSIDE = (20, 12), (2, 2)
BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)
OPAQUE, CLEAR = (255,), (0,)


def read(data: bytes, mode: MaskMode = "white") -> Mask:
    return read_mask(data, mode=mode, max_pixels=1_000_000)


def fitted(data: bytes, mode: MaskMode = "white") -> Image.Image:
    mask = read(data, mode)
    return samples.pixels(fit_mask(mask, mask.width, mask.height, "stretch"))


def drawing(paint: tuple[int, ...] | int, canvas: tuple[int, ...] | int, image_mode: str = "RGB") -> bytes:
    image = Image.new(image_mode, samples.SIZE, canvas)
    image.paste(paint, BOX)
    return samples.encode(image)


DRAWINGS: dict[str, tuple[bytes, MaskMode]] = {
    "white on black": (drawing(WHITE, BLACK), "white"),
    "white on black, grey": (drawing(255, 0, "L"), "white"),
    "white on black, bilevel": (drawing(1, 0, "1"), "white"),
    "white on a transparent canvas": (drawing(WHITE + OPAQUE, BLACK + CLEAR, "RGBA"), "white"),
    "white on a canvas of transparent white": (drawing(WHITE + OPAQUE, WHITE + CLEAR, "RGBA"), "white"),
    "white on transparent, grey": (drawing((255, 255), (255, 0), "LA"), "white"),
    "colour brighter than half": (drawing((255, 255, 0), BLACK), "white"),
    "black on white": (drawing(BLACK, WHITE), "black"),
    "black on a transparent canvas": (drawing(BLACK + OPAQUE, BLACK + CLEAR, "RGBA"), "black"),
    "a hole": (drawing(WHITE + CLEAR, WHITE + OPAQUE, "RGBA"), "alpha"),
    "a hole in a photo": (drawing(BLACK + CLEAR, GREY + OPAQUE, "RGBA"), "alpha"),
    "a hole, grey": (drawing((0, 0), (0, 255), "LA"), "alpha"),
}


@pytest.mark.parametrize(("data", "mode"), DRAWINGS.values(), ids=DRAWINGS)
def test_the_drawn_box_is_what_is_repainted(data: bytes, mode: MaskMode) -> None:
    image = fitted(data, mode)
    assert (image.mode, image.size, image.info) == ("L", samples.SIZE, {})
    assert image.getbbox() == BOX
    assert set(image.get_flattened_data()) == {0, 255}


def test_a_transparent_colour_counts_as_alpha() -> None:
    image = samples.pixels(drawing(WHITE, BLACK))
    data = samples.encode(image, transparency=WHITE)
    assert fitted(data, "alpha").getbbox() == BOX


def test_a_palette_with_transparency_counts_as_alpha() -> None:
    image = Image.new("P", samples.SIZE, 0)
    image.putpalette([10, 20, 30, 200, 210, 220])
    image.paste(1, BOX)
    assert fitted(samples.encode(image, transparency=1), "alpha").getbbox() == BOX


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP"])
def test_masks_of_other_formats(kind: str) -> None:
    image = fitted(samples.encode(samples.pixels(drawing(WHITE, BLACK)), kind))
    assert image.getpixel(INSIDE) == 255
    assert image.getpixel(OUTSIDE) == 0


@pytest.mark.parametrize(("value", "expected"), [(127, None), (128, (0, 0, *samples.SIZE))])
def test_the_threshold_is_128(value: int, expected: tuple[int, int, int, int] | None) -> None:
    data = drawing(value, value, "L")
    if expected:
        assert fitted(data).getbbox() == expected
    else:
        with pytest.raises(PictureError, match="the mask is empty"):
            fitted(data)


EMPTY: dict[str, tuple[bytes, MaskMode]] = {
    "white, all black": (drawing(BLACK, BLACK), "white"),
    "white, all transparent": (drawing(WHITE + CLEAR, WHITE + CLEAR, "RGBA"), "white"),
    "black, all white": (drawing(WHITE, WHITE), "black"),
    "black, all transparent": (drawing(BLACK + CLEAR, BLACK + CLEAR, "RGBA"), "black"),
    "alpha, all opaque": (drawing(WHITE + OPAQUE, BLACK + OPAQUE, "RGBA"), "alpha"),
}


@pytest.mark.parametrize(("data", "mode"), EMPTY.values(), ids=EMPTY)
def test_an_empty_mask_is_refused(data: bytes, mode: MaskMode) -> None:
    with pytest.raises(PictureError, match=f'the mask is empty: with mask_mode "{mode}"') as caught:
        fitted(data, mode)
    assert caught.value.received.startswith("PNG, ")


def test_a_mask_that_vanishes_in_the_cut_is_refused() -> None:
    image = Image.new("L", (200, 50))
    image.paste(255, (0, 0, 20, 50))
    mask = read(samples.encode(image))
    assert samples.pixels(fit_mask(mask, 64, 64, "stretch")).getbbox() is not None
    with pytest.raises(PictureError, match="the mask is empty"):
        fit_mask(mask, 64, 64, "crop")


@pytest.mark.parametrize("data", [drawing(WHITE, BLACK), drawing(255, 0, "L")], ids=["RGB", "L"])
def test_mode_alpha_needs_transparency(data: bytes) -> None:
    with pytest.raises(PictureError, match="has no alpha channel"):
        read(data, "alpha")


@pytest.mark.parametrize("mode", get_args(MaskMode))
def test_masks_are_checked_as_pictures_are(mode: MaskMode) -> None:
    with pytest.raises(PictureError, match="PNG, JPEG, WebP or BMP"):
        read(b"GIF89a", mode)
    with pytest.raises(PictureError, match="at most 100 pixels"):
        read_mask(drawing(WHITE, BLACK), mode=mode, max_pixels=100)
    with pytest.raises(PictureError, match="cannot be decoded"):
        read(drawing(WHITE, BLACK)[:-20], mode)


def test_a_mask_is_turned_upright() -> None:
    stored = samples.pixels(drawing(WHITE, BLACK)).transpose(Image.Transpose.ROTATE_90)
    data = samples.encode(stored, exif=samples.exif_orientation(6))
    assert (read(data).width, read(data).height) == samples.SIZE
    assert fitted(data).getbbox() == BOX


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("target", [(64, 64), (128, 64), (64, 128), (48, 32)])
def test_a_mask_lies_where_the_same_drawing_in_the_picture_lies(resize_mode: str, target: tuple[int, int]) -> None:
    image = Image.new("L", (96, 64))
    ImageDraw.Draw(image).ellipse((20, 5, 80, 50), fill=255)
    data = samples.encode(image)
    mask = samples.pixels(fit_mask(read(data), *target, resize_mode))  # type: ignore[arg-type]
    picture = fit(read_picture(data, max_pixels=10_000), *target, resize_mode)  # type: ignore[arg-type]
    seen = samples.pixels(picture).convert("L").point(lambda value: 255 if value >= 128 else 0)
    assert mask.size == target
    assert mask.tobytes() == seen.tobytes()
