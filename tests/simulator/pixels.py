"""Pictures for requests, and the pictures in answers."""

import base64
import io
import time
from collections.abc import Callable

from PIL import Image, ImageDraw


def opened(encoded: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    picture.load()
    return picture


def pixels(picture: Image.Image) -> Image.Image:
    """Without the text chunk, which would count in a comparison."""
    return Image.frombytes(picture.mode, picture.size, picture.tobytes())


def encoded(picture: Image.Image, kind: str = "PNG") -> str:
    out = io.BytesIO()
    picture.save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def sample(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture in which every pixel differs from its neighbours."""
    red = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (red, red.transpose(Image.Transpose.ROTATE_90).resize(size), Image.new("L", size, 90)))


def mask(box: tuple[int, int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    picture = Image.new("L", size)
    ImageDraw.Draw(picture).rectangle(box, fill=255)
    return picture


def until(condition: Callable[[], object], what: str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.005)
