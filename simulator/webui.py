"""A WebUI without a model: its models, options, queue and progress, and the run of one job."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from simulator.checkpoints import Checkpoint, Checkpoints
from simulator.errors import CrashError
from simulator.infotext import Info, Value, infotext
from simulator.jobs import Job, Prepared, check, prepare
from simulator.options import DEFAULTS, Options
from simulator.pictures import encode
from simulator.progress import FIFOLock, Progress, Tasks
from simulator.short_runs import Check

REFERENCE_PIXELS = 512 * 512
CACHE_BYTES = 64 << 20
EXTRAS = {"mask": "return_mask", "composite": "return_mask_composite"}
VERSION = "simulator"  # In texts that travel with pictures; the JSON still says which WebUI is played.


class EncodedPictures:
    """The last pictures in base64, so that an identical request costs next to nothing. Thread-safe."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def get(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """The picture under `key`, made if it is not there."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        data = make()
        with self._lock:
            if key not in self._entries:
                self._entries[key] = data
                self._bytes += len(data)
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._entries.popitem(last=False)[1])
        return data


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished job: what is said about it and what it shows, still to be painted."""

    info: Info
    prepared: Prepared
    finished: tuple[float, ...]
    """For every image that was begun, how much of it was sampled (0 to 1)."""
    texts: tuple[str, ...]
    grid: bool
    has_texts: bool
    """Whether the pictures have their text in them (option enable_pnginfo)."""
    extras: tuple[str, ...]
    """What comes directly behind each picture of an inpainting: "mask", "composite"."""


class WebUI:
    """The state behind the HTTP API.

    :param step_s: seconds for one step of one image of 512x512; grows with pixels and batch.
    :param load_s: seconds for switching models.
    :param broken: files that cannot be loaded.
    :param check_steps: raises what this server raises where a sampler is given too few steps.
    """

    def __init__(
        self,
        *,
        models: tuple[str, ...],
        step_s: float,
        load_s: float,
        config: dict[str, Any],
        defaults: dict[str, Any] | None = None,
        version: str | None = "v1.10.1",
        weights: str = "",
        broken: tuple[str, ...] = (),
        check_steps: Check = lambda _job: None,
    ) -> None:
        self.checkpoints = Checkpoints(models, weights)
        self._broken = frozenset(broken)
        self._loaded = self.checkpoints.find(models[0]) if models else None
        if self._loaded is not None:
            self.checkpoints.learn_hash(self._loaded)
            title = self.checkpoints.title(self._loaded)
            config = {"sd_model_checkpoint": title, "sd_checkpoint_hash": self._loaded.sha256, **config}
        self.options = Options(DEFAULTS if defaults is None else defaults, config)
        self.queue = FIFOLock()
        self.progress = Progress()
        self.tasks = Tasks()
        self.version = version
        self._check_steps = check_steps
        self._step_s = step_s
        self._load_s = load_s
        self._encoded = EncodedPictures()

    def close(self) -> None:
        """End all jobs and all waiting."""
        self.queue.close()
        self.progress.close()

    @property
    def loaded(self) -> Checkpoint:
        """The model in memory.

        :raises CrashError: there is none.
        """
        if self._loaded is None:
            raise CrashError("AttributeError", "'NoneType' object has no attribute 'sd_checkpoint_info'")
        return self._loaded

    def ensure_loaded(self) -> None:
        """Load what the options name, if it is not loaded. Only to be called by whoever holds the queue.

        :raises CrashError: it cannot be loaded; the one before stays in memory, the option as it is.
        """
        wanted = self.wanted()
        if wanted != self._loaded:
            self.load(wanted, refusal=("SafetensorError", "Error while deserializing header: MetadataIncompleteBuffer"))

    def wanted(self) -> Checkpoint:
        """What the options name, else what is loaded.

        :raises CrashError: there is no model at all.
        """
        wanted = self.checkpoints.find(str(self.options.get("sd_model_checkpoint"))) or self._loaded
        if wanted is None:
            raise CrashError("FileNotFoundError", "No checkpoints found. When searching for checkpoints, looked at: …")
        return wanted

    def load(self, wanted: Checkpoint, *, refusal: tuple[str, str]) -> None:
        """Read a file.

        :raises CrashError: of this class and text, it cannot be loaded.
        """
        self.progress.rest(self._load_s)
        if wanted.file in self._broken:
            raise CrashError(*refusal)
        self.checkpoints.learn_hash(wanted)
        self._loaded = wanted
        self.options.set("sd_checkpoint_hash", wanted.sha256)

    def choose(self, name: str) -> None:
        """POST options with a model: the option changes at once, the model when the queue lets it."""
        self.options.set("sd_model_checkpoint", name)
        with self.queue.turn():
            self.ensure_loaded()
            self.options.set("sd_model_checkpoint", self.checkpoints.title(self.loaded))

    def run(self, job: Job, task: str) -> Result:
        """Do a job. The caller holds the queue.

        :raises SimulatedError: it fails the way it would.
        """
        timestamp = self.progress.begin(job.name)
        try:
            self.tasks.start(task)
            result = self._with_overrides(job, timestamp)
            self.tasks.finish(task)
        finally:
            self.progress.end()
        return result

    def _with_overrides(self, job: Job, timestamp: str) -> Result:
        settings = dict(job.override_settings)
        name = settings.get("sd_model_checkpoint")
        if "sd_model_checkpoint" in settings and (not isinstance(name, str) or not self.checkpoints.find(name)):
            # Silently: the request is then done with the model of the options.
            del settings["sd_model_checkpoint"]
        with self.options.overridden(settings, restore=job.restore_afterwards):
            self.ensure_loaded()
            check(job)
            self._check_steps(job)
            prepared = prepare(job, self.loaded.model_name)
            finished = self._sample(prepared)
            return self._result(prepared, finished, timestamp)

    def _sample(self, prepared: Prepared) -> tuple[float, ...]:
        job = prepared.job
        self.progress.plan(job.n_iter)
        finished: list[float] = []
        for round_no in range(job.n_iter):
            first = round_no * job.batch_size
            preview = partial(prepared.preview, first)
            done = self.progress.sample(self._total_steps(job), step_time(self._step_s, job), preview)
            finished += [done] * job.batch_size
            if not self.progress.next_round():
                break
        return tuple(finished)

    def _total_steps(self, job: Job) -> int:
        extra = (job.hires.steps or job.steps) if job.hires else 0
        return job.sampling_steps + extra

    def _result(self, prepared: Prepared, finished: tuple[float, ...], timestamp: str) -> Result:
        job = prepared.job
        clip_skip = int(self.options.get("CLIP_stop_at_last_layers") or 1)
        extra = extra_params(prepared)
        texts = [self._text(prepared, index, extra, clip_skip) for index in range(len(finished))]
        grid = job.save_images and len(finished) > 1 and bool(self.options.get("return_grid"))
        info = Info(
            prompt=job.prompt,
            negative_prompt=job.negative_prompt,
            seeds=job.seeds,
            subseeds=job.subseeds,
            subseed_strength=job.subseed_strength,
            width=job.width,
            height=job.height,
            sampler=job.sampling.sampler,
            cfg_scale=job.cfg_scale,
            steps=job.steps,
            batch_size=job.batch_size,
            restore_faces=job.restore_faces,
            model_name=self.loaded.model_name,
            model_hash=self.loaded.short_hash,
            denoising_strength=job.denoising_strength,
            job_timestamp=timestamp,
            version=self.version,
            seed_resize=job.seed_resize,
            clip_skip=clip_skip,
            styles=list(job.styles),
            extra=extra,
            infotexts=[texts[0], *texts] if grid else texts,
            index_of_first_image=int(grid),
        )
        extras = tuple(name for name, option in EXTRAS.items() if prepared.canvases and self.options.get(option))
        return Result(
            info=info,
            prepared=prepared,
            finished=finished,
            texts=tuple(texts),
            grid=grid,
            has_texts=bool(self.options.get("enable_pnginfo")),
            extras=extras,
        )

    def _text(self, prepared: Prepared, index: int, extra: dict[str, Value], clip_skip: int) -> str:
        job = prepared.job
        varied = job.subseed_strength != 0
        params: dict[str, Value] = {
            "Steps": job.steps,
            "Sampler": job.sampling.sampler,
            "Schedule type": job.sampling.schedule,
            "CFG scale": job.cfg_scale,
            "Seed": job.seeds[index],
            "Face restoration": "CodeFormer" if job.restore_faces else None,
            "Size": f"{job.width}x{job.height}",
            "Model hash": self.loaded.short_hash,
            "Model": self.loaded.model_name,
            "Variation seed": job.subseeds[index] if varied else None,
            "Variation seed strength": job.subseed_strength if varied else None,
            "Denoising strength": extra.get("Denoising strength"),
            "Clip skip": clip_skip if clip_skip > 1 else None,
            "Tiling": "True" if job.tiling else None,
        }
        return infotext(job.prompt, job.negative_prompt, {**params, **extra, "Version": VERSION})

    def pictures(self, result: Result) -> list[bytes]:
        """The finished images in base64, each with what comes behind it, a grid first if there is one.

        :raises HTTPError: the option samples_format names something that cannot be sent.
        """
        kind = str(self.options.get("samples_format"))
        images = []
        for index in range(len(result.finished)):
            images.append(self._picture(result, index, kind))
            images += [encode(extra_of(result, index, name), kind, "") for name in result.extras]
        if result.grid:
            images.insert(0, encode(grid_of(result), kind, result.texts[0] if result.has_texts else ""))
        return images

    def _picture(self, result: Result, index: int, kind: str) -> bytes:
        prepared, done = result.prepared, result.finished[index]
        text = result.texts[index] if result.has_texts else ""
        source = prepared.job.source
        place = index % prepared.job.batch_size
        key = (kind, text, result.texts[index], prepared.scene(index), done, source and (source.key, place))
        return self._encoded.get(key, lambda: encode(prepared.paint(index, done), kind, text))


class ForgeWebUI(WebUI):
    """Forge: one load that failed leaves nothing in memory, and the model before it is then taken as loaded."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._remembered = self._loaded

    def ensure_loaded(self) -> None:
        """See `WebUI.ensure_loaded`. What was loaded last with success is never loaded twice in a row."""
        wanted = self.wanted()
        if wanted != self._remembered:
            self._loaded = None
            self.load(wanted, refusal=("ValueError", "Failed to recognize model type!"))
            self._remembered = wanted

    def wanted(self) -> Checkpoint:
        """See `WebUI.wanted`."""
        return (
            self.checkpoints.find(str(self.options.get("sd_model_checkpoint"))) or self._remembered or super().wanted()
        )


