"""A reference picture before it is sent: upright, on white, RGB, without metadata, never enlarged."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageChops, ImageStat

from sd_client.models import ReferencePicture
from sd_client.pixels import fingerprint
from services.pictures import Picture, fitted_reference, read_picture, read_reference, square_reference

WHITE = (255, 255, 255)


def picture(image: Image.Image, kind: str = "PNG", **options: Any) -> Picture:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return read_picture(file.getvalue(), max_pixels=10**8)


def opened(sent: ReferencePicture) -> Image.Image:
    image = Image.open(io.BytesIO(sent.file))
    image.load()
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", sent.size)
    assert image.info == {}
    assert fingerprint(image) == sent.fingerprint
    return image


@pytest.mark.parametrize(
    ("size", "side"), [((100, 160), 160), ((512, 512), 512), ((16, 16), 16), ((3000, 1000), 512), ((16, 40_000), 512)]
)
def test_a_square(size: tuple[int, int], side: int) -> None:
    image = opened(square_reference(picture(Image.new("RGB", size, "navy"))))
    assert image.size == (side, side)
    assert image.getpixel((side // 2, side // 2)) != WHITE
    if size[0] != size[1]:
        assert image.getpixel((0, 0) if size[0] < size[1] else (side // 2, 0)) == WHITE


@pytest.mark.parametrize(
    ("size", "inner"), [((64, 64), (64, 64)), ((400, 200), (128, 64)), ((200, 400), (48, 96)), ((50, 20), (50, 20))]
)
def test_fitted(size: tuple[int, int], inner: tuple[int, int]) -> None:
    image = opened(fitted_reference(picture(Image.new("RGB", size, "navy")), 128, 96))
    assert image.size == (128, 96)
    left, top = (128 - inner[0]) // 2, (96 - inner[1]) // 2
    shown = image.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert shown == (left, top, left + inner[0], top + inner[1])


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 32, 64))
    for file in (square_reference(picture(image)), fitted_reference(picture(image), 64, 64)):
        assert [opened(file).getpixel(place) for place in ((8, 8), (60, 8))] == [(0, 0, 255), WHITE]


def test_it_is_upright_and_without_metadata() -> None:
    image = Image.new("RGB", (80, 40), "navy")
    image.paste("red", (0, 0, 20, 40))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    sent = opened(square_reference(picture(image, "JPEG", exif=exif, quality=100)))
    assert sent.size == (80, 80)
    red, green, blue = sent.getpixel((40, 5))  # type: ignore[misc]
    assert red > 200 > 60 > max(green, blue), "the left edge is the upper one"


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "LA", "1"])
def test_other_kinds(mode: str) -> None:
    image = Image.linear_gradient("L").resize((64, 32))
    image = Image.new("I;16", (64, 32), 40_000) if mode == "I;16" else image.convert(mode)
    assert opened(square_reference(picture(image))).size == (64, 64)


@pytest.mark.parametrize("asked", [None, (1024, 1024)])
@pytest.mark.parametrize(
    ("size", "side", "inner"),
    [((4000, 3200), 500, (1000, 800)), ((3024, 4032), 504, (756, 1008)), ((1100, 3000), 512, (375, 1024))],
)
def test_a_large_jpeg_shows_what_the_same_png_shows(
    size: tuple[int, int], side: int, inner: tuple[int, int], asked: tuple[int, int] | None
) -> None:
    """It is decoded in a smaller size, which may be a tenth less than what is made of it, an adapter's or not."""
    noise = Image.effect_noise((size[0] // 40, size[1] // 40), 80)
    image = noise.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)

    def seen() -> Picture:
        return read_reference(file.getvalue(), max_pixels=10**8, size=asked)

    assert (seen().width, seen().height) == size
    square, due = opened(square_reference(seen())), opened(square_reference(picture(image)))
    assert square.size == ((512, 512) if asked else (side, side))
    assert_alike(square.resize(due.size), due)
    fitted, due = opened(fitted_reference(seen(), 1024, 1024)), opened(fitted_reference(picture(image), 1024, 1024))
    assert fitted.size == due.size
    scale = max(inner) / 1024
    left, top = (1024 - inner[0]) // 2, (1024 - inner[1]) // 2
    whole = round(inner[0] / scale), round(inner[1] / scale)
    right, bottom = left + inner[0], top + inner[1]
    assert fitted.crop((0, 0, left, 1024)).getcolors() in ([], [(left * 1024, WHITE)])
    place = (1024 - whole[0]) // 2, (1024 - whole[1]) // 2
    shown = fitted.crop((left, top, right, bottom)).resize(whole)
    assert_alike(shown, due.crop((*place, place[0] + whole[0], place[1] + whole[1])))


def assert_alike(found: Image.Image, due: Image.Image) -> None:
    assert max(ImageStat.Stat(ImageChops.difference(found, due)).mean) < 2
