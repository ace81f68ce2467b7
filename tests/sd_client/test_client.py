"""What the client makes of the lists of each kind of server, and what it sends."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from pydantic_core import to_json

from sd_client.client import WebUIClient
from sd_client.errors import InvalidAnswerError, MissingRouteError, WebUIAuthError, WebUIStatusError
from sd_client.limits import NO_LIMITS, Limits
from sd_client.matching import find_checkpoint, match
from sd_client.models import (
    DUMMY_HASH,
    BrokenList,
    Capabilities,
    Checkpoint,
    GenerationParams,
    ListedLora,
    PaintedImage,
    Sampler,
)
from sd_client.progress import Progress
from tests.sd_client.jobs import CAPABILITIES, CHECKPOINT, INIT_IMAGE, INPAINTING, job
from tests.sd_client.servers import (
    A1111_CPU,
    A1111_CUDA,
    A1111_MODELS,
    A1111_SAMPLERS,
    NOT_FOUND,
    Answer,
    Received,
    WebServer,
    a1111_routes,
    as_json,
    painted,
)

BROKEN = as_json({"error": "ValidationError", "detail": "", "body": "", "errors": "…"}, 500)
EMPTY_404 = Answer(status=404)


def capabilities(server: WebServer) -> Capabilities:
    return WebUIClient(server.url).capabilities()


# --- Capabilities ---------------------------------------------------------------------------------------------------


def test_a1111(web_server: WebServer) -> None:
    web_server.routes |= a1111_routes()
    assert capabilities(web_server) == Capabilities(
        checkpoints=(CHECKPOINT,),
        loaded="v1-5-pruned-emaonly.safetensors [6ce0161689]",
        samplers=(
            Sampler(name="DPM++ 2M", aliases=("k_dpmpp_2m",)),
            Sampler(name="DPM++ 2S a", aliases=("k_dpmpp_2s_a",)),
            Sampler(name="Euler a", aliases=("k_euler_a", "k_euler_ancestral")),
            Sampler(name="Euler", aliases=("k_euler",)),
            Sampler(name="DPM2 a", aliases=("k_dpm_2_a",)),
            Sampler(name="DDIM", aliases=("ddim",)),
        ),
        schedulers=(
            Sampler(name="automatic", aliases=("Automatic",)),
            Sampler(name="karras", aliases=("Karras",)),
            Sampler(name="sgm_uniform", aliases=("SGM Uniform", "SGMUniform")),
        ),
        upscalers=("Lanczos",),
        upscales=True,
        loras=(ListedLora(name="detail"),),
        hires_upscalers=("Latent", "Lanczos"),
        clip_skip="option",
        lora_hashes=True,
        gpu=True,
        has_progress=True,
        limits=NO_LIMITS,
        max_seed=2**63 - 1,
        gpu_free_bytes=1,
        gpu_total_bytes=2,
    )


def test_an_older_a1111_has_no_schedulers(web_server: WebServer) -> None:
    web_server.routes |= a1111_routes()
    del web_server.routes["GET /sdapi/v1/schedulers"]
    assert capabilities(web_server).schedulers is None


def test_sdcpp(web_server: WebServer) -> None:
    model = {"title": "sd15", "model_name": "sd15", "filename": "sd15.safetensors", "hash": DUMMY_HASH, "config": None}
    web_server.routes |= {
        "GET /sdapi/v1/sd-models": as_json([model]),
        "GET /sdapi/v1/options": as_json({"samples_format": "png", "sd_model_checkpoint": "sd15"}),
        "GET /sdapi/v1/samplers": as_json([{"name": "euler_a", "aliases": ["euler_a"], "options": {}}]),
        "GET /sdapi/v1/schedulers": as_json([{"name": "karras", "label": "karras"}]),
        "GET /sdapi/v1/upscalers": as_json([{"name": "None", "scale": 4}]),
        "GET /sdapi/v1/loras": as_json([{"name": "tiny", "path": "tiny.safetensors"}]),
        "GET /sdapi/v1/latent-upscale-modes": as_json([{"name": "Latent"}]),
        "GET /sdcpp/v1/capabilities": as_json({}),
        "GET /sdapi/v1/memory": EMPTY_404,
        "GET /sdapi/v1/progress": EMPTY_404,
    }
    assert capabilities(web_server) == Capabilities(
        checkpoints=(Checkpoint(title="sd15", model_name="sd15", hash=DUMMY_HASH, filename="sd15.safetensors"),),
        loaded="sd15",
        samplers=(Sampler(name="euler_a", aliases=("euler_a",)),),
        schedulers=(Sampler(name="karras", aliases=("karras",)),),
        upscalers=(),
        loras=(ListedLora(name="tiny", path="tiny.safetensors"),),
        hires_upscalers=("Latent",),
        clip_skip="field",
        gpu=None,
        has_progress=False,
        can_interrupt=False,
        clamps=True,
        inpaint_options=False,
        limits=Limits(size_step=8, sure_size_step=64),
        max_seed=2**31 - 1,
    )


def test_sdnext_lists_no_schedulers_under_that_name(web_server: WebServer) -> None:
    web_server.routes |= a1111_routes() | {
        "GET /sdapi/v1/samplers": as_json([{"name": "UniPC", "options": {}}]),
        "GET /sdapi/v1/schedulers": as_json([{"name": "UniPC", "cls": "UniPCMultistepScheduler", "options": {}}]),
        "GET /sdapi/v1/sd-models": as_json([{**A1111_MODELS[0], "type": "safetensors"}]),
    }
    seen = capabilities(web_server)
    assert (seen.samplers, seen.schedulers) == ((Sampler(name="UniPC"),), ())


NO_ROUTE = Answer(status=404, body=b"Error: KoboldCpp HTTP Server is running, but this endpoint does not exist.")
KOBOLDCPP = {
    "GET /sdapi/v1/sd-models": as_json(
        [{"title": "flux", "model_name": "flux", "hash": DUMMY_HASH, "sha256": None, "filename": "flux.gguf"}]
    ),
    "GET /sdapi/v1/options": as_json({"samples_format": "png", "sd_model_checkpoint": "flux"}),
    "GET /sdapi/v1/samplers": as_json([{"name": "Euler a", "aliases": ["k_euler_a"], "options": {}}]),
    "GET /sdapi/v1/upscalers": as_json([]),
    "GET /sdcpp/v1/capabilities": NO_ROUTE,
    "GET /api/extra/version": as_json({"result": "KoboldCpp", "version": "1.115.1", "protected": False}),
}


def test_koboldcpp(web_server: WebServer) -> None:
    web_server.routes |= dict.fromkeys(a1111_routes(), NO_ROUTE) | KOBOLDCPP
    seen = capabilities(web_server)
    assert (seen.schedulers, seen.loras, seen.gpu, seen.has_progress) == (None, (), None, False)
    assert (seen.clamps, seen.limits, seen.max_seed) == (True, Limits(size_step=8, sure_size_step=64), 2**31 - 1)
    assert (seen.paints_batches, seen.lifts_limits) == (False, True)
    assert (seen.can_interrupt, seen.ends_on_hang_up, seen.progress_by_genkey) == (False, False, False)


def test_a_koboldcpp_that_tells_progress_ends_a_job_on_hang_up(web_server: WebServer) -> None:
    progress = {"GET /sdapi/v1/progress": as_json({"progress": 0.0, "state": {"job_count": 0}})}
    web_server.routes |= dict.fromkeys(a1111_routes(), NO_ROUTE) | KOBOLDCPP | progress
    seen = capabilities(web_server)
    assert (seen.can_interrupt, seen.ends_on_hang_up, seen.progress_by_genkey) == (False, True, True)


def test_a_koboldcpp_stays_one_while_its_version_is_late(web_server: WebServer) -> None:
    web_server.routes |= dict.fromkeys(a1111_routes(), NO_ROUTE) | KOBOLDCPP
    client = WebUIClient(web_server.url)
    whole = client.capabilities()
    web_server.routes |= dict.fromkeys(("GET /sdcpp/v1/capabilities", "GET /api/extra/version"), BROKEN)
    assert not client.capabilities(whole).paints_batches


def test_only_servers_with_the_dummy_hash_are_asked_which_they_are(web_server: WebServer) -> None:
    web_server.routes |= a1111_routes()
    capabilities(web_server)
    assert [path for path in web_server.paths() if not path.startswith("/sdapi/v1/")] == [
        *("/internal/progress", "/controlnet/control_types"),
    ]


@pytest.mark.parametrize("missing", sorted(a1111_routes().keys() - {"GET /sdapi/v1/sd-models"}))
@pytest.mark.parametrize("answer", [NOT_FOUND, EMPTY_404, as_json({"detail": "Method Not Allowed"}, 405)])
def test_every_route_but_the_models_may_be_missing(web_server: WebServer, missing: str, answer: Answer) -> None:
    web_server.routes |= a1111_routes()
    whole = capabilities(web_server)
    web_server.routes[missing] = answer
    without = capabilities(web_server)
    assert without != whole
    assert without.checkpoints == whole.checkpoints


LISTS = [
    *("options", "samplers", "schedulers", "upscalers", "latent-upscale-modes"),
    *("loras", "memory", "progress"),
]
UNUSABLE = {
    "broken": BROKEN,
    "unauthorized": as_json({"detail": "Not authenticated"}, 401),
    "busy": as_json({"error": "busy"}, 503),
    "text": as_json("no list"),
    "page": Answer(body=b"<html>"),
    "object": as_json({}),
    "list": as_json([]),
    "a million entries": Answer(body=b"[" + b"{}," * 999_999 + b"{}]"),
    "too large": Answer(body=b'["' + b"x" * (9 * 2**20) + b'"]'),
    "beyond all measure": Answer(body=b'{"cuda": {"system": {"free": 1e999, "total": %s}}}' % (b"9" * 400)),
    "deep": Answer(body=b"[" * 100_000),
    "half a character": Answer(body=b'[{"name": "\\ud800", "label": "\\ud800"}]'),
    "a long name": as_json([{"name": "x" * 100_000, "label": "x" * 100_000}]),
    "nothing": Answer(),
}


@pytest.mark.parametrize("route", LISTS)
@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_no_list_but_the_models_may_cost_a_webui(web_server: WebServer, route: str, answer: Answer) -> None:
    web_server.routes |= a1111_routes() | {f"GET /sdapi/v1/{route}": answer}
    seen = capabilities(web_server)
    assert seen.checkpoints == (CHECKPOINT,)
    assert {broken.route for broken in seen.broken} <= {route}
    assert len(to_json(seen)) < 20_000


@pytest.mark.parametrize("route", LISTS)
def test_what_was_read_before_stands_in_for_a_broken_list(web_server: WebServer, route: str) -> None:
    web_server.routes |= a1111_routes()
    client = WebUIClient(web_server.url)
    whole = client.capabilities()
    web_server.routes[f"GET /sdapi/v1/{route}"] = BROKEN
    broken = client.capabilities(whole)
    assert broken == replace(whole, broken=broken.broken)
    assert broken.broken == (BrokenList(route=route, reason="the WebUI answered 500 (ValidationError)"),)
    web_server.routes |= a1111_routes()
    assert client.capabilities(broken) == whole


def test_a_late_list_is_told_and_does_not_hold_up_the_others(web_server: WebServer) -> None:
    gate = threading.Event()

    def late(received: Received) -> Answer:
        gate.wait(20)
        return BROKEN

    web_server.routes |= a1111_routes() | {"GET /sdapi/v1/loras": late}
    seen = WebUIClient(web_server.url, read_timeout_s=0.3).capabilities()
    gate.set()
    assert [(broken.route, broken.late) for broken in seen.broken] == [("loras", True)]
    assert seen.samplers


def test_broken_schedulers_without_earlier_ones_are_none_at_all(web_server: WebServer) -> None:
    """None would mean that they are parts of the samplers' names."""
    web_server.routes |= a1111_routes() | {"GET /sdapi/v1/schedulers": BROKEN}
    assert capabilities(web_server).schedulers == ()


