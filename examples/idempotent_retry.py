"""A connection that is lost while the GPU works, and the picture all the same, painted once.

    python examples/idempotent_retry.py "a lighthouse at sunset" [picture.png]

A job whose request has an Idempotency-Key goes on when its caller is gone, and its answer is kept for 24 hours.
Whoever asks again with the same key and the same body gets that answer, or waits for it.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from pathlib import Path

import requests

API = os.environ.get("SERVICE", "http://localhost:5002") + "/api/v1/ai/generation"
TIMEOUT = (5, 440)
ATTEMPTS = 8


def generate_once(body: dict[str, object], key: str) -> requests.Response:
    """
    :raises requests.ConnectionError: no attempt was answered. The same key may still be used again.
    """
    # Nothing else may change between attempts: the key belongs to this body.
    headers = {"Idempotency-Key": key, "Accept": "image/png"}
    if api_key := os.environ.get("API_KEY"):
        headers["Authorization"] = f"Bearer {api_key}"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return requests.post(f"{API}/txt2img", json=body, headers=headers, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            # Whether the request arrived is not known. Without a key, asking again could paint a second picture.
            print(f"attempt {attempt}: the connection was lost", flush=True)
            time.sleep(min(0.25 * 2**attempt, 30))
    raise requests.ConnectionError(f"no answer after {ATTEMPTS} attempts; the key was {key}")


def main() -> None:
    # A program that may be ended itself keeps body and key where it finds them again.
    answer = generate_once({"prompt": sys.argv[1], "seed": 7}, key=str(uuid.uuid4()))
    if not answer.ok:
        sys.exit(answer.json()["detail"])
    replayed = answer.headers.get("Idempotency-Replayed") == "true"
    target = Path(sys.argv[2] if len(sys.argv) > 2 else "picture.png")
    target.write_bytes(answer.content)
    print(f"{target}: image {answer.headers['X-Image-Id']}" + (", kept from the first attempt" if replayed else ""))


if __name__ == "__main__":
    main()
