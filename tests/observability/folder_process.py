"""A process that has a folder for metrics, as gunicorn's master has; ends when its input does."""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path

from observability.metrics_folder import own_folder, reserve

if __name__ == "__main__":
    runtime, largest_file = Path(sys.argv[1]), int(sys.argv[2])
    folder = own_folder(runtime)
    print(folder, flush=True)
    if largest_file:  # as if the disk were full
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        try:
            reserve(folder, 7)
        except OSError as error:
            print(type(error).__name__, sorted(path.name for path in folder.iterdir()), flush=True)
    sys.stdin.read()