def test_without_a_list_of_models_nothing_is_known(web_server: WebServer) -> None:
    web_server.routes |= a1111_routes() | {"GET /sdapi/v1/sd-models": BROKEN}
    with pytest.raises(WebUIStatusError):
        capabilities(web_server)


@pytest.mark.parametrize(
    ("memory", "gpu"),
    [
        (A1111_CUDA, True),
        (A1111_CPU, False),
        ({"ram": {}, "cuda": {}}, False),
        ({"ram": {}, "cuda": None}, None),
        ({"ram": {}}, None),
        (None, None),
        ([], None),
    ],
)
def test_gpu(web_server: WebServer, memory: object, gpu: bool | None) -> None:
    web_server.routes |= a1111_routes(memory=memory)
    assert capabilities(web_server).gpu is gpu


@pytest.mark.parametrize("options", [{}, {"sd_model_checkpoint": None}, {"sd_model_checkpoint": ""}, None, [], "x"])
def test_the_loaded_model_may_not_be_told(web_server: WebServer, options: object) -> None:
    web_server.routes |= a1111_routes() | {"GET /sdapi/v1/options": as_json(options)}
    assert capabilities(web_server).loaded is None


def test_entries_that_are_none_are_passed_over(web_server: WebServer) -> None:
    junk: list[object] = [None, 5, "x", {}, {"name": None}, {"name": 5}, {"title": ""}]
    good = {"name": "Euler", "aliases": None, "label": "Euler"}
    for name in ("samplers", "schedulers", "upscalers", "loras"):
        web_server.routes[f"GET /sdapi/v1/{name}"] = as_json([*junk, good])
    web_server.routes["GET /sdapi/v1/sd-models"] = as_json([*junk, {"title": "m.ckpt"}])
    seen = capabilities(web_server)
    assert (seen.upscalers, seen.loras) == (("Euler",), (ListedLora(name="Euler"),))
    assert seen.samplers == (Sampler(name="Euler"),)
    assert seen.schedulers == (Sampler(name="Euler", aliases=("Euler",)),)
    assert seen.checkpoints == (Checkpoint(title="m.ckpt", model_name="m"),)


