"""Makes the pictures of the try-on guide anew: ``python tools/guide_pictures.py``.

The person is drawn here, the new clothes are painted by the simulator, and everything between is the example
``examples/try_on.py`` itself. Where a real WebUI shall paint: SERVICE=http://localhost:5002, with a service there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "examples" / "samples" / "person.jpg"
GARMENT = ROOT / "examples" / "samples" / "sweater.jpg"
IMAGES = ROOT / "docs" / "images"

SIZE = (512, 768)
#: Drawn larger and reduced: Pillow's edges are hard.
SCALE = 4

SWEATER = (
    "0.40,0.315 0.60,0.315 0.725,0.36 0.775,0.50 0.70,0.52 0.665,0.45 0.66,0.655 "
    "0.34,0.655 0.335,0.45 0.30,0.52 0.225,0.50 0.275,0.36"
)

_SKIN, _HAIR, _SHIRT, _TROUSERS = "#e0ac8a", "#4a3327", "#9aa3ad", "#3b4a63"
_WOOL, _STRIPE = "#b3202c", "#f0d9b5"


def person() -> Image.Image:
    """A person in a grey T-shirt before a wall."""
    wall, floor = Image.new("RGB", SIZE, "#e9e2d6"), "#b8a58d"
    ImageDraw.Draw(wall).rectangle((0, 640, *SIZE), fill=floor)
    image = wall.filter(ImageFilter.GaussianBlur(6)).resize((SIZE[0] * SCALE, SIZE[1] * SCALE))
    pen = ImageDraw.Draw(image)

    def limb(points: list[tuple[int, int]], width: int, colour: str) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        pen.line(scaled, fill=colour, width=width * SCALE, joint="curve")
        for x, y in (scaled[0], scaled[-1]):
            radius = width * SCALE // 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def shape(points: list[tuple[int, int]], colour: str) -> None:
        pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=colour)

    def oval(left: int, top: int, right: int, bottom: int, colour: str) -> None:
        pen.ellipse((left * SCALE, top * SCALE, right * SCALE, bottom * SCALE), fill=colour)

    oval(188, 70, 324, 240, _HAIR)
    limb([(148, 300), (126, 400), (140, 500)], 38, _SKIN)
    limb([(364, 300), (386, 400), (372, 500)], 38, _SKIN)
    limb([(210, 500), (204, 760)], 78, _TROUSERS)
    limb([(302, 500), (308, 760)], 78, _TROUSERS)
    limb([(158, 296), (140, 368)], 56, _SHIRT)
    limb([(354, 296), (372, 368)], 56, _SHIRT)
    shape([(204, 250), (308, 250), (372, 278), (340, 350), (338, 500), (174, 500), (172, 350), (140, 278)], _SHIRT)
    limb([(256, 210), (256, 256)], 52, _SKIN)
    oval(202, 96, 310, 232, _SKIN)
    shape([(200, 150), (216, 96), (256, 78), (298, 96), (314, 150), (288, 118), (232, 112)], _HAIR)
    for eye in (234, 278):
        oval(eye - 5, 156, eye + 5, 166, _HAIR)
    pen.arc((236 * SCALE, 180 * SCALE, 276 * SCALE, 208 * SCALE), 20, 160, fill="#a05a4a", width=4 * SCALE)
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def garment() -> Image.Image:
    """A striped sweater on a light ground."""
    image = Image.new("RGB", (400 * SCALE, 400 * SCALE), "#f4f2ee")
    pen = ImageDraw.Draw(image)

    def shape(points: list[tuple[int, int]], colour: str) -> None:
        pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=colour)

    shape(
        [
            (92, 24),
            (308, 24),
            (392, 290),
            (326, 316),
            (306, 220),
            (306, 388),
            (94, 388),
            (94, 220),
            (74, 316),
            (8, 290),
        ],
        _WOOL,
    )
    for top in (180, 300):
        shape([(94, top), (306, top), (306, top + 24), (94, top + 24)], _STRIPE)
    pen.ellipse((150 * SCALE, -10 * SCALE, 250 * SCALE, 58 * SCALE), fill="#f4f2ee", outline=_STRIPE, width=8 * SCALE)
    return image.resize((400, 400), Image.Resampling.LANCZOS)


def main() -> None:
    person().save(SAMPLE, quality=92)
    garment().save(GARMENT, quality=92)
    _try_on("a forest sweater", IMAGES / "try-on.jpg")
    _try_on("a forest sweater", IMAGES / "try-on-garment.jpg", "--garment", str(GARMENT), "--weight", "1")


def _try_on(prompt: str, picture: Path, *more: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "examples" / "try_on.py"), str(SAMPLE), prompt, "--polygon", SWEATER]
        subprocess.run(  # noqa: S603 - our own example
            [*command, "--seed", "11", "--out", folder, *more], env=os.environ, check=True
        )
        Image.open(Path(folder) / "try-on.png").save(picture, quality=88)


if __name__ == "__main__":
    main()
