"""What is encoded is what every decoder sees."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from services.picture_files import read_file
from services.png_encoding import encode_png
from tests.services import picture_samples as samples

MODES = {"L": 1, "RGB": 3, "RGBA": 4}


@st.composite
def images(draw: st.DrawFn) -> Image.Image:
    mode = draw(st.sampled_from(sorted(MODES)))
    width, height = draw(st.integers(1, 70)), draw(st.sampled_from([1, 2, 63, 64, 65, 128, 130]))
    seed = draw(st.binary(min_size=1, max_size=64))
    size = width * height * MODES[mode]
    return Image.frombytes(mode, (width, height), (seed * (size // len(seed) + 1))[:size])


@given(image=images())
def test_it_comes_back_pixel_for_pixel(image: Image.Image) -> None:
    encoded = encode_png(image)
    read_file(encoded)  # its chunks and their checksums
    with Image.open(io.BytesIO(encoded), formats=("PNG",)) as decoded:
        decoded.load()
        assert (decoded.mode, decoded.size, decoded.info) == (image.mode, image.size, {})
        assert decoded.tobytes() == image.tobytes()


@pytest.mark.parametrize("text", ["a lighthouse\nSteps: 20", "灯台 🗼"])
def test_its_text_is_kept(text: str) -> None:
    info = PngInfo()
    info.add_text("parameters", text)
    with Image.open(io.BytesIO(encode_png(samples.noise(64, 64), text=info)), formats=("PNG",)) as decoded:
        assert decoded.info == {"parameters": text}


def test_it_is_no_larger_than_pillows_quickest() -> None:
    smooth = Image.radial_gradient("L").resize((512, 512), Image.Resampling.BICUBIC)
    photo = Image.blend(smooth, Image.effect_noise((512, 512), 20), 0.2).convert("RGB")
    pillows = io.BytesIO()
    photo.save(pillows, "PNG", compress_level=1)
    assert len(encode_png(photo)) < 1.05 * len(pillows.getvalue())


def test_another_mode_is_refused() -> None:
    with pytest.raises(KeyError):
        encode_png(Image.new("CMYK", (8, 8)))
