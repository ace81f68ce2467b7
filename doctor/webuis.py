"""The WebUIs of ``SD_WEBUI_URL``, one by one and as a pool."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from config import Config
from doctor.findings import Finding, error, ok, warning
from sd_client.client import READ_TIMEOUT_S, WebUIClient
from sd_client.errors import (
    InvalidAnswerError,
    MissingRouteError,
    UntrustedError,
    WebUIAuthError,
    WebUIConnectError,
    WebUIError,
    WebUIReadError,
    WebUITimeoutError,
)
from sd_client.matching import loaded_model
from sd_client.models import Capabilities
from sd_client.pool import PoolView
from sd_client.references import methods_of
from sd_client.schedule import Schedule
from sd_client.states import WebUIState
from services.catalog import Catalog
from services.webui_limits import Wanted

#: WebUIs that are asked at a time.
_AT_A_TIME = 32

#: The fact and the remedy for each kind of failure; the first class that matches counts.
_FAILURES: tuple[tuple[type[WebUIError], str, str], ...] = (
    (
        UntrustedError,
        "has a certificate that is not trusted",
        "name a file with its own certificate, or that of its authority, in SD_WEBUI_CA_BUNDLE (PEM); "
        "it must be for the very name or IP address in SD_WEBUI_URL, and in date",
    ),
    (
        WebUIConnectError,
        "cannot be reached",
        "check that it runs, its address and port, and that it listens beyond its own host (--listen)",
    ),
    (
        WebUITimeoutError,
        "takes connections, but does not answer within {timeout:g} s",
        "check whether it hangs or is loading a model; restart it if that does not end",
    ),
    (
        WebUIReadError,
        "breaks connections off",
        "check whether it crashes (its console), or whether a proxy is in between",
    ),
    (
        WebUIAuthError,
        "refuses the user name and password",
        "http://user:password@host:port in SD_WEBUI_URL, as in its --api-auth; special characters percent-encoded",
    ),
    (
        MissingRouteError,
        "answers, but its API is off",
        "start it with --api (a WebUI that starts has none for some seconds); a path prefix belongs into SD_WEBUI_URL",
    ),
    (InvalidAnswerError, "does not answer like a WebUI", "check whether address and port belong to another program"),
)


def check(config: Config, *, read_timeout_s: float = READ_TIMEOUT_S) -> list[Finding]:
    """Asks all WebUIs, many at a time; paints nothing."""
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        look = functools.partial(_look, config=config, read_timeout_s=read_timeout_s)
        looks = list(threads.map(look, itertools.count(), config.sd_webui_url))
    findings = [one for found, _ in looks for one in found]
    return [*findings, *_of_pool(config, [capabilities for _, capabilities in looks if capabilities])]


def _look(index: int, url: str, *, config: Config, read_timeout_s: float) -> tuple[list[Finding], Capabilities | None]:
    """What is found at one WebUI, and what it can do; None if it could not be asked."""
    subject = f"webui {index}"
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2] + parts.path
    try:
        client = WebUIClient(url, ca_bundle=config.sd_webui_ca_bundle, read_timeout_s=read_timeout_s)
        capabilities = client.capabilities()
    except WebUIError as problem:
        return [_failure(subject, address, problem, read_timeout_s)], None
    gpu = {True: "a GPU", False: "no GPU", None: "does not say whether it has a GPU"}[capabilities.gpu]
    loaded = loaded_model(capabilities)
    text = (
        f"{address}: {'a simulator, which paints without a model; ' if capabilities.simulated else ''}{gpu}; "
        f"models: {len(capabilities.checkpoints)} ({loaded or 'none'} loaded), samplers: {len(capabilities.samplers)}"
    )
    return [ok(subject, text), *_of_capabilities(subject, capabilities, config)], capabilities


def _failure(subject: str, address: str, problem: WebUIError, timeout_s: float) -> Finding:
    for kind, text, remedy in _FAILURES:
        if isinstance(problem, kind):
            return error(subject, f"{address} {text.format(timeout=timeout_s)} ({problem})", remedy)
    return error(subject, f"{address} answers with an error ({problem})", "look at its console")


def _of_capabilities(subject: str, capabilities: Capabilities, config: Config) -> list[Finding]:
    found = []
    if not capabilities.checkpoints:
        text = "lists no model"
        found.append(
            error(subject, text, "put a checkpoint into its models/Stable-diffusion folder and refresh its list")
        )
    for broken in capabilities.broken:
        text = f"gives no usable answer to {broken.route} ({broken.reason}): the service goes without it"
        found.append(warning(subject, text, "look at its console; a newer version may have mended it"))
    if capabilities.references:
        methods = " and ".join(methods_of(capabilities.references))
        text = (
            f"can be asked for reference pictures, by {methods}; its first job with each model tries whether it works"
        )
        if any(way.method == "adapter" for way in capabilities.references):
            text += ", and may fetch an encoder of 2.5 GB: make test-webui does that ahead"
        found.append(ok(subject, text))
    if capabilities.gpu is False and config.use_gpu:
        text = (
            "has no GPU: it only serves while none with one can"
            if config.cpu_fallback
            else "has no GPU, so it never serves"
        )
        found.append(warning(subject, text, "look at its console for CUDA errors; USE_GPU=false if that is meant"))
    return found


def _of_pool(config: Config, seen: Sequence[Capabilities]) -> list[Finding]:
    if not seen:
        return [error("webuis", "none can be used: every generation is answered 503", "see above")]
    states = {str(i): WebUIState(available=True, seen=0.0, capabilities=one) for i, one in enumerate(seen)}
    pool = PoolView(states=states, schedule=Schedule(), webuis=tuple(states), draining=False)
    catalog = Catalog(
        lambda: pool,
        default_model=config.sd_model,
        aliases=config.sd_model_aliases,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
        default_clip_skip=config.sd_clip_skip,
        default_upscaler=config.sd_upscaler,
    )
    return [*_of_upscalers(config, seen, catalog), *_of_names(config, pool, catalog), *_of_gpus(config, seen)]


def _of_upscalers(config: Config, seen: Sequence[Capabilities], catalog: Catalog) -> list[Finding]:
    """Whether pictures can be enlarged, also by requests that name no upscaler where SD_UPSCALER is set."""
    if config.sd_upscaler and (problems := catalog.upscaler_problems(None)):
        remedy = "correct SD_UPSCALER, or make sure that a WebUI offers it and has its weights"
        return [error("upscalers", one.message, remedy) for one in problems]
    able = sum(one.upscales for one in seen)
    if not able:
        return [ok("upscalers", "no WebUI can enlarge pictures: an upscale is answered 422 capability_missing")]
    names = catalog.upscale_upscalers()
    return [ok("upscalers", f"{able} of {len(seen)} WebUIs that answer can enlarge pictures, with {', '.join(names)}")]


def _of_names(config: Config, pool: PoolView, catalog: Catalog) -> list[Finding]:
    """Whether requests without model, sampler and scheduler can be served, and which names are ambiguous."""
    if not any(one.checkpoints for one in pool.capabilities()):
        return []  # each WebUI has its own finding
    remedy = "rename one of the files, or give both WebUIs the same one, so that the name means one model"
    ambiguous = [warning("models", text, remedy) for text in catalog.namesakes(pool)]
    if problems := catalog.problems(Wanted()):
        remedy = "correct SD_{0}, or make sure that a WebUI offers it"
        wrong = [error("defaults", f"{one.field}: {one.message}", remedy.format(one.field.upper())) for one in problems]
        return [*wrong, *ambiguous]
    title = catalog.choose(Wanted()).checkpoint.title
    return [ok("defaults", f"model, sampler and scheduler are offered; {config.sd_model} is {title}"), *ambiguous]


def _of_gpus(config: Config, seen: Sequence[Capabilities]) -> list[Finding]:
    """Where WebUIs without a GPU are never used, and there are no others."""
    if not config.use_gpu or config.cpu_fallback or any(one.gpu is not False for one in seen):
        return []
    text = "none has a GPU and CPU_FALLBACK is off: every generation is answered 503"
    return [error("webuis", text, "look at the WebUIs' consoles for CUDA errors, or CPU_FALLBACK=true")]
