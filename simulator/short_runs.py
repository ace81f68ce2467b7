"""Samplers that break down when they are given few steps: always a 500, after the job has waited its turn."""

from collections.abc import Callable

from simulator.errors import CrashError
from simulator.jobs import Job

Check = Callable[[Job], None]

UNIPC_ORDER = 3
SDE = frozenset({"DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"})
REVERSE = frozenset({"DPM fast", "DPM adaptive"})


def check_a1111(job: Job) -> None:
    """
    A1111 1.10.1 with its own copy of k-diffusion.

    :raises CrashError: the sampler cannot do so few steps.
    """
    check_forge(job)
    if job.sampling.sampler in SDE and job.sampling_steps == 1:
        raise CrashError("UnboundLocalError", "local variable 'h' referenced before assignment")


def check_forge(job: Job) -> None:
    """
    What Forge has in common with it.

    :raises CrashError: the sampler cannot do so few steps.
    """
    # In img2img the first of the steps is left out of what UniPC is given.
    steps = job.steps if job.source is None else job.sampling_steps - 1
    if job.sampling.sampler == "UniPC" and steps == 0:
        raise CrashError("IndexError", "index -1 is out of bounds for dimension 0 with size 0")
    if job.sampling.sampler == "UniPC" and steps < UNIPC_ORDER:
        raise CrashError("AssertionError", "UniPC order must be < sampling steps")
    if job.sampling.sampler in REVERSE and job.source is not None and job.sampling_steps == 1:
        raise CrashError("ValueError", "eta must be 0 for reverse sampling")
