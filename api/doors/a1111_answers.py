"""Answers in A1111's shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response, g
from pydantic_core import to_json

from api.doors.translation import Translation
from api.errors import Failure, sentence
from api.rendering import NOT_STORED, PICTURE, with_pictures
from api.schemas import Fields
from sd_client.models import Checkpoint
from services.generation import GeneratedImage, Generation
from services.picture_formats import PictureError
from services.png import read_chunks
from services.png_texts import PARAMETERS, read_texts
from services.problems import Problem
from services.tracking import RequestStatus

#: Problems in one sentence; the rest is counted.
_MOST_PROBLEMS = 20

#: Where the service's own words are about its own routes.
_DETAILS = {"cancelled": "the job was interrupted or cancelled"}

#: Clients know this sentence.
_NOT_FOUND = b'{"detail":"Not Found"}'


def failure(found: Failure) -> Response:
    """In A1111's body, with the service's own status and code."""
    if found.kind.code == "not_found":
        return Response(_NOT_FOUND, status=404, mimetype="application/json")
    status, body = shape(found, translation=g.get("translation"), request_id=g.get("request_id"))
    return Response(to_json(body), status=status, mimetype="application/json")


def shape(
    found: Failure, *, translation: Translation | None = None, request_id: str = "9f1c2b3d4e5f60718293a4b5c6d7e8f9"
) -> tuple[int, dict[str, Any]]:
    """
    Status and body.

    :param translation: None if the request has not been read so far.
    """
    kind = found.kind
    problems = _one_of_each(found.problems if translation is None else translation.renamed(found.problems))
    said = sentence(problems, most=_MOST_PROBLEMS) or _DETAILS.get(kind.code) or found.detail or kind.title
    if seconds := found.headers.get("Retry-After"):
        said += f"; try again in {seconds} s"  # these clients neither do so unasked nor show a header
    body = {
        "error": said,
        "detail": said,
        "body": "",
        "errors": said,
        "code": kind.code,
        "request_id": request_id,
    }
    return kind.status, body


def _one_of_each(problems: Sequence[Problem]) -> list[Problem]:
    """A field that the door has refused is also missing."""
    first: dict[str, Problem] = {}
    for found in problems:
        first.setdefault(found.field, found)
    return list(first.values())


@dataclass(frozen=True, kw_only=True)
class Painted:
    """
    What an answer is made of.

    :param checkpoint: what the model's name stands for; None if that is no longer known.
    """

    generation: Generation
    fields: Fields
    translation: Translation
    checkpoint: Checkpoint | None


def painted(found: Painted) -> Response:
    """``images``, ``parameters`` and ``info``."""
    images = found.generation.images
    texts = [_infotext(image) for image in images]
    facts = _Facts.of(found, texts[0])
    answer = {
        "images": [PICTURE] * len(images),
        "parameters": _parameters(found, facts),
        "info": to_json(_info(found, facts, texts)).decode(),
    }
    response = with_pictures(answer, [image.png for image in images])
    response.headers["X-Image-Id"] = str(images[0].image_id)
    if not all(image.stored for image in images):
        response.headers["Warning"] = NOT_STORED
    return response


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """
    What a request does not say itself. What the WebUI wrote into the first picture never changes: a WebUI may list a
    hash only once it has loaded the model.
    """

    sampler: str
    model: str
    hash: str
    clip_skip: int
    strength: float | None

    @classmethod
    def of(cls, found: Painted, infotext: str | None) -> _Facts:
        _, newline, line = (infotext or "").rpartition("\n")
        settings = line if newline else ""
        checkpoint, repainting = found.checkpoint, getattr(found.fields, "hires", None) or found.fields
        return cls(
            strength=getattr(repainting, "strength", None),
            sampler=found.fields.sampler or _setting(settings, "Sampler"),
            model=checkpoint.model_name if checkpoint else found.generation.model or "",
            clip_skip=found.fields.clip_skip or int(_setting(settings, "Clip skip", "[0-9]{1,2}") or 1),
            hash=_setting(settings, "Model hash") or (checkpoint.known_hash if checkpoint else ""),
        )


def _setting(settings: str, name: str, value: str = "[^,]*") -> str:
    """Of an infotext's last line, ``Steps: 20, Sampler: Euler a, …``; "" if it is not there."""
    found = re.search(rf"(?:^|, ){name}: ({value})", settings)
    return found[1].strip() if found else ""


