"""Our :class:`GenerationParams` to the WebUI's JSON, and its answer back: the only module that knows both.

Facts about the fields: A1111's ``modules/api/models.py`` and ``modules/processing.py`` (1.6 to 1.10).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pybase64
from pydantic_core import from_json, to_json

from sd_client.capabilities import CLIP_SKIP_OPTION, LORA_HASHES_OPTION, MAPS_OPTION, MASK_OPTIONS
from sd_client.errors import DroppedError, InvalidAnswerError, LimitError
from sd_client.hires import check_hires, hires_fields
from sd_client.limits import Limits
from sd_client.loras import check_loras, lora_fields
from sd_client.matching import Match
from sd_client.models import (
    DUMMY_HASH,
    NOTHING_USED,
    Capabilities,
    Checkpoint,
    GenerationParams,
    ListedLora,
    PaintedImage,
    Reference,
    ReferenceWay,
    Used,
    bare_name,
    normal_form,
)
from sd_client.references import check_maps, check_words, map_count, reference_field
from sd_client.result import chosen_images, decoded_if_possible, painted_image
from sd_client.samplers import Spelling
from sd_client.transport import number

#: KoboldCpp rounds what it reports, and stable-diffusion.cpp's numbers have 24 bits.
_ROUNDING = 1e-3

#: What may follow a prompt in the info: KoboldCpp adds a comma, and half a character is lost where it cuts.
_AFTER_CUT = " ,\ufffd"
#: Nobody cuts a shorter prompt.
_SHORTEST_CUT = 500

_FILL = {"fill": 0, "original": 1, "noise": 2, "nothing": 3}

#: A multiple of 3, so that the base64 of the pieces is that of the whole.
_PIECE_BYTES = 3 * 64 * 1024


class Payload:
    """
    A JSON body, made while it is sent: the pictures' base64, a third larger than they are, is never held whole.

    :param pictures: what is written before each, the picture, and what is written after it.
    """

    def __init__(self, fields: Mapping[str, Any], pictures: Iterable[tuple[bytes, bytes, bytes]]) -> None:
        self._fields = to_json(fields)
        self._pictures = tuple(pictures)

    def __len__(self) -> int:
        """In bytes."""
        return len(self._fields) + sum(
            len(before) + 4 * ((len(picture) + 2) // 3) + len(after) for before, picture, after in self._pictures
        )

    def __iter__(self) -> Iterator[bytes]:
        text = self._fields[:-1]  # what stands between pictures goes together: each piece is a call, and a packet
        for before, picture, after in self._pictures:
            yield text + before
            for start in range(0, len(picture), _PIECE_BYTES):
                yield pybase64.b64encode(picture[start : start + _PIECE_BYTES])
            text = after
        yield text + b"}"


def payload(
    params: GenerationParams, capabilities: Capabilities, matched: Match, *, task_id: str, genkey: str = ""
) -> Payload:
    """
    The JSON body for ``txt2img`` or ``img2img``.

    Everything that decides the picture is named, because defaults differ between servers; no field is null,
    because stable-diffusion.cpp's server answers 500 to most nulls.

    :param matched: what this WebUI calls the job's model and sampler.
    :param genkey: KoboldCpp knows the job by this; "" for other servers.
    """
    fields: dict[str, Any] = {
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt,
        "steps": params.steps,
        "cfg_scale": params.cfg_scale,
        "width": params.width,
        "height": params.height,
        "seed": params.seed,
        "batch_size": params.batch_size,
        "n_iter": 1,
        **_options(params, capabilities, matched.checkpoint.title),
        "send_images": True,
        # True would put a grid in front of the images and write files on the WebUI's host.
        "save_images": False,
        "force_task_id": task_id,
        **_sampler_fields(matched.spelling),
    }
    if capabilities.lifts_limits:
        fields |= {"add_sd_step_limit": params.steps, "add_sd_cfg_limit": params.cfg_scale}
    if params.clip_skip > 1 and capabilities.clip_skip == "field":
        fields["clip_skip"] = params.clip_skip
    if params.hires is not None:
        fields |= hires_fields(params.hires, capabilities, cfg_scale=params.cfg_scale)
    if params.loras:
        fields |= lora_fields(params, matched.loras)
    if genkey:
        fields["genkey"] = genkey
    if params.init_image is not None:
        fields |= _img2img_fields(params)
    return Payload(fields, _pictures(params, matched.reference))


def asked_clip_skip(params: GenerationParams, capabilities: Capabilities) -> int | None:
    """
    What a WebUI is asked for. One with the option is asked in every job: without restore the value of the job before
    stays, and on a fresh configuration with it as well. One with the field has 1 unless it is asked.
    """
    by_field = capabilities.clip_skip == "field" and params.clip_skip > 1
    return params.clip_skip if by_field or capabilities.clip_skip == "option" else None


def _options(params: GenerationParams, capabilities: Capabilities, title: str) -> dict[str, Any]:
    own: dict[str, Any] = {"sd_model_checkpoint": title}
    if capabilities.clip_skip == "option":
        own[CLIP_SKIP_OPTION] = params.clip_skip
    options: dict[str, Any] = {}
    if capabilities.returns_masks and params.inpainting is not None:
        options |= dict.fromkeys(MASK_OPTIONS, False)
    if params.loras and capabilities.lora_hashes:
        options[LORA_HASHES_OPTION] = True
    if params.reference is not None and capabilities.hides_maps is not None:
        options[MAPS_OPTION] = False
    # These are the operator's, and are restored: what is not as it is by default stands in the WebUI's configuration.
    # The model's option is restored with them, which costs jobs that name their model nothing. Without them there is
    # no restoring: it brings the option back but not the weights, so that the next job pays for loading them, and on a
    # fresh configuration it restores nothing at all.
    return {
        "override_settings": {**own, **options},
        "override_settings_restore_afterwards": bool(options),
    }


def _sampler_fields(spelling: Spelling) -> dict[str, str]:
    fields = {"sampler_name": spelling.sampler, "scheduler": spelling.scheduler}
    return {name: value for name, value in fields.items() if value is not None}


def _img2img_fields(params: GenerationParams) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "denoising_strength": params.strength,
        "resize_mode": 0,  # the picture already has the generation's size
        "include_init_images": False,
    }
    if params.inpainting is not None:
        fields |= {
            "mask_blur": params.inpainting.mask_blur,
            "inpainting_fill": _FILL[params.inpainting.fill],
            "inpaint_full_res": params.inpainting.area == "masked",
            "inpaint_full_res_padding": params.inpainting.padding,
            "inpainting_mask_invert": 0,
        }
    return fields


def _pictures(params: GenerationParams, way: ReferenceWay | None) -> Iterator[tuple[bytes, bytes, bytes]]:
    """What is written before each picture, the picture, and what is written after it."""
    if params.init_image is not None:
        yield b',"init_images":["', params.init_image, b'"]'
    if params.inpainting is not None:
        yield b',"mask":"', params.inpainting.mask, b'"'
    if params.reference is not None and way is not None:
        yield reference_field(params.reference, way)


def read_answer(
    answer: Mapping[str, Any],
    params: GenerationParams,
    *,
    checkpoint: Checkpoint,
    spelling: Spelling,
    loras: Sequence[ListedLora] = (),
    way: ReferenceWay | None = None,
    clip_skip: int | None = None,
    limits: Limits | None = None,
) -> tuple[PaintedImage, ...]:
    """
    The images of an answer, exactly ``batch_size`` of them, without grids and whatever extensions append.

    :param answer: from :func:`sd_client.result.read_object`.
    :param checkpoint: the one asked for, as this WebUI lists it.
    :param loras: the job's, as this WebUI lists them.
    :param way: how the WebUI was asked to use the job's reference picture.
    :param clip_skip: that the WebUI was asked for; None if it was not asked for any.
    :param limits: what is known of a WebUI that clamps; None if it does not.
    :raises LimitError: the ``info`` shows fewer steps or less guidance than requested.
    :raises DroppedError: the answer does not prove that all was used that was asked for.
    :raises InvalidAnswerError: too few pictures, bytes that are none, or the ``info`` names another model
        or sampler than was asked for (A1111 replaces unknown ones without a word).
    """
    info = read_info(answer)
    _check_model(info, checkpoint)
    _check_sampler(info, spelling)
    _check_amounts(info, params, limits)
    if clip_skip is not None:
        _check_clip_skip(info, clip_skip)
    if limits is not None:
        _check_prompts(info, params, limits)
    used = _used(info, params, loras, way)
    images = answer.get("images")
    if not isinstance(images, list):
        raise InvalidAnswerError("the WebUI's answer has no images", reason="missing_images")
    first = info.get("index_of_first_image")
    first = first if isinstance(first, int) and 0 <= first < len(images) else 0
    images = images[first:]
    if params.reference is not None and way is not None:
        images = _without_maps(images, params, params.reference, way)
    chosen = chosen_images(images, wanted=params.batch_size)
    seeds = _listed(info.get("all_seeds"))
    texts = _listed(info.get("infotexts"))
    return tuple(
        painted_image(image, seed=_seed(seeds, params.seed, number), infotext=_text(texts, first + number), used=used)
        for number, image in enumerate(chosen)
    )


def _used(
    info: Mapping[str, Any], params: GenerationParams, loras: Sequence[ListedLora], way: ReferenceWay | None
) -> Used:
    """:raises DroppedError: the answer does not prove all of it."""
    if params.hires is None and not loras and params.reference is None:
        return NOTHING_USED
    if params.hires is not None:
        check_hires(info, params.hires)
    upscaler = params.hires.upscaler if params.hires else None
    reference = check_words(info, params.reference, way) if params.reference and way else None
    return Used(loras=check_loras(info, loras) if loras else (), upscaler=upscaler, reference=reference)


def _without_maps(images: list[Any], params: GenerationParams, reference: Reference, way: ReferenceWay) -> list[Any]:
    """:raises DroppedError: the images do not end with those that prove that the reference picture was used."""
    count = map_count(params, way)
    if not count:
        return images
    check_maps([decoded_if_possible(image) for image in images[-count:]], params, reference, way)
    return images[:-count]


def shows_nothing_loaded(answer: Mapping[str, Any]) -> bool:
    """SD.Next's answer to every job as long as it has no model: no picture, and not a word about it."""
    return answer.get("images") == [] and answer.get("info") == ""


