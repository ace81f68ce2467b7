"""Masks as A1111 1.10 reads them, and what they keep."""

from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageOps

from simulator.pictures import resized

FILL_BLUR = 0.12  # Share of the shorter side: "fill" spreads the surroundings' colours.
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """The request's inpainting fields under A1111's names; `padding` and blurs in pixels."""

    blur_x: int
    blur_y: int
    fill: int
    full_res: bool
    padding: int
    invert: bool


def prepared_mask(mask: Image.Image, settings: MaskSettings) -> Image.Image:
    """Made grey, inverted and blurred, in that order."""
    grey = mask.convert("L")
    if settings.invert:
        grey = ImageOps.invert(grey)
    if settings.blur_x > 0 or settings.blur_y > 0:
        grey = grey.filter(ImageFilter.GaussianBlur((max(0, settings.blur_x), max(0, settings.blur_y))))
    return grey


def crop_box(mask: Image.Image, settings: MaskSettings, size: tuple[int, int]) -> Box | None:
    """The "only masked" area in the mask's coordinates, grown to the shape of `size` where there is room.

    :returns: None for a mask without a white pixel.
    """
    box = mask.getbbox()
    if box is None:
        return None
    pad = settings.padding
    left, top, right, bottom = box
    left, top = max(0, left - pad), max(0, top - pad)
    right, bottom = min(mask.width, right + pad), min(mask.height, bottom + pad)
    wide, tall = right - left, bottom - top
    if wide * size[1] < tall * size[0]:
        left, right = _grown(left, right, min(mask.width, tall * size[0] // size[1]), mask.width)
    else:
        top, bottom = _grown(top, bottom, min(mask.height, wide * size[1] // size[0]), mask.height)
    return (left, top, right, bottom)


def _grown(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    length = max(length, end - start)
    start = max(0, min(limit - length, start - (length - (end - start)) // 2))
    return (start, start + length)


def overlay_mask(mask: Image.Image, settings: MaskSettings) -> Image.Image:
    """Where the result shows: 0 keeps the original exactly, 255 takes the painting."""
    if settings.full_res:
        return mask
    # The whole-picture mode doubles the blurred mask, so that the blur only reaches outwards.
    return mask.point([min(255, value * 2) for value in range(256)])


def filled(picture: Image.Image, mask: Image.Image, fill: int) -> Image.Image:
    """What the sampling starts from under the mask: 0 fill, 1 original, 2 noise, 3 nothing."""
    if fill == 1:
        return picture
    if fill == 0:
        radius = max(2, int(min(picture.size) * FILL_BLUR))
        start = picture.filter(ImageFilter.BoxBlur(radius))
    else:
        start = Image.new("RGB", picture.size, (127, 127, 127))
    return Image.composite(start, picture, mask)


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """One init image made ready: what to paint on, and how the result is put back."""

    original: Image.Image
    mask: Image.Image
    settings: MaskSettings
    box: Box | None
    """The area that is painted on its own, or None for the whole picture."""

    def start(self, size: tuple[int, int]) -> Image.Image:
        """What the painting is laid over, in the working size."""
        picture, mask = self.original, self.mask
        if self.box:
            picture, mask = picture.crop(self.box), mask.crop(self.box)
        return filled(picture.resize(size, Image.Resampling.LANCZOS), mask.resize(size), self.settings.fill)

    def finish(self, painted: Image.Image) -> Image.Image:
        """The painting under the mask, everything else as it was, pixel for pixel."""
        whole = self.original.copy()
        if self.box:
            left, top, right, bottom = self.box
            whole.paste(painted.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
        else:
            whole = painted
        return Image.composite(whole, self.original, overlay_mask(self.mask, self.settings))

    @property
    def repainted(self) -> Image.Image:
        """255 where nothing of the original is left."""
        return overlay_mask(self.mask, self.settings)


def canvas(picture: Image.Image, mask: Image.Image, settings: MaskSettings, size: tuple[int, int], mode: int) -> Canvas:
    """Prepare an init image and its already prepared mask for a working size, in pixels."""
    if not settings.full_res:
        return Canvas(
            original=resized(picture, size, mode), mask=resized(mask, size, mode), settings=settings, box=None
        )
    mask = mask.resize(picture.size)
    return Canvas(original=picture, mask=mask, settings=settings, box=crop_box(mask, settings, size))


def is_empty(mask: Image.Image) -> bool:
    """Whether a prepared mask repaints nothing."""
    return ImageChops.invert(mask).getextrema() == (255, 255)
