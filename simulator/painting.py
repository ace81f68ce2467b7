"""A job's pictures: what img2img starts from, and how a scene is painted over it. Needs Pillow, as all it imports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from simulator import inpainting
from simulator.controlnet import Tint
from simulator.errors import CrashError
from simulator.hires import SecondPass
from simulator.inpainting import Canvas, MaskSettings
from simulator.jobs import Job
from simulator.painter import Scene, paint, stamp
from simulator.pictures import decode, encode, flatten, read, resized


@dataclass(frozen=True, kw_only=True)
class Source:
    """What img2img starts from. The pictures are opened but not read yet; `key` stands for their bytes."""

    pictures: tuple[Image.Image, ...]
    mask: Image.Image | None
    settings: MaskSettings
    resize_mode: int
    key: str


def source_of(fields: Mapping[str, Any], mask: Image.Image | None) -> Source:
    """Open the pictures of an img2img.

    :raises SimulatedError: one cannot be decoded.
    """
    if fields["mask"] == "":
        # An empty text is not decoded but still taken for a picture.
        raise CrashError("AttributeError", "'str' object has no attribute 'mode'")
    pictures = tuple(decode(text) for text in fields["init_images"])
    blur = fields["mask_blur"]
    settings = MaskSettings(
        blur_x=(fields["mask_blur_x"] or 0) if blur is None else blur,
        blur_y=(fields["mask_blur_y"] or 0) if blur is None else blur,
        fill=fields["inpainting_fill"] or 0,
        full_res=bool(fields["inpaint_full_res"]),
        padding=fields["inpaint_full_res_padding"] or 0,
        invert=bool(fields["inpainting_mask_invert"]),
    )
    mode = fields["resize_mode"] or 0
    key = hashlib.sha256(repr((fields["init_images"], fields["mask"], settings, mode)).encode()).hexdigest()
    return Source(pictures=pictures, mask=mask, settings=settings, resize_mode=mode, key=key)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job whose pictures have been read: ready to be painted, image by image."""

    job: Job
    model: str
    words: str
    """The prompt without tags, and what those do."""
    second: SecondPass | None = None
    key: str = ""
    """Stands for the pictures that it starts from."""
    starts: tuple[Image.Image, ...] = ()
    """Plain img2img: one for every image of a round."""
    canvases: tuple[Canvas, ...] = ()
    """Inpainting: one for every image of a round."""
    tints: tuple[Tint, ...] = ()
    """The colours of reference pictures."""

    def scene(self, index: int) -> Scene:
        """What image number `index` shows."""
        job, second = self.job, self.second
        size = second.size if second else job.size
        return Scene(
            prompt=f"{self.words} {second.effect}" if second else self.words,
            negative_prompt=job.negative_prompt,
            seed=job.seeds[index],
            steps=job.steps,
            cfg_scale=job.cfg_scale,
            sampler=f"{job.sampling.sampler} {job.sampling.schedule or ''}",
            model=self.model,
            width=size[0],
            height=size[1],
        )

    def paint(self, index: int, done: float) -> Image.Image:
        """Image number `index`, or what it is like when only the share `done` has been sampled."""
        scene = self.scene(index)
        strength = min(1.0, self.job.strength or 0.0)
        place = index % self.job.batch_size
        if self.canvases:
            return self._inpaint(self.canvases[place], scene, done, strength)
        if not self.starts:
            return self._painted(scene, done, stamped=True)
        picture = Image.blend(self.starts[place], self._painted(scene, done), strength)
        if strength > 0:
            stamp(picture, (0, 0, *picture.size))
        return picture

    def _painted(self, scene: Scene, done: float, *, stamped: bool = False) -> Image.Image:
        """The scene in the colours of the reference pictures."""
        if not self.tints:
            return paint(scene, done=done, stamped=stamped)
        picture = paint(scene, done=done, stamped=False)
        for colour, share in self.tints:
            picture = Image.blend(picture, Image.new("RGB", picture.size, colour), share)
        if stamped:
            stamp(picture, (0, 0, *picture.size))
        return picture

    def _inpaint(self, canvas: Canvas, scene: Scene, done: float, strength: float) -> Image.Image:
        start = canvas.start((scene.width, scene.height))
        picture = canvas.finish(Image.blend(start, self._painted(scene, done), strength))
        box = canvas.repainted.getbbox()
        if box and strength > 0:
            stamp(picture, box, within=canvas.repainted)
        return picture

    def behind(self, index: int, done: float, name: str) -> Image.Image:
        """The "mask" of an inpainting in RGB, or its "composite": what was repainted, on a transparent ground."""
        mask = self.canvases[index % self.job.batch_size].repainted
        if name == "mask":
            return mask.convert("RGB")
        picture = self.paint(index, done).convert("RGBA")
        return Image.composite(picture, Image.new("RGBA", picture.size), mask)


def prepare(job: Job, source: Source | None, model: str, *, words: str, second: SecondPass | None) -> Prepared:
    """Read the pictures and the mask.

    :param words: what the prompt comes to, see `networks.Loaded`.
    :raises CrashError: there are none, too many, or one is cut short.
    """
    if source is None:
        return Prepared(job=job, model=model, words=words, second=second)
    if not source.pictures:
        text = "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [0]"
        raise CrashError("RuntimeError", text)
    originals = [flatten(read(picture)) for picture in source.pictures]
    if len(originals) == 1:
        originals *= job.batch_size
    elif len(originals) > job.batch_size:
        text = f"bad number of images passed: {len(originals)}; expecting {job.batch_size} or less"
        raise CrashError("RuntimeError", text)
    prepared = partial(Prepared, job=job, model=model, words=words, key=f"{source.key} {job.strength}")
    if source.mask is not None:
        mask = inpainting.prepared_mask(read(source.mask), source.settings)
        if not (source.settings.full_res and inpainting.is_empty(mask)):
            canvas = partial(inpainting.canvas, mask=mask, settings=source.settings, size=job.size)
            return prepared(canvases=tuple(canvas(one, mode=source.resize_mode) for one in originals))
    return prepared(starts=tuple(resized(one, job.size, source.resize_mode) for one in originals))


def encoded(prepared: Prepared, index: int, done: float, kind: str, text: str) -> bytes:
    """Image number `index` as a file in base64; see `pictures.encode`."""
    return encode(prepared.paint(index, done), kind, text)
