"""Pictures that come in: what is accepted, what is refused, and what a WebUI is sent."""

import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, ImageChops, ImageStat

from services.picture_decoding import decode_upright
from services.picture_formats import PictureError, sniff
from services.pictures import Picture, ResizeMode, fit, flatten, read_picture
from tests.services import picture_samples as samples

MAX_PIXELS = 50_000_000
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    return read_picture(data, max_pixels=max_pixels)


def sent(data: bytes, resize_mode: ResizeMode = "stretch") -> bytes:
    """What goes to the WebUI at the picture's own size."""
    picture = read(data)
    return fit(picture, picture.width, picture.height, resize_mode).data


@pytest.mark.parametrize(("name", "make"), samples.WHOLE.items())
def test_reads_every_accepted_format(name: str, make: Callable[[], bytes]) -> None:
    data = make()
    picture = read(data)
    assert (picture.width, picture.height) == samples.SIZE
    assert picture.format == sniff(data) == name.split()[-1]
    assert samples.pixels(sent(data)).tobytes() == samples.pixels(data).convert("RGB").tobytes()


def test_a_waiting_picture_holds_no_more_than_its_file() -> None:
    data = samples.encode(samples.noise())
    assert read(data).data is data
    assert "data" not in repr(read(data))


REFUSED = {
    "nothing": (b"", "0 bytes"),
    "GIF": (samples.encode(samples.noise().convert("P"), "GIF"), "GIF, "),
    "TIFF": (samples.encode(samples.noise(), "TIFF"), "TIFF, "),
    "AVIF": (samples.encode(samples.noise(), "AVIF"), "AVIF, "),
    "JPEG 2000": (samples.encode(samples.noise(), "JPEG2000"), "JPEG 2000, "),
    "ICO": (samples.encode(samples.noise(), "ICO"), "ICO, "),
    "PDF": (samples.encode(samples.noise(), "PDF"), "PDF, "),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, 24 bytes"),
    "JPEG XL": (b"\xff\x0a\xfa\x0f", "JPEG XL, 4 bytes"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG, "),
    "HTML": (b"\n<!DOCTYPE html><html><body>secret</body></html>", "HTML, "),
    "ZIP": (b"PK\x03\x04" + bytes(40), "ZIP, 44 bytes"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "gzip, 23 bytes"),
    "JSON": (b'{"error": "secret"}', "JSON, 19 bytes"),
    "PPM": (samples.encode(samples.noise(), "PPM"), "unknown format, "),
    "text": (b"secret text", "unknown format, 11 bytes"),
    "zeros": (bytes(64), "unknown format, 64 bytes"),
    "GIF with a PNG behind it": (b"GIF89a" + samples.encode(samples.noise()), "GIF, "),
}


@pytest.mark.parametrize(("data", "received"), REFUSED.values(), ids=REFUSED)
def test_refuses_other_formats_and_says_what_came(data: bytes, received: str) -> None:
    with pytest.raises(PictureError, match="PNG, JPEG, WebP or BMP") as caught:
        read(data)
    assert caught.value.received.startswith(received)
    assert "secret" not in str(caught.value) + caught.value.received


@pytest.mark.parametrize(("name", "make"), samples.WHOLE.items())
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.99, -1, -2, -9])
def test_refuses_truncated_files(name: str, make: Callable[[], bytes], kept: float) -> None:
    data = make()
    cut = data[: int(kept)] if kept < 0 else data[: int(len(data) * kept)]
    with pytest.raises(PictureError, match="cannot be decoded"):
        read(cut)


