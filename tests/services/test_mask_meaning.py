"""Without ``mask_mode`` masks of every make are taken, and what might as well be a photo is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.masks import fit_mask, read_mask
from services.picture_formats import PictureError
from simulator.painter import Scene, paint
from tests.services import picture_samples as samples

SIZES = (64, 200, 512)
QUALITIES = (30, 50, 75, 95)
PERSON = Path(__file__).parents[2] / "examples" / "samples" / "person.jpg"


def is_taken(data: bytes) -> bool:
    mask = read_mask(data, mode=None, max_pixels=10_000_000)
    try:
        fit_mask(mask, mask.width, mask.height, "stretch")
    except PictureError as error:
        if "; say with mask_mode what is repainted" not in error.message:
            raise
        return False
    return True


def shape(side: int, kind: str) -> Image.Image:
    """White on black, with smooth edges."""
    large = Image.new("L", (4 * side, 4 * side))
    draw, full = ImageDraw.Draw(large), 4 * side
    match kind:
        case "ellipse":
            draw.ellipse((full * 0.2, full * 0.3, full * 0.6, full * 0.8), fill=255)
        case "small ellipse":
            draw.ellipse((full * 0.4, full * 0.4, full * 0.46, full * 0.45), fill=255)
        case "polygon":
            corners = (0.2, 0.1), (0.9, 0.3), (0.6, 0.5), (0.8, 0.9), (0.3, 0.7)
            draw.polygon([(full * x, full * y) for x, y in corners], fill=255)
        case "nearly all":
            draw.rectangle((full * 0.05, full * 0.05, full * 0.95, full * 0.9), fill=255)
        case "strokes":
            for step in range(5):
                draw.line((full * 0.2, full * (0.2 + step / 9), full * 0.8, full * 0.5), fill=255, width=full // 40)
    return large.resize((side, side), Image.Resampling.BOX)


SHAPES = ("ellipse", "small ellipse", "polygon", "nearly all", "strokes")


def brush(side: int, hardness: float, width: float, opacity: float) -> Image.Image:
    """Two strokes of a round brush. :param hardness: share of its radius without fading; :param width: of the side."""
    radius = side * width / 2
    dab = Image.new("L", (2 * math.ceil(radius) + 1,) * 2)
    middle = dab.width // 2
    for x in range(dab.width):
        for y in range(dab.width):
            away = math.hypot(x - middle, y - middle) / radius
            fading = min(1.0, max(0.0, (away - hardness) / max(1 - hardness, 1e-6)))
            dab.putpixel((x, y), round(255 * opacity * (math.cos(fading * math.pi) + 1) / 2))
    canvas = Image.new("L", (side, side))
    for start, end in (((0.3, 0.3), (0.7, 0.4)), ((0.3, 0.7), (0.6, 0.6))):
        for step in range(41):
            x, y = (round(side * (a + (b - a) * step / 40) - middle) for a, b in zip(start, end, strict=True))
            whole = Image.new("L", canvas.size)
            whole.paste(dab, (x, y))
            canvas = ImageChops.lighter(canvas, whole)
    return canvas


Make = Callable[[], Image.Image]


def inverted(side: int, kind: str) -> Image.Image:
    return ImageChops.invert(shape(side, kind))


def feathered(side: int, kind: str) -> Image.Image:
    return shape(side, kind).filter(ImageFilter.GaussianBlur(max(0.7, side / 100)))


def enlarged(side: int, kind: str) -> Image.Image:
    plain = shape(side, kind)
    small = plain.resize((side // 2, side // 2), Image.Resampling.BOX)
    return small.resize(plain.size, Image.Resampling.BICUBIC)


def made_masks() -> Iterator[tuple[str, Make]]:
    for side in SIZES:
        for kind in SHAPES:
            for make in (shape, inverted, feathered, enlarged):
                yield f"{kind} {side} {make.__name__}", partial(make, side, kind)
        for hardness in (0.0, 0.5, 1.0):
            for width in (0.08, 0.25):
                for opacity in (0.7, 1.0):
                    yield f"brush {side} {hardness} {width} {opacity}", partial(brush, side, hardness, width, opacity)


MADE = dict(made_masks())


@pytest.mark.parametrize("name", MADE)
def test_masks_of_every_make_are_taken(name: str) -> None:
    mask = MADE[name]()
    assert is_taken(samples.encode(mask))
    wrong = [q for q in QUALITIES if not is_taken(samples.encode(mask.convert("RGB"), "JPEG", quality=q))]
    assert not wrong, "as JPEG of these qualities"


def two_colours() -> Image.Image:
    size = (64, 64)
    return Image.composite(Image.new("RGB", size, "yellow"), Image.new("RGB", size, "navy"), shape(64, "polygon"))


OTHER_MASKS: dict[str, Callable[[], bytes]] = {
    "bilevel": lambda: samples.encode(shape(64, "polygon").convert("1")),
    "dithered": lambda: samples.encode(brush(200, 0, 0.25, 1).convert("1")),
    "two colours": lambda: samples.encode(two_colours()),
    "all white": lambda: samples.encode(Image.new("L", (64, 64), 255)),
    "lossy WebP": lambda: samples.encode(shape(200, "polygon").convert("RGB"), "WEBP", quality=60),
}


@pytest.mark.parametrize("make", OTHER_MASKS.values(), ids=OTHER_MASKS)
def test_other_masks_are_taken(make: Callable[[], bytes]) -> None:
    assert is_taken(make())


def drawing_on_a_canvas() -> Image.Image:
    image = Image.new("RGBA", (200, 200), (255, 255, 255, 0))
    image.putalpha(brush(200, 0.5, 0.1, 1))
    return image


def test_a_drawing_on_a_transparent_canvas_is_taken() -> None:
    assert is_taken(samples.encode(drawing_on_a_canvas()))


def photo(prompt: str, side: int) -> Image.Image:
    scene = Scene(
        prompt=prompt, negative_prompt="", seed=3, steps=20, cfg_scale=7, sampler="", model="", width=side, height=side
    )
    return paint(scene)


def textured(side: int, softness: float) -> Image.Image:
    """Clouds of grey, as cloth, grass or skin have them; the same on every run."""
    random = Random(side)
    grain = Image.frombytes("L", (side, side), random.randbytes(side * side))
    return grain.filter(ImageFilter.GaussianBlur(softness)).point(lambda v: max(0, min(255, int((v - 128) * 6 + 128))))


def photos() -> Iterator[tuple[str, Make]]:
    for side in SIZES:
        for prompt in ("a lighthouse", "a forest in the snow", "the sea at night"):
            yield f"{prompt} {side}", partial(photo, prompt, side)
        yield f"person {side}", partial(person, side)
        yield f"gradient {side}", partial(samples.gradient, side, side)
        yield f"slope {side}", partial(slope, side)
        for softness in (1, 2, 4):
            yield f"texture {side} {softness}", partial(textured, side, softness)


def person(side: int) -> Image.Image:
    return Image.open(PERSON).convert("RGB").resize((side, side))


def slope(side: int) -> Image.Image:
    return Image.linear_gradient("L").resize((side, side))


PHOTOS = dict(photos())


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_not(name: str) -> None:
    image = PHOTOS[name]()
    for kind, data in (
        ("colour", samples.encode(image.convert("RGB"))),
        ("grey", samples.encode(image.convert("L"))),
        ("JPEG", samples.encode(image.convert("RGB"), "JPEG", quality=60)),
    ):
        if image.convert("L").getextrema()[1] >= 128:
            assert not is_taken(data), kind


def hole_in(image: Image.Image) -> bytes:
    image = image.convert("RGBA")
    image.paste((0, 0, 0, 0), (60, 60, 120, 120))
    return samples.encode(image)


HOLES = {
    "a photo": hole_in(photo("a lighthouse", 200)),
    "white": hole_in(Image.new("L", (200, 200), 255)),
    "black": hole_in(Image.new("L", (200, 200))),
    "a mask": hole_in(shape(200, "polygon")),
}


@pytest.mark.parametrize("data", HOLES.values(), ids=HOLES)
def test_a_hole_may_mean_either(data: bytes) -> None:
    with pytest.raises(PictureError, match=r"has a transparent part in an opaque picture.*mask_mode"):
        fit_mask(read_mask(data, mode=None, max_pixels=100_000), 200, 200, "stretch")


@pytest.mark.parametrize("mode", ["white", "black", "alpha"])
def test_whoever_says_what_is_meant_is_believed(mode: str) -> None:
    mask = read_mask(HOLES["a photo"], mode=mode, max_pixels=100_000)  # type: ignore[arg-type]
    fitted = fit_mask(mask, 200, 200, "stretch")
    assert (fitted.getbbox() == (60, 60, 120, 120)) == (mode == "alpha")
