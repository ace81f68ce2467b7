"""What a job asks of its mask, and the same for a WebUI that repaints what a mask shows and knows no other option.

stable-diffusion.cpp's server and KoboldCpp read neither the area, its padding nor the fill. So the service cuts out the
area, fills under the mask, and lays what was painted over the picture again (:func:`services.overlay.keep_unmasked`).
The fills "noise" and "nothing" are put into a model's latent space, which only the WebUI has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from PIL import Image, ImageFilter, ImageOps, ImageStat

from sd_client.kept_pixels import KeptPixels
from sd_client.models import Box, Inpainting, PlainInpainting
from services.generation_request import GenerationRequest
from services.masks import Mask, MaskLostError, fit_mask
from services.overlay import around, reach_of
from services.picture_decoding import decode_upright
from services.picture_formats import PictureError
from services.pictures import Fitted, flatten
from services.png import encode_png
from services.problems import InvalidParamsError, Problem
from services.webui_limits import LATENT_FILLS

#: Pixels over which the surroundings are spread under the mask, the farthest first: near its edge the nearest count.
_SPREADS: Final = (256, 64, 16, 4)


def requested_inpainting(request: GenerationRequest, mask: Mask, fitted: Fitted, width: int, height: int) -> Inpainting:
    """
    The request's mask in the size of the generation, and what is asked of it.

    :param fitted: the request's picture in that size.

    :raises InvalidParamsError: nothing would be repainted, or it is not clear what.
    """
    try:
        repainted = fit_mask(mask, width, height, request.resize_mode)
    except MaskLostError as error:
        raise InvalidParamsError([_lost(error, request)]) from error
    except PictureError as error:
        raise InvalidParamsError([Problem(field="mask", message=error.message, received=error.received)]) from error
    return Inpainting(
        mask=encode_png(repainted),
        mask_pixels=KeptPixels(repainted),
        picture_pixels=None if fitted.image is None else KeptPixels(fitted.image),
        mask_blur=request.mask_blur,
        area=request.inpaint_area,
        padding=request.inpaint_padding,
        fill=request.inpaint_fill,
    )


def _lost(error: MaskLostError, request: GenerationRequest) -> Problem:
    """Names the field that caused it, or the mask if the service chose the size."""
    if error.by_crop:
        return Problem(field="resize_mode", message=error.message, received=request.resize_mode)
    for side in ("width", "height"):
        if (pixels := getattr(request, side)) is not None:
            return Problem(field=side, message=error.message, received=pixels)
    return Problem(field="mask", message=error.message, received=error.received)


def with_plain_form(inpainting: Inpainting, picture: bytes) -> Inpainting:
    """
    The same with a form that WebUIs without these options can carry out, where there is one.

    :param picture: the whole init image, as large as the mask.
    """
    if inpainting.fill in LATENT_FILLS or inpainting.is_plain():
        return inpainting
    pixels, mask_pixels = inpainting.picture_pixels, inpainting.mask_pixels
    image = (pixels and pixels.image) or flatten(decode_upright(picture), "white")
    mask = (mask_pixels and mask_pixels.image) or decode_upright(inpainting.mask)
    if inpainting.fill == "fill":
        image = filled(image, mask)
    box = None
    if inpainting.area == "masked":
        box = area_box(mask, margin=inpainting.padding + reach_of(inpainting.mask_blur))
        size = image.size
        image = image.crop(box).resize(size, Image.Resampling.LANCZOS)
        mask = mask.crop(box).resize(size, Image.Resampling.LANCZOS).point(lambda value: 255 if value >= 128 else 0)
    plain = PlainInpainting(init_image=encode_png(image), mask=encode_png(mask), box=box)
    return replace(inpainting, plain=plain)


def area_box(mask: Image.Image, *, margin: int) -> Box:
    """
    Around the mask's white, larger by the margin, and grown to the picture's own shape, since that is painted.

    :param mask: with some white.
    """
    left, top, right, bottom = around(mask, margin)
    scale = max((right - left) / mask.width, (bottom - top) / mask.height)
    across, down = (max(1, round(side * scale)) for side in mask.size)
    x = min(max(0, (left + right - across) // 2), mask.width - across)
    y = min(max(0, (top + bottom - down) // 2), mask.height - down)
    return x, y, x + across, y + down


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """What the mask covers is made of its surroundings' colours, as A1111 begins with for "fill"."""
    kept = image.convert("RGBA")
    kept.putalpha(ImageOps.invert(mask))
    ground = Image.new("RGB", image.size, _mean(image, ImageOps.invert(mask)))
    surroundings = kept.convert("RGBa")  # weighed: what is under the mask has no weight
    for spread in _SPREADS:
        blurred = surroundings.filter(ImageFilter.GaussianBlur(spread)).convert("RGBA")
        ground.paste(blurred, mask=blurred)
    return Image.composite(ground, image, mask)


def _mean(image: Image.Image, where: Image.Image) -> tuple[int, ...]:
    """Of the whole picture where nothing is kept."""
    return tuple(round(value) for value in ImageStat.Stat(image, where if where.getbbox() else None).mean)
