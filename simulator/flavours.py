"""Which servers can be played."""

import random
from functools import partial
from typing import Any

from simulator.a1111 import A1111, Setup
from simulator.application import Flavour
from simulator.forge import OPTIONS as FORGE_OPTIONS
from simulator.forge import VERSION as FORGE_VERSION
from simulator.forge import Forge
from simulator.koboldcpp import KoboldCpp
from simulator.old_a1111 import OldA1111
from simulator.sdcpp import SdCpp
from simulator.sdnext import SDNext, SDNextWebUI
from simulator.short_runs import check_a1111, check_forge
from simulator.webui import ForgeWebUI, WebUI

NAMES = ("a1111", "a1111-1.6", "forge", "sdnext", "sdcpp", "koboldcpp", "koboldcpp-1.115")


def build(
    name: str,
    *,
    setup: Setup,
    models: tuple[str, ...],
    step_s: float,
    load_s: float,
    samples_format: str | None,
    weights: str,
    broken: tuple[str, ...],
    nothing_loaded: bool,
    source: random.Random,
) -> Flavour:
    """The server of this name.

    :raises ValueError: there is none, or it cannot be set up like that.
    """
    if not models and name in ("sdcpp", "sdnext"):
        raise ValueError("at least one model is needed")
    if nothing_loaded and name != "sdnext":
        raise ValueError(f"{name} always has a model loaded")
    if name in ("sdcpp", "koboldcpp", "koboldcpp-1.115"):
        if samples_format not in (None, "png"):
            raise ValueError(f"{name} sends nothing but png")
        if name == "sdcpp":
            return SdCpp(model=models[0], step_s=step_s)
        return KoboldCpp(model=models[0], step_s=step_s, version="1.115" if name.endswith("1.115") else "1.121")
    config = {"samples_format": samples_format} if samples_format else {}
    kind: type[WebUI] = ForgeWebUI if name == "forge" else WebUI
    settings: dict[str, Any] = {
        "models": models,
        "step_s": step_s,
        "load_s": load_s,
        "weights": weights,
        "broken": broken,
    }
    webui = partial(kind, **settings)
    match name:
        case "a1111":
            return A1111(webui(config=config, check_steps=check_a1111), setup, source)
        case "a1111-1.6":
            return OldA1111(webui(config=config, version=None), setup, source)
        case "forge":
            forge = webui(config=config, defaults=FORGE_OPTIONS, version=FORGE_VERSION, check_steps=check_forge)
            return Forge(forge, setup, source)
        case "sdnext":
            config = {"samples_format": "jpg", **config}
            sdnext = SDNextWebUI(config=config, version=None, nothing_loaded=nothing_loaded, **settings)
            return SDNext(sdnext, setup, source)
    raise ValueError(f"unknown flavour {name!r}; known are {', '.join(NAMES)}")
