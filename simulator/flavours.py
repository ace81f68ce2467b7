"""Which servers can be played."""

import random

from simulator.a1111 import A1111, Setup
from simulator.application import Flavour
from simulator.webui import WebUI

NAMES = ("a1111",)


def build(
    name: str,
    *,
    setup: Setup,
    models: tuple[str, ...],
    step_s: float,
    load_s: float,
    samples_format: str | None,
    source: random.Random,
) -> Flavour:
    """The server of this name.

    :raises ValueError: there is none.
    """
    if name not in NAMES:
        raise ValueError(f"unknown flavour {name!r}; known are {', '.join(NAMES)}")
    config = {"samples_format": samples_format} if samples_format else {}
    return A1111(WebUI(models=models, step_s=step_s, load_s=load_s, config=config), setup, source)
