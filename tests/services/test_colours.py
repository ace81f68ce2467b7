"""Whatever a file says about its colours: what is sent on is sRGB and looks as it did."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence

import pytest
from PIL import Image, ImageChops, ImageCms

from services.masks import fit_mask, read_mask
from services.picture_formats import PictureError
from services.pictures import Picture, fit, read_picture
from tests.services import colour_profiles as profiles
from tests.services import picture_samples as samples

Colour = tuple[int, int, int]

#: Within sRGB whichever of the spaces they are taken for.
COLOURS: Sequence[Colour] = (
    *((0, 0, 0), (1, 1, 1), (16, 16, 16), (64, 64, 64), (128, 128, 128), (200, 200, 200), (254, 254, 254)),
    *((255, 255, 255), (200, 120, 100), (150, 90, 60), (120, 160, 90), (90, 140, 160), (100, 100, 180)),
    *((220, 190, 170), (60, 80, 70), (180, 100, 140)),
)
#: Levels of 255.
TOLERANCE = 2
P3 = (profiles.P3, profiles.P3_TO_SRGB, profiles.srgb_light)
ADOBE = (profiles.ADOBE, profiles.ADOBE_TO_SRGB, profiles.power(2.2))


def patches(colours: Sequence[Colour] = COLOURS) -> Image.Image:
    """Each colour as a column of 16 x 16 pixels."""
    image = Image.new("RGB", (16 * len(colours), 16))
    for number, colour in enumerate(colours):
        image.paste(colour, (16 * number, 0, 16 * number + 16, 16))
    return image


def middles(image: Image.Image) -> list[Colour]:
    return [image.getpixel((x + 8, 8)) for x in range(0, image.width, 16)]  # type: ignore[misc]


def bmp_with(image: Image.Image, profile: bytes) -> bytes:
    """A BMP whose header has a place for a profile, as version 5 does."""
    plain = samples.encode(image, "BMP")
    pixels = plain[54:]
    start = 124 + len(pixels)
    header = struct.pack("<I", 124) + plain[18:54] + bytes(16) + b"DEBM" + bytes(48)
    header += struct.pack("<IIII", 4, start, len(profile), 0)
    return plain[:2] + struct.pack("<IHHI", 138 + len(pixels) + len(profile), 0, 0, 138) + header + pixels + profile


FILES: dict[str, Callable[[Image.Image, bytes], bytes]] = {
    "PNG": lambda image, profile: samples.encode(image, icc_profile=profile),
    "JPEG": lambda image, profile: samples.encode(image, "JPEG", icc_profile=profile, quality=100, subsampling=0),
    "WebP": lambda image, profile: samples.encode(image, "WEBP", icc_profile=profile, lossless=True),
    "BMP": bmp_with,
}


def read(data: bytes) -> Picture:
    return read_picture(data, max_pixels=1_000_000)


def sent(data: bytes) -> Image.Image:
    picture = read(data)
    return samples.pixels(fit(picture, picture.width, picture.height, "stretch").data)


def assert_near(found: Sequence[Colour], expected: Sequence[Colour], tolerance: int = TOLERANCE) -> None:
    worst = max(abs(a - b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))
    assert worst <= tolerance, list(zip(found, expected, strict=True))


@pytest.mark.parametrize(("profile", "matrix", "light_of"), [P3, ADOBE], ids=["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_a_wide_gamut_picture_looks_as_it_did(make, profile, matrix, light_of) -> None:
    data = make(patches(), profile)
    stored = middles(samples.pixels(data).convert("RGB"))
    result = sent(data)
    expected = [profiles.in_srgb(colour, matrix, light_of) for colour in stored]
    assert_near(middles(result), expected)
    assert max(abs(before[0] - after[0]) for before, after in zip(stored, expected, strict=True)) > 8
    assert result.info.get("icc_profile") is None


def test_what_is_more_vivid_than_srgb_can_be_comes_to_its_edge() -> None:
    data = samples.encode(patches([(255, 0, 0), (0, 255, 0), (0, 0, 255)]), icc_profile=profiles.P3)
    assert_near(middles(sent(data)), [(255, 0, 0), (0, 255, 0), (0, 0, 255)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("space", ["table", "power 2.2 is another", "parameters"])
def test_srgb_by_any_bytes_goes_on_untouched(kind: str, space: str) -> None:
    made = {
        "table": profiles.SRGB,
        "parameters": _pillows_srgb(),
        "power 2.2 is another": profiles.rgb(profiles.SRGB_PRIMARIES, profiles.power(2.2)),
    }[space]
    image = samples.noise()
    bare = samples.encode(image, kind)
    picture = read(samples.encode(image, kind, icc_profile=made))
    assert picture.plain == (space != "power 2.2 is another")
    assert (fit(picture, *samples.SIZE, "stretch").data == bare) == picture.plain


def _pillows_srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_srgb_in_other_modes_changes_no_pixel() -> None:
    image = samples.noise().convert("RGBA")
    image.putalpha(samples.gradient().getchannel(0))
    assert sent(samples.encode(image, icc_profile=profiles.SRGB)).tobytes() == sent(samples.encode(image)).tobytes()


@pytest.mark.parametrize("size", [100_000, 400_000])
def test_a_profile_over_several_segments_of_a_jpeg(size: int) -> None:
    profile = profiles.rgb(profiles.P3_PRIMARIES, profiles.srgb_light, padding=size)
    data = FILES["JPEG"](patches(), profile)
    assert data.count(b"ICC_PROFILE\0") > 1
    expected = middles(sent(FILES["JPEG"](patches(), profiles.P3)))
    assert middles(sent(data)) == expected
    assert middles(sent(_last_segment_first(data))) == expected


def _last_segment_first(jpeg: bytes) -> bytes:
    starts = [i - 4 for i in range(len(jpeg)) if jpeg.startswith(b"ICC_PROFILE\0", i)]
    end = starts[-1] + 2 + int.from_bytes(jpeg[starts[-1] + 2 : starts[-1] + 4], "big")
    return jpeg[: starts[0]] + jpeg[starts[-1] : end] + jpeg[starts[0] : starts[-1]] + jpeg[end:]


def test_a_png_whose_profile_pillow_would_not_open_again() -> None:
    profile = profiles.rgb(profiles.P3_PRIMARIES, profiles.srgb_light, padding=2_000_000)
    data = samples.encode(patches(), icc_profile=profile)
    expected = [profiles.in_srgb(colour, *P3[1:]) for colour in COLOURS]
    assert_near(middles(sent(data)), expected)


def png_with(*chunks: tuple[bytes, bytes], image: Image.Image | None = None) -> bytes:
    data = samples.encode(patches() if image is None else image)
    for kind, body in reversed(chunks):
        data = samples.insert_chunk(data, kind, body)
    return data


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"a name\0\0" + zlib.compress(profile)


def chrm(*numbers: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(number * 100_000) for number in numbers))


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 * gamma))


CHRM_SRGB = chrm(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
CHRM_ADOBE = chrm(0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
CHRM_P3 = chrm(0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
SRGB_CHUNK = (b"sRGB", b"\0")
CICP_SRGB, CICP_P3, CICP_BT2020_LINEAR = (
    (b"cICP", b"\1\x0d\0\1"),
    (b"cICP", b"\x0c\x0d\0\1"),
    (b"cICP", b"\x09\x08\0\1"),
)
CICP_PQ, CICP_HLG, CICP_NARROW = (b"cICP", b"\x09\x10\0\1"), (b"cICP", b"\x09\x12\0\1"), (b"cICP", b"\x0c\x0d\0\0")
LINEAR = (profiles.SAME, profiles.power(1))
AS_P3, AS_ADOBE = P3[1:], ADOBE[1:]

MEANT = {
    "gAMA, cHRM of Adobe RGB": ([gama(1 / 2.2), CHRM_ADOBE], AS_ADOBE),
    "cHRM alone": ([CHRM_P3], AS_P3),
    "gAMA alone, linear": ([gama(1)], LINEAR),
    "gAMA alone, of old Macs": ([gama(1 / 1.8)], (profiles.SAME, profiles.power(1.8))),
    "cICP": ([CICP_P3], AS_P3),
    "cICP, BT.2020, linear": ([CICP_BT2020_LINEAR], (profiles.BT2020_TO_SRGB, profiles.power(1))),
    "cICP before iCCP": ([CICP_P3, iccp(profiles.ADOBE)], AS_P3),
    "iCCP before sRGB, gAMA and cHRM": ([iccp(profiles.ADOBE), SRGB_CHUNK, gama(1), CHRM_P3], AS_ADOBE),
    "a cICP of video, then iCCP": ([CICP_NARROW, iccp(profiles.ADOBE)], AS_ADOBE),
    "PQ that a profile explains": ([CICP_PQ, iccp(profiles.P3)], AS_P3),
    "a broken iCCP, then cHRM": ([(b"iCCP", b"x\0\0no zlib"), CHRM_P3], AS_P3),
}


@pytest.mark.parametrize(("chunks", "meaning"), MEANT.values(), ids=MEANT)
def test_what_the_chunks_of_a_png_say(chunks, meaning) -> None:
    expected = [profiles.in_srgb(colour, *meaning) for colour in COLOURS]
    assert_near(middles(sent(png_with(*chunks))), expected)


UNTOUCHED = {
    "sRGB": [SRGB_CHUNK],
    "sRGB wins over gAMA and cHRM": [SRGB_CHUNK, gama(1), CHRM_P3],
    "gAMA and cHRM of sRGB": [gama(1 / 2.2), CHRM_SRGB],
    "gAMA of sRGB": [gama(0.45455)],
    "cHRM of sRGB, rounded": [chrm(0.31, 0.33, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)],
    "cICP of sRGB": [CICP_SRGB],
    "gAMA of nothing": [gama(0)],
    "gAMA cut off": [(b"gAMA", b"\0")],
    "cHRM of nothing": [chrm(*[0] * 8)],
    "cHRM of one point": [chrm(*[0.3] * 8)],
    "cHRM beyond all measure": [(b"cHRM", b"\xff" * 32)],
    "cICP cut off": [(b"cICP", b"\x0c")],
    "unknown cICP": [(b"cICP", b"\xfe\xfe\0\1")],
}


@pytest.mark.parametrize("chunks", UNTOUCHED.values(), ids=UNTOUCHED)
def test_chunks_that_say_srgb_or_nothing(chunks) -> None:
    picture = read(png_with(*chunks))
    assert fit(picture, picture.width, picture.height, "stretch").data == samples.encode(patches())


@pytest.mark.parametrize("chunk", [CICP_PQ, CICP_HLG], ids=["PQ", "HLG"])
def test_hdr_without_a_word_for_ordinary_screens_is_refused(chunk) -> None:
    with pytest.raises(PictureError, match="HDR picture"):
        read(png_with(chunk))


def test_transparent_parts_are_converted_before_they_are_laid_over_white() -> None:
    image = patches().convert("RGBA")
    image.putalpha(128)
    expected = [
        tuple(round(128 / 255 * level + 127 / 255 * 255) for level in profiles.in_srgb(colour, *AS_P3))
        for colour in COLOURS
    ]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert_near(middles(sent(samples.encode(image, kind, icc_profile=profiles.P3, **options))), expected)


def test_a_transparent_colour_is_the_stored_one() -> None:
    image = patches([(100, 100, 180), (200, 120, 100)])
    result = middles(sent(samples.encode(image, transparency=(100, 100, 180), icc_profile=profiles.P3)))
    assert_near(result, [(255, 255, 255), profiles.in_srgb((200, 120, 100), *AS_P3)])


def test_a_palette_has_colours_too() -> None:
    image = patches().quantize(len(COLOURS), dither=Image.Dither.NONE)
    expected = [profiles.in_srgb(colour, *AS_P3) for colour in middles(image.convert("RGB"))]
    assert_near(middles(sent(samples.encode(image, icc_profile=profiles.P3))), expected)


GREYS = [(level, level, level) for level in (0, 3, 20, 64, 128, 200, 255)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_grey_pictures(kind: str, gamma: float) -> None:
    image = patches(GREYS).convert("L")
    options = {"quality": 100} if kind == "JPEG" else {}
    result = sent(samples.encode(image, kind, icc_profile=profiles.grey(profiles.power(gamma)), **options))
    assert_near(middles(result), [profiles.in_srgb(grey, profiles.SAME, profiles.power(gamma)) for grey in GREYS])


def test_grey_with_alpha_and_grey_with_a_profile_of_rgb() -> None:
    image = patches(GREYS).convert("L")
    linear = profiles.rgb(profiles.SRGB_PRIMARIES, profiles.power(1))
    expected = [profiles.in_srgb(grey, *LINEAR) for grey in GREYS]
    assert_near(middles(sent(samples.encode(image, icc_profile=linear))), expected)
    image.putalpha(255)
    assert_near(middles(sent(samples.encode(image, icc_profile=profiles.grey(profiles.power(1))))), expected)


def _inks() -> list[tuple[int, int, int, int]]:
    return [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 0), (0, 0, 0, 1)]


def test_cmyk_looks_as_its_press_prints_it() -> None:
    image = Image.new("CMYK", (16 * len(_inks()), 16))
    for number, inks in enumerate(_inks()):
        image.paste(tuple(255 * ink for ink in inks), (16 * number, 0, 16 * number + 16, 16))
    data = samples.encode(image, "JPEG", icc_profile=profiles.cmyk(), quality=100, subsampling=0)
    assert_near(middles(sent(data)), [profiles.lab_in_srgb(profiles.ink_lab(*inks)) for inks in _inks()], 4)
    bare = samples.encode(image, "JPEG", quality=100, subsampling=0)
    assert middles(sent(bare)) == middles(samples.pixels(bare).convert("RGB"))


def test_a_large_picture_is_converted_at_its_new_size() -> None:
    large = patches().resize((16 * len(COLOURS) * 4, 64), Image.Resampling.NEAREST)
    picture = read(samples.encode(large, "JPEG", quality=100, subsampling=0, icc_profile=profiles.P3))
    result = samples.pixels(fit(picture, 16 * len(COLOURS), 16, "stretch").data)
    assert_near(middles(result), [profiles.in_srgb(colour, *AS_P3) for colour in COLOURS], 3)


UNUSABLE = {
    "rubbish": b"rubbish" * 30,
    "nothing but a head": profiles.P3[:128],
    "cut off": profiles.P3[:400],
    "of grey": profiles.grey(profiles.power(1)),
    "of a press": profiles.cmyk(),
    "a link between devices": profiles.profile({}, kind=b"link"),
    "an effect": profiles.profile({}, kind=b"abst"),
    "named colours": profiles.profile({}, kind=b"nmcl"),
    "of Lab": profiles.profile({}, space=b"Lab ", kind=b"spac"),
    "without tags": profiles.profile({}),
    "with more tags than it has": profiles.P3[:128] + b"\xff\xff\xff\xff" + profiles.P3[132:],
    "without curves": profiles.profile({b"wtpt": b"XYZ \0\0\0\0" + bytes(12)}),
    "too large": profiles.P3 + bytes(9_000_000),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_a_profile_that_cannot_be_used_counts_as_none(kind: str, name: str) -> None:
    image = samples.noise()
    assert sent(FILES[kind](image, UNUSABLE[name])).tobytes() == image.tobytes()


@pytest.mark.parametrize("name", ["of grey", "rubbish", "a link between devices"])
def test_an_unusable_profile_of_a_jpeg_leaves_its_bytes(name: str) -> None:
    data = samples.encode(samples.noise(), "JPEG", icc_profile=UNUSABLE[name])
    assert fit(read(data), *samples.SIZE, "stretch").data == samples.encode(samples.noise(), "JPEG")


def test_a_jpeg_that_lacks_a_part_of_its_profile() -> None:
    data = FILES["JPEG"](patches(), profiles.rgb(profiles.P3_PRIMARIES, profiles.srgb_light, padding=100_000))
    start = data.index(b"ICC_PROFILE\0") - 4
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    without = data[:start] + data[start + 2 + length :]
    assert sent(without).tobytes() == samples.pixels(data).tobytes()


def test_a_profile_of_rgb_in_a_cmyk_picture_counts_as_none() -> None:
    image = samples.noise().convert("CMYK")
    data = samples.encode(image, "JPEG", icc_profile=profiles.P3)
    assert sent(data).tobytes() == samples.pixels(samples.encode(image, "JPEG")).convert("RGB").tobytes()


def test_floating_point_tables_are_not_carried_out() -> None:
    """They may be chains of any length; a profile that has one has curves as well."""
    with_table = profiles.rgb(profiles.P3_PRIMARIES, profiles.srgb_light, D2B1=b"mpet" + bytes(60))
    assert middles(sent(FILES["PNG"](patches(), with_table))) == middles(sent(FILES["PNG"](patches(), profiles.P3)))


@pytest.mark.parametrize("chunks", [[iccp(profiles.rgb(profiles.SRGB_PRIMARIES, profiles.power(1)))], [gama(1)]])
def test_a_masks_colours_are_its_meaning(chunks) -> None:
    """100 of linear light would be 168 in sRGB, and be repainted."""
    image = Image.new("L", samples.SIZE, 100)
    image.paste(200, (8, 8, 24, 24))
    data = png_with(*chunks, image=image.convert("RGB"))
    mask = read_mask(data, mode="white", max_pixels=10_000)
    assert fit_mask(mask, *samples.SIZE, "stretch").getbbox() == (8, 8, 24, 24)


def test_nothing_of_the_profile_is_sent_on() -> None:
    for kind in FILES:
        picture = read(FILES[kind](samples.noise(), profiles.P3))
        assert b"acsp" not in fit(picture, *samples.SIZE, "stretch").data
    difference = ImageChops.difference(sent(FILES["PNG"](samples.noise(), profiles.P3)), samples.noise())
    assert difference.getbbox() is not None
