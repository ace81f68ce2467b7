"""What a model's name stands for: one checkpoint, several, or none."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sd_client.models import DUMMY_HASH, Checkpoint

#: Public names that work out of the box, and the usual names of the files they stand for.
KNOWN_ALIASES: Mapping[str, tuple[str, ...]] = {
    "sd-v1-5": ("v1-5-pruned-emaonly", "v1-5-pruned", "stable-diffusion-v1-5"),
    "sdxl": ("sd_xl_base_1.0",),
}

#: Health checks ask for the default's at each call.
_MOST_KEPT = 100


def union(lists: Sequence[Sequence[Checkpoint]]) -> dict[Checkpoint, int]:
    """
    Every model of a pool once, as it is best known (with its hash, if any WebUI knows that), and the first WebUI that
    lists it. Files of one name on several WebUIs are one model unless their hashes tell them apart.

    :param lists: each WebUI's models, in the order of ``SD_WEBUI_URL``.
    """
    found: list[tuple[Checkpoint, int]] = []
    places: defaultdict[str, list[int]] = defaultdict(list)
    for webui, checkpoints in enumerate(lists):
        taken: set[int] = set()  # two files of one WebUI are two models, whatever they are called
        for checkpoint in checkpoints:
            known = places[checkpoint.model_name.lower()]
            same = [place for place in known if place not in taken and found[place][0].may_be(checkpoint)]
            place = min(same, key=lambda place: found[place][0].path != checkpoint.path, default=len(found))
            if place == len(found):
                known.append(place)
                found.append((checkpoint, webui))
            elif checkpoint.known_hash and not found[place][0].known_hash:
                found[place] = checkpoint, found[place][1]
            taken.add(place)
    return {replace(c, hash=None) if c.hash == DUMMY_HASH else c: webui for c, webui in found}


class ModelNames:
    """
    An index of all names of all checkpoints: exact first, then without regard to case. A more exact kind of name comes
    before a less exact one: a file's own name is not doubted because another one in a subfolder has that stem.

    :param checkpoints: and the WebUI that each is on, see :func:`union`. Of several WebUIs' files of one name that have
        other weights, the name alone means the first one's.
    :param aliases: the operator's, before :data:`KNOWN_ALIASES` and before the names of files.
    :ivar find: what a name stands for: one checkpoint, several if the name is ambiguous, or none.
    """

    def __init__(self, checkpoints: Mapping[Checkpoint, int], aliases: Mapping[str, str]) -> None:
        self._spellings = [_Spelling(checkpoints, aliases, same) for same in (str, str.lower)]
        self.find = functools.lru_cache(_MOST_KEPT)(self._find)
        by_alias = ((alias, self.find(alias)) for alias in (*aliases, *KNOWN_ALIASES))
        self._public: dict[Checkpoint, str] = {}
        for alias, found in by_alias:
            if len(found) == 1:
                self._public.setdefault(found[0], alias)
        for checkpoint in checkpoints:
            self._public.setdefault(checkpoint, self._own_name(checkpoint))
        self.namesakes = _namesakes(checkpoints)

    def _find(self, name: str) -> list[Checkpoint]:
        for spelling in self._spellings:
            target = spelling.own_aliases.get(spelling.same(name))
            if target is not None:
                return self._file(target) or self._known(target)
            if found := spelling.files(name) or self._known(name, spelling):
                return found
        return []

    def public(self, checkpoint: Checkpoint) -> str:
        """What a caller best calls it: an alias if there is one; no other checkpoint has this name."""
        return self._public[checkpoint]

    def _own_name(self, checkpoint: Checkpoint) -> str:
        title, without_hash, model_name, hashed, *others = checkpoint.ranked_names
        names = (model_name, hashed, without_hash, title, *others)
        return next((name for name in names if name and self.find(name) == [checkpoint]), title)

    def _file(self, name: str) -> list[Checkpoint]:
        return next((found for spelling in self._spellings if (found := spelling.files(name))), [])

    def _known(self, alias: str, spelling: _Spelling | None = None) -> list[Checkpoint]:
        same = (spelling or self._spellings[-1]).same
        targets = (file for known, files in KNOWN_ALIASES.items() if same(known) == same(alias) for file in files)
        return next((found for target in targets if (found := self._file(target))), [])


def _namesakes(checkpoints: Mapping[Checkpoint, int]) -> tuple[tuple[Checkpoint, Checkpoint], ...]:
    """Files of several WebUIs with one name and other weights: the one that the name alone means, and another one."""
    first: dict[str, Checkpoint] = {}
    pairs = ((first.setdefault(c.model_name.lower(), c), c) for c in checkpoints)
    return tuple((meant, other) for meant, other in pairs if checkpoints[meant] < checkpoints[other])


class _Spelling:
    """The index for one way to compare."""

    def __init__(
        self, checkpoints: Mapping[Checkpoint, int], aliases: Mapping[str, str], same: Callable[[str], str]
    ) -> None:
        self.same = same
        self.own_aliases = {same(alias): target for alias, target in aliases.items()}
        self._webuis = checkpoints
        self._kinds: list[defaultdict[str, list[Checkpoint]]] = []
        for names in zip(*(checkpoint.ranked_names for checkpoint in checkpoints), strict=True):
            kind: defaultdict[str, list[Checkpoint]] = defaultdict(list)
            for name, checkpoint in zip(names, checkpoints, strict=True):
                if name:
                    kind[same(name)].append(checkpoint)
            self._kinds.append(kind)

    def files(self, name: str) -> list[Checkpoint]:
        """What the most exact kind of name that fits names."""
        for kind in self._kinds:
            if found := kind.get(self.same(name)):
                return self._meant(found)
        return []

    def _meant(self, found: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Without copies of the same weights, and without what only a later WebUI has under that name."""
        meant: list[Checkpoint] = []
        for checkpoint in found:
            rivals = [other for other in meant if _is_shadowed(checkpoint, other, self._webuis)]
            if not rivals:
                meant.append(checkpoint)
        return meant


def _is_shadowed(checkpoint: Checkpoint, first: Checkpoint, webuis: Mapping[Checkpoint, int]) -> bool:
    if checkpoint.known_hash and checkpoint.known_hash == first.known_hash:
        return True
    return checkpoint.model_name.lower() == first.model_name.lower() and webuis[first] < webuis[checkpoint]
