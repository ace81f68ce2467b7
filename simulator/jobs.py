"""A generation request after its fields were read, and what breaks the WebUI."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.errors import CrashError
from simulator.samplers import Sampling

REFERENCE_PIXELS = 512 * 512
MAX_PIXELS = 1 << 28  # 16384 squared, or 1024 images of 512x512: beyond it the pretended memory ends.
MAX_RANDOM_SEED = 4_294_967_294
MAX_SEED = (1 << 64) - 1
MIN_SEED = -(1 << 63)
UNIPC_ORDER = 3
REVERSE_SAMPLERS = frozenset({"DPM fast", "DPM adaptive"})
SDE_SAMPLERS = frozenset({"DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"})
CALCULATED_WITH = ("width", "height", "batch_size", "n_iter", "cfg_scale")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request. Sizes in pixels as they were asked for, not as they come out; `fields` is all that was read."""

    kind: str
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    sampling: Sampling
    steps: int
    cfg_scale: float
    width: int
    height: int
    batch_size: int
    n_iter: int
    strength: float | None
    fields: Mapping[str, Any]

    @property
    def is_img2img(self) -> bool:
        """Whether it starts from pictures."""
        return self.kind == "img2img"

    @property
    def size(self) -> tuple[int, int]:
        """As it is painted: floored to a multiple of 8."""
        return (self.width // 8 * 8, self.height // 8 * 8)

    @property
    def sampling_steps(self) -> int:
        """The steps that are really done."""
        if not self.is_img2img or self.strength is None:
            return self.steps
        return int(min(self.strength, 0.999) * self.steps) + 1

    @property
    def seeds(self) -> list[int]:
        """One for every image."""
        return [self.seed + index for index in range(self.batch_size * self.n_iter)]

    @property
    def subseeds(self) -> list[int]:
        """One for every image."""
        return [self.subseed + index for index in range(self.batch_size * self.n_iter)]


def job_of(kind: str, fields: Mapping[str, Any], sampling: Sampling) -> Job:
    """The job that the fields describe, without its pictures.

    :param kind: txt2img or img2img.
    :raises CrashError: a null where the WebUI calculates.
    """
    if fields["prompt"] is None or fields["negative_prompt"] is None:
        raise CrashError("AssertionError", "")
    if fields["steps"] is None:
        raise CrashError("TypeError", "unsupported operand type(s) for //: 'NoneType' and 'NoneType'")
    if any(fields[name] is None for name in CALCULATED_WITH):
        raise CrashError("TypeError", "unsupported operand type(s) for //: 'NoneType' and 'int'")
    return Job(
        kind=kind,
        prompt=_without_comments(fields["prompt"]),
        negative_prompt=_without_comments(fields["negative_prompt"]),
        seed=_seed(fields["seed"]),
        subseed=_seed(fields["subseed"]),
        sampling=sampling,
        steps=fields["steps"],
        strength=fields["denoising_strength"],
        fields=fields,
        **{name: fields[name] for name in CALCULATED_WITH},
    )


def _without_comments(prompt: str) -> str:
    """What the built-in extension makes of `#` in a prompt."""
    text = re.sub(r"(^|\n)#[^\n]*(\n|$)", "\n", prompt)
    return re.sub(r"#[^\n]*(\n|$)", "\n", text)


def _seed(value: int | None) -> int:
    return random.randrange(MAX_RANDOM_SEED) if value is None or value == -1 else value


def step_time(step_s: float, job: Job) -> float:
    """Seconds for one step of a whole batch, from those for one image of 512x512."""
    return step_s * job.size[0] * job.size[1] / REFERENCE_PIXELS * job.batch_size


def check(job: Job) -> None:
    """Fail where and as the WebUI fails: nothing is validated there, it just breaks.

    :raises CrashError: always a 500.
    """
    if job.steps == 0:
        raise CrashError("ZeroDivisionError", "integer division or modulo by zero")
    if job.steps < 0:
        raise CrashError("RuntimeError", "number of steps must be non-negative")
    if job.batch_size < 1 or job.n_iter < 1:
        raise CrashError("IndexError", "list index out of range")
    if not MIN_SEED <= job.seed <= MAX_SEED:
        raise CrashError("ValueError", "Overflow when unpacking long long")
    try:
        job.prompt.encode()
    except UnicodeEncodeError as error:
        raise CrashError("UnicodeEncodeError", str(error)) from error
    _check_size(job)
    if job.is_img2img and (job.strength or 0) < 0:
        raise CrashError("IndexError", "index 0 is out of bounds for dimension 0 with size 0")
    if job.cfg_scale != job.cfg_scale or abs(job.cfg_scale) == float("inf"):
        where = "VAE" if job.cfg_scale == job.cfg_scale else "Unet"
        flag = "Use --disable-nan-check commandline argument to disable this check."
        raise CrashError("NansException", f"A tensor with NaNs was produced in {where}. {flag}")


def _check_size(job: Job) -> None:
    across, down = job.width // 8, job.height // 8
    if job.is_img2img and (job.width <= 0 or job.height <= 0):
        raise CrashError("ValueError", "height and width must be > 0")
    if across < 0 or down < 0:
        text = f"Trying to create tensor with negative dimension {min(across, down)}: [4, {down}, {across}]"
        raise CrashError("RuntimeError", text)
    if across == 0 or down == 0:
        text = f"Calculated padded input size per channel: ({down + 2} x {across + 2}). Kernel size: (3 x 3). "
        raise CrashError("RuntimeError", text + "Kernel size can't be greater than actual input size")
    if across * down * 16 >= 1 << 63:
        text = f"Storage size calculation overflowed with sizes=[4, {down}, {across}]"
        raise CrashError("RuntimeError", text)
    # Every image of a batch is in memory at once, and so are all results.
    pixels = job.size[0] * job.size[1] * job.batch_size * job.n_iter
    if pixels > MAX_PIXELS:
        text = f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {pixels // 4} bytes. "
        text += "Error code 12 (Cannot allocate memory)"
        raise CrashError("RuntimeError", f"[enforce fail at alloc_cpu.cpp:127] err == 0. {text}")


def check_steps(job: Job) -> None:
    """Fail as A1111 and Forge do where a sampler is given too few steps: after the job has waited in the queue.

    :raises CrashError: the sampler cannot do so few.
    """
    # In img2img UniPC does not get the first of the steps.
    given = job.sampling_steps - 1 if job.is_img2img else job.steps
    again = _second_steps(job)
    if again is not None:
        given = min(given, again - 1)
    if job.sampling.sampler == "UniPC" and given == 0:
        raise CrashError("IndexError", "index -1 is out of bounds for dimension 0 with size 0")
    if job.sampling.sampler == "UniPC" and given < UNIPC_ORDER:
        raise CrashError("AssertionError", "UniPC order must be < sampling steps")
    if job.sampling.sampler in REVERSE_SAMPLERS and (again == 1 or (job.is_img2img and job.sampling_steps == 1)):
        raise CrashError("ValueError", "eta must be 0 for reverse sampling")


def check_sde_steps(job: Job) -> None:
    """Fail as A1111's own copy of k-diffusion does, which Forge does not have.

    :raises CrashError: the sampler cannot do a single step.
    """
    if job.sampling.sampler in SDE_SAMPLERS and 1 in (job.sampling_steps, _second_steps(job)):
        raise CrashError("UnboundLocalError", "local variable 'h' referenced before assignment")


def _second_steps(job: Job) -> int | None:
    """Those of a second pass, which are all done, whatever its strength. None where there is none."""
    if job.is_img2img or not job.fields.get("enable_hr"):
        return None
    return int(job.fields.get("hr_second_pass_steps") or job.steps)
