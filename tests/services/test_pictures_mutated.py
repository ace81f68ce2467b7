"""Whatever bytes come, they are a picture or a PictureError."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.icc_profiles import SRGB_CURVE, Chromaticities, rgb_profile
from services.masks import fit_mask, read_mask
from services.picture_formats import PictureError
from services.pictures import Picture, fit, read_picture
from tests.services import picture_samples as samples

_P3 = rgb_profile(Chromaticities((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), SRGB_CURVE)
SEEDS = [make() for make in samples.WHOLE.values()] + [
    samples.apng(),
    samples.animated_webp(),
    samples.encode(samples.noise().convert("RGBA")),
    samples.encode(samples.noise().convert("P"), transparency=3),
    samples.encode(samples.noise().convert("CMYK"), "JPEG", exif=samples.exif_orientation(6), icc_profile=b"x" * 99),
    samples.encode(samples.noise().convert("1"), "BMP"),
    *(samples.encode(samples.noise(), kind, icc_profile=_P3) for kind in ("PNG", "JPEG", "WEBP")),
    samples.insert_chunk(samples.encode(samples.noise()), b"cICP", b"\x0c\x0d\0\1"),
    samples.insert_chunk(samples.encode(samples.noise()), b"gAMA", b"\0\1\x86\xa0"),
    samples.rle_bmp(16, 20, b"\x10\x01\x00\x00" * 20 + b"\0\1"),
    samples.raw_png(16, 16, 16, 0, bytes(32), samples.chunk(b"tRNS", b"\0\0")),
]
# Headers decide most, so half of the damage goes there.
positions = st.one_of(st.integers(0, 120), st.integers(0, 10_000))
edits = st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=6)
OFTEN = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def reseal(data: bytes) -> bytes:
    """Makes the checksums of a PNG right again, so that the damage gets past them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    result, start = data[:8], 8
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        if start + 12 + length > len(data):
            break
        result += samples.chunk(data[start + 4 : start + 8], data[start + 8 : start + 8 + length])
        start += 12 + length
    return result + data[start:]


def use(data: bytes) -> None:
    try:
        picture = read_picture(data, max_pixels=1_000_000)
    except PictureError:
        return
    assert isinstance(picture, Picture)
    assert min(picture.width, picture.height) >= 16
    assert picture.width * picture.height <= 1_000_000
    assert fit(picture, 64, 64, "fill").data
    mask = read_mask(data, mode="white", max_pixels=1_000_000)
    try:
        fit_mask(mask, 64, 64, "stretch")
    except PictureError as exc:
        assert "the mask is empty" in exc.message or "nothing is left" in exc.message  # noqa: PT017


@OFTEN
@given(seed=st.sampled_from(SEEDS), changes=edits, cut=st.integers(0, 40))
def test_changed_bytes(seed: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(seed)
    for position, value in changes:
        data[position % len(data)] = value
    use(bytes(data))
    use(reseal(bytes(data)))
    use(bytes(data[: len(data) - cut]))


@OFTEN
@given(seed=st.sampled_from(SEEDS), position=positions, inserted=st.binary(max_size=40), removed=st.integers(0, 40))
def test_inserted_and_removed_bytes(seed: bytes, position: int, inserted: bytes, removed: int) -> None:
    place = position % len(seed)
    use(reseal(seed[:place] + inserted + seed[place + removed :]))


@OFTEN
@given(start=st.sampled_from([seed[:n] for seed in SEEDS for n in (2, 12, 33)]), rest=st.binary(max_size=400))
def test_noise_behind_a_true_beginning(start: bytes, rest: bytes) -> None:
    use(start + rest)
