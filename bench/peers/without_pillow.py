"""A tutorial's proxy, without Pillow (N3): requests, ``.json()``, base64, a file, ``jsonify``. No checks, no limits."""

import base64
import os
from pathlib import Path
from uuid import uuid4

import requests
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
WEBUI_URL = os.environ["PEER_WEBUI_URL"]
IMAGES = Path(os.environ["PEER_IMAGES"])


@app.post("/api/v1/ai/generation/<mode>")
def generate(mode: str) -> Response:
    fields = request.get_json()
    payload = {name: fields[name] for name in ("prompt", "width", "height", "steps", "seed", "batch_size")}
    if mode != "txt2img":
        payload |= {"init_images": [fields["image"]], "denoising_strength": 0.75, "mask": fields.get("mask")}
    path = "txt2img" if mode == "txt2img" else "img2img"
    answer = requests.post(f"{WEBUI_URL}/sdapi/v1/{path}", json=payload, timeout=300)
    answer.raise_for_status()
    images = []
    for image in answer.json()["images"]:
        name = f"{uuid4()}.png"
        with open(IMAGES / name, "wb") as file:
            file.write(base64.b64decode(image))
        images.append({"image_url": f"/images/{name}", "image_base64": f"data:image/png;base64,{image}"})
    return jsonify(images=images)
