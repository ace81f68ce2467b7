"""LoRAs: which a WebUI offers, how they are asked for, and what in its answer proves that it loaded them.

A1111 and its forks take a tag in the prompt, and drop one that they cannot load without a word. stable-diffusion.cpp's
server reads a tag as words; it takes the path that it lists.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sd_client.accounts import extra, stated
from sd_client.errors import DroppedError
from sd_client.models import Capabilities, GenerationParams, ListedLora, Lora, UsedLora

#: With one of these in its name a LoRA cannot be written as a tag, nor be read in the answer.
_NOT_IN_A_TAG = re.compile(r"[:,<>]")

#: Of a name or a path.
_MOST_CHARACTERS = 1000

#: By what ``ss_base_model_version`` begins with.
_BASES = {"sdxl": "sdxl", "sd_v1": "sd1", "sd_v2": "sd2"}


def listed_loras(entries: Iterable[Mapping[str, Any]]) -> tuple[ListedLora, ...]:
    """As they are listed, by name and never by alias: one that two files share stands for neither."""
    return tuple(
        ListedLora(name=name, path=_short(entry.get("path")), base=_base(entry))
        for entry in entries
        if (name := _short(entry.get("name")))
    )


def _short(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MOST_CHARACTERS else None


def by_tag(listed: Sequence[ListedLora]) -> tuple[ListedLora, ...]:
    """Those that a server which reads tags can be asked for."""
    return _named_once(replace(lora, path=None) for lora in listed if not _NOT_IN_A_TAG.search(lora.name))


def by_path(listed: Sequence[ListedLora]) -> tuple[ListedLora, ...]:
    """Those that a server which takes paths can be asked for."""
    return _named_once(lora for lora in listed if lora.path)


def _named_once(loras: Iterable[ListedLora]) -> tuple[ListedLora, ...]:
    found = tuple(loras)
    counts = Counter(lora.name for lora in found)
    return tuple(lora for lora in found if counts[lora.name] == 1)


def _base(entry: Mapping[str, Any]) -> str | None:
    metadata = entry.get("metadata")
    version = metadata.get("ss_base_model_version") if isinstance(metadata, dict) else None
    text = version if isinstance(version, str) else ""
    return next((base for begin, base in _BASES.items() if text.startswith(begin)), None)


def find_loras(capabilities: Capabilities, wanted: Sequence[Lora]) -> tuple[ListedLora, ...] | None:
    """As this WebUI lists them, in the same order; None if it lacks one."""
    listed = {lora.name: lora for lora in capabilities.loras}
    found = [listed[lora.name] for lora in wanted if lora.name in listed]
    return tuple(found) if len(found) == len(wanted) else None


def lora_fields(params: GenerationParams, listed: Sequence[ListedLora]) -> dict[str, Any]:
    """
    The fields that ask for the job's LoRAs: by their paths, or by tags. These stand before the prompt, where neither
    a comment that ends it (``# …``) nor a beginning without an end (``<3:``) can swallow them.
    """
    both = list(zip(params.loras, listed, strict=True))
    if all(one.path for one in listed):
        return {"lora": [{"path": one.path, "multiplier": lora.weight} for lora, one in both]}
    return {"prompt": " ".join([*(f"<lora:{one.name}:{lora.weight}>" for lora, one in both), params.prompt])}


def check_loras(info: Mapping[str, Any], listed: Sequence[ListedLora]) -> tuple[UsedLora, ...]:
    """
    What the answer says of each.

    :param listed: the job's, at least one.
    :raises DroppedError: one is missing.
    """
    named = {**_with_hash(info), **_networks(info)}
    missing = [lora for lora in listed if not (_has_path(info, lora) if lora.path else lora.name in named)]
    if missing:
        raise DroppedError(f"the WebUI left out {len(missing)} of {len(listed)} LoRAs", reason="lora_dropped")
    return tuple(UsedLora(name=lora.name, hash=named.get(lora.name)) for lora in listed)


def _with_hash(info: Mapping[str, Any]) -> dict[str, str | None]:
    """A1111's and Forge's ``name: hash, name: hash``."""
    entries = (entry.rpartition(": ") for entry in extra(info, "Lora hashes").split(", "))
    return {name: hash_ for name, _, hash_ in entries if name and hash_}


def _networks(info: Mapping[str, Any]) -> dict[str, str | None]:
    """SD.Next's names; it lists their hashes apart, leaving out those that it does not know."""
    names = [name for name in extra(info, "LoRA networks").split(", ") if name]
    hashes = [hash_ for hash_ in extra(info, "LoRA hashes").split(", ") if hash_]
    return dict(zip(names, hashes, strict=True)) if len(names) == len(hashes) else dict.fromkeys(names)


def _has_path(info: Mapping[str, Any], lora: ListedLora) -> bool:
    return stated(info, lambda account: lora.path in _paths(account))


def _paths(account: Mapping[str, Any]) -> list[object]:
    loras = account.get("loras")
    return [one.get("name") for one in loras if isinstance(one, dict)] if isinstance(loras, list) else []