@pytest.mark.parametrize(
    ("entry", "checkpoint"),
    [
        (
            {"title": "a.ckpt", "model_name": "a", "hash": None, "filename": "C:\\sd\\models\\a.ckpt"},
            Checkpoint(title="a.ckpt", model_name="a", filename="a.ckpt"),
        ),
        ({"title": "s/a.ckpt", "model_name": "s_a", "hash": ""}, Checkpoint(title="s/a.ckpt", model_name="s_a")),
        ({"model_name": "a", "filename": None}, Checkpoint(title="a", model_name="a")),
        ({"title": "a.ckpt [0123456789]", "hash": 5}, Checkpoint(title="a.ckpt [0123456789]", model_name="a")),
    ],
)
def test_checkpoints(web_server: WebServer, entry: object, checkpoint: Checkpoint) -> None:
    web_server.routes["GET /sdapi/v1/sd-models"] = as_json([entry])
    assert WebUIClient(web_server.url).sd_models() == (checkpoint,)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (NOT_FOUND, MissingRouteError),
        (EMPTY_404, MissingRouteError),
        (Answer(status=401), WebUIAuthError),
        (as_json({"models": []}), InvalidAnswerError),
        (as_json(None), InvalidAnswerError),
        (Answer(status=200), InvalidAnswerError),
        (Answer(body=b"<html>"), InvalidAnswerError),
    ],
)
def test_without_a_list_of_models_there_is_no_api(web_server: WebServer, answer: Answer, error: type) -> None:
    web_server.routes |= a1111_routes() | {"GET /sdapi/v1/sd-models": answer}
    for look in (WebUIClient(web_server.url).sd_models, WebUIClient(web_server.url).capabilities):
        with pytest.raises(error):
            look()
    assert set(web_server.paths()) == {"/sdapi/v1/sd-models"}


