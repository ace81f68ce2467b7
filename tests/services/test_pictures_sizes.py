"""The size of a generation where the caller leaves it to the picture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.picture_formats import PictureError
from services.sizes import derive_size

MAX_PIXELS = 1536 * 1536
Sides = tuple[int | None, int | None]


@pytest.mark.parametrize(
    ("picture", "want", "expected"),
    [
        ((512, 768), (None, None), (512, 768)),
        ((512, 768), (640, 640), (640, 640)),
        ((512, 768), (7, 9), (7, 9)),  # what a caller asks for is for the schema to judge
        ((500, 333), (None, None), (504, 336)),
        ((516, 508), (None, None), (520, 512)),  # halves go up
        ((16, 16), (None, None), (64, 64)),
        ((32, 48), (None, None), (64, 96)),
        ((3072, 3072), (None, None), (1536, 1536)),
        ((4000, 3000), (None, None), (1776, 1328)),
        ((3000, 4000), (None, None), (1328, 1776)),
        ((8000, 1000), (None, None), (2048, 256)),
        ((1537, 1537), (None, None), (1536, 1536)),
        ((16, 4096), (None, None), (64, 2048)),
        ((4096, 16), (None, None), (2048, 64)),
        ((1000, 500), (512, None), (512, 256)),
        ((1000, 500), (None, 512), (1024, 512)),
        ((1000, 100), (512, None), (512, 64)),
        ((1000, 100), (None, 512), (2048, 512)),
        ((100, 1000), (2048, None), (2048, 1152)),  # 1152 is all that the pixel limit leaves
    ],
)
def test_table(picture: tuple[int, int], want: Sides, expected: tuple[int, int]) -> None:
    got = derive_size(*picture, want_width=want[0], want_height=want[1], max_pixels=MAX_PIXELS)
    assert got == expected


def test_a_webui_that_paints_multiples_of_64() -> None:
    assert derive_size(500, 333, want_width=None, want_height=None, max_pixels=MAX_PIXELS, step=64) == (512, 320)


def test_the_pixel_limit_cuts_the_long_side_of_a_strip() -> None:
    assert derive_size(16, 4096, want_width=None, want_height=None, max_pixels=64 * 256) == (64, 256)
    assert derive_size(4096, 16, want_width=None, want_height=None, max_pixels=64 * 256) == (256, 64)


def test_a_side_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(PictureError, match="leaves less than 64 pixels") as caught:
        derive_size(512, 512, want_width=2048, want_height=None, max_pixels=256 * 256)
    assert caught.value.received == "width 2048"


def test_bounds_that_nothing_satisfies() -> None:
    with pytest.raises(ValueError, match="no size fits"):
        derive_size(512, 512, want_width=None, want_height=None, max_pixels=64 * 63)


sides = st.integers(16, 20_000)
limits = st.integers(128 * 128, 4 * MAX_PIXELS)
steps = st.sampled_from([8, 16, 32, 64])


@given(width=sides, height=sides, max_pixels=limits, step=steps)
def test_a_derived_size_keeps_every_bound(width: int, height: int, max_pixels: int, step: int) -> None:
    got = derive_size(width, height, want_width=None, want_height=None, max_pixels=max_pixels, step=step)
    assert all(side % step == 0 and 64 <= side <= 2048 for side in got)
    assert got[0] * got[1] <= max_pixels


@given(width=st.integers(64, 6000), height=st.integers(64, 6000), max_pixels=limits, step=steps)
def test_proportions_are_kept_to_a_step(width: int, height: int, max_pixels: int, step: int) -> None:
    scale = min(1.0, 2048 / max(width, height), (max_pixels / (width * height)) ** 0.5)
    ideal = width * scale, height * scale
    if min(ideal) < 64:  # then the proportions give way
        return
    got = derive_size(width, height, want_width=None, want_height=None, max_pixels=max_pixels, step=step)
    assert all(abs(side - wish) <= step for side, wish in zip(got, ideal, strict=True))


@given(width=sides, height=sides)
def test_turning_the_picture_turns_the_size(width: int, height: int) -> None:
    got = derive_size(width, height, want_width=None, want_height=None, max_pixels=MAX_PIXELS)
    turned = derive_size(height, width, want_width=None, want_height=None, max_pixels=MAX_PIXELS)
    assert got == turned[::-1]


@given(width=st.integers(64, 2048).map(lambda side: side // 8 * 8), height=st.integers(8, 144).map(lambda n: n * 8))
def test_a_size_that_fits_is_taken_as_it_is(width: int, height: int) -> None:
    assert derive_size(width, height, want_width=None, want_height=None, max_pixels=MAX_PIXELS) == (width, height)


@given(width=sides, height=sides, wanted=st.integers(8, 256).map(lambda n: n * 8), step=steps)
def test_the_other_side_follows_the_picture(width: int, height: int, wanted: int, step: int) -> None:
    got = derive_size(width, height, want_width=wanted, want_height=None, max_pixels=MAX_PIXELS, step=step)
    turned = derive_size(height, width, want_width=None, want_height=wanted, max_pixels=MAX_PIXELS, step=step)
    assert got == turned[::-1]
    assert got[0] == wanted
    assert got[1] % step == 0
    assert 64 <= got[1] <= 2048
    assert got[0] * got[1] <= MAX_PIXELS
    ideal = wanted * height / width
    if 64 <= ideal <= 1024:
        assert abs(got[1] - ideal) <= step / 2