def step_time(step_s: float, job: Job) -> float:
    """Seconds for one step of a whole batch, from those for one image of 512x512."""
    return step_s * job.final_size[0] * job.final_size[1] / REFERENCE_PIXELS * job.batch_size


def extra_params(prepared: Prepared) -> dict[str, Value]:
    """extra_generation_params in the WebUI's order."""
    job, extra = prepared.job, dict[str, Value]()
    if job.sampling.shown:
        extra["Schedule type"] = job.sampling.shown
    if job.hires:
        extra |= {
            "Denoising strength": job.denoising_strength,
            "Hires prompt": None,
            "Hires negative prompt": None,
            "Hires schedule type": None,
            "Hires upscale": job.hires.scale,
            "Hires steps": job.hires.steps or None,
            "Hires upscaler": job.hires.upscaler,
        }
    if job.source:
        extra["Denoising strength"] = job.denoising_strength
        if job.source.mask is not None:
            extra |= _mask_params(prepared)
    return extra


def _mask_params(prepared: Prepared) -> dict[str, Value]:
    source = prepared.job.source
    assert source is not None
    settings, extra = source.settings, dict[str, Value]()
    if settings.invert:
        extra["Mask mode"] = "Inpaint not masked"
    if settings.blur_x > 0:
        extra["Mask blur"] = settings.blur_x
    if not prepared.canvases:
        return extra
    if settings.full_res:
        extra |= {"Inpaint area": "Only masked", "Masked area padding": settings.padding}
    fills: dict[int, str] = {0: "fill", 2: "latent noise", 3: "latent nothing"}
    if settings.fill in fills:
        extra["Masked content"] = fills[settings.fill]
    return extra


def extra_of(result: Result, index: int, name: str) -> Image.Image:
    """The mask of an inpainting in RGB, or the part that was repainted on a transparent ground."""
    mask = result.prepared.canvases[index % result.prepared.job.batch_size].repainted
    if name == "mask":
        return mask.convert("RGB")
    picture = result.prepared.paint(index, result.finished[index]).convert("RGBA")
    return Image.composite(picture, Image.new("RGBA", picture.size), mask)


def grid_of(result: Result) -> Image.Image:
    """All images beside and below each other, as many rows as the root of their number."""
    images = [result.prepared.paint(index, done) for index, done in enumerate(result.finished)]
    rows = max(1, round(math.sqrt(len(images))))
    columns = math.ceil(len(images) / rows)
    width, height = images[0].size
    grid = Image.new("RGB", (columns * width, rows * height))
    for index, image in enumerate(images):
        grid.paste(image, (index % columns * width, index // columns * height))
    return grid


def model_not_found(name: str) -> CrashError:
    """What POST options says to a model it does not know."""
    return CrashError("RuntimeError", f"model {name!r} not found")
