"""The three kinds of generation from Python, and what to do with a refusal.

    pip install requests
    python examples/python_requests.py [folder]

SERVICE and API_KEY say where the service is and who asks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import requests

API = os.environ.get("SERVICE", "http://localhost:5002") + "/api/v1/ai/generation"
MASK = Path(__file__).resolve().parent / "samples" / "circle-mask.png"

#: Seconds to connect, and to wait for an answer: a job may wait 120 s for a WebUI, run 300 s, and be stored.
TIMEOUT = (5, 440)


def session() -> requests.Session:
    made = requests.Session()
    if key := os.environ.get("API_KEY"):
        made.headers["Authorization"] = f"Bearer {key}"
    return made


def checked(response: requests.Response) -> requests.Response:
    """Ends the program with the service's own words, every wrong field named."""
    if response.ok:
        return response
    problem = response.json()
    sys.exit(f"{problem['status']} {problem['code']}: {problem['detail']} (request {problem['request_id']})")


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
    out.mkdir(parents=True, exist_ok=True)
    http = session()

    # JSON in, the picture itself out; the headers carry what else there is to know.
    words = {"prompt": "a lighthouse at sunset", "negative_prompt": "people", "width": 512, "height": 384}
    answer = checked(http.post(f"{API}/txt2img", json=words, headers={"Accept": "image/png"}, timeout=TIMEOUT))
    photo = answer.content
    (out / "lighthouse.png").write_bytes(photo)
    print(f"lighthouse.png: seed {answer.headers['X-Seed']}, image {answer.headers['X-Image-Id']}")

    # A form with files in; JSON out. Two pictures: the second has the next seed.
    form = {"prompt": "a city at night", "strength": 0.6, "seed": 7, "batch_size": 2, "response_format": "url"}
    answer = checked(http.post(f"{API}/img2img", data=form, files={"image": photo}, timeout=TIMEOUT))
    for image in answer.json()["images"]:
        name = f"night-{image['seed']}.png"
        (out / name).write_bytes(checked(http.get(f"{API}/image/{image['image_id']}", timeout=TIMEOUT)).content)
        print(f"{name}: {image['width']} × {image['height']}")

    # White is repainted, black is kept. The mask is as large as the picture.
    square = {"prompt": "a square", "width": 512, "height": 512}
    photo = checked(http.post(f"{API}/txt2img", json=square, headers={"Accept": "image/png"}, timeout=TIMEOUT)).content
    files = {"image": photo, "mask": MASK.read_bytes()}
    form = {"prompt": "a blue sky", "response_format": "url"}
    answer = checked(http.post(f"{API}/inpainting", data=form, files=files, timeout=TIMEOUT))
    copy = http.get(f"{API}/image/{answer.json()['image_id']}?format=webp&width=256", timeout=TIMEOUT)
    (out / "sky-small.webp").write_bytes(checked(copy).content)
    print(f"sky-small.webp: painted in {answer.json()['processing_time']} s")


if __name__ == "__main__":
    main()
