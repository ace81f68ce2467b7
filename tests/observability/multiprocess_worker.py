"""A worker that stores some images, answers a scrape and ends; ``largest_file`` is what the disk still takes."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from observability.multiprocess import count_alone, count_together

if __name__ == "__main__":
    folder, slot, images, largest_file = Path(sys.argv[1]), *map(int, sys.argv[2:])
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    if largest_file:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        count_together(folder, slot)
    except OSError:
        count_alone()
    from observability.metrics import Metrics

    metrics = Metrics()
    metrics.images_stored.inc(images)
    metrics.queue_wait.labels("txt2img").observe(0.1)
    sys.stdout.buffer.write(metrics.exposition("")[0])
