"""
A folder with very many stored images, in the storage's layout: tiny PNGs with their records, two files for each.

``python -m bench.scale.folder FOLDER`` prints what one process needs to sweep and to list it, as JSON.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench import accounting
from bench.stage import Server, Stage
from bench.upstream import picture
from bench.workloads import PREFIX
from observability.metrics import Metrics
from services.retention import expire
from storage.base import image_path
from storage.local import LocalStorage
from tests.running import ROOT
from tools.children import RunError

#: Sizes at which the folder is measured, as shares of the largest.
SHARES = (0.001, 0.1, 1.0)
ASKED = 300
#: Blocks of 4 kB for a PNG and its record, and folders.
BYTES_EACH = 9000
RECORD = json.dumps({"prompt": "a lighthouse at sunset", "seed": 7, "model": "v1-5-pruned-emaonly"}).encode()

Row = dict[str, Any]


def rows(most: int, say: Callable[[str], None]) -> list[Row]:
    """
    At several numbers of images, up to ``most``; the folder is removed in the end.

    :raises RunError: the disk of ``TMPDIR`` has no room for it.
    """
    folder = Path(tempfile.mkdtemp(prefix="sd-images-"))
    try:
        _check_room(folder, most)
        found: list[Row] = []
        ids: list[UUID] = []
        draw = random.Random(1)
        for share in SHARES:
            wanted = int(most * share)
            say(f"filling {folder} to {wanted} images")
            ids += _filled(folder, wanted - len(ids), draw)
            found.append(_row(folder, ids, draw))
            say(str(found[-1]))
        return found
    finally:
        shutil.rmtree(folder)


def _check_room(folder: Path, images: int) -> None:
    room = os.statvfs(folder)
    files, size = 2 * images + 66_000, images * BYTES_EACH
    if room.f_favail < files or room.f_bavail * room.f_frsize < size:
        raise RunError(
            f"{folder} needs {files} inodes and {size / 1e9:.0f} GB and has {room.f_favail} and "
            f"{room.f_bavail * room.f_frsize / 1e9:.0f} GB: set TMPDIR to another disk, or ask for fewer images"
        )


def _filled(folder: Path, count: int, draw: random.Random) -> list[UUID]:
    """Without the storage's flushes, which would take an hour."""
    ids = sorted(UUID(int=draw.getrandbits(128), version=4) for _ in range(count))
    png = picture(16, 16)
    for image_id in ids:
        path = folder / image_path(image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_bytes(RECORD)
        path.write_bytes(png)
    return ids


def _row(folder: Path, ids: Sequence[UUID], draw: random.Random) -> Row:
    began = time.monotonic()
    subprocess.run(["du", "-s", str(folder)], check=True, stdout=subprocess.DEVNULL)  # noqa: S603, S607 - our folder
    du_s = time.monotonic() - began
    alone = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "bench.scale.folder", str(folder)], check=True, capture_output=True, cwd=ROOT
    )
    with Stage() as stage:
        upstream = stage.upstream()
        began = time.monotonic()
        # One worker: the one that sweeps is the one that is asked. It begins with a round of retention at once.
        settings: dict[str, Any] = {"IMAGE_DIR": str(folder), "IMAGE_TTL_HOURS": "10000"}
        service = stage.service("service", upstream.webuis(1), workers=1, **settings)
        start_s = time.monotonic() - began
        busy = _asked(service, draw.choices(ids, k=ASKED))
        _wait_until_idle(service)
        quiet = _asked(service, draw.choices(ids, k=ASKED))
    return {
        "images": len(ids),
        "start_s": round(start_s, 2),
        "du_s": round(du_s, 2),
        **json.loads(alone.stdout),
        **{f"{name}_in_sweep": value for name, value in busy.items()},
        **quiet,
    }


def _asked(service: Server, ids: Sequence[UUID]) -> Row:
    """GET of images, in the order of the ids, and health checks between them."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    times: dict[str, list[float]] = {"get": [], "health": []}
    for image_id in ids:
        for name, path in (("get", f"{PREFIX}/image/{image_id}"), ("health", f"{PREFIX}/health")):
            began = time.monotonic()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            times[name].append(1000 * (time.monotonic() - began))
            if answer.status != 200:
                raise RunError(f"GET {path} was answered {answer.status}")
    connection.close()
    return {f"{name}_{key}": value for name, found in times.items() for key, value in _quantiles(found).items()}


def _wait_until_idle(service: Server) -> None:
    """Until its processes need hardly any CPU: the round of retention has ended."""
    while True:
        before = accounting.cpu_s(service.pids)
        time.sleep(2)
        if accounting.cpu_s(service.pids) - before < 0.1:
            return


def _quantiles(times: Sequence[float]) -> Row:
    ordered = sorted(times)
    return {"p50_ms": round(ordered[len(ordered) // 2], 2), "p99_ms": round(ordered[int(0.99 * len(ordered))], 2)}


def _alone(folder: Path) -> Row:
    """What the retention does, and saving, in this process."""
    storage, metrics = LocalStorage(folder), Metrics(redis=False)
    before_mb = _peak_mb()
    sweep = _timed(storage.sweep)
    listing = _timed(lambda: expire(storage, now=time.time(), ttl_s=1e9, max_bytes=1e18, metrics=metrics))
    grown_mb = _peak_mb() - before_mb
    saved = [uuid4() for _ in range(ASKED)]
    times = []
    for image_id in saved:
        began = time.monotonic()
        storage.save(image_id, picture(16, 16), {"prompt": "a"})
        times.append(1000 * (time.monotonic() - began))
    for image_id in saved:
        storage.delete(image_id)
    return {
        **{f"sweep_{name}": value for name, value in sweep.items()},
        **{f"expire_{name}": value for name, value in listing.items()},
        "grown_mb": round(grown_mb, 1),
        **{f"save_{name}": value for name, value in _quantiles(times).items()},
    }


def _timed(work: Callable[[], object]) -> Row:
    began, spent = time.monotonic(), time.process_time()
    work()
    return {"s": round(time.monotonic() - began, 2), "cpu_s": round(time.process_time() - spent, 2)}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_alone(Path(sys.argv[1]))))
