"""Builds a Dockerfile's stages without Docker: every instruction in order, each in another root.

A stage's root holds this machine's /usr, read-only, a copy of its /etc, and the Python of ``FROM python:X.Y``, bound to
where that image has it; everything else is bare. Needs root, mount namespaces and chroot.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
#: Where packages come from, and by which certificates, is the machine's matter.
_PASSED_ON = ("PIP_", "SSL_CERT_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def why_not() -> str | None:
    """Why nothing can be built here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "mounting and chroot need root on Linux"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        return "this machine does not allow mount namespaces (a container without CAP_SYS_ADMIN?)"
    return None


@dataclass(frozen=True)
class Instruction:
    name: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """Of a Dockerfile, in order; continued lines are joined, comments dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        found.append(Instruction(name, rest.strip()))
    return found


@dataclass
class Stage:
    """What a stage's instructions have come to."""

    root: Path
    python: Path
    directory: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _BASE_PATH})
    volumes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()

    def argv(self, command: list[str] | tuple[str, ...], *, read_only: bool = False) -> list[str]:
        """Runs ``command`` in here; ``read_only`` as ``docker run --read-only --tmpfs /tmp`` with its volumes does."""
        root = self.root
        script = []
        if read_only:
            script += [f"mount --bind {root} {root}", f"mount -o remount,ro,bind {root}"]
            script += [f"mount --bind {root}.{volume.replace('/', '_')} {root}{volume}" for volume in self.volumes]
            script.append(f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp")
        script += [
            f"mount --bind /usr {root}/usr",
            f"mount -o remount,ro,bind {root}/usr",
            f"mount --bind {self.python} {root}/usr/local",
            f"mount -o remount,ro,bind {root}/usr/local",
        ]
        script += [
            f"mount --rbind /dev {root}/dev",
            f"mount -t proc proc {root}/proc",
            f"cd {root}",
            f'exec chroot --userspec={self.user} . sh -c \'cd "$0" && exec "$@"\' {self.directory} "$@"',
        ]
        return ["unshare", "-m", "sh", "-ec", "\n".join(script), "stage", *command]

    def environ(self, **settings: str) -> dict[str, str]:
        return {**self.environment, **settings}


class Image:
    """The stages of a Dockerfile by name; :meth:`build` carries one out, with those that it needs."""

    def __init__(self, dockerfile: Path, context: Path, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._stages: dict[str, list[Instruction]] = {}
        self._built: dict[str, Stage] = {}
        for one in instructions(dockerfile.read_text()):
            if one.name == "FROM":
                name = one.rest.partition(" AS ")[2]
                self._stages[name] = []
            self._stages[name].append(one)

    def build(self, name: str) -> Stage:
        if name not in self._built:
            first, *others = self._stages[name]
            stage = self._from(first.rest.partition(" ")[0], self._folder / name)
            for one in others:
                self._carry_out(stage, one)
            self._built[name] = stage
        return self._built[name]

    def _from(self, base: str, root: Path) -> Stage:
        if base in self._stages:
            before = self.build(base)
            subprocess.run(["cp", "-a", str(before.root), str(root)], check=True)
            return Stage(root, before.python, before.directory, before.user, dict(before.environment), before.volumes)
        version = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", base)
        assert version, f"no root can be made for {base}"
        for folder in ("usr", "dev", "proc", "tmp", "opt"):
            (root / folder).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        for link in ("bin", "sbin", "lib", "lib64"):
            (root / link).symlink_to(f"usr/{link}")
        shutil.copytree("/etc", root / "etc", symlinks=True, ignore_dangling_symlinks=True)
        stage = Stage(root, _python(version[1]))
        self._run(stage, "ldconfig")  # the Python at /usr/local may be a shared library
        return stage

    def _carry_out(self, stage: Stage, one: Instruction) -> None:
        match one.name:
            case "WORKDIR":
                stage.directory = one.rest
                (stage.root / one.rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "ENV":
                for pair in shlex.split(one.rest):
                    key, _, value = pair.partition("=")
                    stage.environment[key] = value.replace("$PATH", stage.environment["PATH"])
            case "USER":
                stage.user = one.rest
            case "COPY":
                self._copy(stage, one.rest.split())
            case "RUN":
                self._run(stage, one.rest)
            case "VOLUME":
                stage.volumes = tuple(json.loads(one.rest))
                for volume in stage.volumes:
                    kept = f"{stage.root}.{volume.replace('/', '_')}"
                    subprocess.run(["cp", "-a", f"{stage.root}{volume}", kept], check=True)
            case "CMD":
                stage.command = tuple(json.loads(one.rest))
            case "HEALTHCHECK":
                stage.health = tuple(json.loads(one.rest.partition(" CMD ")[2]))
            case "EXPOSE":
                pass
            case _:
                raise AssertionError(f"{one.name} is not known here")

    def _copy(self, stage: Stage, words: list[str]) -> None:
        source = self._context
        if words[0].startswith("--from="):
            source = self.build(words.pop(0).partition("=")[2]).root
        *names, target = words
        place = stage.root / os.path.join(stage.directory, target).lstrip("/")
        for name in names:
            found = source / name.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(found, place)

    def _run(self, stage: Stage, command: str) -> None:
        passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        done = subprocess.run(
            stage.argv(["sh", "-c", command]),
            env=stage.environ(**passed),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"RUN {command}\n{done.stdout}{done.stderr}"


def _python(version: str) -> Path:
    """Where the installation of that version is, or else of the one that runs this."""
    for candidate in (shutil.which(f"python{version}"), sys.executable):
        if candidate is None:
            continue
        printed = subprocess.run(
            [candidate, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=False
        )
        if printed.returncode == 0:
            return Path(printed.stdout.strip())
    raise AssertionError("no Python was found")
