"""Virtual try-on: a photo, a mask, and what is to be worn there.

    pip install requests pillow
    python examples/try_on.py photo.jpg "a red knitted sweater" --polygon "0.36,0.33 0.64,0.33 0.70,0.62 0.30,0.62"
    python examples/try_on.py photo.jpg "sunglasses" --rectangle 0.4,0.1,0.6,0.2
    python examples/try_on.py photo.jpg "a straw hat" --mask hat.png
    python examples/try_on.py photo.jpg "a red knitted sweater" --mask sweater.png --garment sweater.jpg

**White is repainted, black is kept.** Corners are shares of the picture: 0,0 is its top left, 1,1 its bottom right.
A picture of the garment, --garment, needs a WebUI that can take one; without such a WebUI the service refuses it.
Mask and result, and photo, mask, garment and result side by side, are saved into the folder --out.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

import requests
from PIL import Image, ImageDraw, ImageOps

API = os.environ.get("SERVICE", "http://localhost:5002") + "/api/v1/ai/generation"
TIMEOUT = (5, 440)

Point = tuple[float, float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Repaints what is worn in a photo.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("prompt")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--polygon", type=corners, metavar="X,Y X,Y …", help="three corners or more, each 0 … 1")
    where.add_argument("--rectangle", type=rectangle, metavar="LEFT,TOP,RIGHT,BOTTOM", help="each 0 … 1")
    where.add_argument("--mask", type=Path, help="a picture, white where it is repainted")
    parser.add_argument("--garment", type=Path, help="a picture of it, best alone on a plain light background")
    parser.add_argument("--weight", type=float, help="how much the result resembles the garment: 0.1 … 1")
    parser.add_argument("--seed", type=int, default=-1, help="the same seed gives the same picture; -1: a random one")
    parser.add_argument("--out", type=Path, default=Path("pictures"))
    wanted = parser.parse_args()
    if wanted.weight is not None and wanted.garment is None:
        parser.error("--weight is of the garment: say --garment as well")
    return wanted


def corners(text: str) -> list[Point]:
    points = [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]
    if len(points) < 3 or not all(0 <= share <= 1 for point in points for share in point):
        raise argparse.ArgumentTypeError("must be three points or more, such as '0.3,0.2 0.7,0.2 0.5,0.6'")
    return points


def rectangle(text: str) -> list[Point]:
    left, top, right, bottom = (float(share) for share in text.split(","))
    return corners(f"{left},{top} {right},{top} {right},{bottom} {left},{bottom}")


def upright(file: Path) -> Image.Image:
    """Phones store photos lying on their side, with an orientation tag, which this follows as the service does."""
    return ImageOps.exif_transpose(Image.open(file)).convert("RGB")


def drawn_mask(size: tuple[int, int], shares: list[Point]) -> Image.Image:
    """Black, with the polygon in white."""
    width, height = size
    mask = Image.new("L", size, "black")
    ImageDraw.Draw(mask).polygon([(x * (width - 1), y * (height - 1)) for x, y in shares], fill="white")
    return mask


def fitted(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A mask that was drawn over a smaller copy of the photo, as large as the photo: the service takes no other."""
    if mask.size != size:
        print(f"mask: from {mask.width} × {mask.height} to {size[0]} × {size[1]} pixels")
    return mask.resize(size, Image.Resampling.NEAREST)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def try_on(
    photo: bytes, mask: Image.Image, prompt: str, seed: int, *, garment: bytes | None, weight: float | None
) -> Image.Image:
    headers = {"Accept": "image/png"}
    if key := os.environ.get("API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    answer = requests.post(
        f"{API}/inpainting",
        # What is None is not sent.
        files={"image": photo, "mask": png(mask), "reference": garment},
        data={
            "prompt": prompt,
            "seed": seed,
            # The part around the mask is painted alone and at full size: better cloth in a large photo.
            "inpaint_area": "masked",
            "reference_weight": weight,
            # How new it may be: 0 changes nothing, 1 forgets what was there.
            "strength": 0.9,
        },
        headers=headers,
        timeout=TIMEOUT,
    )
    if not answer.ok:
        problem = answer.json()
        sys.exit(f"{problem['code']}: {problem['detail']}")
    print(f"seed {answer.headers['X-Seed']}")
    return Image.open(io.BytesIO(answer.content)).convert("RGB")


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    height, gap = 384, 12
    shown = [picture.resize((round(picture.width * height / picture.height), height)) for picture in pictures]
    sheet = Image.new("RGB", (sum(picture.width + gap for picture in shown) - gap, height), "white")
    left = 0
    for picture in shown:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


def main() -> None:
    wanted = arguments()
    photo = upright(wanted.photo)
    if wanted.mask:
        mask = fitted(Image.open(wanted.mask).convert("L"), photo.size)
    else:
        mask = drawn_mask(photo.size, wanted.polygon or wanted.rectangle)
    garment = wanted.garment.read_bytes() if wanted.garment else None
    result = try_on(wanted.photo.read_bytes(), mask, wanted.prompt, wanted.seed, garment=garment, weight=wanted.weight)
    wanted.out.mkdir(parents=True, exist_ok=True)
    mask.save(wanted.out / "mask.png")
    result.save(wanted.out / "result.png")
    garments = [upright(wanted.garment)] if wanted.garment else []
    side_by_side([photo, mask.convert("RGB"), *garments, result]).save(wanted.out / "try-on.png")
    print(f"see {wanted.out / 'try-on.png'}: photo, mask, {'garment, ' if garments else ''}result")


if __name__ == "__main__":
    main()
