"""Jobs and capabilities for the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sd_client.job import JobReport, JobRequest
from sd_client.models import Capabilities, Checkpoint, GenerationParams, Inpainting, JobParams, Sampler
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


def job_request(
    params: JobParams | None = None,
    *,
    wait_s: float = 20,
    run_s: float = 20,
    total_s: float | None = None,
    since: float = 0.0,
    task_id: str = "t",
    request: str = "",
    check: Callable[[], None] = lambda: None,
    report: JobReport | None = None,
) -> JobRequest:
    """From now on. :param total_s: for waiting and running together."""
    now = time.monotonic()
    ends = now + (wait_s + run_s if total_s is None else total_s)
    return JobRequest(
        params=params or job(),
        task_id=task_id,
        request=request,
        since=since,
        wait_until=min(now + wait_s, ends),
        run_s=run_s,
        ends=ends,
        check=check,
        report=report or JobReport(),
    )
