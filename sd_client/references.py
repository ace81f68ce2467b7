"""Reference pictures: how a WebUI can be asked to use one, and what in its answer proves that it did.

A1111 with the ControlNet extension, and Forge, drop a unit that fails without a word: they answer 200 with the plain
picture, and the infotext says that it was used. The extension keeps the prepared pictures ("maps") only after every
unit has been joined to the model, and puts them behind the job's pictures: those prove it. SD.Next writes its words
only after it has loaded the adapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from sd_client.accounts import extra
from sd_client.errors import DroppedError, InvalidAnswerError
from sd_client.models import (
    Capabilities,
    GenerationParams,
    Reference,
    ReferenceMethod,
    ReferencePicture,
    ReferenceWay,
    UsedReference,
)
from sd_client.pixels import decoded, fingerprint, size_of
from sd_client.result import has_generation_text

NO_MODEL = "None"
_ATTENTION = "reference_only"

#: What encodes a picture for an IP-Adapter, as ControlNet's extension and Forge call it: by CLIP ViT-H and ViT-bigG.
#: Their default cannot be trusted: Forge's wants a face.
_VIT_H = ("ip-adapter_clip_h", "ip-adapter_clip_sd15", "CLIP-ViT-H (IPAdapter)")
_VIT_G = ("ip-adapter_clip_g", "ip-adapter_clip_sdxl", "CLIP-ViT-bigG (IPAdapter)")

#: In the names of adapters that look at a face, or at the places of things, and not at what they look like.
_OTHER_PURPOSES = ("face", "portrait", "pulid", "instant", "composition")
#: SD.Next's, in the order in which they are tried.
_SDNEXT_ADAPTERS = ("Plus", "Base", "Plus ViT-H SDXL", "Base ViT-H SDXL", "Base SDXL")

#: Each costs a trial with each model.
_MOST_ADAPTERS = 8

_HASH = re.compile(r"\s*\[[0-9a-fA-F]+\]$")

#: In a traceback of ControlNet's.
_SCRIPT = b"controlnet"

_DROPPED = "the WebUI left out the reference picture, or its answer does not prove that it used it"


# --- What a WebUI lists -----------------------------------------------------------------------------------------------


def controlnet_ways(answer: object) -> tuple[ReferenceWay, ...]:
    """Of ``GET /controlnet/control_types``."""
    types = answer.get("control_types") if isinstance(answer, dict) else None
    adapters = _type(types, "IP-Adapter")
    modules = _texts(adapters.get("module_list"))
    models = [model for model in _texts(adapters.get("model_list")) if _is_for_looks(model)]
    models.sort(key=lambda model: "plus" not in model.lower())
    ways = [
        ReferenceWay(method="adapter", model=model, module=module)
        for model in models
        if (module := next((name for name in _encoders(model) if name in modules), None))
    ][:_MOST_ADAPTERS]
    if _ATTENTION in _texts(_type(types, "Reference").get("module_list")):
        ways.append(ReferenceWay(method="attention", model=NO_MODEL, module=_ATTENTION))
    return tuple(ways)


def sdnext_ways(answer: object) -> tuple[ReferenceWay, ...]:
    """Of ``GET /sdapi/v1/ip-adapters``, which lists names."""
    listed = _texts(answer)
    return tuple(ReferenceWay(method="adapter", model=name) for name in _SDNEXT_ADAPTERS if name in listed)


def _type(types: object, name: str) -> Mapping[str, Any]:
    found = types.get(name) if isinstance(types, dict) else None
    return found if isinstance(found, dict) else {}


def _texts(value: object) -> list[str]:
    return (
        [text for text in value[:1000] if isinstance(text, str) and len(text) <= 1000]
        if isinstance(value, list)
        else []
    )


def _is_for_looks(model: str) -> bool:
    return model != NO_MODEL and not any(purpose in model.lower() for purpose in _OTHER_PURPOSES)


def _encoders(model: str) -> tuple[str, ...]:
    name = bare_model(model).lower()
    return _VIT_G if name == "ip-adapter_sdxl" or name.endswith(("vit-g", "vit_g")) else _VIT_H


def bare_model(model: str) -> str:
    """``ip-adapter_sd15 [e39a2944]`` -> ``ip-adapter_sd15``."""
    return _HASH.sub("", model)


# --- What it is asked -------------------------------------------------------------------------------------------------


def possible_ways(capabilities: Capabilities, reference: Reference) -> tuple[ReferenceWay, ...]:
    """Those that the WebUI has for this job."""
    return tuple(way for way in capabilities.references if way.method in reference.pictures)


def reference_field(reference: Reference, way: ReferenceWay) -> tuple[bytes, bytes, bytes]:
    """A field of the job's JSON: what is written before the picture, the picture, and what is written after it."""
    picture = reference.pictures[way.method].file
    if not way.module:
        adapter = {"adapter": way.model, "scale": reference.weight, "start": 0.0, "end": 1.0, "crop": False}
        return b',"ip_adapter":[' + to_json(adapter)[:-1] + b',"images":["', picture, b'"]}]'
    unit = {
        "enabled": True,
        "module": way.module,
        "model": way.model,
        "weight": reference.weight,
        "resize_mode": "Crop and Resize",
        "processor_res": 512,
        "threshold_a": 0.5,  # Forge's own default is another
        "threshold_b": 0.5,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "control_mode": "Balanced",
        "pixel_perfect": False,
        "save_detected_map": True,
        "inpaint_crop_input_image": False,  # true would cut the garment to the mask's place
    }
    before = b',"alwayson_scripts":{"controlnet":{"args":[' + to_json(unit)[:-1] + b',"image":"'
    return before, picture, b'"}]}}'


