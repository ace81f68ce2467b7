"""Masks: whatever the caller's convention, white is repainted and black is kept."""

import struct
from typing import get_args

import pytest
from PIL import Image, ImageDraw

from services.masks import Mask, MaskLostError, MaskMode, fit_mask, read_mask
from services.picture_formats import PictureError
from services.pictures import ResizeMode, fit, read_picture
from tests.services import picture_samples as samples

BOX = (16, 8, 32, 24)
INSIDE, OUTSIDE = (20, 12), (2, 2)
BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)
OPAQUE, CLEAR = (255,), (0,)


def read(data: bytes, mode: MaskMode | None = "white") -> Mask:
    return read_mask(data, mode=mode, max_pixels=1_000_000)


def fitted(data: bytes, mode: MaskMode | None = "white") -> Image.Image:
    mask = read(data, mode)
    return fit_mask(mask, mask.width, mask.height, "stretch")


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
    assert fit_mask(mask, 64, 64, "stretch").getbbox() is not None
    with pytest.raises(MaskLostError, match="cuts off everything that is white in the mask") as caught:
        fit_mask(mask, 64, 64, "crop")
    assert caught.value.by_crop


@pytest.mark.parametrize(
    ("mode", "colour"), [("white", "white"), ("black", "black"), ("alpha", "transparent"), (None, "white")]
)
@pytest.mark.parametrize("resize_mode", get_args(ResizeMode))
def test_a_mask_that_vanishes_in_scaling_is_told_so(
    mode: MaskMode | None, colour: str, resize_mode: ResizeMode
) -> None:
    image = Image.new("RGBA", (640, 640), (255, 255, 255, 255) if mode == "black" else (0, 0, 0, 255))
    dot = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255), "alpha": (0, 0, 0, 0)}[mode or "white"]
    image.paste(dot, (320, 320, 323, 323))
    mask = read(samples.encode(image), mode)
    assert fit_mask(mask, 640, 640, resize_mode).getbbox() == (320, 320, 323, 323)
    with pytest.raises(
        MaskLostError, match=f"at 64x64 nothing is left of the small {colour} part of the mask"
    ) as caught:
        fit_mask(mask, 64, 64, resize_mode)
    assert not caught.value.by_crop


FOUND: dict[str, tuple[bytes, MaskMode | None, str]] = {
    "0 and 1": (drawing(1, 0, "L"), None, "its lightest value is 1 of 255; in a mask of 0 and 1, or of labels"),
    "labels": (drawing(12, 3, "L"), "white", "its lightest value is 12 of 255; in a mask of 0 and 1, or of labels"),
    "a label's colour": (drawing((255, 0, 0), BLACK), None, "its lightest value is 76 of 255$"),
    "a half-transparent brush": (
        drawing((*WHITE, 120), BLACK + CLEAR, "RGBA"),
        None,
        "its lightest value is 120 of 255; draw what is to be repainted with opaque white",
    ),
    "nothing but transparent": (drawing(WHITE + CLEAR, WHITE + CLEAR, "RGBA"), None, "it is transparent everywhere"),
    "black, light grey": (drawing(200, 255, "L"), "black", "its darkest value is 200 of 255"),
    "alpha, nearly opaque": (
        drawing((*WHITE, 190), WHITE + OPAQUE, "RGBA"),
        "alpha",
        "its lowest alpha is 190 of 255",
    ),
}


@pytest.mark.parametrize(("data", "mode", "found"), FOUND.values(), ids=FOUND)
def test_an_empty_mask_is_told_what_was_found(data: bytes, mode: MaskMode | None, found: str) -> None:
    with pytest.raises(PictureError, match=f"the mask is empty: .*{found}"):
        fitted(data, mode)


def test_a_bmp_whose_alpha_was_never_filled_in_is_a_mask_of_its_colours() -> None:
    pixels = b"".join(bytes((level, level, level, 0)) for level in (0, 255) for _ in range(16 * 8))
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 16, 16, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
    data = struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels
    assert fitted(data).getbbox() == (0, 0, 16, 8), "BMP is stored from below"
    with pytest.raises(PictureError, match="has no alpha channel"):
        read(data, "alpha")


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
    mask = fit_mask(read(data), *target, resize_mode)  # type: ignore[arg-type]
    picture = fit(read_picture(data, max_pixels=10_000), *target, resize_mode).data  # type: ignore[arg-type]
    seen = samples.pixels(picture).convert("L").point(lambda value: 255 if value >= 128 else 0)
    assert mask.size == target
    assert mask.tobytes() == seen.tobytes()
