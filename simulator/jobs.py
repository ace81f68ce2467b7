"""A generation request after its fields were read, and how it becomes pictures."""

from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from simulator import inpainting
from simulator.errors import CrashError
from simulator.inpainting import Canvas, MaskSettings
from simulator.painter import Scene, paint, stamp
from simulator.pictures import flatten, read, resized
from simulator.samplers import Sampling

PREVIEW_SCALE = 4
MAX_PIXELS = 1 << 28  # 16384 squared, or 1024 images of 512x512: beyond it the pretended memory ends.
MAX_SEED = (1 << 64) - 1
MIN_SEED = -(1 << 63)


@dataclass(frozen=True, kw_only=True)
class Hires:
    """The second pass of txt2img; `width` and `height` of 0 leave the size to `scale`."""

    scale: float
    upscaler: str
    steps: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """What img2img starts from. The pictures are opened but not read yet; `key` stands for their bytes."""

    pictures: tuple[Image.Image, ...]
    mask: Image.Image | None
    settings: MaskSettings
    resize_mode: int
    key: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request. Sizes in pixels as they were asked for, not as they come out."""

    name: str
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    subseed_strength: float
    seed_resize: tuple[int, int]
    sampling: Sampling
    steps: int
    cfg_scale: float
    width: int
    height: int
    batch_size: int
    n_iter: int
    restore_faces: bool
    tiling: bool
    denoising_strength: float | None
    styles: tuple[str, ...]
    override_settings: dict[str, Any]
    restore_afterwards: bool
    save_images: bool
    hires: Hires | None = None
    source: Source | None = None

    @property
    def size(self) -> tuple[int, int]:
        """The first pass as it is painted: floored to a multiple of 8."""
        return (self.width // 8 * 8, self.height // 8 * 8)

    @property
    def final_size(self) -> tuple[int, int]:
        """After the second pass, if there is one."""
        if self.hires is None:
            return self.size
        if self.hires.width or self.hires.height:
            wide = self.hires.width or self.hires.height * self.width // self.height
            tall = self.hires.height or self.hires.width * self.height // self.width
            return (wide // 8 * 8, tall // 8 * 8)
        return (int(self.width * self.hires.scale) // 8 * 8, int(self.height * self.hires.scale) // 8 * 8)

    @property
    def sampling_steps(self) -> int:
        """The steps that are really done."""
        if self.source is None or self.denoising_strength is None:
            return self.steps
        return int(min(self.denoising_strength, 0.999) * self.steps) + 1

    @property
    def seeds(self) -> list[int]:
        """One for every image."""
        count = self.batch_size * self.n_iter
        return [self.seed + (index if self.subseed_strength == 0 else 0) for index in range(count)]

    @property
    def subseeds(self) -> list[int]:
        """One for every image."""
        return [self.subseed + index for index in range(self.batch_size * self.n_iter)]


def check(job: Job) -> None:
    """Fail where and as the WebUI fails: nothing is validated there, it just breaks.

    :raises CrashError: always a 500.
    """
    if job.steps == 0:
        raise CrashError("ZeroDivisionError", "integer division or modulo by zero")
    if job.steps < 0:
        raise CrashError("RuntimeError", "number of steps must be non-negative")
    if job.batch_size < 1 or job.n_iter < 1:
        raise CrashError("IndexError", "list index out of range")
    if not MIN_SEED <= job.seed <= MAX_SEED:
        raise CrashError("ValueError", "Overflow when unpacking long long")
    try:
        job.prompt.encode()
    except UnicodeEncodeError as exc:
        raise CrashError("UnicodeEncodeError", str(exc)) from exc
    _check_size(job)
    if job.source is not None and (job.denoising_strength or 0) < 0:
        raise CrashError("IndexError", "index 0 is out of bounds for dimension 0 with size 0")
    if job.cfg_scale != job.cfg_scale or abs(job.cfg_scale) == float("inf"):
        where = "VAE" if job.cfg_scale == job.cfg_scale else "Unet"
        flag = "Use --disable-nan-check commandline argument to disable this check."
        raise CrashError("NansException", f"A tensor with NaNs was produced in {where}. {flag}")


def _check_size(job: Job) -> None:
    across, down = job.width // 8, job.height // 8
    if job.source is not None and (job.width <= 0 or job.height <= 0):
        raise CrashError("ValueError", "height and width must be > 0")
    if across < 0 or down < 0:
        text = f"Trying to create tensor with negative dimension {min(across, down)}: [4, {down}, {across}]"
        raise CrashError("RuntimeError", text)
    if across == 0 or down == 0:
        text = f"Calculated padded input size per channel: ({down + 2} x {across + 2}). Kernel size: (3 x 3). "
        raise CrashError("RuntimeError", text + "Kernel size can't be greater than actual input size")
    if across * down * 16 >= 1 << 63:
        text = f"Storage size calculation overflowed with sizes=[4, {down}, {across}]"
        raise CrashError("RuntimeError", text)
    if min(job.final_size) < 8:
        raise CrashError("RuntimeError", "Input and output sizes should be greater than 0")
    # Every image of a batch is in memory at once, and so are all results.
    pixels = job.final_size[0] * job.final_size[1] * job.batch_size * job.n_iter
    if pixels > MAX_PIXELS:
        text = f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {pixels // 4} bytes. "
        text += "Error code 12 (Cannot allocate memory)"
        raise CrashError("RuntimeError", f"[enforce fail at alloc_cpu.cpp:127] err == 0. {text}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job whose pictures have been read: ready to be painted, image by image."""

    job: Job
    model: str
    starts: tuple[Image.Image, ...] = ()
    """Plain img2img: one for every image of a round."""
    canvases: tuple[Canvas, ...] = ()
    """Inpainting: one for every image of a round."""

    def scene(self, index: int) -> Scene:
        """What image number `index` shows."""
        job = self.job
        strength = job.subseed_strength
        return Scene(
            prompt=job.prompt,
            negative_prompt=job.negative_prompt,
            seed=job.seeds[index],
            steps=job.steps,
            cfg_scale=job.cfg_scale,
            sampler=f"{job.sampling.sampler} {job.sampling.schedule or ''}",
            model=self.model,
            width=job.final_size[0],
            height=job.final_size[1],
            variation=(job.subseeds[index], strength) if strength else None,
        )

    def paint(self, index: int, done: float) -> Image.Image:
        """Image number `index`, or what it is like when only the share `done` has been sampled."""
        scene = self.scene(index)
        strength = min(1.0, self.job.denoising_strength or 0.0)
        place = index % self.job.batch_size
        if self.canvases:
            return self._inpaint(self.canvases[place], scene, done, strength)
        if not self.starts:
            return paint(scene, done=done)
        picture = Image.blend(self.starts[place], paint(scene, done=done, stamped=False), strength)
        if strength > 0:
            stamp(picture, (0, 0, *picture.size))
        return picture

    def _inpaint(self, canvas: Canvas, scene: Scene, done: float, strength: float) -> Image.Image:
        start = canvas.start((scene.width, scene.height))
        painted = Image.blend(start, paint(scene, done=done, stamped=False), strength)
        picture = canvas.finish(painted)
        repainted = canvas.repainted
        box = repainted.getbbox()
        if box and strength > 0:
            stamp(picture, box, within=repainted)
        return picture

    def preview(self, index: int, done: float) -> Image.Image:
        """A quarter of the size, as the live preview is."""
        scene = self.scene(index)
        small = replace(scene, width=max(8, scene.width // PREVIEW_SCALE), height=max(8, scene.height // PREVIEW_SCALE))
        return paint(small, done=done, stamped=False)


def prepare(job: Job, model: str) -> Prepared:
    """Read the pictures and the mask.

    :raises CrashError: there are none, too many, or one is cut short.
    """
    source = job.source
    if source is None:
        return Prepared(job=job, model=model)
    if not source.pictures:
        text = "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [0]"
        raise CrashError("RuntimeError", text)
    originals = [flatten(read(picture)) for picture in source.pictures]
    if len(originals) == 1:
        originals *= job.batch_size
    elif len(originals) > job.batch_size:
        text = f"bad number of images passed: {len(originals)}; expecting {job.batch_size} or less"
        raise CrashError("RuntimeError", text)
    if source.mask is not None:
        mask = inpainting.prepared_mask(read(source.mask), source.settings)
        if not (source.settings.full_res and inpainting.is_empty(mask)):
            canvases = (
                inpainting.canvas(one, mask, source.settings, job.size, source.resize_mode) for one in originals
            )
            return Prepared(job=job, model=model, canvases=tuple(canvases))
    starts = tuple(resized(one, job.size, source.resize_mode) for one in originals)
    return Prepared(job=job, model=model, starts=starts)
