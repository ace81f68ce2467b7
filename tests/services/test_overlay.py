"""What the mask keeps is kept: beyond the mask and its blur the answer is the original, pixel for pixel."""

import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFilter

from sd_client.kept_pixels import KeptPixels, Room
from sd_client.models import Inpainting
from services.base64_pictures import decode_base64
from services.masks import fit_mask, read_mask
from services.overlay import keep_unmasked
from services.pictures import fit, read_picture
from services.results import ResultError
from tests.services import picture_samples as samples

SIZE = (96, 80)
BOX = (40, 32, 56, 48)
RECORDED = Path(__file__).parents[3] / "shared" / "recordings" / "a1111" / "full"


def reach_of(blur: int) -> int:
    return int(2.5 * blur + 0.5)


def grown(box: tuple[int, int, int, int], by: int) -> tuple[int, int, int, int]:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def masked(box: tuple[int, int, int, int] = BOX) -> bytes:
    image = Image.new("L", SIZE)
    image.paste(255, box)
    return samples.encode(image)


def asked(mask: bytes | None = None, *, blur: int, **pixels: KeptPixels) -> Inpainting:
    """:param mask: None: :func:`masked`."""
    return Inpainting(mask=mask or masked(), mask_blur=blur, area="whole", padding=0, fill="original", **pixels)


ORIGINAL_IMAGE = samples.noise(*SIZE)
ORIGINAL = samples.encode(ORIGINAL_IMAGE)
REPAINTED_IMAGE = samples.noise(*SIZE, seed=7)
REPAINTED = samples.encode(REPAINTED_IMAGE, pnginfo=samples.text_info())


def outside(image: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    copy = image.copy()
    copy.paste((0, 0, 0), box)
    return copy.tobytes()


@pytest.mark.parametrize("blur", [0, 1, 2, 3, 4, 7])
def test_an_answer_that_keeps_it_is_left_alone_to_the_byte(blur: int) -> None:
    image = ORIGINAL_IMAGE.copy()
    touched = grown(BOX, reach_of(blur))
    image.paste(REPAINTED_IMAGE.crop(touched), touched)
    answer = samples.encode(image, pnginfo=samples.text_info())
    assert keep_unmasked(answer, ORIGINAL, asked(blur=blur)) is answer


@pytest.mark.parametrize("blur", [0, 1, 2, 3, 4, 7])
def test_one_pixel_just_beyond_the_reach_is_put_right(blur: int) -> None:
    reach = reach_of(blur)
    for corner in ((BOX[0] - reach - 1, BOX[1]), (BOX[2] + reach, BOX[3] + reach - 1)):
        image = ORIGINAL_IMAGE.copy()
        red, green, blue = image.getpixel(corner)
        image.putpixel(corner, (red, green, blue ^ 1))
        answer = samples.encode(image)
        result = keep_unmasked(answer, ORIGINAL, asked(blur=blur))
        assert result is not answer
        assert samples.pixels(result).tobytes() == ORIGINAL_IMAGE.tobytes()


@pytest.mark.parametrize("blur", [0, 1, 2, 3, 4, 7, 64])
def test_a_wholly_repainted_answer_gets_the_original_back(blur: int) -> None:
    result = samples.pixels(keep_unmasked(REPAINTED, ORIGINAL, asked(blur=blur)))
    assert (result.mode, result.size) == ("RGB", SIZE)
    reached = grown(BOX, reach_of(blur))
    assert outside(result, reached) == outside(ORIGINAL_IMAGE, reached)


def test_without_blur_the_mask_is_a_clean_cut() -> None:
    result = samples.pixels(keep_unmasked(REPAINTED, ORIGINAL, asked(blur=0)))
    assert result.crop(BOX).tobytes() == REPAINTED_IMAGE.crop(BOX).tobytes()


def test_with_blur_the_mask_is_repainted_in_full_and_fades_outside() -> None:
    original, answer = Image.new("RGB", SIZE, 0), Image.new("RGB", SIZE, (255, 255, 255))
    result = samples.pixels(keep_unmasked(samples.encode(answer), samples.encode(original), asked(blur=2)))
    row = [result.getpixel((x, 40))[0] for x in range(BOX[2], BOX[2] + reach_of(2) + 1)]
    assert result.crop(grown(BOX, -3)).getextrema() == ((255, 255),) * 3
    assert row == sorted(row, reverse=True)
    assert 0 < row[1] < 255
    assert row[-1] == 0


def test_the_text_is_kept_byte_for_byte() -> None:
    texts = [
        samples.chunk(b"tEXt", b"parameters\0a cat\nSteps: 20"),
        samples.chunk(b"zTXt", b"prompt\0\0" + zlib.compress(b"{}")),
        samples.chunk(b"iTXt", b"workflow\0\0\0\0\0" + "ein Kätzchen".encode()),
    ]
    answer = samples.encode(REPAINTED_IMAGE)
    answer = answer[:33] + b"".join(texts) + answer[33:]
    result = keep_unmasked(answer, ORIGINAL, asked(blur=4))
    assert all(text in result for text in texts)
    info = {"parameters": "a cat\nSteps: 20", "prompt": "{}", "workflow": "ein Kätzchen"}
    assert samples.pixels(result).info == info


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
def test_answers_of_other_modes(mode: str) -> None:
    answer = samples.encode(REPAINTED_IMAGE.convert(mode))
    result = samples.pixels(keep_unmasked(answer, ORIGINAL, asked(blur=1)))
    assert result.mode == "RGB"
    assert outside(result, grown(BOX, 3)) == outside(ORIGINAL_IMAGE, grown(BOX, 3))


def test_a_jpeg_original_is_kept_as_it_decodes() -> None:
    original = samples.encode(ORIGINAL_IMAGE, "JPEG")
    result = samples.pixels(keep_unmasked(REPAINTED, original, asked(blur=1)))
    assert outside(result, grown(BOX, 3)) == outside(samples.pixels(original), grown(BOX, 3))


def test_a_mask_of_everything_leaves_every_answer_alone() -> None:
    assert keep_unmasked(REPAINTED, ORIGINAL, asked(masked((0, 0, *SIZE)), blur=0)) is REPAINTED


UNUSABLE = {
    "another size": (samples.encode(samples.noise(64, 80)), "must have the picture's size, 96x80 pixels"),
    "JPEG": (samples.encode(REPAINTED_IMAGE, "JPEG"), "is not a PNG"),
    "cut off": (REPAINTED[:-400], "cannot be decoded"),
    "text": (b"<html>secret</html>", "is not a PNG"),
    "a bomb": (
        REPAINTED[:8] + samples.chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)) + REPAINTED[33:],
        "must have the picture's size",
    ),
}


