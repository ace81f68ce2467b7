"""The WebUIs of ``SD_WEBUI_URL``, one by one and as a pool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
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
from sd_client.failures import broken_now
from sd_client.matching import loaded_model
from sd_client.models import DUMMY_HASH, Capabilities
from sd_client.pool import PoolView
from sd_client.probing import WebUIState
from sd_client.routing import webui_id
from sd_client.schedule import Schedule
from sd_client.shared_schedule import stored_schedule
from sd_client.transport import Transport
from services.catalog import Catalog
from services.webui_limits import Wanted
from state.connection import open_redis
from state.redis import RedisStore
from state.sqlite import STATE_FILE, SqliteStore
from state.store import StoreError

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


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One WebUI; ``capabilities`` is None if it could not be asked."""

    findings: tuple[Finding, ...]
    capabilities: Capabilities | None = None


def check(config: Config, *, read_timeout_s: float = READ_TIMEOUT_S) -> list[Finding]:
    """Asks all WebUIs, many at a time; paints nothing."""
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        seen = list(
            threads.map(lambda one: _look(one[0], one[1], config, read_timeout_s), enumerate(config.sd_webui_url))
        )
    found = [finding for one in seen for finding in one.findings]
    found += _of_broken_models(config)
    return [*found, *_of_pool(config, [one.capabilities for one in seen if one.capabilities])]


def _look(index: int, url: str, config: Config, read_timeout_s: float) -> Seen:
    subject = f"webui {index}"
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2] + parts.path
    try:
        ca_bundle = config.sd_webui_ca_bundle
        capabilities = WebUIClient(url, ca_bundle=ca_bundle, read_timeout_s=read_timeout_s).capabilities()
        kind = _kind(Transport(url, ca_bundle=ca_bundle), capabilities, read_timeout_s)
    except WebUIError as problem:
        return Seen(findings=(_failure(subject, address, problem, read_timeout_s),))
    gpu = {True: "a GPU", False: "no GPU", None: "does not say whether it has a GPU"}[capabilities.gpu]
    loaded = loaded_model(capabilities)
    text = (
        f"{address}: {kind}; {gpu}; models: {len(capabilities.checkpoints)} ({loaded or 'none'} loaded), "
        f"samplers: {len(capabilities.samplers)}"
    )
    return Seen(
        findings=(ok(subject, text), *_of_capabilities(subject, capabilities, config)), capabilities=capabilities
    )


def _of_broken_models(config: Config) -> list[Finding]:
    """Models that a running service of this host found broken recently."""
    broken = broken_now(_schedule(config).broken, time.time())
    remedy = (
        "replace the checkpoint with an intact one, or remove it; if the WebUI paints nothing else either, restart it"
    )
    return [
        warning(f"webui {place}", f"failed to load {name} recently; the service does not send it for a while", remedy)
        for place, url in enumerate(config.sd_webui_url)
        for name in sorted(broken.get(webui_id(url), ()))
    ]


def _schedule(config: Config) -> Schedule:
    """The stored schedule; empty if it cannot be read, which another finding reports."""
    with suppress(StoreError):
        if config.redis_url is not None:
            with open_redis(config.redis_url) as client:
                return stored_schedule(RedisStore(client, prefix=config.redis_prefix))
        path = Path(config.runtime_dir) / STATE_FILE
        if path.exists():
            return stored_schedule(SqliteStore(path))
    return Schedule()


def _failure(subject: str, address: str, problem: WebUIError, timeout_s: float) -> Finding:
    for kind, text, remedy in _FAILURES:
        if isinstance(problem, kind):
            return error(subject, f"{address} {text.format(timeout=timeout_s)} ({problem})", remedy)
    return error(subject, f"{address} answers with an error ({problem})", "look at its console")


def _kind(transport: Transport, capabilities: Capabilities, timeout_s: float) -> str:
    """The kind of server, for people. The service itself goes by what a server can do."""
    if capabilities.simulated:
        return "a simulator, which paints without a model"
    if any(checkpoint.hash == DUMMY_HASH for checkpoint in capabilities.checkpoints):
        return "stable-diffusion.cpp" if capabilities.paints_batches else "KoboldCpp"
    version = _answer(transport, "/sdapi/v1/version", timeout_s)
    if isinstance(version, dict) and "updated" in version:
        return f"SD.Next of {version['updated']}"
    options = _answer(transport, "/sdapi/v1/options", timeout_s)
    if isinstance(options, dict) and any(name.startswith("forge_") for name in options):
        return "Forge"
    return "AUTOMATIC1111 before 1.9" if capabilities.schedulers is None else "AUTOMATIC1111 or alike"


def _answer(transport: Transport, path: str, timeout_s: float) -> Any:
    try:
        return transport.get(path, timeout_s=timeout_s)
    except WebUIError:
        return None


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
    return [*_of_defaults(config, seen), *_of_gpus(config, seen)]


def _of_defaults(config: Config, seen: Sequence[Capabilities]) -> list[Finding]:
    """Whether requests without model, sampler and scheduler can be served, and which names are ambiguous."""
    states = {str(i): WebUIState(available=True, seen=0.0, capabilities=one) for i, one in enumerate(seen)}
    pool = PoolView(states=states, schedule=Schedule(), webuis=tuple(states), draining=False)
    catalog = Catalog(
        lambda: pool,
        default_model=config.sd_model,
        aliases=config.sd_model_aliases,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
    )
    if not any(one.checkpoints for one in seen):
        return []  # each WebUI has its own finding
    return [*_of_open_fields(config, catalog), *_of_namesakes(catalog, pool)]


def _of_open_fields(config: Config, catalog: Catalog) -> list[Finding]:
    problems = catalog.problems(Wanted())
    if not problems:
        title = catalog.choose(Wanted()).checkpoint.title
        return [ok("defaults", f"model, sampler and scheduler are offered; {config.sd_model} is {title}")]
    remedy = "correct SD_{0}, or make sure that a WebUI offers it"
    return [error("defaults", f"{one.field}: {one.message}", remedy.format(one.field.upper())) for one in problems]


def _of_namesakes(catalog: Catalog, pool: PoolView) -> list[Finding]:
    remedy = "rename one of the files, or give both WebUIs the same one, so that the name means one model"
    return [warning("models", text, remedy) for text in catalog.namesakes(pool)]


def _of_gpus(config: Config, seen: Sequence[Capabilities]) -> list[Finding]:
    if not config.use_gpu or any(one.gpu is not False for one in seen):
        return []
    if config.cpu_fallback:
        return [
            warning("webuis", "none has a GPU: pictures take minutes", "look at the WebUIs' consoles for CUDA errors")
        ]
    text = "none has a GPU and CPU_FALLBACK is off: every generation is answered 503"
    return [error("webuis", text, "look at the WebUIs' consoles for CUDA errors, or CPU_FALLBACK=true")]
