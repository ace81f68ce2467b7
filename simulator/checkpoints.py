"""Model files, their names, and the hash that a WebUI learns only when it first loads one."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

MODELS_DIR = "/opt/stable-diffusion-webui/models/Stable-diffusion"


@dataclass(frozen=True)
class Checkpoint:
    """A model file, by its path below the models folder; `weights` distinguishes files of one name."""

    file: str
    weights: str = ""

    @property
    def model_name(self) -> str:
        """The path without its extension, slashes turned into underscores."""
        return str(PurePosixPath(self.file).with_suffix("")).replace("/", "_")

    @property
    def sha256(self) -> str:
        """Stands for the file's hash; made from the name, so that it never changes."""
        return hashlib.sha256(f"{self.file}{self.weights}".encode()).hexdigest()

    @property
    def short_hash(self) -> str:
        """The first ten digits, as they stand in titles."""
        return self.sha256[:10]

    @property
    def path(self) -> str:
        """The absolute path on the pretended server."""
        return f"{MODELS_DIR}/{self.file}"


class Checkpoints:
    """All model files in the order a WebUI lists them. Thread-safe."""

    def __init__(self, files: tuple[str, ...], weights: str = "") -> None:
        self._all = tuple(Checkpoint(file, weights) for file in sorted(files, key=str.lower))
        self._lock = threading.Lock()
        self._hashed: set[Checkpoint] = set()

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self._all)

    def learn_hash(self, checkpoint: Checkpoint) -> None:
        """From now on the title carries the hash."""
        with self._lock:
            self._hashed.add(checkpoint)

    def title(self, checkpoint: Checkpoint) -> str:
        """`file [hash]`, or the file alone before its first load."""
        with self._lock:
            known = checkpoint in self._hashed
        return f"{checkpoint.file} [{checkpoint.short_hash}]" if known else checkpoint.file

    def knows_hash(self, checkpoint: Checkpoint) -> bool:
        """Whether it has been loaded once."""
        with self._lock:
            return checkpoint in self._hashed

    def find(self, name: str) -> Checkpoint | None:
        """By exact alias: file, base name, model name, and once it was loaded hash and title."""
        # Of two files of one name in different folders the last wins, as in the real one.
        return next((one for one in reversed(self._all) if name in self._aliases(one)), None)

    def _aliases(self, checkpoint: Checkpoint) -> set[str]:
        path = PurePosixPath(checkpoint.file)
        aliases = {checkpoint.file, checkpoint.model_name, path.name, path.stem}
        if self.knows_hash(checkpoint):
            aliases |= {checkpoint.short_hash, checkpoint.sha256, self.title(checkpoint)}
            aliases.add(f"{path.stem} [{checkpoint.short_hash}]")
        return aliases
