"""The motifs: sky, sun or moon, clouds, hills, and what the prompt's words put on top of them."""

from colorsys import hsv_to_rgb
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from PIL import Image, ImageDraw

from simulator.noise import clouds

Colour = tuple[int, int, int]
Point = tuple[float, float]

WORDS = {
    "sea": ("sea", "ocean", "beach", "lake", "water", "river", "boat", "ship", "island", "fish"),
    "forest": ("forest", "tree", "wood", "jungle", "park", "garden", "fox", "deer", "bear"),
    "city": ("city", "town", "street", "building", "skyline", "house", "castle", "robot", "car", "cyberpunk"),
}
NIGHT_WORDS = ("night", "moon", "star", "dark", "midnight", "space", "neon")
DUSK_WORDS = ("sunset", "sunrise", "dusk", "dawn", "evening", "golden", "autumn", "fire", "warm")


@dataclass(frozen=True, kw_only=True)
class Look:
    """Palette and motif. Heights are shares of the picture's height, from the top."""

    motif: str
    night: bool
    top: Colour
    low: Colour
    light: Colour
    near: Colour
    far: Colour
    horizon: float
    cloudiness: int


def look_of(prompt: str, random: Random) -> Look:
    """Let the prompt's words choose what they can, and its hash the rest."""
    words = [word.strip(".,;:!?()[]<>\"'").lower() for word in prompt.split()]
    words += [word.removesuffix("s") for word in words]
    motif = next((motif for motif, names in WORDS.items() if any(word in names for word in words)), "hills")
    night = any(word in NIGHT_WORDS for word in words)
    dusk = any(word in DUSK_WORDS for word in words) or random.random() < 0.25
    hue = random.uniform(0.5, 0.68)
    low_hue = random.uniform(0.03, 0.12) if dusk else hue - random.uniform(0.02, 0.1)
    ground = random.uniform(0.2, 0.42) if motif != "city" else random.uniform(0.55, 0.75)
    if dusk and motif == "hills":
        ground = random.uniform(0.75, 0.95)
    return Look(
        motif=motif,
        night=night,
        top=_colour(hue, 0.75, 0.22 if night else random.uniform(0.6, 0.8)),
        low=_colour(low_hue, 0.35 if not dusk else 0.55, 0.42 if night else 0.97),
        light=_colour(0.13, 0.1 if night else 0.3, 1.0),
        near=_colour(ground, random.uniform(0.45, 0.7), 0.14 if night else random.uniform(0.25, 0.38)),
        far=_colour(hue, 0.3, 0.4 if night else 0.75),
        horizon=random.uniform(0.52, 0.68),
        cloudiness=random.randrange(90, 150),
    )


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = hsv_to_rgb(hue % 1, saturation, value)
    return (int(red * 255), int(green * 255), int(blue * 255))


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return (red, green, blue)


def draw_sky(size: tuple[int, int], look: Look, random: Random) -> Image.Image:
    """Gradient, sun or moon with its glow, stars by night, clouds."""
    column = Image.new("RGB", (1, 64))
    bottom = max(1, int(64 * look.horizon))
    column.putdata([_mix(look.top, look.low, min(1.0, y / bottom) ** 1.3) for y in range(64)])
    sky = column.resize(size, Image.Resampling.BICUBIC)
    _draw_light(sky, look, random)
    if look.night:
        _draw_stars(sky, look, random)
    contrast = 2 if look.night else 3
    opacity = [max(0, min(200, (value - look.cloudiness) * contrast)) for value in range(256)]
    white = _mix(look.low, (255, 255, 255), 0.2 if look.night else 0.75)
    sky.paste(white, (0, 0, *size), clouds(size, random).point(opacity))
    return sky