# --- Progress and interrupt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "progress"),
    [
        (as_json({"progress": 0.25, "eta_relative": 3.5}), Progress(fraction=0.25)),
        (as_json({"progress": 1, "eta_relative": None}), Progress(fraction=1.0)),
        (Answer(body=b'{"progress": NaN, "eta_relative": Infinity}'), Progress(fraction=0.0)),
        (as_json({}), Progress(fraction=0.0)),
        (as_json(None), None),
        (Answer(), None),
        (EMPTY_404, None),
        (BROKEN, None),
    ],
)
def test_progress(web_server: WebServer, answer: Answer, progress: Progress | None) -> None:
    web_server.routes["GET /sdapi/v1/progress"] = answer
    assert WebUIClient(web_server.url).progress() == progress
    assert web_server.received[0].path == "/sdapi/v1/progress?skip_current_image=true"


@pytest.mark.parametrize(
    ("answer", "able"), [(as_json({}), True), (Answer(status=204), True), (EMPTY_404, False), (NOT_FOUND, False)]
)
def test_interrupt(web_server: WebServer, answer: Answer, able: bool) -> None:
    web_server.routes["POST /sdapi/v1/interrupt"] = answer
    assert WebUIClient(web_server.url).interrupt() is able


def test_an_interrupt_that_fails_is_an_error(web_server: WebServer) -> None:
    web_server.routes["POST /sdapi/v1/interrupt"] = BROKEN
    with pytest.raises(WebUIStatusError):
        WebUIClient(web_server.url).interrupt()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"return_mask": True}, False),
        ({"return_mask": False, "return_mask_composite": False}, False),
        ({"return_mask": True, "return_mask_composite": False}, True),
        ({"return_mask": False, "return_mask_composite": True}, True),
        ({"return_mask": "yes", "return_mask_composite": True}, False),
    ],
)
def test_masks_are_turned_off_where_the_webui_has_the_options(
    web_server: WebServer, options: dict[str, object], expected: bool
) -> None:
    web_server.routes |= a1111_routes() | {"GET /sdapi/v1/options": as_json(options)}
    assert WebUIClient(web_server.url).capabilities().returns_masks == expected


