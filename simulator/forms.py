"""A1111's request fields and their defaults, and the job that a filled form describes."""

import hashlib
import random
import re
from dataclasses import replace
from typing import Any

from PIL import Image

from simulator.catalogue import ALWAYS_ON, LATENT_MODES, SCRIPTS, UPSCALERS
from simulator.checkpoints import Checkpoints
from simulator.errors import CrashError, HTTPError
from simulator.fields import Field
from simulator.inpainting import MaskSettings
from simulator.jobs import Hires, Job, Source
from simulator.pictures import decode
from simulator.samplers import Sampling

MAX_RANDOM_SEED = 4_294_967_294
DEFAULT_UPSCALER = "Latent"
DEFAULT_MASK_BLUR = 4

_FIRST = (
    Field("prompt", "str", ""),
    Field("negative_prompt", "str", ""),
    Field("styles", "strs"),
    Field("seed", "int", -1),
    Field("subseed", "int", -1),
    Field("subseed_strength", "float", 0),
    Field("seed_resize_from_h", "int", -1),
    Field("seed_resize_from_w", "int", -1),
    Field("sampler_name", "str"),
    Field("scheduler", "str"),
    Field("batch_size", "int", 1),
    Field("n_iter", "int", 1),
    Field("steps", "int", 50),
    Field("cfg_scale", "float", 7.0),
    Field("width", "int", 512),
    Field("height", "int", 512),
    Field("restore_faces", "bool"),
    Field("tiling", "bool"),
    Field("do_not_save_samples", "bool", False),
    Field("do_not_save_grid", "bool", False),
    Field("eta", "float"),
)
_NOISE = tuple(Field(name, "float") for name in ("s_min_uncond", "s_churn", "s_tmax", "s_tmin", "s_noise"))
_OVERRIDES = (
    Field("override_settings", "dict"),
    Field("override_settings_restore_afterwards", "bool", True),
    Field("refiner_checkpoint", "str"),
    Field("refiner_switch_at", "float"),
    Field("disable_extra_networks", "bool", False),
    Field("firstpass_image", "str"),
    Field("comments", "dict"),
)
_LAST = (
    Field("script_name", "str"),
    Field("script_args", "list", [], nullable=False),
    Field("send_images", "bool", True, nullable=False),
    Field("save_images", "bool", False, nullable=False),
    Field("alwayson_scripts", "dict", {}, nullable=False),
    Field("infotext", "str"),
)
_INDEX = (Field("force_task_id", "str"), Field("sampler_index", "str", "Euler", nullable=False))

TXT2IMG_FIELDS = (
    *_FIRST,
    Field("denoising_strength", "float"),
    *_NOISE,
    *_OVERRIDES,
    Field("enable_hr", "bool", False),
    Field("firstphase_width", "int", 0),
    Field("firstphase_height", "int", 0),
    Field("hr_scale", "float", 2.0),
    Field("hr_upscaler", "str"),
    Field("hr_second_pass_steps", "int", 0),
    Field("hr_resize_x", "int", 0),
    Field("hr_resize_y", "int", 0),
    Field("hr_checkpoint_name", "str"),
    Field("hr_sampler_name", "str"),
    Field("hr_scheduler", "str"),
    Field("hr_prompt", "str", ""),
    Field("hr_negative_prompt", "str", ""),
    *_INDEX,
    *_LAST,
)

IMG2IMG_FIELDS = (
    *_FIRST,
    Field("denoising_strength", "float", 0.75, nullable=False),
    *_NOISE,
    *_OVERRIDES,
    Field("init_images", "list"),
    Field("resize_mode", "int", 0),
    Field("image_cfg_scale", "float"),
    Field("mask", "str"),
    Field("mask_blur_x", "int", DEFAULT_MASK_BLUR),
    Field("mask_blur_y", "int", DEFAULT_MASK_BLUR),
    Field("mask_blur", "int"),
    Field("mask_round", "bool", True),
    Field("inpainting_fill", "int", 0),
    Field("inpaint_full_res", "bool", True),
    Field("inpaint_full_res_padding", "int", 0),
    Field("inpainting_mask_invert", "int", 0),
    Field("initial_noise_multiplier", "float"),
    Field("latent_mask", "str"),
    *_INDEX,
    Field("include_init_images", "bool", False, nullable=False),
    *_LAST,
)


def strip_comments(prompt: str) -> str:
    """What the built-in extension makes of `#` in a prompt."""
    text = re.sub(r"(^|\n)#[^\n]*(\n|$)", "\n", prompt)
    return re.sub(r"#[^\n]*(\n|$)", "\n", text)


