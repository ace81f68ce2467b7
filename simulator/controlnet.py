"""ControlNet's units as the extension for A1111 ("strict") and Forge read them: used, or left out without a word.

A unit that fails leaves its line in the infotext all the same. The extension keeps the prepared pictures ("maps") only
once all units are joined to the model; Forge appends each before its model is loaded. SD.Next's `ip_adapter` is here
too: it writes its words once the adapter is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulator.errors import CrashError, HTTPError, SimulatedError
from simulator.flavour import Profile

if TYPE_CHECKING:
    from PIL import Image

#: With "strict-unloaded" the extension has its routes, but a package is missing, so that its script is not there.
KINDS = ("none", "strict", "strict-unloaded", "forge", "forge-nosysinfo")
SCRIPT = "controlnet"
UNITS = 3
NO_MAPS = "control_net_no_detectmap"
HASH = re.compile(r"\s*\[([0-9a-fA-F]+)\]$")
RESIZE_MODES = {"Just Resize": "RESIZE", "Crop and Resize": "INNER_FIT", "Resize and Fill": "OUTER_FIT"}
CONTROL_MODES = ("Balanced", "My prompt is more important", "ControlNet is more important")
#: Modules whose picture is brought to the generation's size; others prepare no picture, and give it back as it was.
REFERENCES = ("reference_only", "reference_adain", "reference_adain+attn")
#: What the extension's labels stand for.
LABELS = {"ip-adapter_clip_h": "ip-adapter_clip_sd15", "ip-adapter_clip_g": "ip-adapter_clip_sdxl"}
VIT_H = ("ip-adapter_clip_sd15", "CLIP-ViT-H (IPAdapter)")
VIT_G = ("ip-adapter_clip_sdxl", "CLIP-ViT-bigG (IPAdapter)")
AUTO = "ip-adapter-auto"
#: What a line calls them.
NUMBERS = {"processor_res": "Processor Res", "threshold_a": "Threshold A", "threshold_b": "Threshold B"}
#: A key that faults add to a unit, and the seconds that one of them takes.
FAULT, SECONDS = "simulated_fault", "simulated_seconds"
MOST_EXCEPTIONS = 5
#: As /internal/sysinfo reports a unit that was left out.
EXCEPTION: dict[str, object] = {
    "exception": "'NoneType' object has no attribute 'process_before_every_sampling'",
    "traceback": [["/opt/webui/extensions-builtin/sd_forge_controlnet/scripts/controlnet.py, line 572", "process"]],
}
OOM = ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.50 GiB")

#: A mean colour, and how much of it is seen.
Tint = tuple[tuple[int, int, int], float]


@dataclass(kw_only=True)
class Effects:
    """What a job's units come to."""

    lines: dict[str, str] = field(default_factory=dict)
    """Of `extra_generation_params`."""
    tints: list[Tint] = field(default_factory=list)
    maps: list[Image.Image] = field(default_factory=list)
    failures: int = 0
    """Exceptions that were only printed."""
    wait_s: float = 0.0


class UnitError(Exception):
    """A unit is left out. `prepared`: its picture had been prepared before that."""

    def __init__(self, *, prepared: bool = False, lined: bool = True) -> None:
        super().__init__("left out")
        self.prepared = prepared
        self.lined = lined


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What units meet: the job's picture, its model, and an option."""

    size: tuple[int, int]
    final_size: tuple[int, int] | None
    init_image: object
    model: str
    hides_maps: bool
    inpaints_masked: Image.Image | None
    """The mask, where only its place is painted."""


def decode_mask(fields: Mapping[str, Any]) -> Image.Image | None:
    """An inpainting's mask."""
    from simulator.pictures import decode

    return decode(fields["mask"]) if fields.get("mask") else None


