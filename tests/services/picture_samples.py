"""Small pictures, whole and damaged, built at run time."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIZE = (48, 32)


def noise(width: int = SIZE[0], height: int = SIZE[1], *, seed: int = 1) -> Image.Image:
    """An RGB picture in which no two neighbours are alike, the same on every run."""
    value, pixels = seed, bytearray()
    for _ in range(width * height * 3):
        value = (value * 1103515245 + 12345) % 2**31
        pixels.append(value >> 16 & 255)
    return Image.frombytes("RGB", (width, height), bytes(pixels))


def gradient(width: int = SIZE[0], height: int = SIZE[1]) -> Image.Image:
    """Smooth, so that JPEG and WebP keep it nearly as it is."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (across, down, Image.new("L", (width, height), 100)))


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> Image.Image:
    """Decoded by Pillow's own front door, independent of the code under test."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.copy()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(
    width: int, height: int, depth: int, colour_type: int, row: bytes, *extra: bytes, idat: bytes | None = None
) -> bytes:
    """A PNG of equal rows, for the modes that Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress((b"\0" + row) * height) if idat is None else idat
    chunks = chunk(b"IHDR", header), *extra, chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def insert_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    return png[:33] + chunk(kind, body) + png[33:]


def insert_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]


def exif_orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def text_info() -> PngInfo:
    info = PngInfo()
    info.add_text("parameters", "a secret prompt")
    return info


def apng() -> bytes:
    return encode(noise(), save_all=True, append_images=[noise(seed=2), noise(seed=3)])


def animated_webp() -> bytes:
    return encode(noise(), "WEBP", save_all=True, append_images=[noise(seed=2)], lossless=True)


def rle_bmp(width: int, height: int, rows: bytes) -> bytes:
    """An RLE8 BMP with a palette of two colours, black and white."""
    palette = bytes((0, 0, 0, 0, 255, 255, 255, 0))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 2, 2)
    offset = 14 + len(header) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(rows), 0, 0, offset) + header + palette + rows


WHOLE: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encode(noise()),
    "JPEG": lambda: encode(noise(), "JPEG", quality=90),
    "progressive JPEG": lambda: encode(noise(), "JPEG", progressive=True),
    "WEBP": lambda: encode(noise(), "WEBP"),
    "lossless WEBP": lambda: encode(noise(), "WEBP", lossless=True),
    "extended WEBP": lambda: encode(noise(), "WEBP", exif=exif_orientation(1)),
    "BMP": lambda: encode(noise(), "BMP"),
}
