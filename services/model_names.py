"""What a model's name stands for: one checkpoint, several, or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from sd_client.models import Checkpoint

#: Public names that work out of the box, and the usual names of the files they stand for.
KNOWN_ALIASES: Mapping[str, tuple[str, ...]] = {
    "sd-v1-5": ("v1-5-pruned-emaonly", "v1-5-pruned", "stable-diffusion-v1-5"),
    "sdxl": ("sd_xl_base_1.0",),
}


class ModelNames:
    """
    An index of all names of all checkpoints: exact first, then without regard to case.

    :param aliases: the operator's, before :data:`KNOWN_ALIASES` and before the names of files.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], aliases: Mapping[str, str]) -> None:
        self._spellings = [_Spelling(checkpoints, aliases, same) for same in (str, str.lower)]
        by_alias = ((alias, self.find(alias)) for alias in (*aliases, *KNOWN_ALIASES))
        self._public: dict[Checkpoint, str] = {}
        for alias, found in by_alias:
            if len(found) == 1:
                self._public.setdefault(found[0], alias)

    def find(self, name: str) -> list[Checkpoint]:
        """One checkpoint, several where the name is ambiguous, or none."""
        for spelling in self._spellings:
            target = spelling.own_aliases.get(spelling.same(name))
            if target is not None:
                return self._file(target) or self._known(target)
            if found := spelling.files(name) or self._known(name, spelling):
                return found
        return []

    def public(self, checkpoint: Checkpoint) -> str:
        """What a caller best calls it: an alias where there is one."""
        return self._public.get(checkpoint, checkpoint.model_name)

    def _file(self, name: str) -> list[Checkpoint]:
        return next((found for spelling in self._spellings if (found := spelling.files(name))), [])

    def _known(self, alias: str, spelling: _Spelling | None = None) -> list[Checkpoint]:
        same = (spelling or self._spellings[-1]).same
        targets = (file for known, files in KNOWN_ALIASES.items() if same(known) == same(alias) for file in files)
        return next((found for target in targets if (found := self._file(target))), [])


class _Spelling:
    """The index for one way to compare."""

    def __init__(
        self, checkpoints: Sequence[Checkpoint], aliases: Mapping[str, str], same: Callable[[str], str]
    ) -> None:
        self.same = same
        self.own_aliases = {same(alias): target for alias, target in aliases.items()}
        self._titles: defaultdict[str, list[Checkpoint]] = defaultdict(list)
        self._names: defaultdict[str, list[Checkpoint]] = defaultdict(list)
        for checkpoint in checkpoints:
            self._titles[same(checkpoint.title)].append(checkpoint)
            for name in {same(known) for known in checkpoint.names()}:
                self._names[name].append(checkpoint)

    def files(self, name: str) -> list[Checkpoint]:
        """A title is the most exact name: it decides where it names one file."""
        titled = self._titles.get(self.same(name), [])
        return titled if len(titled) == 1 else self._names.get(self.same(name), [])
