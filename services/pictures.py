"""Callers' pictures: from a file's bytes to exactly the pixels that are sent to a WebUI.

A `Picture` keeps the encoded file, since it waits with its job for a free WebUI and its pixels are 10 to 50 times as
many bytes. They are kept only until they have been brought to the size of the generation, and only if there is room.
WebUIs assume sRGB for every picture, so other colours are converted to it here.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from PIL import Image, ImageOps

from sd_client.kept_pixels import KeptPixels
from sd_client.models import ReferencePicture
from sd_client.pixels import fingerprint
from services import exif
from services.colours import in_channels, to_srgb
from services.picture_decoding import ENOUGH, Target, see_whole, suffices
from services.picture_files import read_file
from services.picture_formats import PictureError, PictureFormat, describe
from services.png import encode_png

ResizeMode = Literal["stretch", "crop", "fill"]

#: Of a reference picture for an IP-Adapter, pixels; encoders look at 224 x 224.
_SQUARE_SIDE = 512
#: What is larger is brought to this before it is padded: a very long picture would need the memory of its square.
_LARGE_SQUARE = (2048, 2048)
#: A large JPEG that only shows what the result is to resemble may lose so much of the size that it could have: to be
#: decoded in twice that, and brought to it by Lanczos, would cost as much as all the rest.
_ENOUGH_TO_RESEMBLE = 0.9


@dataclass(kw_only=True, slots=True)
class Picture:
    """A picture that has been decoded once without a fault. Width and height are upright, in pixels.

    `plain`: `data` is an upright RGB PNG or JPEG of one frame without metadata, which may be sent on as it is.
    `has_alpha`: it has an alpha channel, or another way of saying what is transparent.
    `profile`: the ICC profile of its colours.
    `pixels`: the picture decoded and upright, maybe in a smaller size.
    """

    width: int
    height: int
    format: PictureFormat
    data: bytes = field(repr=False)
    plain: bool
    has_alpha: bool
    profile: bytes | None = field(default=None, repr=False)
    pixels: KeptPixels | None = field(default=None, repr=False, compare=False)

    def keep_only(self, fitted: bytes, width: int, height: int) -> None:
        """
        From now on it is a PNG that was made of it for its job, so that a photo does not wait with that. Should a
        WebUI's limits ask for another size, it is made of this one.
        """
        if fitted is self.data:
            return
        self.data, self.width, self.height = fitted, width, height
        self.format, self.plain, self.has_alpha, self.profile, self.pixels = "PNG", True, False, None, None


class Fitted(NamedTuple):
    """
    A picture in the size of the generation.

    :param data: the file to send to a WebUI.
    :param image: the same in RGB; None if it goes on as it came, and is not decoded.
    """

    data: bytes
    image: Image.Image | None


def read_picture(
    data: bytes,
    *,
    max_pixels: int,
    target: Target | None = None,
    enough: float = ENOUGH,
    always_decode: bool = False,
) -> Picture:
    """Decodes the whole picture once, so that a damaged one is found here. Safe to call from many threads.

    :param max_pixels: a larger picture is refused by its header, before anything is decoded.
    :param target: the size that it will probably be brought to; None: its own.
    :param enough: how many times the target's sides a large JPEG keeps.
    :param always_decode: its pixels will be needed even if it has that size.
    :raises PictureError: not PNG, JPEG, WebP or BMP; damaged or cut off; too large; smaller than 16 x 16; transparent
        everywhere; of a high dynamic range that no profile explains.
    """
    file = read_file(data)
    if file.colours.hdr:
        message = "is an HDR picture (PQ or HLG) without a profile for ordinary screens; send it as sRGB"
        raise PictureError(message, received=describe(data))
    seen = see_whole(data, file, max_pixels=max_pixels, target=target, enough=enough, always_decode=always_decode)
    image = seen.image
    has_alpha = image is not None and image.has_transparency_data
    if image is not None and has_alpha and in_channels(image).getchannel("A").getbbox() is None:
        message = "is transparent everywhere and shows nothing; send it without its alpha channel"
        raise PictureError(message, received=describe(data))
    plain = file.plain and exif.orientation(file.exif) == 1 and to_srgb("RGB", file.colours.profile) is None
    return Picture(
        width=seen.width,
        height=seen.height,
        format=file.format,
        data=file.stripped if plain and len(file.stripped) < len(data) else data,
        plain=plain,
        has_alpha=has_alpha,
        profile=file.colours.profile,
        pixels=None if image is None else KeptPixels(image),
    )


def fit(picture: Picture, width: int, height: int, resize_mode: ResizeMode) -> Fitted:
    """The picture in exactly width x height pixels.

    A PNG or JPEG that already is that, in sRGB, goes on byte for byte, metadata aside. Everything else becomes an RGB
    PNG without metadata; WebP and BMP always, because not every WebUI reads them.
    """
    if picture.plain and (picture.width, picture.height) == (width, height):
        image = picture.pixels.take() if picture.pixels else None
        return Fitted(picture.data, image if image is not None and image.size == (width, height) else None)
    image = _pixels(picture, width, height)
    convert = to_srgb(image.mode, picture.profile)
    if convert is not None:  # the size of the generation has fewer pixels than a photo to convert
        image = convert(resample(in_channels(image), width, height, resize_mode))
    image = resample(flatten(image, "white"), width, height, resize_mode)
    return Fitted(encode_png(image), image)


def _pixels(picture: Picture, width: int, height: int, enough: float = ENOUGH) -> Image.Image:
    """Decoded and upright; in a smaller size if that suffices for width x height."""
    image = picture.pixels.take() if picture.pixels else None
    whole = picture.width, picture.height
    if image is not None and (image.size == whole or suffices(image.size, (width, height), enough)):
        return image
    file = read_file(picture.data)
    seen = see_whole(
        picture.data,
        file,
        max_pixels=picture.width * picture.height,
        target=lambda *_: (width, height),
        enough=enough,
        always_decode=True,
    )
    assert seen.image is not None
    return seen.image


def read_reference(data: bytes, *, max_pixels: int, size: tuple[int, int] | None) -> Picture:
    """
    As :func:`read_picture`.

    :param size: of the generation, in which it is probably used; None: for an adapter, by which most are used.
    """
    most = size or (_SQUARE_SIDE, _SQUARE_SIDE)
    return read_picture(
        data,
        max_pixels=max_pixels,
        target=lambda width, height: _within(width, height, *most),
        enough=_ENOUGH_TO_RESEMBLE,
        always_decode=True,
    )


def square_reference(picture: Picture) -> ReferencePicture:
    """
    An RGB PNG for an IP-Adapter: all of the picture on white, a square, never enlarged. Some WebUIs squash what they
    get to a square and others cut its middle out; a square is the same for all.
    """
    image = _shrunk(picture, *_LARGE_SQUARE, used=(_SQUARE_SIDE, _SQUARE_SIDE))
    side = max(image.size)
    # Padded before it is brought to its size, so that a caller's own padding makes no difference.
    square = _on_white(image, side, side)
    if side > _SQUARE_SIDE:
        square = square.resize((_SQUARE_SIDE, _SQUARE_SIDE), Image.Resampling.LANCZOS)
    return _reference_picture(square)


def fitted_reference(picture: Picture, width: int, height: int) -> ReferencePicture:
    """An RGB PNG of exactly width x height pixels: all of the picture on white, never enlarged."""
    return _reference_picture(_on_white(_shrunk(picture, width, height), width, height))


def _reference_picture(image: Image.Image) -> ReferencePicture:
    return ReferencePicture(file=encode_png(image), size=image.size, fingerprint=fingerprint(image))


def _shrunk(picture: Picture, width: int, height: int, *, used: tuple[int, int] | None = None) -> Image.Image:
    """
    Upright, in sRGB, transparent parts over white; no larger than width x height, and a large JPEG maybe a tenth less.

    :param used: what it will fit into in the end; None: width x height.
    """
    image = _pixels(picture, *_within(picture.width, picture.height, *(used or (width, height))), _ENOUGH_TO_RESEMBLE)
    size = _within(image.width, image.height, width, height)
    convert = to_srgb(image.mode, picture.profile)
    if convert is not None:
        image = convert(resample(in_channels(image), *size, "stretch"))
    return resample(flatten(image, "white"), *size, "stretch")


def _within(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """Of the same shape, never larger."""
    scale = min(1.0, most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


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
