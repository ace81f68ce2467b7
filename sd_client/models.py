"""Values that pass between the service and its WebUIs. All frozen; none knows HTTP."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sd_client.kept_pixels import KeptPixels
from sd_client.limits import NO_LIMITS, Limits

#: stable-diffusion.cpp's server and KoboldCpp report this instead of a checkpoint's hash.
DUMMY_HASH = "8888888888"

#: Left, top, right and bottom in pixels, the last two beyond it.
Box = tuple[int, int, int, int]

_EXTENSION = re.compile(r"\.(safetensors|ckpt|gguf|pt|pth|bin)$", re.IGNORECASE)
_BRACKETED_HASH = re.compile(r"\s*\[[0-9a-fA-F]+\]$")


def normal_form(name: str) -> str:
    """One form for all spellings of a sampler or scheduler: ``Euler a`` = ``euler_a``, ``DPM++ 2M`` = ``dpm++2m``."""
    return re.sub(r"[\s_\-]+", "", name).lower()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model file as a WebUI lists it. ``title`` gains the hash in brackets once the file has been loaded."""

    title: str
    model_name: str
    hash: str | None = None
    filename: str = ""  # without its folder

    @property
    def stem(self) -> str:
        """The name that stays when extension, folder and hash are taken off: the same on every WebUI."""
        return bare_name(self.filename or self.title)

    @functools.cached_property
    def known_hash(self) -> str:
        """The first ten digits, lower case; "" if unknown."""
        return "" if self.hash in (None, DUMMY_HASH) else self.hash[:10].lower()

    def names(self) -> tuple[str, ...]:
        """Everything a caller may call it, most exact first."""
        return tuple(dict.fromkeys(name for name in self.ranked_names if name))

    @functools.cached_property
    def ranked_names(self) -> tuple[str, ...]:
        """
        The same, each kind at its own place, "" if there is none: title, title without hash, ``model_name``,
        ``model_name [hash]``, file name, stem, hash.
        """
        without_hash = _BRACKETED_HASH.sub("", self.title)
        hash_ = "" if self.hash == DUMMY_HASH else self.hash or ""
        hashed = f"{self.model_name} [{hash_}]" if hash_ else ""
        return self.title, without_hash, self.model_name, hashed, self.filename, self.stem, hash_

    @functools.cached_property
    def path(self) -> str:
        """Below the models folder, if the WebUI reports it: the title without hash, lower case, with slashes."""
        return self.ranked_names[1].replace("\\", "/").lower()

    def may_be(self, other: Checkpoint) -> bool:
        """False if the hashes show that the weights differ."""
        return not self.known_hash or not other.known_hash or self.known_hash == other.known_hash


def bare_name(name: str) -> str:
    """``sub/model.safetensors [6ce0161689]`` -> ``model``."""
    name = _BRACKETED_HASH.sub("", name.strip())
    return _EXTENSION.sub("", re.split(r"[\\/]", name)[-1])


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """
    :param fewest_steps: with fewer it always fails.
    :param fewest_img2img_steps: the same in img2img, of :func:`sd_client.samplers.img2img_steps`.
    :param fewest_hires_steps: the same in a second pass, whose steps are all done, whatever its strength.
    """

    name: str
    aliases: tuple[str, ...] = ()
    fewest_steps: int = 1
    fewest_img2img_steps: int = 0
    fewest_hires_steps: int = 1


@dataclass(frozen=True, kw_only=True)
class ListedLora:
    """
    A LoRA as a WebUI lists it.

    :param path: by which the WebUI is asked for it; None if it is asked for by a tag with its name.
    :param base: the family of models that it was made for, sd1, sd2 or sdxl; None if its file does not say.
    """

    name: str
    path: str | None = None
    base: str | None = None


#: How a picture is used as a reference: by an IP-Adapter, or by the model's own attention.
ReferenceMethod = Literal["adapter", "attention"]


@dataclass(frozen=True, kw_only=True)
class ReferenceWay:
    """
    One way in which a WebUI can be asked to use a reference picture; whether it works with a model is shown by a trial.

    :param model: of the adapter, as the WebUI lists it; "None" if there is none.
    :param module: what prepares the picture, as the WebUI lists it; "" where it needs no name.
    """

    method: ReferenceMethod
    model: str
    module: str = ""


#: What shows that a reference picture was used: the pictures that ControlNet adds to the answer; those, and that no
#: exception was met meanwhile; or what SD.Next writes after it has loaded the adapter.
ReferenceProof = Literal["maps", "exceptions", "words"]