def job_of(name: str, fields: dict[str, Any], sampling: Sampling, source: random.Random) -> Job:
    """The job that the fields describe, without pictures.

    :raises CrashError: a null where the WebUI calculates.
    """
    if fields["prompt"] is None or fields["negative_prompt"] is None:
        raise CrashError("AssertionError", "")
    if fields["steps"] is None:
        raise CrashError("TypeError", "unsupported operand type(s) for //: 'NoneType' and 'NoneType'")
    for key in ("width", "height", "batch_size", "n_iter", "cfg_scale"):
        if fields[key] is None:
            raise CrashError("TypeError", "unsupported operand type(s) for //: 'NoneType' and 'int'")
    return Job(
        name=name,
        prompt=strip_comments(fields["prompt"]),
        negative_prompt=strip_comments(fields["negative_prompt"]),
        seed=_seed(fields["seed"], source),
        subseed=_seed(fields["subseed"], source),
        subseed_strength=fields["subseed_strength"] or 0,
        seed_resize=(fields["seed_resize_from_w"], fields["seed_resize_from_h"]),
        sampling=sampling,
        steps=fields["steps"],
        cfg_scale=fields["cfg_scale"],
        width=fields["width"],
        height=fields["height"],
        batch_size=fields["batch_size"],
        n_iter=fields["n_iter"],
        restore_faces=bool(fields["restore_faces"]),
        tiling=bool(fields["tiling"]),
        denoising_strength=fields["denoising_strength"],
        styles=tuple(fields["styles"] or ()),
        override_settings=fields["override_settings"] or {},
        restore_afterwards=bool(fields["override_settings_restore_afterwards"]),
        save_images=fields["save_images"],
        hires=_hires_of(fields) if fields.get("enable_hr") else None,
    )


def _seed(value: int | None, source: random.Random) -> int:
    return source.randrange(MAX_RANDOM_SEED) if value is None or value == -1 else value


def _hires_of(fields: dict[str, Any]) -> Hires:
    upscaler = fields["hr_upscaler"] or DEFAULT_UPSCALER
    if upscaler not in {one["name"] for one in (*UPSCALERS, *LATENT_MODES)}:
        raise CrashError("Exception", f"could not find upscaler named {upscaler}")
    return Hires(
        scale=fields["hr_scale"] or 0.0,
        upscaler=upscaler,
        steps=fields["hr_second_pass_steps"] or 0,
        width=fields["hr_resize_x"] or 0,
        height=fields["hr_resize_y"] or 0,
    )


def check_scripts(fields: dict[str, Any], kind: str) -> None:
    """Scripts are known by name only; none of them can be run.

    :raises HTTPError: unknown, or of the wrong kind.
    """
    known = {name.lower() for name in SCRIPTS[kind]}
    selectable = known - set(ALWAYS_ON)
    for name in map(str, fields["alwayson_scripts"]):
        if name.lower() not in known:
            raise HTTPError(422, f"Script '{name}' not found")
        if name.lower() in selectable:
            raise HTTPError(422, "Cannot have a selectable script in the always on scripts params")
    name = fields["script_name"]
    if name and name.lower() not in selectable:
        raise HTTPError(422, f"Script '{name}' not found")
    if name:
        raise CrashError("TypeError", "Script.run() missing required positional arguments")


def check_checkpoints(fields: dict[str, Any], checkpoints: Checkpoints) -> None:
    """Refiner and hires models are looked up by any part of their title.

    :raises CrashError: nothing fits.
    """
    for key in ("refiner_checkpoint", "hr_checkpoint_name"):
        name = fields.get(key)
        if name and name not in ("None", "Use same checkpoint") and not checkpoints.find_closest(name):
            raise CrashError("Exception", f"Could not find checkpoint with name {name}")


def with_source(job: Job, fields: dict[str, Any], mask: Image.Image | None) -> Job:
    """Add the pictures; two or more init images make a batch of their own number."""
    source = _source_of(fields, mask)
    batch_size = len(source.pictures) if 1 < len(source.pictures) <= job.batch_size else job.batch_size
    return replace(job, source=source, batch_size=batch_size)


def _source_of(fields: dict[str, Any], mask: Image.Image | None) -> Source:
    """What img2img starts from.

    :raises SimulatedError: a picture that cannot be decoded.
    """
    if fields["mask"] == "":
        # An empty text is not decoded but still taken for a picture.
        raise CrashError("AttributeError", "'str' object has no attribute 'mode'")
    pictures = tuple(decode(text) for text in fields["init_images"])
    settings = mask_settings_of(fields)
    digest = hashlib.sha256(repr((fields["mask"], settings, fields["resize_mode"])).encode())
    for text in fields["init_images"]:
        digest.update(text.encode())
    strength, size = fields["denoising_strength"], (fields["width"], fields["height"])
    digest.update(repr((strength, size)).encode())
    return Source(
        pictures=pictures,
        mask=mask,
        settings=settings,
        resize_mode=fields["resize_mode"] or 0,
        key=digest.hexdigest(),
    )


def mask_settings_of(fields: dict[str, Any]) -> MaskSettings:
    """The inpainting fields; `mask_blur` overrides both directions."""
    blur = fields["mask_blur"]
    return MaskSettings(
        blur_x=(fields["mask_blur_x"] or 0) if blur is None else blur,
        blur_y=(fields["mask_blur_y"] or 0) if blur is None else blur,
        soft=not fields.get("mask_round", True),
        fill=fields["inpainting_fill"] or 0,
        full_res=bool(fields["inpaint_full_res"]),
        padding=fields["inpaint_full_res_padding"] or 0,
        invert=bool(fields["inpainting_mask_invert"]),
    )
