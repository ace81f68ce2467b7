"""The limits of servers that silently change what they cannot paint, learned from their pictures.

stable-diffusion.cpp's server and KoboldCpp round sizes to what their model needs (multiples of 64 for UNets, of 8 or 16
for the others), KoboldCpp makes large ones smaller, and clamps steps and guidance of some models. Nothing reports
which model it is. So a size is requested until it has been seen to come back as another one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_HEAD_BYTES = 24

#: Steps of sizes that models need, pixels; each is a multiple of those before it.
SIZE_STEPS = (8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    None: there is no limit, or none has been met yet.

    :param size_step: widths and heights that are no multiple of this cannot be painted, pixels.
    :param sure_size_step: those that are multiples of this can be; more than ``size_step`` as long as it is not known
        what the model needs.
    :param too_many_pixels: so many (width x height) came back as fewer.
    :param most_pixels: the most that were painted then.
    :param most_steps: and ``most_cfg_scale``: larger values are painted as these.
    :param most_prompt_bytes: of a prompt, and of a negative one, in UTF-8: longer ones are cut.
    """

    size_step: int = SIZE_STEPS[0]
    sure_size_step: int = SIZE_STEPS[0]
    too_many_pixels: int | None = None
    most_pixels: int | None = None
    most_steps: int | None = None
    most_cfg_scale: float | None = None
    most_prompt_bytes: int | None = None

    def allow(self, *, width: int, height: int, steps: int, cfg_scale: float) -> bool:
        return (
            width % self.size_step == 0
            and height % self.size_step == 0
            and self.allow_pixels(width * height)
            and self.allow_steps(steps)
            and self.allow_cfg_scale(cfg_scale)
        )

    def allow_pixels(self, pixels: int) -> bool:
        return self.too_many_pixels is None or pixels < self.too_many_pixels

    def allow_steps(self, steps: int) -> bool:
        return self.most_steps is None or steps <= self.most_steps

    def allow_cfg_scale(self, cfg_scale: float) -> bool:
        return self.most_cfg_scale is None or cfg_scale <= self.most_cfg_scale

    def allow_prompt(self, prompt: str) -> bool:
        return self.most_prompt_bytes is None or len(prompt.encode()) <= self.most_prompt_bytes


#: A1111's and its like: multiples of 8.
NO_LIMITS = Limits()


def after_painting(limits: Limits, *, asked: tuple[int, int], painted: tuple[int, int]) -> Limits | None:
    """
    The limits as they are known after a picture of one size was asked for and one of another, or the same, came.

    :param asked: width and height in pixels, as ``painted``.
    :returns: None if no limit explains it.
    """
    if painted == asked:
        return _after_exact(limits, asked)
    step = _rounded_to(asked, painted)
    if step is not None:
        return replace(limits, size_step=max(limits.size_step, step), sure_size_step=max(limits.sure_size_step, step))
    if _is_smaller_copy(asked, painted):
        pixels, most = asked[0] * asked[1], painted[0] * painted[1]
        return replace(
            limits,
            too_many_pixels=min(pixels, limits.too_many_pixels or pixels),
            most_pixels=max(most, limits.most_pixels or 0),
        )
    return None


def png_size(file: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, from the header alone; None for another format."""
    head = file[:_PNG_HEAD_BYTES]
    if len(head) < _PNG_HEAD_BYTES or not head.startswith(_PNG):
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _after_exact(limits: Limits, asked: tuple[int, int]) -> Limits:
    step = max(step for step in SIZE_STEPS if asked[0] % step == 0 and asked[1] % step == 0)
    pixels = asked[0] * asked[1]
    return replace(
        limits,
        size_step=min(limits.size_step, step),
        sure_size_step=min(limits.sure_size_step, step),
        most_pixels=None if limits.most_pixels is None else max(limits.most_pixels, pixels),
    )


def _rounded_to(asked: tuple[int, int], painted: tuple[int, int]) -> int | None:
    """The smallest step that explains it, in whichever direction it was rounded."""
    for step in SIZE_STEPS[1:]:
        if all(got % step == 0 and abs(got - want) < step for want, got in zip(asked, painted, strict=True)):
            return step
    return None


def _is_smaller_copy(asked: tuple[int, int], painted: tuple[int, int]) -> bool:
    """Whether it has about the same shape, but for rounding, and fewer pixels."""
    (width, height), (across, down) = asked, painted
    if min(painted) < SIZE_STEPS[-1] or across > width or down > height:
        return False
    rounding = SIZE_STEPS[-1] * (1 / width + 1 / height)
    return abs(across / width - down / height) <= rounding