@dataclass(frozen=True, kw_only=True)
class BrokenList:
    """A route that gave nothing usable. ``reason`` is for the log; ``late``: it did not answer in time."""

    route: str
    reason: str
    late: bool = False


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """
    What one WebUI can do, read from what it answers; with an empty list for each route that it lacks.

    :param loaded: the checkpoint in its memory, in the WebUI's spelling; None if unknown.
    :param gpu: True, False, or None if unknown (it has no ``/memory``).
    :param schedulers: None if the server has no such list (A1111 before 1.9.1).
    :param progress_by_genkey: it reports the progress of the job whose ``genkey`` is named, and of no other.
    :param can_interrupt: a running job can be ended.
    :param ends_on_hang_up: a running job ends when its connection is closed.
    :param paints_batches: False if it paints one picture a job, however many are asked for.
    :param lifts_limits: it clamps steps and guidance unless ``add_sd_step_limit`` and ``add_sd_cfg_limit`` are sent.
    :param clamps: what it cannot paint (a size, so many steps) comes back as what it can, without an error.
    :param inpaint_options: it works on the area around a mask, and fills under the mask, as it is asked to.
    :param limits: of sizes, steps and guidance; for a WebUI that clamps, those that have been learned.
    :param reports_tasks: it reports whether the job with a given id runs (:mod:`sd_client.progress`).
    :param returns_masks: it puts masks between the pictures of an inpainting (``return_mask``,
        ``return_mask_composite``), and has options that turn this off.
    :param upscalers: those whose weights are there.
    :param upscales: it can enlarge a picture by one of them.
    :param loras: those that it can be asked for, and whose use its answer proves.
    :param hires_upscalers: what it can enlarge a picture by before a second pass; empty if it has no such pass.
    :param clip_skip: how it is asked for another layer of CLIP than the last: by the option
        ``CLIP_stop_at_last_layers``, by the field ``clip_skip``, or not at all (None).
    :param references: how it can be asked to use a reference picture, in the order in which they are tried.
    :param reference_proof: what shows that it did; None if it cannot be asked.
    :param hides_maps: its option ``control_net_no_detectmap``; None if it has none.
    :param lora_hashes: it has the option ``lora_add_hashes_to_infotext``, which an operator may turn off at any moment.
    :param max_seed: larger seeds are cut or replaced by that server.
    :param simulated: it says of itself that it paints without a model.
    :param gpu_free_bytes: and ``gpu_total_bytes``: of its GPU's memory; None if unknown.
    :param broken: lists that could not be read; what was read from them before, if anything, stands here instead.
    """

    checkpoints: tuple[Checkpoint, ...]
    loaded: str | None = None
    samplers: tuple[Sampler, ...] = ()
    schedulers: tuple[Sampler, ...] | None = None
    upscalers: tuple[str, ...] = ()
    loras: tuple[ListedLora, ...] = ()
    hires_upscalers: tuple[str, ...] = ()
    clip_skip: Literal["option", "field"] | None = None
    lora_hashes: bool = False
    references: tuple[ReferenceWay, ...] = ()
    reference_proof: ReferenceProof | None = None
    hides_maps: bool | None = None
    gpu: bool | None = None
    has_progress: bool = True
    progress_by_genkey: bool = False
    can_interrupt: bool = True
    reports_tasks: bool = False
    returns_masks: bool = False
    upscales: bool = False
    ends_on_hang_up: bool = False
    paints_batches: bool = True
    lifts_limits: bool = False
    clamps: bool = False
    inpaint_options: bool = True
    limits: Limits = NO_LIMITS
    max_seed: int = 2**63 - 1
    simulated: bool = False
    gpu_free_bytes: int | None = None
    gpu_total_bytes: int | None = None
    broken: tuple[BrokenList, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlainInpainting:
    """
    An inpainting for a WebUI that repaints what the mask shows in the whole picture that it gets.

    :param init_image: as large as the job's, and ``mask`` too.
    :param box: the part of the job's picture that both show, enlarged; None: all of it.
    """

    init_image: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    box: Box | None


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    """
    :param mask: PNG, 8-bit grey, white is repainted, as large as the init image.
    :param plain: for WebUIs without ``inpaint_options``; None if none is needed, or none can be made.
    :param picture_pixels: of the init image, and ``mask_pixels``: of the mask, to hold the answer against.
    """

    mask: bytes = field(repr=False)
    mask_blur: int
    area: Literal["whole", "masked"]
    padding: int
    fill: Literal["original", "fill", "noise", "nothing"]
    plain: PlainInpainting | None = field(default=None, repr=False)
    picture_pixels: KeptPixels | None = field(default=None, repr=False, compare=False)
    mask_pixels: KeptPixels | None = field(default=None, repr=False, compare=False)

    def is_plain(self) -> bool:
        """Whether it asks for nothing that a WebUI without ``inpaint_options`` would not do."""
        return (self.area, self.fill) == ("whole", "original")

    def has_plain_form(self) -> bool:
        return self.plain is not None or self.is_plain()


@dataclass(frozen=True, kw_only=True)
class Lora:
    """:param name: as a WebUI lists it. :param weight: -2 … 2, not 0."""

    name: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class UsedLora:
    """:param hash: what the WebUI calls the file's content; None if it does not say."""

    name: str
    hash: str | None


@dataclass(frozen=True, kw_only=True)
class Hires:
    """
    A second pass over the enlarged picture.

    :param width: and ``height``: of the final picture, pixels.
    :param upscaler: as the WebUI lists it.
    :param strength: how much of the enlarged picture is repainted, above 0 … 1.
    """

    width: int
    height: int
    upscaler: str
    steps: int
    strength: float


@dataclass(frozen=True, kw_only=True)
class ReferencePicture:
    """
    :param file: an RGB PNG without metadata.
    :param size: width and height, pixels.
    :param fingerprint: of its pixels, by :func:`sd_client.pixels.fingerprint`; the answer is held against it.
    """

    file: bytes = field(repr=False)
    size: tuple[int, int]
    fingerprint: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """
    A picture that the result is to resemble.

    :param pictures: by the methods that may serve it: a square for ``adapter``, one of the generation's size for
        ``attention``.
    :param weight: 0.1 … 1.
    """

    pictures: Mapping[ReferenceMethod, ReferencePicture] = field(repr=False)
    weight: float


@dataclass(frozen=True, kw_only=True)
class UsedReference:
    """:param model: of the adapter, without its hash; None if there is none."""

    method: ReferenceMethod
    model: str | None


@dataclass(frozen=True, kw_only=True)
class UnchangedFields:
    """
    What a caller chooses and a WebUI receives as it is: part of the request and of the job.

    :param strength: 0 … 1, None for txt2img.
    """

    prompt: str = field(repr=False)
    negative_prompt: str = field(repr=False)
    steps: int
    cfg_scale: float
    batch_size: int
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class GenerationParams(UnchangedFields):
    """
    One job, checked and complete: nothing is left for the WebUI to choose but what is None.

    :param seed: of the first image; image *i* has ``seed + i``.
    :param checkpoint: what the model's name stands for.
    :param clip_skip: which layer of CLIP is used, counted from the last, 1.
    :param init_image: encoded picture of exactly ``width`` × ``height`` pixels; None for txt2img.
    """

    width: int
    height: int
    seed: int
    checkpoint: Checkpoint
    sampler: str | None = None
    scheduler: str | None = None
    init_image: bytes | None = field(default=None, repr=False)
    inpainting: Inpainting | None = None
    loras: tuple[Lora, ...] = ()
    clip_skip: int = 1
    hires: Hires | None = None
    reference: Reference | None = None

    @property
    def has_extras(self) -> bool:
        """Whether it asks for something that a WebUI may leave out without a word."""
        return bool(self.loras) or self.hires is not None or self.clip_skip > 1 or self.reference is not None

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of the pictures that are due, pixels."""
        return (self.hires.width, self.hires.height) if self.hires else (self.width, self.height)

    def for_webui(self, capabilities: Capabilities) -> tuple[GenerationParams, Box | None]:
        """What this WebUI is asked for, and which part of the picture that shows."""
        inpainting = self.inpainting
        if capabilities.inpaint_options or inpainting is None or inpainting.plain is None:
            return self, None
        plain = inpainting.plain
        asked = replace(inpainting, mask=plain.mask, area="whole", fill="original", plain=None)
        return replace(self, init_image=plain.init_image, inpainting=asked), plain.box


@dataclass(frozen=True, kw_only=True)
class UpscaleParams:
    """
    One picture to be enlarged; no model is needed for that.

    :param image: encoded picture of exactly ``from_width`` × ``from_height`` pixels.
    :param width: and ``height``: of the enlarged picture, pixels.
    :param upscaler: in any WebUI's spelling.
    """

    image: bytes = field(repr=False)
    from_width: int
    from_height: int
    width: int
    height: int
    upscaler: str


#: What a job is about.
JobParams = GenerationParams | UpscaleParams


@dataclass(frozen=True, kw_only=True)
class Used:
    """
    What the WebUI's answer proves that it used, besides model and sampler.

    :param upscaler: of a second pass; :param upscaled_by: where a picture was only enlarged.
    """

    loras: tuple[UsedLora, ...] = ()
    upscaler: str | None = None
    reference: UsedReference | None = None
    upscaled_by: str | None = None


NOTHING_USED = Used()


#: Of :func:`small_picture`, pixels.
SMALL_SIZE = (64, 64)


def small_picture(
    checkpoint: Checkpoint, *, loras: tuple[Lora, ...] = (), reference: Reference | None = None
) -> GenerationParams:
    """The job that costs a WebUI least, of a size that all of them paint: to see whether it can use these files."""
    return GenerationParams(
        prompt="a small picture",
        negative_prompt="",
        steps=1,
        cfg_scale=7.0,
        width=SMALL_SIZE[0],
        height=SMALL_SIZE[1],
        seed=1,
        batch_size=1,
        checkpoint=checkpoint,
        loras=loras,
        reference=reference,
    )


@dataclass(frozen=True, kw_only=True)
class PaintedImage:
    """
    One picture of an answer.

    :param data: the file as the WebUI sent it, PNG, JPEG or WebP by their magic numbers.
    :param infotext: A1111's ``parameters`` text, if there is one.
    :param box: the part of the job's picture that it shows, enlarged; None: all of it.
    """

    data: bytes = field(repr=False)
    seed: int
    infotext: str | None = field(default=None, repr=False)
    box: Box | None = None
    used: Used = NOTHING_USED
