"""Many pictures from a service that has limits, each with a deadline.

    python examples/limits_and_deadlines.py 20 "a lighthouse at sunset" [--wait 60] [--out pictures]

* 429 and 503 say in Retry-After when asking again makes sense. Sooner it does not, and counts.
* Prefer: wait=N is the deadline, for the queue and the painting together. A job that cannot start in time is never
  started (503 queue_timeout); one that is not done in time is interrupted (504 webui_timeout).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import requests

API = os.environ.get("SERVICE", "http://localhost:5002") + "/api/v1/ai/generation"

#: What the network and the storing may add to the deadline.
SPARE_S = 15
#: Refusals in a row after which one picture is given up.
ATTEMPTS = 10


class Refused(Exception):
    """The service's last word about one picture."""


def paint(http: requests.Session, body: dict[str, object], wait_s: int) -> bytes:
    """
    :raises Refused: asking again as it is cannot help, or has been tried often enough.
    """
    headers = {"Accept": "image/png", "Prefer": f"wait={wait_s}"}
    for _ in range(ATTEMPTS):
        answer = http.post(f"{API}/txt2img", json=body, headers=headers, timeout=(5, wait_s + SPARE_S))
        if answer.ok:
            return answer.content
        problem = answer.json()
        if answer.status_code not in (429, 503) or "Retry-After" not in answer.headers:
            # 504 is here as well: the same picture would need as long again. Fewer steps or more time help.
            raise Refused(f"{problem['code']}: {problem['detail']}")
        seconds = int(answer.headers["Retry-After"])
        print(f"{problem['code']}: again in {seconds} s", flush=True)
        time.sleep(seconds)
    raise Refused(f"{problem['code']}, {ATTEMPTS} times")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Paints many pictures.")
    parser.add_argument("count", type=int)
    parser.add_argument("prompt")
    parser.add_argument("--wait", type=int, default=60, help="seconds for each picture, in the queue and painting")
    parser.add_argument("--out", type=Path, default=Path("pictures"))
    return parser.parse_args()


def main() -> None:
    wanted = arguments()
    wanted.out.mkdir(parents=True, exist_ok=True)
    http = requests.Session()
    if key := os.environ.get("API_KEY"):
        http.headers["Authorization"] = f"Bearer {key}"
    failed = 0
    for seed in range(1, wanted.count + 1):
        try:
            picture = paint(http, {"prompt": wanted.prompt, "seed": seed}, wanted.wait)
        except Refused as refused:
            print(f"seed {seed}: {refused}")
            failed += 1
        else:
            (wanted.out / f"{seed}.png").write_bytes(picture)
            print(f"seed {seed}: painted")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