def units_of(fields: Mapping[str, Any], known: Sequence[str]) -> list[dict[str, Any]]:
    """The units of a request.

    :param known: scripts, by the names that are listed.
    :raises SimulatedError: there is no such script, or its arguments cannot be read.
    """
    units: list[dict[str, Any]] = []
    for name, script in (fields.get("alwayson_scripts") or {}).items():
        if name.lower() not in known:
            raise HTTPError(422, f"Script '{name}' not found")
        args = script.get("args") if isinstance(script, dict) else None
        if name.lower() == SCRIPT and args:
            if isinstance(args, dict):
                raise CrashError("KeyError", "0")
            if isinstance(args[0], dict):
                units += args
    return units


def apply(units: Sequence[Mapping[str, Any]], kind: str, profile: Profile, around: Surroundings) -> Effects:
    """What they do to a job.

    :raises CrashError: where and as the extension fails aloud.
    """
    effects = Effects()
    strict = kind == "strict"
    if strict:
        for unit in units:
            _validate(unit, profile)
    enabled = [unit for unit in units[:UNITS] if unit.get("enabled", not strict)]
    failed = False
    for number, unit in enumerate(enabled):
        effects.wait_s += float(unit.get(SECONDS, 0.0))
        maps, lined, tint, bad = _maps(unit, strict, around), True, None, False
        try:
            tint = _used(unit, strict, profile, around)
        except UnitError as error:
            effects.failures += 1
            maps, lined, bad = maps if error.prepared else [], error.lined, True
        if lined:
            effects.lines[f"ControlNet {number}"] = _line(unit, strict)
        if not failed:
            effects.maps += maps
            effects.tints += [tint] if tint else []
        failed = failed or bad
    if strict and failed:
        effects.tints, effects.maps = [], []
    return effects


def _used(unit: Mapping[str, Any], strict: bool, profile: Profile, around: Surroundings) -> Tint | None:
    """:raises UnitError: it is not."""
    fault = unit.get(FAULT)
    if fault == "cn-oom":
        raise CrashError(*OOM)
    if fault == "cn-drop":
        raise UnitError
    module = LABELS.get(str(unit.get("module", "none")), str(unit.get("module", "none")))
    if not strict and (
        module not in _modules(profile) or unit.get("resize_mode", "Crop and Resize") not in RESIZE_MODES
    ):
        raise UnitError
    picture = _picture(unit, strict, around)
    if picture is None:
        raise UnitError
    model = _model(str(unit.get("model", "None")), strict, profile)
    prepared = not strict
    if strict and fault == "cn-drop-keep-map":  # No extension does this; it shows what only a trial finds.
        return None
    if fault == "cn-drop-keep-map" or (module not in REFERENCES and not _fits(module, model, around.model)):
        raise UnitError(prepared=prepared)
    weight = float(unit.get("weight", 1.0))
    start, end = float(unit.get("guidance_start", 0.0)), float(unit.get("guidance_end", 1.0))
    if start >= end or (not weight and module in REFERENCES):
        return None
    sharpness = f"{unit.get('threshold_a', -1)}" if module in REFERENCES and not strict else ""
    shade = {"-1": 0.0, "-1.0": 0.0, "0": 0.02, "0.0": 0.02}.get(sharpness, 0.01)
    return _mean(picture), min(0.9, 0.5 * weight + 0.02 + shade)


def _fits(module: str, model: str | None, checkpoint: str) -> bool:
    """Whether an adapter goes with the encoder and with the kind of the checkpoint."""
    if model is None or not model.startswith("ip-adapter"):
        return False
    name = HASH.sub("", model).lower()
    wants_g = name == "ip-adapter_sdxl" or name.endswith("vit-g")
    family = ("xl" in name) == ("xl" in checkpoint.lower())
    return family and (module == AUTO or module in (VIT_G if wants_g else VIT_H))


def _model(asked: str, strict: bool, profile: Profile) -> str | None:
    """The file that a name stands for: Forge wants it exact, the extension takes the shortest that holds it."""
    models: list[str] = profile["controlnet"]["models"]
    if asked in models:
        return asked
    if not strict or asked == "None" or HASH.search(asked):
        return None
    found = [model for model in models if asked.lower() in model.lower()]
    return min(found, key=len, default=None)