@pytest.mark.parametrize(
    ("task", "schedulers", "expected"),
    [
        (as_json({"active": False, "queued": False, "completed": False}), True, True),
        (as_json({"active": False, "queued": False, "completed": False}), False, False),
        (as_json({"detail": "Not Found"}, 404), True, False),
        (as_json({"error": "RuntimeError"}, 500), True, False),
    ],
)
def test_whether_it_tells_of_one_job(web_server: WebServer, task: Answer, schedulers: bool, expected: bool) -> None:
    web_server.routes |= a1111_routes() | {"POST /internal/progress": task}
    if not schedulers:
        del web_server.routes["GET /sdapi/v1/schedulers"]
    assert WebUIClient(web_server.url).capabilities().reports_tasks == expected


# --- Generating -----------------------------------------------------------------------------------------------------


def generate(
    client: WebUIClient, params: GenerationParams, capabilities: Capabilities = CAPABILITIES
) -> tuple[PaintedImage, ...]:
    matched = match(capabilities, params)
    assert matched is not None
    return client.generate(params, capabilities, matched, task_id="t", timeout_s=15)


def test_generating_uses_this_webuis_own_names(web_server: WebServer) -> None:
    for route in ("txt2img", "img2img"):
        web_server.routes[f"POST /sdapi/v1/{route}"] = lambda received: as_json(painted(received.json))
    client = WebUIClient(web_server.url)
    elsewhere = Checkpoint(title="v1-5-pruned-emaonly.ckpt", model_name="x", hash=None)
    params = job(checkpoint=elsewhere, sampler="euler_a", scheduler="Karras", batch_size=2)
    images = generate(client, params)
    assert [image.seed for image in images] == [42, 43]
    picture = replace(params, init_image=INIT_IMAGE, strength=0.5, inpainting=INPAINTING)
    assert len(generate(client, picture)) == 2
    looked = "/sdapi/v1/progress"
    assert web_server.paths() == ["/sdapi/v1/txt2img", looked, "/sdapi/v1/img2img", looked]
    for received in web_server.received[::2]:
        body = received.json
        assert body["override_settings"] == {"sd_model_checkpoint": CHECKPOINT.title}
        assert (body["sampler_name"], body["scheduler"]) == ("Euler a", "karras")