@pytest.mark.parametrize(("answer", "complaint"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_answers(answer: bytes, complaint: str) -> None:
    with pytest.raises(ResultError, match=complaint):
        keep_unmasked(answer, ORIGINAL, asked(blur=4))


boxes = st.tuples(st.integers(0, 90), st.integers(0, 75), st.integers(1, 40), st.integers(1, 40)).map(
    lambda box: (box[0], box[1], min(SIZE[0], box[0] + box[2]), min(SIZE[1], box[1] + box[3]))
)


@settings(max_examples=60, deadline=None)
@given(spots=st.lists(boxes, min_size=1, max_size=4), blur=st.integers(0, 64))
def test_the_reach_is_exact_for_any_mask(spots: list[tuple[int, int, int, int]], blur: int) -> None:
    mask, reached = Image.new("L", SIZE), Image.new("L", SIZE)
    for box in spots:
        mask.paste(255, box)
        left, top, right, bottom = grown(box, reach_of(blur))
        reached.paste(255, (max(left, 0), max(top, 0), right, bottom))
    within = ORIGINAL_IMAGE.copy()
    within.paste(ImageChops.invert(ORIGINAL_IMAGE), mask=reached)
    answer = samples.encode(within, compress_level=1)
    assert keep_unmasked(answer, ORIGINAL, asked(samples.encode(mask), blur=blur)) is answer
    inverted = samples.encode(ImageChops.invert(ORIGINAL_IMAGE), compress_level=1)
    result = samples.pixels(keep_unmasked(inverted, ORIGINAL, asked(samples.encode(mask), blur=blur)))
    result.paste(ORIGINAL_IMAGE, mask=reached)
    assert result.tobytes() == ORIGINAL_IMAGE.tobytes()


def test_the_reach_of_one_pixel_at_the_widest_blur() -> None:
    size = (700, 700)
    original, mask = Image.new("RGB", size), Image.new("L", size)
    mask.putpixel((350, 350), 255)
    image = original.copy()
    image.paste((255, 0, 0), grown((350, 350, 351, 351), reach_of(100)))
    answer = samples.encode(image)
    assert keep_unmasked(answer, samples.encode(original), asked(samples.encode(mask), blur=100)) is answer
    assert keep_unmasked(answer, samples.encode(original), asked(samples.encode(mask), blur=99)) is not answer


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recordings of real servers beside the project")
def test_what_a_real_a1111_painted_is_left_alone() -> None:
    request = json.loads((RECORDED / "inpaint_mask.request").read_text())
    answer = decode_base64(json.loads((RECORDED / "inpaint_mask.body").read_text())["images"][0])
    picture = read_picture(decode_base64(request["init_images"][0]), max_pixels=10_000)
    mask = read_mask(decode_base64(request["mask"]), mode="white", max_pixels=10_000)
    original, repaint = fit(picture, 64, 64, "stretch").data, samples.encode(fit_mask(mask, 64, 64, "stretch"))
    assert keep_unmasked(answer, original, asked(repaint, blur=4)) is answer
    assert keep_unmasked(answer, original, asked(repaint, blur=3)) is not answer, "the default blur is 4 and reaches 10"


def test_the_soft_edge_is_a_gaussian() -> None:
    """Twice the blurred mask, cut at white, as A1111 does before it lays the original over."""
    soft = samples.pixels(masked()).filter(ImageFilter.GaussianBlur(3)).point(lambda value: min(2 * value, 255))
    white, black = Image.new("RGB", SIZE, (255, 255, 255)), Image.new("RGB", SIZE)
    result = samples.pixels(keep_unmasked(samples.encode(white), samples.encode(black), asked(blur=3)))
    inner = grown(BOX, reach_of(3))
    assert result.getchannel("R").crop(inner).tobytes() == soft.crop(inner).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(16, 70), st.integers(16, 70)),
    boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
    blur=st.sampled_from([0, 1, 2, 4, 7]),
)
def test_working_around_the_mask_only_changes_nothing(
    size: tuple[int, int], boxes: list[tuple[float, float, float, float]], blur: int
) -> None:
    """Against the same steps over the whole picture."""
    width, height = size
    mask = Image.new("L", size)
    for left, top, across, down in boxes:
        x, y = int(left * (width - 1)), int(top * (height - 1))
        mask.paste(255, (x, y, x + 1 + int(across * (width - x - 1)), y + 1 + int(down * (height - y - 1))))
    original, answer = samples.noise(*size), samples.noise(*size, seed=7)
    reach = mask.filter(ImageFilter.MaxFilter(2 * reach_of(blur) + 1))
    if reach.getextrema() == (255, 255):  # nothing that must be kept
        return
    faded = mask.filter(ImageFilter.GaussianBlur(blur)).point(lambda value: min(2 * value, 255))
    expected = Image.composite(answer, original, ImageChops.darker(faded, reach))
    kept = keep_unmasked(samples.encode(answer), samples.encode(original), asked(samples.encode(mask), blur=blur))
    assert samples.pixels(kept).tobytes() == expected.tobytes()


def test_pixels_that_were_kept_are_those_that_would_be_decoded() -> None:
    original, mask = ORIGINAL_IMAGE.copy(), samples.pixels(masked())
    pixels, mask_pixels = KeptPixels(original, Room(100_000)), KeptPixels(mask, Room(100_000))
    decoded = keep_unmasked(REPAINTED, ORIGINAL, asked(blur=4))
    inpainting = asked(blur=4, picture_pixels=pixels, mask_pixels=mask_pixels)
    for _ in range(2):  # a batch has several answers for one original
        assert keep_unmasked(REPAINTED, ORIGINAL, inpainting) == decoded
    assert original.tobytes() == ORIGINAL_IMAGE.tobytes()
    assert mask.tobytes() == samples.pixels(masked()).tobytes()


def test_pixels_for_which_there_was_no_room_are_decoded() -> None:
    none = KeptPixels(ORIGINAL_IMAGE, Room(10))
    kept = keep_unmasked(REPAINTED, ORIGINAL, asked(blur=4, picture_pixels=none, mask_pixels=none))
    assert kept == keep_unmasked(REPAINTED, ORIGINAL, asked(blur=4))
