"""The code in docs/guides/clients.md does what it is shown for, letter by letter but for address and key."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.clients.programs import HERE, PROGRAMS, QUIET
from tests.running import DEADLINE_S, ROOT, Service, environment

GUIDE = (ROOT / "docs" / "guides" / "clients.md").read_text(encoding="utf-8")
#: Title and code.
SHOWN = re.findall(r'^```(?:python|js) title="(.*?)"\n(.*?)^```$', GUIDE, re.MULTILINE | re.DOTALL)
RUN_BY = {
    "openai for Python": "openai-newest",
    "openai for Node": "openai",
    "AI SDK": "ai-sdk",
    "LiteLLM": "litellm",
    "LangChain": "langchain",
    "webuiapi": "webuiapi",
}


def test_every_piece_of_code_is_run() -> None:
    assert {title for title, _ in SHOWN} == RUN_BY.keys()


@pytest.mark.parametrize(("title", "code"), [pytest.param(*shown, id=shown[0]) for shown in SHOWN])
def test_what_a_reader_copies_works(title: str, code: str, guarded: Service, tmp_path: Path) -> None:
    program = PROGRAMS[RUN_BY[title]]
    for shown, real in {
        "http://localhost:5002": guarded.root,
        "port=5002": f"port={guarded.port}",
        '"KEY"': f'"{program.key}"',
    }.items():
        code = code.replace(shown, real)
    script = tmp_path / ("shown.mjs" if program.interpreter == "node" else "shown.py")
    script.write_text(code, encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(HERE / "node" / "node_modules")
    done = subprocess.run(
        program.command(script),
        cwd=tmp_path,
        env=environment(QUIET),
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    if title == "LangChain":
        assert done.stdout.startswith("https://pictures.example.com/")
    else:
        with Image.open(tmp_path / "picture.png") as picture:
            assert picture.size == (512, 512)