def _modules(profile: Profile) -> list[str]:
    return [name for kind in profile["controlnet"]["types"].values() for name in kind]


def _picture(unit: Mapping[str, Any], strict: bool, around: Surroundings) -> Image.Image | None:
    """The unit's own, or what img2img starts from; None if there is none, or none that can be read."""
    given = unit.get("image")
    if given is None and strict:
        given = unit.get("input_image")
    if isinstance(given, list) and given and strict:
        given = given[0]
    if isinstance(given, dict) and strict:
        given = given.get("image")
    if given is None:
        given = around.init_image
    return None if given is None or given == "" else _decoded(given, strict)


def _decoded(text: object, strict: bool) -> Image.Image:
    from simulator.pictures import decode, flatten, read  # Pillow is half of a simulator's start.

    try:
        return flatten(read(decode(text)))
    except SimulatedError:
        raise UnitError(lined=strict or not isinstance(text, str)) from None


def _maps(unit: Mapping[str, Any], strict: bool, around: Surroundings) -> list[Image.Image]:
    """What it would add to the answer."""
    from simulator.pictures import resized

    if not unit.get("save_detected_map", True) or (strict and around.hides_maps):
        return []
    try:
        picture = _picture(unit, strict, around)
    except UnitError:
        return []
    if picture is None:
        return []
    if str(unit.get("module")) not in REFERENCES:
        if around.inpaints_masked is not None and unit.get("inpaint_crop_input_image", True) and strict:
            box = around.inpaints_masked.convert("L").point(lambda value: 255 * (value > 127)).getbbox()
            picture = picture.resize(around.inpaints_masked.size).crop(box)
        if strict:  # Its colours are there, and nothing of them is seen.
            picture = picture.convert("RGBA")
            picture.putalpha(0)
        return [picture]
    resize_mode = str(unit.get("resize_mode", "Crop and Resize"))
    if resize_mode not in RESIZE_MODES:
        return []
    mode = list(RESIZE_MODES).index(resize_mode)
    sizes = [around.size] + ([around.final_size] if around.final_size else [])
    maps = [resized(picture, size, mode) for size in sizes]
    return maps[::-1] if strict else maps


def _mean(picture: Image.Image) -> tuple[int, int, int]:
    from PIL import Image, ImageStat

    red, green, blue = (round(value) for value in ImageStat.Stat(picture.resize((64, 64), Image.Resampling.BOX)).mean)
    return red, green, blue


def _line(unit: Mapping[str, Any], strict: bool) -> str:
    start = {
        "Module": unit.get("module", "none" if strict else "None"),
        "Model": unit.get("model", "None"),
        "Weight": float(unit.get("weight", 1.0)),
    }
    guidance = {
        "Guidance Start": float(unit.get("guidance_start", 0.0)),
        "Guidance End": float(unit.get("guidance_end", 1.0)),
        "Pixel Perfect": bool(unit.get("pixel_perfect", False)),
    }
    resize_mode, control_mode = unit.get("resize_mode", "Crop and Resize"), unit.get("control_mode", CONTROL_MODES[0])
    defaults = (100, 200) if unit.get("module") == "canny" else (0.5, 0.5)
    given = {label: unit[name] for name, label in NUMBERS.items() if unit.get(name, -1) >= 0}
    if strict:
        values = {
            **start,
            "Resize Mode": resize_mode,
            "Processor Res": unit.get("processor_res", 512),
            "Threshold A": unit.get("threshold_a", defaults[0]),
            "Threshold B": unit.get("threshold_b", defaults[1]),
            **guidance,
            "Control Mode": control_mode,
        }
    else:
        values = {
            **start,
            "Resize Mode": f"ResizeMode.{RESIZE_MODES[resize_mode]}" if resize_mode in RESIZE_MODES else resize_mode,
            **given,
            **guidance,
            "Control Mode": "ControlMode.BALANCED" if control_mode == CONTROL_MODES[0] else control_mode,
            "Hr Option": "HiResFixOption.BOTH",
        }
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _validate(unit: Mapping[str, Any], profile: Profile) -> None:
    """:raises CrashError: what the extension's own model of a unit refuses."""
    if unit.get("image") is not None and unit.get("input_image") is not None:
        raise CrashError("AssertionError", "Conflict of field 'input_image' and 'image'")
    problem = _problem(unit, profile)
    if problem:
        name, text = problem
        raise CrashError("ValidationError", f"1 validation error for ControlNetUnit\n{name}\n  {text}")


