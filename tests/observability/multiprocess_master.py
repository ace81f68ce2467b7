"""A process that has a folder for metrics, as gunicorn's master has; ends when its input does."""

from __future__ import annotations

import sys
from pathlib import Path

from observability.multiprocess import make_folder

if __name__ == "__main__":
    print(make_folder(Path(sys.argv[1])), flush=True)
    sys.stdin.read()
