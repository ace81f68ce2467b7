"""The fields of A1111's ``txt2img`` and ``img2img``, and what each of them is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from api.doors import a1111_hires
from api.doors.a1111_controlnet import SCRIPT, carry_reference
from api.doors.a1111_hires import carry_hires, has_hires
from api.doors.translation import Neutral, Translation, boolean, equal_to, is_empty, is_false, is_true, number, one_of
from api.schemas.values import shown_text
from services.generation_request import Mode

Route = Literal["txt2img", "img2img"]

#: What a problem with a model is about that the caller has chosen before.
CHOSEN: Final = "sd_model_checkpoint (chosen with POST /sdapi/v1/options)"

#: Pieces of the service's own sentences, and what this door says instead.
WORDS: Final = (
    (
        'say with mask_mode what is repainted ("white", "black" or "alpha")',
        "send a mask of black and white: the white is repainted, with inpainting_mask_invert 1 the black",
    ),
    ('mask_mode "white"', "inpainting_mask_invert 0"),
    ('mask_mode "black"', "inpainting_mask_invert 1"),
    ('use "stretch" or "fill"', "use 0 or 2"),
    ('use "original" or "fill"', "use 1 or 0"),
    ("strength x steps", "denoising_strength x steps"),
    ("ask without 'reference'", "leave the unit out"),
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """
    A carried field whose values have other names here.

    :param own: the field's name here; :param values: what each value is here, None if nothing need be said.
    :param default: A1111's own.
    """

    own: str
    values: Mapping[int, str | None]
    default: int
    refused: str


#: Carried: A1111's name, and ours.
CARRIED: Final = {name: name for name in ("prompt", "negative_prompt", "steps", "cfg_scale", "width", "height", "seed")}
CARRIED_IMG2IMG: Final = {"denoising_strength": "strength"}
CARRIED_MASK: Final = {"mask_blur": "mask_blur", "inpaint_full_res_padding": "inpaint_padding"}
#: Carried by rules that no table has.
CARRIED_OTHERWISE: Final = frozenset(
    {
        *("sampler_name", "sampler_index", "scheduler", "n_iter", "batch_size", "model", "override_settings"),
        *("force_task_id", "alwayson_scripts", "clip_skip", "enable_hr"),
    }
)
PICTURES: Final = frozenset({"init_images", "mask"})

CHOICES_IMG2IMG: Final = {
    "resize_mode": Choice(
        own="resize_mode",
        values={0: "stretch", 1: "crop", 2: "fill"},
        default=0,
        refused="must be 0 (stretch), 1 (crop) or 2 (fill); a latent upscale is not available",
    )
}
CHOICES_MASK: Final = {
    "inpainting_mask_invert": Choice(
        own="mask_mode",
        # Of a mask that is plain the white is repainted. One that is not is refused rather than misread.
        values={0: None, 1: "black"},
        default=0,
        refused="must be 0 (the white is repainted) or 1 (the black)",
    ),
    "inpainting_fill": Choice(
        own="inpaint_fill",
        values={0: "fill", 1: "original", 2: "noise", 3: "nothing"},
        default=0,
        refused="must be 0 (fill), 1 (original), 2 (latent noise) or 3 (latent nothing)",
    ),
    "inpaint_full_res": Choice(
        own="inpaint_area",
        values={0: "whole", 1: "masked"},
        default=1,
        refused="must be true (only masked) or false (whole picture)",
    ),
}


def _no_styles(value: object) -> bool:
    return is_empty(value) or (isinstance(value, list) and all(style in ("", "None") for style in value))


def _at_most_0(value: object) -> bool:
    read = number(value)
    return isinstance(read, int | float) and read <= 0


_OFF = "is not available here; leave it out"
_SAMPLER = "is not a parameter of samplers here; leave it out"
#: Accepted at values that change nothing.
NEUTRAL: Final[Mapping[str, Neutral]] = {
    **dict.fromkeys(
        ("restore_faces", "tiling", "disable_extra_networks"), Neutral(accepts=is_false, message=f"{_OFF}, or false")
    ),
    "styles": Neutral(accepts=_no_styles, message="styles are not available; write their words into the prompt"),
    **dict.fromkeys(
        ("s_churn", "s_tmin", "s_tmax", "s_min_uncond", "eta_noise_seed_delta"),
        Neutral(accepts=equal_to(0), message=f"{_SAMPLER}, or 0"),
    ),
    **dict.fromkeys(
        ("subseed_strength", "firstphase_width", "firstphase_height"),
        Neutral(accepts=equal_to(0), message=f"{_OFF}, or 0"),
    ),
    **dict.fromkeys(("s_noise", "initial_noise_multiplier"), Neutral(accepts=equal_to(1), message=f"{_SAMPLER}, or 1")),
    "eta": Neutral(accepts=equal_to(0, 1), message=f"{_SAMPLER}, or 0 or 1"),
    **dict.fromkeys(
        ("seed_resize_from_w", "seed_resize_from_h"), Neutral(accepts=_at_most_0, message=f"{_OFF}, or 0 or less")
    ),
    "send_images": Neutral(accepts=is_true, message="pictures are always sent; leave it out, or true"),
    "script_name": Neutral(accepts=one_of(""), message="scripts of the WebUI are not run; leave it out"),
    "script_args": Neutral(accepts=is_empty, message="scripts of the WebUI are not run; leave it out"),
    "refiner_checkpoint": Neutral(accepts=one_of(""), message="a refiner is not available; leave it out"),
    "infotext": Neutral(accepts=one_of(""), message="an infotext is not read; send its values as fields"),
}
#: The same in img2img.
NEUTRAL_IMG2IMG: Final[Mapping[str, Neutral]] = {
    "enable_hr": Neutral(accepts=is_false, message="hires fix is not for img2img; leave it out, or false"),
    **dict.fromkeys(("mask_blur_x", "mask_blur_y"), Neutral(accepts=equal_to(4), message="use mask_blur")),
    "mask_round": Neutral(accepts=is_true, message="a mask is either repainted or kept; leave it out, or true"),
}
#: Of ``override_settings``. Every other key is refused, but for those that are carried.
CARRIED_SETTINGS: Final = frozenset({"sd_model_checkpoint", "CLIP_stop_at_last_layers"})
NEUTRAL_SETTINGS: Final[Mapping[str, Callable[[object], bool]]] = {
    "sd_vae": one_of("Automatic", "None"),
    "sd_hypernetwork": one_of("None"),
    "eta_noise_seed_delta": equal_to(0),
    "ddim_discretize": one_of("uniform"),
    "img2img_fix_steps": is_false,
    "inpainting_mask_weight": equal_to(1),
    "initial_noise_multiplier": equal_to(1),
    "comma_padding_backtrack": equal_to(20),
    "samples_format": one_of("png"),
    "forge_additional_modules": is_empty,
}
#: Refused unless they are empty.
REFUSED: Final = {
    "latent_mask": "is not available; send the mask as 'mask'",
    "firstpass_image": "is not available; leave it out",
    "controlnet_units": "ControlNet is not available; leave it out",
}
#: Without an effect at any value, but for what hires fix reads where it is on. So is what A1111 does not know, but that
#: is named in the answer.
UNREAD: Final = frozenset(
    {
        *("refiner_switch_at", "subseed", "image_cfg_scale", "comments", "override_settings_restore_afterwards"),
        *("save_images", "do_not_save_samples", "do_not_save_grid", "include_init_images", "denoising_strength"),
    }
)
_UNREAD_BEGINNING: Final = "hr_"

_KNOWN: Final = CARRIED.keys() | CARRIED_OTHERWISE | NEUTRAL.keys() | REFUSED.keys() | UNREAD
KNOWN: Final[Mapping[Route, frozenset[str]]] = {
    "txt2img": frozenset(_KNOWN),
    "img2img": frozenset(
        {*_KNOWN, *CARRIED_IMG2IMG, *CARRIED_MASK, *PICTURES, *CHOICES_IMG2IMG, *CHOICES_MASK, *NEUTRAL_IMG2IMG},
    ),
}

#: Numbers of pixels that A1111 takes for a side that is left out.
_SIDE: Final = 512
_STRENGTH: Final = 0.75
_PADDING: Final = 0


def translate(route: Route, body: Mapping[str, object], *, steps: int, chosen: Callable[[], str | None]) -> Translation:
    """
    :param body: pictures as base64 text or as bytes.
    :param steps: the service's default.
    :param chosen: the model that the caller has chosen for requests that name none; asked only then.
    """
    with_mask = route == "img2img" and body.get("mask") is not None
    mode: Mode = "inpainting" if with_mask else route
    found = Translation.of(body, mode=mode, words=WORDS)
    found.check_neutral(NEUTRAL)
    for name, message in REFUSED.items():
        if not is_empty(found.given.get(name, "")):
            found.refuse(name, message, with_value=False)
    _check_scripts(found)
    _check_settings(found)
    _carry(found, CARRIED)
    _carry_names(found)
    _carry_count(found)
    _carry_clip_skip(found)
    _carry_model(found, chosen)
    if second_pass := route == "txt2img" and has_hires(found):
        carry_hires(found)
    if route == "img2img":
        found.check_neutral(NEUTRAL_IMG2IMG)
        found.values = {"strength": _STRENGTH, "width": _SIDE, "height": _SIDE} | found.values
        _carry(found, CARRIED_IMG2IMG)
        _carry_choices(found, CHOICES_IMG2IMG)
        _carry_picture(found)
    if with_mask:
        found.values = {"steps": steps, "inpaint_padding": _PADDING} | found.values
        _carry(found, CARRIED_MASK)
        _carry_choices(found, CHOICES_MASK)
        found.carry("mask", "mask", found.given["mask"])
    unknown = found.given.keys() - KNOWN[route]
    found.ignored = sorted(name for name in unknown if not name.startswith(_UNREAD_BEGINNING))
    # What the answer repeats as it came. The rest, which may be large, need not wait for the picture.
    repeated = [
        *(a1111_hires.FIELDS if second_pass else ()),
        *(CHOICES_IMG2IMG if route == "img2img" else ()),
        *((*CARRIED_MASK, *CHOICES_MASK) if with_mask else ()),
    ]
    found.given = {name: found.given[name] for name in repeated if name in found.given}
    return found


def _carry(found: Translation, table: Mapping[str, str]) -> None:
    for name, own in table.items():
        if name in found.given:
            found.carry(name, own, found.given[name])
        else:
            found.names[own] = name


def _carry_names(found: Translation) -> None:
    for own, names in {"sampler": ("sampler_name", "sampler_index"), "scheduler": ("scheduler",)}.items():
        found.names[own] = names[0]  # also of the service's default
        for name in names:
            value = found.given.get(name, "")
            if value not in ("", "automatic", "Automatic"):
                found.carry(name, own, value)
                break


def _carry_count(found: Translation) -> None:
    """``n_iter`` times ``batch_size``. What is wrong with one of them alone is said of it."""
    counts = []
    for name in ("n_iter", "batch_size"):
        count = _whole(found.given.get(name, 1))
        if not isinstance(count, int) or count < 1:
            found.carry(name, "batch_size", found.given[name])
            return
        counts.append(count)
    several, batch = counts
    name = "n_iter" if several > 1 else "batch_size"
    received = f"{several} x {batch}" if several > 1 and batch > 1 else None
    found.carry(name, "batch_size", several * batch, received=received)
    if several > 1:
        found.words = (*found.words, ("with batch_size", "with n_iter x batch_size"))


def _whole(value: object) -> object:
    read = number(value)
    if isinstance(read, bool):
        return None
    return int(read) if isinstance(read, float) and read.is_integer() else read


def _carry_setting(found: Translation, setting: str, name: str, own: str, *, nothing: Sequence[object]) -> bool:
    """
    A setting of A1111's, else the field that other servers have for it; whether there is either.

    :param nothing: the same as left out.
    """
    settings = found.given.get("override_settings")
    value = settings.get(setting) if isinstance(settings, dict) else None
    for called, wanted in ((f"override_settings.{setting}", value), (name, found.given.get(name))):
        if wanted is not None and wanted not in nothing:
            found.carry(called, own, wanted)
            return True
    return False


def _carry_clip_skip(found: Translation) -> None:
    _carry_setting(found, "CLIP_stop_at_last_layers", "clip_skip", "clip_skip", nothing=(0, "0"))


def _carry_model(found: Translation, chosen: Callable[[], str | None]) -> None:
    if _carry_setting(found, "sd_model_checkpoint", "model", "model", nothing=("",)):
        return
    if (choice := chosen()) is not None:
        found.carry(CHOSEN, "model", choice)


def _carry_choices(found: Translation, table: Mapping[str, Choice]) -> None:
    for name, choice in table.items():
        came = found.given.get(name, choice.default)
        read = boolean(came)
        value = int(read) if isinstance(read, bool) else _whole(read)
        if not isinstance(value, int) or value not in choice.values:
            found.refuse(name, choice.refused)
        elif (own := choice.values[value]) is not None:
            found.carry(name, choice.own, own, received=value)


def _carry_picture(found: Translation) -> None:
    found.names["image"] = "init_images"
    pictures = found.given.get("init_images", [])
    if not isinstance(pictures, list):
        found.refuse("init_images", "must be a list of exactly one picture")
    elif len(pictures) > 1:
        found.refuse("init_images", f"must have exactly one picture, not {len(pictures)}", with_value=False)
    elif pictures:
        found.carry("init_images", "image", pictures[0])


def _check_settings(found: Translation) -> None:
    settings = found.given.get("override_settings", {})
    if not isinstance(settings, dict):
        found.refuse("override_settings", "must be an object")
        return
    for key, value in settings.items():
        if value is None or key in CARRIED_SETTINGS:
            continue
        accepts = NEUTRAL_SETTINGS.get(key)
        if accepts is None or not accepts(value):
            message = "is not a setting that can be chosen here" if accepts is None else "can only have its usual value"
            found.refuse(f"override_settings.{shown_text(key[:80])}", f"{message}; leave it out")


def _check_scripts(found: Translation) -> None:
    scripts = found.given.get("alwayson_scripts", {})
    if not isinstance(scripts, dict):
        found.refuse("alwayson_scripts", "must be an object")
        return
    running = {name: script for name, script in scripts.items() if not _is_idle(script)}
    for name in [name for name in running if name.lower() == SCRIPT]:
        carry_reference(found, name, running.pop(name))
    asked = [shown_text(name) for name in running]
    if asked:
        names = ", ".join(map(repr, asked[:10])) + (f" and {len(asked) - 10} more" if len(asked) > 10 else "")
        message = f"scripts of the WebUI are not run ({names}); leave them out"
        found.refuse("alwayson_scripts", message, with_value=False)


def _is_idle(script: object) -> bool:
    """Whether a script is listed without being asked for anything."""
    if script is None or is_empty(script):
        return True
    args = script.get("args") if isinstance(script, dict) else script
    return args is None or args == [] or (isinstance(args, list) and len(args) == 1 and args[0] is False)