def test_weights_that_were_not_asked_for_are_no_result(web_server: WebServer) -> None:
    """Of a file that this WebUI has not loaded yet only the name is known: its answer tells the hash."""
    web_server.routes["POST /sdapi/v1/txt2img"] = lambda received: as_json(painted(received.json))
    unloaded = replace(CAPABILITIES, checkpoints=(replace(CHECKPOINT, title="v1-5-pruned-emaonly.ckpt", hash=None),))
    client = WebUIClient(web_server.url)
    for sha in ("6ce0161689", None):
        asked = job(checkpoint=replace(CHECKPOINT, hash=sha))
        assert generate(client, asked, unloaded)
    asked = job(checkpoint=replace(CHECKPOINT, title="v1-5-pruned-emaonly.ckpt [aaaaaaaaaa]", hash="aaaaaaaaaa"))
    with pytest.raises(InvalidAnswerError, match="another model"):
        generate(client, asked, unloaded)


@pytest.mark.parametrize(
    "changes",
    [{"checkpoint": Checkpoint(title="other", model_name="other")}, {"sampler": "PLMS"}, {"scheduler": "beta"}],
)
def test_what_a_webui_does_not_offer_has_no_match(changes: dict[str, object]) -> None:
    assert match(CAPABILITIES, job(**changes)) is None


def test_samplers_of_the_lists_are_those_that_are_sent(web_server: WebServer) -> None:
    """An alias is never sent: A1111 1.10 knows names only and replaces the rest."""
    web_server.routes |= a1111_routes() | {"POST /sdapi/v1/txt2img": lambda received: as_json(painted(received.json))}
    client = WebUIClient(web_server.url)
    seen = client.capabilities()
    for listed in A1111_SAMPLERS:
        for name in (listed["name"], *listed["aliases"]):
            generate(client, job(sampler=name), seen)
            assert web_server.received[-2].json["sampler_name"] == listed["name"]


# --- One checkpoint in another WebUI's list -------------------------------------------------------------------------


def listed(title: str, sha: str | None) -> Checkpoint:
    return Checkpoint(title=title, model_name=title.partition(".")[0], hash=sha)


@pytest.mark.parametrize(
    ("wanted", "offered", "found"),
    [
        (listed("a.ckpt", "0123456789"), [listed("b.ckpt", "0123456789")], 0),
        (listed("a.ckpt", "0123456789"), [listed("a.ckpt", "9876543210")], None),
        (listed("a.ckpt", "0123456789"), [listed("a.ckpt", "9876543210"), listed("z.ckpt", "0123456789")], 1),
        (listed("a.ckpt", "0123456789"), [listed("a.safetensors", None)], 0),
        (listed("a.ckpt", None), [listed("sub/A.safetensors [0123456789]", "0123456789")], 0),
        (listed("a.ckpt", "0123456789"), [listed("a", DUMMY_HASH)], 0),
        (listed("a.ckpt", DUMMY_HASH), [listed("b.ckpt", DUMMY_HASH)], None),
        (listed("a.ckpt", None), [listed("b.ckpt", None), listed("a.ckpt", None)], 1),
        (listed("a.ckpt", None), [], None),
    ],
)
def test_find_checkpoint(wanted: Checkpoint, offered: list[Checkpoint], found: int | None) -> None:
    expected = None if found is None else offered[found]
    assert find_checkpoint(Capabilities(checkpoints=tuple(offered)), wanted) == expected
