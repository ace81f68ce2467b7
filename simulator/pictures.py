"""Pictures on the wire: base64 in, files with their generation text out, and resizing in between."""

import io
import warnings
from binascii import Error as Base64Error

import pybase64
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from simulator.errors import CrashError, HTTPError

JPEG_QUALITY = 80  # Option jpeg_quality's default.
PNG_COMPRESSION = 1  # As small as level 6 within a tenth for these pictures, at a fifth of the time.
INVALID = "Invalid encoded image"


def decode(text: object) -> Image.Image:
    """Decode as A1111's decode_base64_to_image does, its oddities included. The pixels are not read yet.

    :raises HTTPError: not a picture, or a URL (which is never fetched here).
    :raises CrashError: what the WebUI lets through, such as a data URI with a parameter in it.
    """
    if not isinstance(text, str):
        raise CrashError("AttributeError", f"'{type(text).__name__}' object has no attribute 'startswith'")
    if text.startswith(("http://", "https://")):
        raise HTTPError(500, "Request to local resource not allowed")
    if text.startswith("data:image/"):
        try:
            text = text.split(";")[1].split(",")[1]
        except IndexError as exc:
            raise CrashError("IndexError", "list index out of range") from exc
    try:
        return open_picture(pybase64.b64decode(text))
    except (Base64Error, ValueError, UnidentifiedImageError, OSError) as exc:
        raise HTTPError(500, INVALID) from exc


def open_picture(data: bytes) -> Image.Image:
    """Open a file without reading its pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data))


def read(picture: Image.Image) -> Image.Image:
    """The first frame's pixels, turned upright.

    :raises CrashError: the file is cut short.
    """
    try:
        return ImageOps.exif_transpose(picture)
    except OSError as exc:
        raise CrashError("OSError", "image file is truncated") from exc


def flatten(picture: Image.Image) -> Image.Image:
    """RGB, what is transparent turned to white (option img2img_background_color)."""
    if picture.mode in ("RGBA", "LA", "PA"):
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB")


def resized(picture: Image.Image, size: tuple[int, int], mode: int) -> Image.Image:
    """A1111's resize_mode: 0 and 3 stretch, 1 crops to fill, every other number fits and fills the edges."""
    if picture.size == size:
        return picture
    if mode in (0, 3):
        return picture.resize(size, Image.Resampling.LANCZOS)
    if mode == 1:
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    fitted = ImageOps.contain(picture, size, Image.Resampling.LANCZOS)
    ground = picture.resize(size)
    ground.paste(fitted, ((size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2))
    return ground


def encode(picture: Image.Image, kind: str, text: str) -> bytes:
    """The file's bytes in base64.

    :param kind: option samples_format: png, jpg, jpeg or webp.
    :param text: generation parameters, for the PNG's text chunk or the EXIF comment; may be empty.
    :raises HTTPError: a format that the WebUI cannot send (it finds out after the whole generation).
    """
    kind = kind.lower()
    out = io.BytesIO()
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        if text:
            chunks.add_itxt("parameters", text) if not _is_latin(text) else chunks.add_text("parameters", text)
        picture.save(out, "PNG", pnginfo=chunks, compress_level=PNG_COMPRESSION)
    elif kind in ("jpg", "jpeg", "webp"):
        # With an empty comment where there is no text.
        picture = picture if kind == "webp" else picture.convert("RGB")
        picture.save(out, "WEBP" if kind == "webp" else "JPEG", quality=JPEG_QUALITY, exif=_comment(text))
    else:
        raise HTTPError(500, "Invalid image format")
    return pybase64.b64encode(out.getvalue())


def _is_latin(text: str) -> bool:
    return all(ord(char) < 256 for char in text) and "\0" not in text


def _comment(text: str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text.encode("utf-16-be", "replace")
    return exif.tobytes()


def generation_text(picture: Image.Image) -> str:
    """The text that `encode` wrote, or an empty one."""
    if "parameters" in picture.info:
        return str(picture.info["parameters"])
    comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    return comment[8:].decode("utf-16-be", "replace") if isinstance(comment, bytes) else str(comment)
