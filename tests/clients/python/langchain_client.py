"""Calls through LangChain's tool for pictures, which reads nothing but addresses; see answering.py."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from answering import answer
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper
from openai import OpenAI


def generate(*, root: str, key: str) -> dict[str, Any]:
    """As it comes: it does not ask for addresses."""
    wrapper = DallEAPIWrapper(model="sd-v1-5", size="256x256", api_key=key, base_url=f"{root}/v1")
    return {"text": wrapper.run("a lighthouse by the sea")}


def generate_by_address(*, root: str, key: str) -> dict[str, Any]:
    """With a client that asks for them."""
    images = OpenAI(base_url=f"{root}/v1", api_key=key).images
    client = SimpleNamespace(generate=partial(images.generate, response_format="url"))
    wrapper = DallEAPIWrapper(model="sd-v1-5", size="256x256", api_key=key, client=client)
    return {"text": wrapper.run("a lighthouse by the sea")}


answer({"generate": generate, "generate_by_address": generate_by_address})