def _problem(unit: Mapping[str, Any], profile: Profile) -> tuple[str, str] | None:
    module = unit.get("module", "none")
    if module != "none" and LABELS.get(module, module) not in {LABELS.get(one, one) for one in _modules(profile)}:
        return "module", f"module({module}) not found in supported modules. (type=value_error)"
    resize_mode = unit.get("resize_mode", "Crop and Resize")
    if not isinstance(resize_mode, str):
        return "resize_mode", " (type=assertion_error)"
    if resize_mode not in RESIZE_MODES:
        return "resize_mode", f"'{resize_mode}' is not a valid ResizeMode (type=value_error)"
    if unit.get("control_mode", CONTROL_MODES[0]) not in CONTROL_MODES:
        return "control_mode", "value is not a valid enumeration member"
    if float(unit.get("weight", 1.0)) > 2:
        return "weight", (
            "ensure this value is less than or equal to 2.0 (type=value_error.number.not_le; limit_value=2.0)"
        )
    start, end = float(unit.get("guidance_start", 0.0)), float(unit.get("guidance_end", 1.0))
    if start > end:
        return "__root__", f"guidance_start({start}) > guidance_end({end}) (type=value_error)"
    return None


# --- SD.Next ----------------------------------------------------------------------------------------------------------


def apply_adapters(adapters: Sequence[Mapping[str, Any]], profile: Profile, checkpoint: str) -> Effects:
    """What SD.Next makes of `ip_adapter`: nothing, without a word, where one cannot be loaded."""
    effects = Effects()
    for adapter in adapters[:1]:
        if adapter.get(FAULT) == "cn-oom":
            raise CrashError(*OOM)
        effects.wait_s += float(adapter.get(SECONDS, 0.0))
        name, scale = str(adapter.get("adapter", "Base")), float(adapter.get("scale", 0.5))
        fits = name in profile["ip_adapters"] and ("XL" in name) == ("xl" in checkpoint.lower())
        if not fits or adapter.get(FAULT) or not adapter.get("images"):
            continue
        try:
            picture = _decoded(adapter["images"][0], strict=True)
        except UnitError:
            continue
        start, end = float(adapter.get("start", 0.0)), float(adapter.get("end", 1.0))
        effects.lines["IP Adapter"] = f"{name}:{scale}:{start}:{end}:{bool(adapter.get('crop', False))}"
        effects.tints += [(_mean(picture), 0.5 * scale)] if scale else []
    return effects


# --- What is listed ---------------------------------------------------------------------------------------------------


def lists(kind: str, profile: Profile) -> Iterator[tuple[str, object]]:
    """The paths that are only read, and their answers."""
    strict = kind.startswith("strict")
    if kind == "none":
        return
    none, models = ("none" if strict else "None"), profile["controlnet"]["models"]
    types = {}
    for name, modules in profile["controlnet"]["types"].items():
        fitting = [model for model in models if name == "All" or model.startswith(name.lower())]
        types[name] = {
            "module_list": [none, *modules],
            "model_list": ["None", *fitting],
            "default_option": modules[0] if modules else none,
            "default_model": fitting[0] if fitting else "None",
        }
    yield "/controlnet/control_types", {"control_types": types}
    yield "/controlnet/model_list", {"model_list": models if strict else ["None", *models]}
    yield "/controlnet/module_list", {"module_list": [none, *_modules(profile)]}
    if strict:
        yield "/controlnet/version", {"version": 3}
        yield "/controlnet/settings", {"control_net_unit_count": UNITS}