PNG = samples.encode(samples.noise())
JPEG = samples.encode(samples.noise(), "JPEG")
WEBP_EXTENDED = samples.encode(samples.noise(), "WEBP", exif=samples.exif_orientation(1))
BMP = samples.encode(samples.noise(), "BMP")
DAMAGED = {
    "PNG, wrong IDAT checksum": PNG[:-17] + bytes((PNG[-17] ^ 1,)) + PNG[-16:],
    "PNG, wrong IHDR checksum": PNG[:29] + b"abcd" + PNG[33:],
    "PNG, chunk longer than the file": PNG[:33] + b"\xff\xff\xff\xff" + PNG[37:],
    "PNG, first chunk is not IHDR": PNG[:8] + samples.chunk(b"tEXt", b"a\0b") + PNG[8:],
    "PNG, no IDAT": PNG[:33] + samples.chunk(b"IEND", b""),
    "PNG, IDAT is not zlib": samples.raw_png(16, 16, 8, 2, b"", idat=b"nothing of the kind"),
    "PNG, an IDAT too few": samples.raw_png(16, 16, 8, 2, b"", idat=zlib.compress(bytes(range(49)) * 16)[:-20]),
    "PNG, impossible depth": samples.raw_png(16, 16, 3, 2, bytes(48)),
    "PNG, short colour key": samples.raw_png(16, 16, 8, 2, bytes(48), samples.chunk(b"tRNS", b"\0")),
    "JPEG, only markers": b"\xff\xd8\xff\xd9",
    "JPEG, no frame": b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xd9",
    "JPEG, frame without a length": b"\xff\xd8\xff\xc0\0\0\xff\xd9",
    "JPEG, segment past the end": b"\xff\xd8\xff\xe1\xff\xff" + JPEG[2:600],
    "JPEG, only fill bytes": b"\xff\xd8" + b"\xff" * 100_000,
    "WebP, empty": b"RIFF\x04\0\0\0WEBP",
    "WebP, unknown first chunk": b"RIFF\x0c\0\0\0WEBPABCD\0\0\0\0",
    "BMP, only its name": b"BM",
    "BMP, header only": BMP[:54],
    "BMP, pixels past the end": BMP[:10] + struct.pack("<I", 2**31 - 1) + BMP[14:],
    "BMP, impossible depth": BMP[:28] + b"\x07\0" + BMP[30:],
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_refuses_damaged_files(data: bytes) -> None:
    with pytest.raises(PictureError):
        read(data)


def _jpeg_claiming(width: int, height: int) -> bytes:
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


def _webp_claiming(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return WEBP_EXTENDED[:24] + canvas + WEBP_EXTENDED[30:]


def _bmp_claiming(width: int, height: int) -> bytes:
    return BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]


BOMBS = {
    "PNG": samples.raw_png(20_000, 20_000, 8, 2, b"", idat=zlib.compress(b"")),
    "PNG of a whole bilevel picture": samples.raw_png(20_000, 20_000, 1, 0, bytes(2500)),
    "JPEG": _jpeg_claiming(65_000, 65_000),
    "WebP": _webp_claiming(65_000, 65_000),
    "WebP, the largest canvas": _webp_claiming(2**24, 255),
    "lossy WebP": b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f",
    "lossless WebP": b"RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0\x2f\xff\xff\xff\x0f\0",
    "BMP": _bmp_claiming(30_000, -30_000),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_refuses_too_many_pixels_by_the_header(data: bytes) -> None:
    with pytest.raises(PictureError, match="at most 50000000 pixels"):
        read(data)


@pytest.mark.parametrize("make", samples.WHOLE.values(), ids=samples.WHOLE)
def test_the_pixel_cap_is_inclusive(make: Callable[[], bytes]) -> None:
    width, height = samples.SIZE
    assert read(make(), width * height).width == width
    with pytest.raises(PictureError, match=f"at most {width * height - 1} pixels") as caught:
        read(make(), width * height - 1)
    assert f"{width}x{height} pixels" in caught.value.received


def test_a_cap_above_pillows_own_is_honoured() -> None:
    """Pillow alone warns above 89 million pixels and refuses above 178 million."""
    data = samples.raw_png(14_000, 13_000, 1, 0, bytes(1750))
    assert read(data, 200_000_000).width == 14_000


@pytest.mark.parametrize("size", [(1, 1), (15, 16), (16, 15), (15, 4000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_refuses_tiny_pictures(kind: str, size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match="at least 16x16"):
        read(samples.encode(samples.gradient(*size), kind))


def test_accepts_the_smallest() -> None:
    assert read(samples.encode(samples.noise(16, 16))).height == 16


def test_refuses_floods_of_empty_pieces() -> None:
    png = PNG[:33] + samples.chunk(b"teXt", b"") * 70_000 + PNG[33:]
    jpeg = JPEG[:2] + b"\xff\xfe\0\2" * 70_000 + JPEG[2:]
    for data, what in ((png, "PNG chunks"), (jpeg, "JPEG segments")):
        with pytest.raises(PictureError, match=f"more than 65536 {what}"):
            read(data)


def test_refuses_a_jpeg_of_endless_scans() -> None:
    scan = JPEG.index(b"\xff\xda")
    with pytest.raises(PictureError, match="more than 32 scans"):
        read(JPEG[:-2] + JPEG[scan:-2] * 32 + JPEG[-2:])


def test_run_length_encoded_bmp() -> None:
    rows = (b"\x10\x01\x00\x00") * 20 + b"\0\1"
    assert samples.pixels(sent(samples.rle_bmp(16, 20, rows))).getpixel((3, 3)) == WHITE
    with pytest.raises(PictureError, match="run-length encoded BMP may have at most 4000000"):
        read(samples.rle_bmp(7000, 7000, rows))


def _palette(transparency: bytes | int | None) -> bytes:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([*RED, 0, 0, 255])
    return samples.encode(image) if transparency is None else samples.encode(image, transparency=transparency)


def _grey(depth: int, sample: int, key: int | None = None) -> bytes:
    row = struct.pack(">16H", *[sample] * 16) if depth == 16 else _packed(depth, sample)
    extra = () if key is None else (samples.chunk(b"tRNS", struct.pack(">H", key)),)
    return samples.raw_png(16, 16, depth, 0, row, *extra)


def _packed(depth: int, sample: int) -> bytes:
    byte = sum(sample << shift for shift in range(0, 8, depth))
    return bytes([byte]) * (16 * depth // 8)


def _rgb16(key: tuple[int, int, int] | None) -> bytes:
    extra = () if key is None else (samples.chunk(b"tRNS", struct.pack(">3H", *key)),)
    return samples.raw_png(16, 16, 16, 2, struct.pack(">3H", 0xFFFF, 0x8040, 0x0010) * 16, *extra)


def _solid(mode: str, colour: object, kind: str = "PNG", **options: object) -> bytes:
    return samples.encode(Image.new(mode, (16, 16), colour), kind, **options)  # type: ignore[arg-type]


MODES = {
    "RGB": (_solid("RGB", RED), RED),
    "RGBA, opaque": (_solid("RGBA", (*RED, 255)), RED),
    "RGBA, transparent": (_solid("RGBA", (*RED, 0)), WHITE),
    "RGBA, half transparent": (_solid("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
    "L": (_solid("L", 77), (77, 77, 77)),
    "LA, transparent": (_solid("LA", (0, 0)), WHITE),
    "LA, opaque": (_solid("LA", (9, 255)), (9, 9, 9)),
    "1, black": (_solid("1", 0), BLACK),
    "1, white": (_solid("1", 1), WHITE),
    "1, black is transparent": (_grey(1, 0, key=0), WHITE),
    "grey of 2 bits": (_grey(2, 1), (85, 85, 85)),
    "grey of 2 bits, transparent": (_grey(2, 1, key=1), WHITE),
    "grey of 2 bits, another is transparent": (_grey(2, 1, key=2), (85, 85, 85)),
    "grey of 4 bits, transparent": (_grey(4, 3, key=3), WHITE),
    "grey of 8 bits, transparent": (_grey(8, 3, key=3), WHITE),
    "grey of 16 bits": (_grey(16, 0x8040), (128, 128, 128)),
    "grey of 16 bits, dark": (_grey(16, 0x0100), (1, 1, 1)),
    "grey of 16 bits, white": (_grey(16, 0xFFFF), WHITE),
    "grey of 16 bits, transparent": (_grey(16, 0x8040, key=0x8040), WHITE),
    "RGB of 16 bits": (_rgb16(None), (255, 128, 0)),
    "RGB of 16 bits, transparent": (_rgb16((0xFFFF, 0x8040, 0x0010)), WHITE),
    "RGB of 16 bits, another is transparent": (_rgb16((0, 0, 0)), (255, 128, 0)),
    "RGBA of 16 bits": (samples.raw_png(16, 16, 16, 6, struct.pack(">4H", 0, 0, 0, 0) * 16), WHITE),
    "LA of 16 bits": (samples.raw_png(16, 16, 16, 4, struct.pack(">2H", 0x3333, 0xFFFF) * 16), (51, 51, 51)),
    "RGB, transparent colour": (_solid("RGB", RED, transparency=RED), WHITE),
    "palette": (_palette(None), RED),
    "palette, transparent index": (_palette(0), WHITE),
    "palette, alpha of every colour": (_palette(b"\x80\xff"), (255, 127, 127)),
    "WebP, transparent": (_solid("RGBA", (*RED, 0), "WEBP", lossless=True, exact=True), WHITE),
    "BMP, 1 bit": (_solid("1", 1, "BMP"), WHITE),
    "BMP, grey": (_solid("L", 77, "BMP"), (77, 77, 77)),
    "BMP, 32 bits": (_solid("RGBA", (*RED, 255), "BMP"), RED),
    "JPEG, grey": (_solid("L", 77, "JPEG"), (77, 77, 77)),
    "JPEG, CMYK": (_solid("CMYK", (0, 0, 0, 155), "JPEG", quality=100), (100, 100, 100)),
}


@pytest.mark.parametrize(("data", "expected"), MODES.values(), ids=MODES)
def test_any_colour_mode_becomes_rgb_over_white(data: bytes, expected: tuple[int, int, int]) -> None:
    image = flatten(decode_upright(data), "white")
    assert image.mode == "RGB"
    assert image.getcolors() == [(256, expected)]
    if not _is_hidden(data):
        assert samples.pixels(sent(data)).tobytes() == image.tobytes()


def _is_hidden(data: bytes) -> bool:
    """It is whatever it is laid over."""
    over_red, over_black = (flatten(decode_upright(data), colour) for colour in ("red", "black"))
    return ImageChops.difference(over_red, over_black).getcolors() == [(256, RED)]


def _bmp_with_alpha(alpha: int) -> bytes:
    """32 bits a pixel, with the masks that make the fourth byte an alpha channel."""
    pixels = bytes((0, 0, 255, alpha)) * 256
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 16, 16, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def test_a_bmp_whose_alpha_was_never_filled_in_shows_its_colours() -> None:
    assert samples.pixels(_bmp_with_alpha(0)).getpixel((3, 3)) == (*RED, 0), "it is decoded with an alpha channel"
    assert samples.pixels(sent(_bmp_with_alpha(0))).getcolors() == [(256, RED)]
    assert not read(_bmp_with_alpha(0)).has_alpha
    assert samples.pixels(sent(_bmp_with_alpha(128))).getcolors() == [(256, (255, 127, 127))]


NOTHING_TO_SEE = {
    "PNG": _solid("RGBA", (*RED, 0)),
    "PNG, grey": _solid("LA", (9, 0)),
    "PNG, palette": _palette(b"\0\0"),
    "PNG, one transparent colour": _solid("RGB", RED, transparency=RED),
    "WebP": _solid("RGBA", (*RED, 0), "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("data", NOTHING_TO_SEE.values(), ids=NOTHING_TO_SEE)
def test_a_picture_that_is_transparent_everywhere_is_refused(data: bytes) -> None:
    with pytest.raises(PictureError, match="is transparent everywhere") as caught:
        read(data)
    assert caught.value.received.endswith(f"{len(data)} bytes")


def test_one_visible_pixel_is_a_picture() -> None:
    image = Image.new("RGBA", (16, 16))
    image.putpixel((3, 3), (*RED, 1))
    assert read(samples.encode(image)).has_alpha


# How a camera held otherwise stores an upright scene, by the orientation it notes.
STORED_BY = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("value", STORED_BY)
def test_exif_orientation_is_applied(kind: str, value: int) -> None:
    upright = samples.gradient()
    undo = STORED_BY[value]
    stored = upright if undo is None else upright.transpose(undo)
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    data = samples.encode(stored, kind, exif=samples.exif_orientation(value), **options)
    picture = read(data)
    assert (picture.width, picture.height) == samples.SIZE
    difference = ImageChops.difference(samples.pixels(sent(data)), upright)
    assert max(ImageStat.Stat(difference).mean) < 4


BROKEN_EXIF = {
    "text": b"Exif\0\0this is no TIFF",
    "nothing": b"Exif\0\0",
    "only a byte order": b"Exif\0\0II*\0",
    "an IFD past the end": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "an IFD in the header": b"Exif\0\0MM\0*\0\0\0\0",
    "a cut IFD": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\3",
    "orientation 9": samples.exif_orientation(9),
    "orientation 0": samples.exif_orientation(0),
}


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_is_ignored(kind: str, exif: bytes) -> None:
    data = samples.encode(samples.gradient(), kind)
    if kind == "JPEG":
        data = samples.insert_segment(data, 0xE1, exif)
    elif kind == "PNG":
        data = samples.insert_chunk(data, b"eXIf", exif.removeprefix(b"Exif\0\0"))
    else:
        data = samples.encode(samples.gradient(), kind, exif=exif)
    assert (read(data).width, read(data).height) == samples.SIZE
    assert "exif" not in samples.pixels(sent(data)).info


PLAIN = {
    "PNG": PNG,
    "PNG of several IDAT": samples.raw_png(
        16, 16, 8, 2, b"", samples.chunk(b"IDAT", zlib.compress(bytes(49 * 16))[:9]),
        idat=zlib.compress(bytes(49 * 16))[9:],
    ),
    "JPEG": JPEG,
    "progressive JPEG": samples.encode(samples.noise(), "JPEG", progressive=True),
    "JPEG with restart marks": samples.encode(samples.noise(), "JPEG", restart_marker_blocks=1),
    "JPEG of 4:4:4": samples.encode(samples.noise(), "JPEG", subsampling=0),
    "JPEG of RGB (Adobe segment)": samples.encode(samples.noise(), "JPEG", keep_rgb=True),
}  # fmt: skip


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
def test_a_picture_that_needs_nothing_goes_on_byte_for_byte(data: bytes) -> None:
    assert sent(data) is data


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "fill"])
def test_byte_for_byte_in_every_resize_mode(resize_mode: ResizeMode) -> None:
    assert sent(PNG, resize_mode) is PNG


PROFILE = b"secret" * 30
NOT_PLAIN = {
    "PNG with text": samples.encode(samples.noise(), pnginfo=samples.text_info()),
    "PNG with a profile": samples.encode(samples.noise(), icc_profile=PROFILE),
    "PNG with a broken profile": samples.insert_chunk(PNG, b"iCCP", b"secret\0\0not zlib"),
    "PNG with a huge profile": samples.insert_chunk(PNG, b"iCCP", b"x\0\0" + zlib.compress(bytes(20_000_000))),
    "PNG with huge text": samples.insert_chunk(PNG, b"zTXt", b"x\0\0" + zlib.compress(bytes(20_000_000))),
    "PNG with EXIF": samples.encode(samples.noise(), exif=samples.exif_orientation(1)),
    "PNG with a resolution": samples.encode(samples.noise(), dpi=(72, 72)),
    "PNG with a private chunk": samples.insert_chunk(PNG, b"seCr", b"secret"),
    "PNG with bytes after its end": PNG + b"secret",
    "PNG with a ZIP after its end": PNG + b"PK\x03\x04secret",
    "PNG with a palette": samples.insert_chunk(PNG, b"PLTE", bytes(6)),
    "PNG with a transparent colour": samples.encode(samples.noise(), transparency=(1, 2, 3)),
    "APNG": samples.apng(),
    "RGBA PNG": samples.encode(samples.noise().convert("RGBA")),
    "grey PNG": samples.encode(samples.noise().convert("L")),
    "RGB PNG of 16 bits": samples.raw_png(48, 32, 16, 2, bytes(48 * 6)),
    "JPEG with EXIF": samples.encode(samples.noise(), "JPEG", exif=samples.exif_orientation(1)),
    "JPEG with a profile": samples.encode(samples.noise(), "JPEG", icc_profile=PROFILE),
    "JPEG with a comment": samples.encode(samples.noise(), "JPEG", comment=b"secret"),
    "JPEG with a private segment": samples.insert_segment(JPEG, 0xED, b"secret"),
    "JPEG with a long JFIF segment": samples.insert_segment(JPEG, 0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\1abcsecret"),
    "JPEG with a long Adobe segment": samples.insert_segment(JPEG, 0xEE, b"Adobe\0\x64\0\0\0\0\1secret"),
    "JPEG with bytes after its end": JPEG + b"secret",
    "JPEG with a GIF after its end": JPEG + b"GIF89asecret",
    "JPEG with bytes between segments": JPEG[:20] + b"secret" + JPEG[20:],
    "JPEG with fill bytes": JPEG[:2] + b"\xff\xff" + JPEG[2:],
    "grey JPEG": samples.encode(samples.noise().convert("L"), "JPEG"),
    "CMYK JPEG": samples.encode(samples.noise().convert("CMYK"), "JPEG"),
    "two pictures in one JPEG": samples.encode(
        samples.noise(), "MPO", save_all=True, append_images=[samples.noise(seed=2)]
    ),
    "WebP": samples.encode(samples.noise(), "WEBP"),
    "WebP with a profile": samples.encode(samples.noise(), "WEBP", icc_profile=PROFILE, lossless=True),
    "WebP with bytes after its end": samples.encode(samples.noise(), "WEBP", lossless=True) + b"secret",
    "animated WebP": samples.animated_webp(),
    "BMP": BMP,
    "BMP with bytes after its end": BMP + b"secret",
}


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_nothing_but_the_pixels_is_sent(data: bytes) -> None:
    result = sent(data)
    assert b"secret" not in result
    image = samples.pixels(result)
    assert (image.mode, image.size) == ("RGB", samples.SIZE)
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform"} | {
        "progressive",
        "progression",
    }
    if result.startswith(b"\xff\xd8"):
        assert len(result) < len(data)
        assert image.tobytes() == samples.pixels(data).convert("RGB").tobytes()
    else:
        assert {kind for kind, _ in _chunks(result)} == {b"IHDR", b"IDAT", b"IEND"}
    assert sent(result) is result


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, start = [], 8
    while start < len(png):
        (length,) = struct.unpack_from(">I", png, start)
        found.append((png[start + 4 : start + 8], png[start + 8 : start + 8 + length]))
        start += 12 + length
    return found


@pytest.mark.parametrize("data", [samples.apng(), samples.animated_webp()], ids=["APNG", "WebP"])
def test_the_first_frame_counts(data: bytes) -> None:
    assert samples.pixels(sent(data)).tobytes() == samples.noise().tobytes()


def test_stretch() -> None:
    image = samples.noise()
    result = samples.pixels(fit(read(samples.encode(image)), 64, 128, "stretch").data)
    assert result.tobytes() == image.resize((64, 128), Image.Resampling.LANCZOS).tobytes()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((60, 30), (15, 0, 45, 30)),  # a wide picture loses its left and right
        ((30, 60), (0, 15, 30, 45)),  # a high one its top and bottom
    ],
)
def test_crop_keeps_the_centre(size: tuple[int, int], expected: tuple[int, int, int, int]) -> None:
    image = samples.noise(*size)
    result = samples.pixels(fit(read(samples.encode(image)), 30, 30, "crop").data)
    assert result.tobytes() == image.crop(expected).tobytes()


@pytest.mark.parametrize(("size", "target"), [((40, 20), (40, 41)), ((20, 40), (41, 40)), ((16, 4000), (64, 64))])
def test_fill_draws_the_edges_out(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = Image.new("RGB", size, RED)
    result = samples.pixels(fit(read(samples.encode(image)), *target, "fill").data)
    assert result.getcolors() == [(target[0] * target[1], RED)]


def test_fill_keeps_the_picture_whole_and_repeats_its_outermost_rows() -> None:
    image = samples.noise(40, 20)
    result = samples.pixels(fit(read(samples.encode(image)), 40, 40, "fill").data)
    assert result.crop((0, 10, 40, 30)).tobytes() == image.tobytes()
    for row, source in ((0, 0), (9, 0), (30, 19), (39, 19)):
        strip = image.crop((0, source, 40, source + 1))
        assert result.crop((0, row, 40, row + 1)).tobytes() == strip.tobytes()


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("size", [(16, 3000), (3000, 16), (17, 16), (500, 500)])
@pytest.mark.parametrize("target", [(64, 64), (64, 256), (256, 64), (72, 64)])
def test_every_resize_mode_gives_exactly_the_size(
    resize_mode: ResizeMode, size: tuple[int, int], target: tuple[int, int]
) -> None:
    data = samples.encode(samples.gradient(*size), "JPEG")
    assert samples.pixels(fit(read(data), *target, resize_mode).data).size == target


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    """In levels of 255, of one sample."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


LARGE = samples.gradient(1200, 900)


@pytest.mark.parametrize(
    ("target", "decoded"), [((400, 300), (600, 450)), ((150, 110), (300, 225)), ((60, 40), (150, 113))]
)
def test_a_large_jpeg_is_decoded_in_a_size_that_suffices(target: tuple[int, int], decoded: tuple[int, int]) -> None:
    data = samples.encode(LARGE, "JPEG", quality=95)
    picture = read_picture(data, max_pixels=2_000_000, target=lambda width, height: target)
    assert (picture.width, picture.height) == LARGE.size
    assert picture.pixels is not None
    assert picture.pixels.image is not None
    assert picture.pixels.image.size == decoded
    fitted = fit(picture, *target, "stretch").image
    assert fitted is not None
    assert mean_difference(fitted, samples.pixels(data).resize(target, Image.Resampling.LANCZOS)) < 1
    assert picture.pixels.image is None, "its job waits without them"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_so_is_one_that_lies_on_its_side(orientation: int) -> None:
    data = samples.encode(LARGE, "JPEG", quality=95, exif=samples.exif_orientation(orientation))
    whole = read_picture(data, max_pixels=2_000_000)
    size = round(whole.width / 3), round(whole.height / 3)
    picture = read_picture(data, max_pixels=2_000_000, target=lambda width, height: (width // 3, height // 3))
    assert (picture.width, picture.height) == (whole.width, whole.height)
    assert picture.pixels is not None
    assert picture.pixels.image is not None
    assert picture.pixels.image.size == (whole.width // 2, whole.height // 2)
    upright = whole.pixels.image if whole.pixels else None
    assert upright is not None
    fitted = fit(picture, *size, "stretch").image
    assert fitted is not None
    assert mean_difference(fitted, upright.resize(size, Image.Resampling.LANCZOS)) < 1


def test_pixels_in_a_smaller_size_are_not_those_of_a_picture_that_goes_on_as_it_is() -> None:
    data = samples.encode(LARGE, "JPEG", quality=95)
    picture = read_picture(data, max_pixels=2_000_000, target=lambda width, height: (100, 100))
    assert fit(picture, *LARGE.size, "stretch") == (data, None)


def test_what_was_decoded_too_small_is_decoded_again() -> None:
    data = samples.encode(LARGE, "JPEG", quality=95, exif=samples.exif_orientation(3))
    picture = read_picture(data, max_pixels=2_000_000, target=lambda width, height: (100, 100))
    fitted = fit(picture, *LARGE.size, "stretch").image
    assert fitted is not None
    assert fitted.tobytes() == samples.pixels(data).transpose(Image.Transpose.ROTATE_180).tobytes()
    assert fit(picture, *LARGE.size, "stretch").image is not fitted, "and as often as it is needed"


@pytest.mark.parametrize("kept", [0, 10, 100, 1000])
def test_a_large_jpeg_is_read_to_its_end_even_so(kept: int) -> None:
    data = samples.encode(samples.noise(600, 400), "JPEG")
    cut = data[: -kept - 2] + b"\xff\xd9" if kept else data[:-2]
    if not kept:
        with pytest.raises(PictureError, match="cannot be decoded"):
            read_picture(cut, max_pixels=1_000_000, target=lambda width, height: (50, 30))
        return
    verdicts = []
    for target in (None, lambda width, height: (50, 30)):
        try:
            verdicts.append(bool(read_picture(cut, max_pixels=1_000_000, target=target)))
        except PictureError as error:
            verdicts.append(error.message)
    assert verdicts[0] == verdicts[1]


def test_an_image_that_goes_on_as_it_is_comes_with_its_pixels_if_they_are_needed() -> None:
    for data in (samples.encode(samples.noise()), samples.encode(samples.noise(), "JPEG")):
        picture = read_picture(data, max_pixels=10_000, target=lambda width, height: samples.SIZE, always_decode=True)
        fitted = fit(picture, *samples.SIZE, "stretch")
        assert fitted.data is data
        assert fitted.image is not None
        assert (fitted.image.mode, fitted.image.tobytes()) == ("RGB", samples.pixels(data).tobytes())


def test_many_threads_at_once() -> None:
    visible = [data for data, _ in MODES.values() if not _is_hidden(data)]
    files = [make() for make in samples.WHOLE.values()] + visible * 2
    alone = [sent(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sent, files)) == alone


def test_pillows_process_wide_settings_are_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    read(PNG)
    assert before == Image.MAX_IMAGE_PIXELS
