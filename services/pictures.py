"""Callers' pictures: from a file's bytes to exactly the pixels that are sent to a WebUI.

A `Picture` keeps the encoded file and not its pixels, which are 10 to 50 times as many bytes, since it waits with
its job for a free WebUI. WebUIs assume sRGB for every picture, so other colours are converted to it here.
"""

from dataclasses import dataclass, field
from typing import Literal

from PIL import Image, ImageOps

from services import exif
from services.colours import in_channels, to_srgb
from services.picture_decoding import decode, see_whole, upright, upright_size
from services.picture_files import read_file
from services.picture_formats import PictureError, PictureFormat, describe
from services.png import encode_png

ResizeMode = Literal["stretch", "crop", "fill"]

#: Of a reference picture for an IP-Adapter, pixels; encoders look at 224 x 224.
_SQUARE_SIDE = 512
#: What is larger is brought to this before it is padded: a very long picture would need the memory of its square.
_LARGE_SQUARE = (2048, 2048)


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture that has been decoded once without a fault. Width and height are upright, in pixels.

    `plain`: `data` is an upright RGB PNG or JPEG of one frame without metadata, which may be sent on as it is.
    `has_alpha`: it has an alpha channel, or another way of saying what is transparent.
    """

    width: int
    height: int
    format: PictureFormat
    data: bytes = field(repr=False)
    plain: bool
    has_alpha: bool


def read_picture(data: bytes, *, max_pixels: int) -> Picture:
    """Decodes the whole picture once, so that a damaged one is found here. Safe to call from many threads.

    :param max_pixels: a larger picture is refused by its header, before anything is decoded.
    :raises PictureError: not PNG, JPEG, WebP or BMP; damaged or cut off; too large; smaller than 16 x 16; transparent
        everywhere; of a high dynamic range that no profile explains.
    """
    file = read_file(data)
    if file.colours.hdr:
        message = "is an HDR picture (PQ or HLG) without a profile for ordinary screens; send it as sRGB"
        raise PictureError(message, received=describe(data))
    size, image = see_whole(data, file, max_pixels=max_pixels)
    has_alpha = image is not None and image.has_transparency_data
    if image is not None and has_alpha and in_channels(image).getchannel("A").getbbox() is None:
        message = "is transparent everywhere and shows nothing; send it without its alpha channel"
        raise PictureError(message, received=describe(data))
    width, height = upright_size(size, file)
    plain = file.plain and exif.orientation(file.exif) == 1 and to_srgb("RGB", file.colours.profile) is None
    return Picture(
        width=width,
        height=height,
        format=file.format,
        data=file.stripped if plain and len(file.stripped) < len(data) else data,
        plain=plain,
        has_alpha=has_alpha,
    )


def fit(picture: Picture, width: int, height: int, resize_mode: ResizeMode) -> bytes:
    """The file to send to a WebUI: exactly width x height pixels.

    A PNG or JPEG that already is that, in sRGB, goes on byte for byte, metadata aside. Everything else becomes an RGB
    PNG without metadata; WebP and BMP always, because not every WebUI reads them.
    """
    if picture.plain and (picture.width, picture.height) == (width, height):
        return picture.data
    data = picture.data
    file = read_file(data)
    image = upright(decode(data, file, max_pixels=None), file)
    convert = to_srgb(image.mode, file.colours.profile)
    if convert is not None:  # the size of the generation has fewer pixels than a photo to convert
        image = convert(resample(in_channels(image), width, height, resize_mode))
    return encode_png(resample(flatten(image, "white"), width, height, resize_mode))


def square_reference(picture: Picture) -> bytes:
    """
    An RGB PNG for an IP-Adapter: all of the picture on white, a square, never enlarged. Some WebUIs squash what they
    get to a square and others cut its middle out; a square is the same for all.
    """
    image = _shrunk(picture, *_LARGE_SQUARE)
    side = max(image.size)
    # Padded before it is brought to its size, so that a caller's own padding makes no difference.
    square = _on_white(image, side, side)
    if side > _SQUARE_SIDE:
        square = square.resize((_SQUARE_SIDE, _SQUARE_SIDE), Image.Resampling.LANCZOS)
    return encode_png(square)


def fitted_reference(picture: Picture, width: int, height: int) -> bytes:
    """An RGB PNG of exactly width x height pixels: all of the picture on white, never enlarged."""
    return encode_png(_on_white(_shrunk(picture, width, height), width, height))


def _shrunk(picture: Picture, width: int, height: int) -> Image.Image:
    """Upright, in sRGB, transparent parts over white; no larger than width x height."""
    file = read_file(picture.data)
    image = upright(decode(picture.data, file, max_pixels=None), file)
    scale = min(1.0, width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    convert = to_srgb(image.mode, file.colours.profile)
    if convert is not None:
        image = convert(resample(in_channels(image), *size, "stretch"))
    return resample(flatten(image, "white"), *size, "stretch")


def _on_white(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    ground = Image.new("RGB", (width, height), "white")
    ground.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return ground


def flatten(image: Image.Image, background: str) -> Image.Image:
    """Any mode to RGB, transparent parts over the background. 16-bit grey keeps its upper 8 bits."""
    image = in_channels(image)
    if image.mode not in ("LA", "RGBA"):
        return image if image.mode == "RGB" else image.convert("RGB")
    pixels = image if image.mode == "RGBA" else image.convert("RGBA")
    base = Image.new("RGB", pixels.size, background)
    base.paste(pixels, mask=pixels)
    return base


def resample(image: Image.Image, width: int, height: int, resize_mode: ResizeMode) -> Image.Image:
    """To exactly width x height (Lanczos): stretched; cut to fill, centred; or fitted in and filled from its edges."""
    if image.size == (width, height):
        return image
    match resize_mode:
        case "stretch":
            return image.resize((width, height), Image.Resampling.LANCZOS)
        case "crop":
            return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        case "fill":
            return _fill(image, width, height)


def _fill(image: Image.Image, width: int, height: int) -> Image.Image:
    """As A1111's resize mode 2: the outermost row or column of the fitted picture is drawn out to the border."""
    scale = min(width / image.width, height / image.height)
    inner_width = min(width, max(1, round(image.width * scale)))
    inner_height = min(height, max(1, round(image.height * scale)))
    inner = image.resize((inner_width, inner_height), Image.Resampling.LANCZOS)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    # One of the two is the full size, so there are at most two strips: above and below, or left and right.
    strips = [
        ((0, 0, inner_width, 1), (0, 0, width, top)),
        ((0, inner_height - 1, inner_width, inner_height), (0, top + inner_height, width, height)),
        ((0, 0, 1, inner_height), (0, 0, left, height)),
        ((inner_width - 1, 0, inner_width, inner_height), (left + inner_width, 0, width, height)),
    ]
    filled = Image.new(image.mode, (width, height))
    for edge, (x0, y0, x1, y1) in strips:
        if x1 > x0 and y1 > y0:
            filled.paste(inner.crop(edge).resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST), (x0, y0))
    filled.paste(inner, (left, top))
    return filled
