"""A tutorial's proxy, with Pillow (N1): every picture is opened and saved anew, for the file and for the answer."""

import base64
import os
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import requests
from flask import Flask, Response, jsonify, request
from PIL import Image

app = Flask(__name__)
WEBUI_URL = os.environ["PEER_WEBUI_URL"]
IMAGES = Path(os.environ["PEER_IMAGES"])


def opened(text: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(text)))


def encoded(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@app.post("/api/v1/ai/generation/<mode>")
def generate(mode: str) -> Response:
    fields = request.get_json()
    payload = {name: fields[name] for name in ("prompt", "width", "height", "steps", "seed", "batch_size")}
    if mode != "txt2img":
        payload |= {"init_images": [encoded(opened(fields["image"]))], "denoising_strength": 0.75}
    if mode == "inpainting":
        payload["mask"] = encoded(opened(fields["mask"]))
    path = "txt2img" if mode == "txt2img" else "img2img"
    answer = requests.post(f"{WEBUI_URL}/sdapi/v1/{path}", json=payload, timeout=300)
    answer.raise_for_status()
    images = []
    for text in answer.json()["images"]:
        image, name = opened(text), f"{uuid4()}.png"
        image.save(IMAGES / name)
        images.append({"image_url": f"/images/{name}", "image_base64": f"data:image/png;base64,{encoded(image)}"})
    return jsonify(images=images)
