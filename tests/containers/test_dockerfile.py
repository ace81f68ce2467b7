"""The Dockerfile by its text; ``tests/hosts/test_dockerfile.py`` carries it out."""

from __future__ import annotations

import re

from tests.containers.carried_out import instructions
from tests.containers.programs import run
from tests.running import ROOT
from tests.test_architecture import MAY_IMPORT

DOCKERFILE = instructions((ROOT / "Dockerfile").read_text())
#: The service's parts: all that its modules import, and the pages that it serves. Tools and tests stay outside.
PARTS = {*MAY_IMPORT, "web"} - {"simulator"}


def service_stage() -> list[str]:
    last = max(number for number, one in enumerate(DOCKERFILE) if one.name == "FROM")
    return [f"{one.name} {one.rest}" for one in DOCKERFILE[last:]]


def copied() -> set[str]:
    names = [word for line in service_stage() if line.startswith("COPY ") for word in line.split()[1:-1]]
    return {name.removesuffix(".py") for name in names}


def test_hadolint_finds_nothing() -> None:
    done = run("hadolint", "--no-color", "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_service_is_copied_and_nothing_else() -> None:
    assert copied() == PARTS


def test_the_context_holds_what_is_copied() -> None:
    """``.dockerignore`` shuts everything out but a list."""
    listed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    wanted = {
        word
        for one in DOCKERFILE
        if one.name == "COPY" and not one.rest.startswith("--from")
        for word in one.rest.split()[:-1]
    }
    assert listed == wanted


def test_it_does_not_run_as_root() -> None:
    (user,) = [line for line in service_stage() if line.startswith("USER ")]
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", user)


def test_requirements_are_pinned_with_hashes() -> None:
    (install,) = [one.rest for one in DOCKERFILE if one.name == "RUN" and "pip" in one.rest]
    assert "--require-hashes" in install
    assert "-r requirements.txt" in install


def test_base_images_are_pinned() -> None:
    stages = {one.rest.partition(" AS ")[2] for one in DOCKERFILE if one.name == "FROM"}
    bases = {one.rest.partition(" AS ")[0] for one in DOCKERFILE if one.name == "FROM"} - stages
    assert bases
    assert [base for base in bases if not re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base)] == []