def _draw_light(sky: Image.Image, look: Look, random: Random) -> None:
    width, height = sky.size
    radius = max(2, int(min(sky.size) * random.uniform(0.05, 0.09)))
    centre = (int(width * random.uniform(0.15, 0.85)), int(height * random.uniform(0.12, look.horizon * 0.7)))
    reach = radius * 5
    glow = Image.radial_gradient("L").resize((2 * reach, 2 * reach))
    glow = glow.point([max(0, 255 - value * 2) * (2 if look.night else 3) // 4 for value in range(256)])
    sky.paste(look.light, (centre[0] - reach, centre[1] - reach), glow)
    ball = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    ImageDraw.Draw(sky).ellipse(ball, fill=_mix(look.light, (255, 255, 255), 0.5))


def _draw_stars(sky: Image.Image, look: Look, random: Random) -> None:
    width, height = sky.size
    draw = ImageDraw.Draw(sky)
    dot = max(1, min(sky.size) // 400)
    for _ in range(90):
        x, y = random.random() * width, random.random() * height * look.horizon
        draw.ellipse((x, y, x + dot, y + dot), fill=_mix(look.top, (255, 255, 255), random.uniform(0.4, 1)))


def draw_ground(picture: Image.Image, look: Look, random: Random) -> None:
    """Hills from far to near, and the motif among them."""
    draw = ImageDraw.Draw(picture)
    layers = 3 if look.motif in ("sea", "city") else 5
    for layer in range(layers):
        depth = (layer + 1) / layers
        line = _ridge(picture.size, look.horizon + (0.96 - look.horizon) * (depth - 0.25) * 0.9, 1.1 - depth, random)
        colour = _mix(look.far, look.near, depth)
        draw.polygon([*line, (picture.width, picture.height), (0, picture.height)], fill=colour)
        if look.motif == "forest":
            _draw_trees(draw, line, picture.height * (0.05 + 0.13 * depth), colour, random)
        if look.motif == "sea" and layer == 0:
            _draw_sea(draw, picture.size, look, random)
            return
        if look.motif == "city" and layer < 2:
            _draw_houses(draw, picture.size, look, depth, random)


def _ridge(size: tuple[int, int], level: float, roughness: float, random: Random) -> list[Point]:
    """A line from left to right by halving: every middle is moved up or down, less each time."""
    heights = [level + random.uniform(-0.06, 0.06), level + random.uniform(-0.06, 0.06)]
    swing = 0.07 + 0.06 * roughness
    for _ in range(6):
        between = [(a + b) / 2 + random.uniform(-swing, swing) for a, b in pairwise(heights)]
        heights = [value for pair in zip(heights, between, strict=False) for value in pair] + heights[-1:]
        swing *= 0.45 + 0.1 * roughness
    width = size[0] / (len(heights) - 1)
    return [(index * width, value * size[1]) for index, value in enumerate(heights)]


def _draw_trees(draw: ImageDraw.ImageDraw, line: list[Point], height: float, colour: Colour, random: Random) -> None:
    for x, y in line[:: 2 if height > 50 else 1]:
        tall = height * random.uniform(0.5, 1.2)
        shade = _mix(colour, (0, 0, 0), random.uniform(0.05, 0.3))
        for part in range(3):
            top, wide = y - tall * (1 - part * 0.28), tall * (0.14 + 0.08 * part)
            draw.polygon([(x, top), (x - wide, top + tall * 0.45), (x + wide, top + tall * 0.45)], fill=shade)


def _draw_sea(draw: ImageDraw.ImageDraw, size: tuple[int, int], look: Look, random: Random) -> None:
    width, height = size
    top = height * (look.horizon + 0.06)
    rows = 40
    for row in range(rows):
        y = top + (height - top) * row / rows
        water = _mix(_mix(look.low, look.top, 0.45), look.near, (row / rows) ** 1.2 * 0.8)
        draw.rectangle((0, y, width, height), fill=water)
        for _ in range(5):
            x, length = random.random() * width, width * random.uniform(0.02, 0.02 + 0.16 * row / rows)
            thick = max(1, int(height * row / rows / 120))
            bright = _mix(water, look.light, random.uniform(0.15, 0.5))
            draw.line((x, y, x + length, y), fill=bright, width=thick)


def _draw_houses(draw: ImageDraw.ImageDraw, size: tuple[int, int], look: Look, depth: float, random: Random) -> None:
    width, height = size
    ground = height * (look.horizon + 0.3 * depth)
    x = -0.02 * width
    while x < width:
        wide = width * random.uniform(0.05, 0.12)
        top = ground - height * random.uniform(0.12, 0.5)
        wall = _mix(look.far, look.near, depth * 0.7 + random.uniform(0, 0.3))
        draw.rectangle((x, top, x + wide, height), fill=wall)
        _draw_windows(draw, (x, top, x + wide, ground + height * 0.2), _mix(wall, look.light, 0.75), random)
        x += wide * random.uniform(0.85, 1.15)


def _draw_windows(
    draw: ImageDraw.ImageDraw, wall: tuple[float, float, float, float], light: Colour, random: Random
) -> None:
    left, top, right, bottom = wall
    step = max(5.0, (right - left) / 6)
    y = top + step / 2
    while y < bottom:
        x = left + step / 2
        while x < right - step / 2:
            if random.random() < 0.4:
                draw.rectangle((x, y, x + step * 0.4, y + step * 0.5), fill=light)
            x += step
        y += step * 1.3
