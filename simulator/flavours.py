"""Which servers can be played."""

from simulator.a1111 import A1111
from simulator.controlnet import KINDS
from simulator.flavour import Flavour, Settings
from simulator.forge import Forge
from simulator.koboldcpp import KoboldCpp
from simulator.sdcpp import SdCpp
from simulator.sdnext import SDNext

CLASSES: dict[str, type[Flavour]] = {
    "a1111": A1111,
    "a1111-1.6": A1111,
    "forge": Forge,
    "sdnext": SDNext,
    "sdcpp": SdCpp,
    "koboldcpp": KoboldCpp,
    "koboldcpp-1.115": KoboldCpp,
}
NAMES = tuple(CLASSES)


def build(settings: Settings) -> Flavour:
    """The server that the settings describe.

    :raises ValueError: there is none, or it cannot be set up like that.
    """
    name = settings.flavour
    if name not in CLASSES:
        raise ValueError(f"unknown flavour {name!r}; known are {', '.join(NAMES)}")
    if not settings.models and not name.startswith(("a1111", "forge")):
        raise ValueError("at least one model is needed")
    if settings.nothing_loaded and name != "sdnext":
        raise ValueError(f"{name} always has a model loaded")
    if issubclass(CLASSES[name], SdCpp) and settings.samples_format not in (None, "png"):
        raise ValueError(f"{name} sends nothing but png")
    if settings.controlnet not in (None, *KINDS):
        raise ValueError(f"unknown kind of ControlNet {settings.controlnet!r}; known are {', '.join(KINDS)}")
    if settings.controlnet not in (None, "none") and not name.startswith(("a1111", "forge")):
        raise ValueError(f"{name} has no ControlNet")
    return CLASSES[name](settings)