def read_info(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    What the answer says about the job; empty if nothing.

    ``info`` is a JSON string, an object, or empty (stable-diffusion.cpp's server before 2026-07, KoboldCpp).

    :raises InvalidAnswerError: it is not JSON.
    """
    info = answer.get("info")
    if isinstance(info, str) and info.strip():
        try:
            info = from_json(info)
        except ValueError as error:
            raise InvalidAnswerError("the WebUI's info is not JSON") from error
    return info if isinstance(info, dict) else {}


def _check_model(info: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    told_hash = info.get("sd_model_hash")
    if isinstance(told_hash, str) and told_hash and checkpoint.hash not in (None, "", DUMMY_HASH):
        if told_hash[:10].lower() != str(checkpoint.hash)[:10].lower():
            raise InvalidAnswerError("the WebUI painted with another model", reason="wrong_model")
        return
    name = info.get("sd_model_name")
    if not isinstance(name, str) or not name:
        return
    if bare_name(name).lower() not in {bare_name(known).lower() for known in checkpoint.names()}:
        raise InvalidAnswerError("the WebUI painted with another model", reason="wrong_model")


def _check_sampler(info: Mapping[str, Any], spelling: Spelling) -> None:
    name = info.get("sampler_name")
    if spelling.sampler is None or not isinstance(name, str) or not name:
        return
    # With "default" the model's own sampler is asked for, whichever that is.
    known = {normal_form(known) for known in (spelling.sampler, *spelling.aliases)}
    if normal_form(name) not in known and "default" not in known:
        raise InvalidAnswerError("the WebUI painted with another sampler", reason="wrong_sampler")


def _check_amounts(info: Mapping[str, Any], params: GenerationParams, limits: Limits | None) -> None:
    steps, cfg_scale = _reported(info, "steps", params.steps), _reported(info, "cfg_scale", params.cfg_scale)
    if limits is not None and steps <= params.steps and cfg_scale <= params.cfg_scale:
        known = limits
        if steps < params.steps:
            limits = replace(limits, most_steps=int(steps))
        if cfg_scale < params.cfg_scale:
            limits = replace(limits, most_cfg_scale=cfg_scale)
        if limits != known:
            raise LimitError("the WebUI painted with fewer steps or less guidance", limits, reason="wrong_steps")
    if (steps, cfg_scale) != (params.steps, params.cfg_scale):
        text = "the WebUI painted with another number of steps or another cfg_scale"
        raise InvalidAnswerError(text, reason="wrong_steps")


def _check_clip_skip(info: Mapping[str, Any], asked: int) -> None:
    used = number(info.get("clip_skip"))
    if used != asked and (used or asked > 1):
        raise DroppedError("the WebUI used another clip_skip, or does not say which", reason="wrong_clip_skip")


def _check_prompts(info: Mapping[str, Any], params: GenerationParams, limits: Limits) -> None:
    for name, prompt in (("prompt", params.prompt), ("negative_prompt", params.negative_prompt)):
        used = info.get(name)
        kept = used.rstrip(_AFTER_CUT) if isinstance(used, str) else ""
        if len(kept) < _SHORTEST_CUT or not prompt.startswith(kept):
            continue
        # KoboldCpp cuts a prompt after 2048 bytes (1.115) or 3000 (1.121), and takes LoRAs out of it.
        rest = prompt[len(kept) :].strip(_AFTER_CUT)
        if rest and "<lora:" not in rest:
            limits = replace(limits, most_prompt_bytes=len(kept.encode()))
            raise LimitError("the WebUI used only a part of the prompt", limits, reason="wrong_prompt")


def _reported(info: Mapping[str, Any], name: str, asked: float) -> float:
    """What the WebUI says that it used; the requested value if it says nothing, or the same but for rounding."""
    used = number(info.get(name))
    return asked if not used or abs(used - asked) <= _ROUNDING * asked else used


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _seed(seeds: list[Any], first_seed: int, number: int) -> int:
    """
    :raises InvalidAnswerError: the WebUI used another seed than it was given.
    """
    expected = first_seed + number
    used = seeds[number] if number < len(seeds) else expected
    if used != expected:
        raise InvalidAnswerError("the WebUI painted with another seed", reason="wrong_seed")
    return expected


def _text(texts: list[Any], number: int) -> str | None:
    text = texts[number] if number < len(texts) else None
    return text if isinstance(text, str) else None