# --- What it answers --------------------------------------------------------------------------------------------------


def map_count(params: GenerationParams, way: ReferenceWay) -> int:
    """How many maps stand behind the job's pictures."""
    if not way.module:
        return 0
    return 2 if params.hires is not None and way.method == "attention" else 1


def check_words(info: Mapping[str, Any], reference: Reference, way: ReferenceWay) -> UsedReference:
    """
    What the answer says. Of ControlNet's it is necessary and never sufficient.

    :raises DroppedError: it says nothing of it.
    """
    if way.module:
        words = f"Module: {way.module}, Model: {way.model}, Weight: {float(reference.weight)},"
        is_named = extra(info, "ControlNet 0").startswith(words)
    else:
        adapter, _, rest = extra(info, "IP Adapter").partition(":")
        is_named = adapter == way.model and _number(rest.partition(":")[0]) == reference.weight
    if not is_named:
        raise dropped()
    return UsedReference(method=way.method, model=None if way.model == NO_MODEL else bare_model(way.model))


def check_maps(maps: Sequence[object], params: GenerationParams, reference: Reference, way: ReferenceWay) -> None:
    """
    :param maps: the last images of the answer, :func:`map_count` of them at most.
    :raises DroppedError: they are not what ControlNet makes of our picture.
    """
    files = [image for image in maps if isinstance(image, bytes) and not has_generation_text(image)]
    if len(files) != map_count(params, way):
        raise dropped()
    ours = reference.pictures[way.method]
    # With a second pass there is one more, of the final size: behind ours on Forge, before it on A1111.
    same = [file for file in files if _is_same(file, ours)]
    others = [size_of(file) for file in files if file not in same]
    if not same or any(other != params.picture_size for other in others):
        raise dropped()


#: So many exceptions are reported.
_MOST_EXCEPTIONS = 5


def met_exception(before: Sequence[object], after: Sequence[object]) -> bool | None:
    """
    Whether Forge met an exception between two looks at its list, newest first.

    :returns: None if it cannot be told: the list is full, and the like of its newest would leave it as it is.
    """
    if before != after:
        return True
    is_full = len(before) >= _MOST_EXCEPTIONS
    return None if is_full and _SCRIPT in to_json(before[0]).lower() else False


def dropped() -> DroppedError:
    return DroppedError(_DROPPED, reason="reference_dropped")


def _is_same(file: bytes, ours: ReferencePicture) -> bool:
    """Pixel for pixel; an adapter's map comes back transparent, with our colours."""
    try:
        return fingerprint(decoded(file, size=ours.size, message="")) == ours.fingerprint
    except InvalidAnswerError:
        return False


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def methods_of(ways: Iterable[ReferenceWay]) -> tuple[ReferenceMethod, ...]:
    """Each once, in their order."""
    return tuple(dict.fromkeys(way.method for way in ways))
