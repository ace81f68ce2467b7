"""The pipeline without HTTP: what is settled before a WebUI is asked, and what becomes of its answer."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from observability.metrics import Metrics
from sd_client.errors import InvalidAnswerError, NoWebUIError
from sd_client.job import JobRequest
from sd_client.models import PaintedImage
from sd_client.pool import PoolView, WebUIPool
from sd_client.schedule import Schedule
from services.catalog import Catalog
from services.generation import Call, Generation, GenerationReport, GenerationService
from services.generation_request import GenerationRequest
from services.masks import read_mask
from services.pictures import ResizeMode, read_picture
from services.problems import InvalidParamsError
from services.tracking import RequestService
from simulator import Simulator
from state.holders import Holders
from state.sqlite import SqliteStore
from storage import LocalStorage
from tests.pools import OwnPool
from tests.services import picture_samples as samples
from tests.storage.records import record_in

Draw = Callable[[int], int]
REQUEST = GenerationRequest(
    mode="txt2img",
    prompt="a harbour",
    negative_prompt="",
    steps=1,
    cfg_scale=7.5,
    width=64,
    height=128,
    seed=None,
    batch_size=2,
)


@pytest.fixture
def pool(simulator: Simulator, tmp_path: Path) -> Iterator[WebUIPool]:
    made = OwnPool([simulator.url], slots=1, queue_limit=4, folder=tmp_path / "run", use_gpu=True, cpu_fallback=True)
    made.start()
    yield made
    made.close()


def catalog_of(look: Callable[[], PoolView]) -> Catalog:
    return Catalog(look, default_model="sd-v1-5", aliases={}, default_sampler=None, default_scheduler=None)


@pytest.fixture
def make_service(pool: WebUIPool, tmp_path: Path) -> Callable[..., GenerationService]:
    store = SqliteStore(tmp_path / "state.sqlite")
    holders = Holders(tmp_path / "run")

    def make(**changes: object) -> GenerationService:
        own: dict[str, object] = {
            "pool": pool,
            "catalog": catalog_of(pool.ready_view),
            "storage": LocalStorage(tmp_path / "images"),
            "requests": RequestService(pool=pool, store=store, host=store, holders=holders),
            "metrics": Metrics(),
            "max_pixels": 1536 * 1536,
            "queue_timeout_s": 30.0,
            "timeout_s": 30.0,
        }
        return GenerationService(**{**own, **changes})

    return make


@pytest.mark.parametrize("drawn", [0, 2**31 - 3])
def test_a_seed_is_drawn_so_that_the_whole_batch_fits(
    make_service: Callable[..., GenerationService], drawn: int
) -> None:
    asked: list[int] = []

    def draw(below: int) -> int:
        asked.append(below)
        return drawn

    _, params = make_service(draw=draw).prepare(REQUEST)
    assert asked == [2**31 - 2]
    assert params.seed == drawn
    assert params.seed + params.batch_size - 1 < 2**31


def test_what_is_prepared(make_service: Callable[..., GenerationService]) -> None:
    choice, params = make_service(draw=lambda below: 7).prepare(REQUEST)

    assert (choice.model, choice.checkpoint.stem) == ("sd-v1-5", "v1-5-pruned-emaonly")
    assert (params.width, params.height, params.seed, params.batch_size) == (64, 128, 7, 2)
    assert (params.init_image, params.inpainting, params.strength, params.sampler) == (None, None, None, None)


def test_an_empty_mask_is_the_callers_fault(make_service: Callable[..., GenerationService]) -> None:
    image = samples.encode(samples.noise(64, 64))
    black = samples.encode(samples.Image.new("L", (64, 64), 0))
    request = replace(
        REQUEST,
        mode="inpainting",
        image=read_picture(image, max_pixels=10**6),
        mask=read_mask(black, mode="white", max_pixels=10**6),
        strength=1.0,
    )
    with pytest.raises(InvalidParamsError) as caught:
        make_service().prepare(request)
    assert [problem.field for problem in caught.value.problems] == ["mask"]


@pytest.mark.parametrize(
    ("changes", "field", "received"),
    [
        ({"width": 64, "height": 64, "resize_mode": "crop"}, "resize_mode", "crop"),
        ({"width": 64, "height": 64}, "width", 64),
        ({"width": None, "height": 64}, "height", 64),
    ],
)
def test_a_mask_that_is_lost_is_told_of_the_field_that_did_it(
    make_service: Callable[..., GenerationService], changes: dict[str, object], field: str, received: object
) -> None:
    mask = Image.new("L", (1280, 640))
    mask.paste(255, (10, 300, 13, 303))
    request = replace(
        REQUEST,
        mode="inpainting",
        image=read_picture(samples.encode(Image.new("RGB", mask.size)), max_pixels=1_000_000),
        mask=read_mask(samples.encode(mask), mode=None, max_pixels=1_000_000),
        strength=0.9,
    )
    with pytest.raises(InvalidParamsError) as caught:
        make_service().prepare(replace(request, **changes))  # type: ignore[arg-type]
    assert [(problem.field, problem.received) for problem in caught.value.problems] == [(field, received)]


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "fill"])
def test_only_the_fitted_pictures_wait_and_another_size_is_made_of_them(
    make_service: Callable[..., GenerationService], resize_mode: ResizeMode
) -> None:
    photo = Image.new("RGB", (640, 480), "white")
    photo.paste("navy", (240, 160, 400, 320))
    mask = Image.new("L", photo.size)
    mask.paste(255, (240, 160, 400, 320))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=100)
    request = replace(
        REQUEST,
        mode="inpainting",
        width=256,
        height=128,
        image=read_picture(file.getvalue(), max_pixels=10**6),
        mask=read_mask(samples.encode(ImageOps.invert(mask)), mode="black", max_pixels=10**6),
        resize_mode=resize_mode,
        strength=0.9,
    )
    _, params = make_service().prepare(request)
    assert request.image
    assert request.mask
    assert params.inpainting
    assert request.image.data is params.init_image
    assert request.mask.data is params.inpainting.mask
    _, again = make_service().prepare(request)
    assert again.init_image is params.init_image
    assert again.inpainting
    assert again.inpainting.mask == params.inpainting.mask
    _, other = make_service().prepare(replace(request, width=192, height=128))
    assert other.init_image
    assert other.inpainting
    shown = Image.open(io.BytesIO(other.init_image)).convert("L")
    repainted = Image.open(io.BytesIO(other.inpainting.mask))
    assert shown.size == repainted.size == (192, 128)
    dark = shown.point(lambda value: 255 * (value < 128)).getbbox()
    assert dark
    assert repainted.getbbox()
    assert max(abs(a - b) for a, b in zip(dark, repainted.getbbox() or (), strict=True)) <= 1


def test_only_what_was_made_of_a_reference_picture_waits(make_service: Callable[..., GenerationService]) -> None:
    photo = Image.new("RGB", (1600, 800), "navy")
    picture = read_picture(samples.encode(photo, "JPEG"), max_pixels=10**7)
    request = replace(REQUEST, reference=picture)
    _, params = make_service().prepare(request)
    assert params.reference
    adapter = params.reference.pictures["adapter"]
    assert picture.data is adapter.file
    assert picture.pixels is None
    _, again = make_service().prepare(replace(request, width=128, height=128))
    assert again.reference
    assert again.reference.pictures["adapter"] == adapter
    fitted = again.reference.pictures["attention"]
    shown = samples.pixels(fitted.file).convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert (fitted.size, shown) == ((128, 128), (0, 32, 128, 96))


def test_nothing_can_be_said_before_a_webui_was_seen(make_service: Callable[..., GenerationService]) -> None:
    nothing = PoolView(states={}, schedule=Schedule(), webuis=("a",), draining=False)
    service = make_service(catalog=catalog_of(lambda: nothing))
    with pytest.raises(NoWebUIError):
        service.prepare(REQUEST)


def generate(
    service: GenerationService, wait_s: float | None = None, check: Callable[[], None] = lambda: None
) -> Generation:
    choice, params = service.prepare(REQUEST)
    call = Call(request_id="r", key="k", started=time.monotonic(), wait_s=wait_s, check=check)
    return service.generate(REQUEST, choice, params, call)


def test_painted_and_stored(make_service: Callable[..., GenerationService], tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "images")
    generation = generate(make_service(draw=lambda below: 40))

    assert [image.seed for image in generation.images] == [40, 41]
    for number, image in enumerate(generation.images):
        with storage.open(image.image_id).file as file:
            assert file.read() == image.png
        record = record_in(tmp_path / "images", image.image_id)
        assert (record["seed"], record["batch_index"], record["request_id"]) == (40 + number, number, "r")


class RecordingPool:
    """Notes what it was asked for, checks once, and answers."""

    def __init__(self, answer: tuple[PaintedImage, ...] = ()) -> None:
        self._answer = answer
        self.asked: JobRequest | None = None

    def now(self) -> float:
        return 1000.0

    def check_room(self, request: JobRequest) -> None:
        """There is always some."""

    def run(self, request: JobRequest) -> tuple[PaintedImage, ...]:
        self.asked = request
        request.check()
        return self._answer


@pytest.mark.parametrize("wait_s", [None, 20, 900])
def test_how_long_a_job_may_take(make_service: Callable[..., GenerationService], wait_s: float | None) -> None:
    pool = RecordingPool((PaintedImage(data=samples.encode(samples.noise(64, 128)), seed=1),))
    generate(make_service(pool=pool, queue_timeout_s=120.0, timeout_s=300.0), wait_s=wait_s)
    asked = pool.asked
    assert (asked.task_id, asked.request, asked.since, asked.run_s) == ("r", "k", 1000.0, 300.0)
    assert isinstance(asked.report, GenerationReport)
    # Less what has passed since the request came in.
    longest_s = 420 if wait_s is None else wait_s
    assert time.monotonic() < asked.ends <= time.monotonic() + min(420, longest_s)
    assert asked.wait_until <= min(asked.ends, time.monotonic() + 120)


class HungUpError(Exception):
    """As a caller's leaving is told."""


def test_what_the_check_raises_ends_the_job(make_service: Callable[..., GenerationService]) -> None:
    def check() -> None:
        raise HungUpError

    with pytest.raises(HungUpError):
        generate(make_service(pool=RecordingPool()), check=check)


@pytest.mark.parametrize(
    "data", [b"GIF89a", samples.encode(samples.noise(64, 64)), b"\x89PNG\r\n\x1a\n" + bytes(20), b""]
)
def test_an_answer_that_is_no_picture_of_that_size(
    make_service: Callable[..., GenerationService], tmp_path: Path, data: bytes
) -> None:
    painted = PaintedImage(data=data, seed=1)
    with pytest.raises(InvalidAnswerError):
        generate(make_service(pool=RecordingPool((painted,))))
    assert not list(tmp_path.rglob("*.png")), "nothing of it is kept"
