"""How many of the product's files one txt2img enters: a number to know, and to keep down."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.running import DEADLINE_S, ROOT

MOST_FILES = 52


def test_one_txt2img_enters_few_files() -> None:
    command = [sys.executable, str(ROOT / "tools" / "request_path.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    *lines, counts = done.stdout.splitlines()
    files = [line.partition(":")[0] for line in lines]
    assert files[0] == "api/worker.py"
    assert {"api/generation.py", "services/generation.py", "sd_client/client.py", "storage/local.py"} <= set(files)
    found = re.fullmatch(r"(\d+) files of (\d+) lines, (\d+) functions, (\d+) classes", counts)
    assert found is not None
    assert int(found[1]) == len(files) == len(set(files))
    assert int(found[1]) < int(found[3]) < int(found[2])
    assert len(files) <= MOST_FILES, done.stdout
