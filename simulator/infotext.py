"""The text and the JSON in which A1111 says what it has made."""

import json
from collections.abc import Mapping
from typing import Any

from simulator.checkpoints import Checkpoint
from simulator.jobs import Job

VERSION = "simulator"  # In texts that travel with pictures; the JSON still says which WebUI is played.
FILLS = {0: "fill", 2: "latent noise", 3: "latent nothing"}

Values = dict[str, Any]


def infotext(prompt: str, negative_prompt: str, values: Mapping[str, Any]) -> str:
    """`prompt`, `Negative prompt: …` and `Steps: …, Sampler: …` on separate lines; nulls are left out."""
    shown = {key: value for key, value in values.items() if value is not None}
    line = ", ".join(key if key == value else f"{key}: {_quoted(value)}" for key, value in shown.items())
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line}".strip()


def _quoted(value: object) -> str:
    """A value that would be read as several in quotation marks."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(char in text for char in ",\n:") else text


def extra_params(job: Job, *, inpaints: bool) -> Values:
    """`extra_generation_params` in the WebUI's order.

    :param inpaints: whether there is a mask with something to repaint.
    """
    extra: Values = {}
    if job.sampling.shown:
        extra["Schedule type"] = job.sampling.shown
    if job.is_img2img:
        extra["Denoising strength"] = job.strength
        if job.fields["mask"] is not None:
            extra |= _mask_params(job.fields, inpaints=inpaints)
    return extra


def _mask_params(fields: Mapping[str, Any], *, inpaints: bool) -> Values:
    blur = fields["mask_blur_x"] if fields["mask_blur"] is None else fields["mask_blur"]
    params: Values = {}
    if fields["inpainting_mask_invert"]:
        params["Mask mode"] = "Inpaint not masked"
    if (blur or 0) > 0:
        params["Mask blur"] = blur
    if inpaints and fields["inpaint_full_res"]:
        params |= {"Inpaint area": "Only masked", "Masked area padding": fields["inpaint_full_res_padding"]}
    if inpaints and fields["inpainting_fill"] in FILLS:
        params["Masked content"] = FILLS[fields["inpainting_fill"]]
    return params


def texts_of(job: Job, model: Checkpoint, extra: Values, *, count: int, clip_skip: int) -> list[str]:
    """The text of every image that was begun."""
    params: Values = {
        "Steps": job.steps,
        "Sampler": job.sampling.sampler,
        "Schedule type": job.sampling.schedule,
        "CFG scale": job.cfg_scale,
        "Seed": None,
        "Size": f"{job.width}x{job.height}",
        "Model hash": model.short_hash,
        "Model": model.model_name,
        "Denoising strength": None,
        "Clip skip": clip_skip if clip_skip > 1 else None,
        **extra,
        "Version": VERSION,
    }
    return [infotext(job.prompt, job.negative_prompt, {**params, "Seed": seed}) for seed in job.seeds[:count]]


def info_of(job: Job, model: Checkpoint, extra: Values, texts: list[str], **more: object) -> str:
    """The answer's `info`: JSON with all keys of version 1.10.1 in its order.

    :param more: `job_timestamp`, `clip_skip`, and `version` where the server has one.
    """
    fields, count = job.fields, len(job.seeds)
    info: Values = {
        "prompt": job.prompt,
        "all_prompts": [job.prompt] * count,
        "negative_prompt": job.negative_prompt,
        "all_negative_prompts": [job.negative_prompt] * count,
        "seed": job.seed,
        "all_seeds": job.seeds,
        "subseed": job.subseed,
        "all_subseeds": job.subseeds,
        "subseed_strength": fields["subseed_strength"],
        "width": job.width,
        "height": job.height,
        "sampler_name": job.sampling.sampler,
        "cfg_scale": job.cfg_scale,
        "steps": job.steps,
        "batch_size": job.batch_size,
        "restore_faces": bool(fields["restore_faces"]),
        "face_restoration_model": "CodeFormer" if fields["restore_faces"] else None,
        "sd_model_name": model.model_name,
        "sd_model_hash": model.short_hash,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": fields["seed_resize_from_w"],
        "seed_resize_from_h": fields["seed_resize_from_h"],
        "denoising_strength": job.strength,
        "extra_generation_params": extra,
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": fields["styles"] or [],
        "job_timestamp": more.pop("job_timestamp"),
        "clip_skip": more.pop("clip_skip"),
        "is_using_inpainting_conditioning": False,
        **more,
    }
    return json.dumps(info)
