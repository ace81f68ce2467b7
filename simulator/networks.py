"""LoRAs as A1111 and its forks read them from a prompt: loaded, or left out without a word."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.flavour import Profile

TAG = re.compile(r"<(\w+):([^>]+)>")
KINDS = ("lora", "lyco")
HASH_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a prompt's tags come to."""

    words: str
    """The prompt without its tags, as the text encoder reads it."""
    hashes: Mapping[str, str]
    """By the names by which files that were read were mentioned."""
    effects: tuple[tuple[str, float], ...]
    """Names and weights of those that change the picture."""

    @property
    def painted(self) -> str:
        """Stands for the words and the effects; the plain words where there are none."""
        return f"{self.words} {self.effects}" if self.effects else self.words


def load(prompt: str, profile: Profile) -> Loaded:
    """Every tag is taken out, whether or not it means something."""
    if not TAG.search(prompt):
        return Loaded(words=prompt, hashes={}, effects=())
    files = _by_mention(profile["lists"]["loras"])
    wrong: dict[str, list[str]] = profile["wrong_loras"]
    hashes: dict[str, str] = {}
    weights: dict[str, float] = {}
    for kind, inside in TAG.findall(prompt):
        mention, *numbers = inside.split(":")
        weight = _number(numbers[0]) if numbers else 1.0
        name = files.get(mention)
        if kind not in KINDS or name is None or weight is None or name in wrong["corrupt"]:
            continue
        hashes[mention] = file_hash(name)
        if weight and name not in wrong["foreign"]:
            weights[name] = weight
    words = re.sub(r"\s+", " ", TAG.sub("", prompt)).strip()
    return Loaded(words=words, hashes=hashes, effects=tuple(sorted(weights.items())))


def texts(loaded: Loaded, profile: Profile, *, with_hashes: bool) -> dict[str, Any]:
    """What the infotext says of them."""
    if not loaded.hashes:
        return {}
    if profile["lora_texts"] == "names":
        hashes = {"LoRA hashes": ", ".join(loaded.hashes.values())} if with_hashes else {}
        return {"LoRA networks": ", ".join(loaded.hashes), **hashes}
    return {"Lora hashes": ", ".join(map(": ".join, loaded.hashes.items()))} if with_hashes else {}


def file_hash(name: str) -> str:
    """Stands for the content of the file of this name."""
    return hashlib.sha256(name.encode()).hexdigest()[:HASH_DIGITS]


def _by_mention(files: list[Mapping[str, Any]]) -> dict[str, str]:
    """Names by every name and by every alias that only one file has."""
    aliases = Counter(file["alias"] for file in files)
    mentions = {file["alias"]: file["name"] for file in files if aliases[file["alias"]] == 1}
    return {**mentions, **{file["name"]: file["name"] for file in files}}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