def _infotext(image: GeneratedImage) -> str | None:
    """What the WebUI wrote into the picture."""
    try:
        return read_texts(image.png, read_chunks(image.png)).get(PARAMETERS)
    except PictureError:  # damaged since it was stored: it is sent as it is
        return None


def _made_infotext(found: Painted, facts: _Facts, image: GeneratedImage) -> str:
    fields = found.fields
    settings = {
        "Steps": fields.steps,
        "Sampler": facts.sampler,
        "CFG scale": fields.cfg_scale,
        "Seed": image.seed,
        "Size": f"{image.width}x{image.height}",
        "Model hash": facts.hash,
        "Model": facts.model,
        "Denoising strength": "" if facts.strength is None else facts.strength,
    }
    negative = f"\nNegative prompt: {fields.negative_prompt}" if fields.negative_prompt else ""
    line = ", ".join(f"{name}: {value}" for name, value in settings.items() if value != "")
    return f"{fields.prompt}{negative}\n{line}"


def _parameters(found: Painted, facts: _Facts) -> dict[str, Any]:
    """The request as it was used, without pictures and without what has no effect."""
    fields, image = found.fields, found.generation.images[0]
    return {
        "prompt": fields.prompt,
        "negative_prompt": fields.negative_prompt,
        "seed": image.seed,
        "steps": fields.steps,
        "cfg_scale": fields.cfg_scale,
        "width": image.width,
        "height": image.height,
        "sampler_name": facts.sampler,
        "scheduler": fields.scheduler,
        "batch_size": fields.batch_size,
        "n_iter": 1,
        "denoising_strength": facts.strength,
        "override_settings": {"sd_model_checkpoint": facts.model},
        **found.translation.given,
    }


def _info(found: Painted, facts: _Facts, texts: list[str | None]) -> dict[str, Any]:
    fields, images = found.fields, found.generation.images
    count = len(images)
    return {
        "prompt": fields.prompt,
        "all_prompts": [fields.prompt] * count,
        "negative_prompt": fields.negative_prompt,
        "all_negative_prompts": [fields.negative_prompt] * count,
        "seed": images[0].seed,
        "all_seeds": [image.seed for image in images],
        "subseed": -1,
        "all_subseeds": [-1] * count,
        "subseed_strength": 0,
        "width": images[0].width,
        "height": images[0].height,
        "sampler_name": facts.sampler,
        "cfg_scale": fields.cfg_scale,
        "steps": fields.steps,
        "batch_size": count,
        "sd_model_name": facts.model,
        "sd_model_hash": facts.hash,
        "denoising_strength": facts.strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [
            _made_infotext(found, facts, image) if text is None else text
            for text, image in zip(texts, images, strict=True)
        ],
        "styles": [],
        "clip_skip": facts.clip_skip,
    }


#: Of ``GET options``, beside the model and the default of clip skip.
OPTIONS: Mapping[str, object] = {
    "samples_format": "png",
    "samples_save": True,
    "sd_vae": "Automatic",
    "inpainting_mask_weight": 1,
    "initial_noise_multiplier": 1,
    "eta_noise_seed_delta": 0,
    "img2img_fix_steps": False,
    "show_progress_every_n_steps": -1,
}


def listed_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """An entry of ``GET sd-models``."""
    return {
        "title": checkpoint.title,
        "model_name": checkpoint.model_name,
        "hash": checkpoint.known_hash or None,
        "sha256": None,
        "filename": checkpoint.filename or checkpoint.path.rpartition("/")[2],
        "config": None,
    }


def progress(status: RequestStatus | None, kind: str) -> dict[str, Any]:
    """
    :param status: of the job that is shown; None if there is none.
    :param kind: what it does.
    """
    return {
        "progress": 0.0 if status is None else status.progress or 0.0,
        "eta_relative": 0.0 if status is None else round(status.eta_seconds or 0.0, 1),
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "" if status is None else kind,
            "job_count": 0 if status is None else 1,
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": 0,
            "sampling_steps": 0,
        },
        "current_image": None,
        "textinfo": None,
    }
