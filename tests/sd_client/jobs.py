"""Jobs and capabilities for the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sd_client.models import Capabilities, Checkpoint, GenerationParams, Inpainting, Sampler
from tests.sd_client.servers import encoded_image

CHECKPOINT = Checkpoint(
    title="v1-5-pruned-emaonly.safetensors [6ce0161689]",
    model_name="v1-5-pruned-emaonly",
    hash="6ce0161689",
    filename="v1-5-pruned-emaonly.safetensors",
)
INIT_IMAGE = encoded_image((64, 64))
MASK = encoded_image((64, 64))
INPAINTING = Inpainting(mask=MASK, mask_blur=4, area="whole", padding=32, fill="original")
CAPABILITIES = Capabilities(
    checkpoints=(CHECKPOINT,),
    samplers=(Sampler(name="Euler a"), Sampler(name="DPM++ 2M")),
    schedulers=(Sampler(name="karras", aliases=("Karras",)),),
)


def job(**changes: Any) -> GenerationParams:
    """A small txt2img job."""
    params = GenerationParams(
        prompt="a cat",
        negative_prompt="",
        steps=20,
        cfg_scale=7.5,
        width=64,
        height=64,
        seed=42,
        batch_size=1,
        checkpoint=CHECKPOINT,
    )
    return replace(params, **changes)
