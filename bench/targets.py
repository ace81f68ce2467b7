"""The servers that are measured side by side, and their requests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests

from api.images import SENDFILE_PREFIX
from bench import accounting
from bench.load import Work
from bench.stage import LITELLM, Server, Stage, Upstream
from bench.upstream import MODEL
from bench.workloads import OPENAI_MODEL, PREFIX, Dialect, Mode, Request, Workload, generation
from tools.children import RunError

#: As many jobs as callers run at a time: what is measured is the service, not the queue.
WEBUIS = 16

GENERATIONS: tuple[Mode, ...] = ("txt2img", "img2img", "inpainting")
A1111: tuple[Mode, ...] = (*GENERATIONS, "upscale")

SERVICE = "this service"
OPENAI = "this service, OpenAI's API"
A1111_DOOR = "this service, A1111's API"
REDIS = "this service, Redis"
X_ACCEL = "this service, nginx X-Accel"
NGINX = "nginx proxy_pass"
STOCK_NGINX = "nginx as it comes"
STATIC = "nginx static"
N1 = "tutorial with Pillow (N1)"
N3 = "tutorial without Pillow (N3)"
LITELLM_PROXY = "litellm proxy"
UPSTREAM = "upstream stub, directly"


@dataclass(frozen=True, kw_only=True)
class Target:
    """
    :param requests: by mode, where they are not those of the dialect.
    :param keeps: the one picture that is not removed.
    """

    name: str
    server: Server
    dialect: Dialect = "service"
    modes: tuple[Mode, ...] = GENERATIONS
    requests: dict[Mode, Request] = field(default_factory=dict)
    keeps: Path | None = None

    def takes(self, workload: Workload) -> bool:
        return workload.mode in self.modes

    def work(self, workload: Workload, *, clients: int, seconds: float) -> Work:
        request = self.requests.get(workload.mode) or generation(
            workload.mode, workload.side, workload.count, self.dialect, workload.sent
        )
        if self.dialect == "openai":
            request = replace(request, headers={**request.headers, "Authorization": "Bearer sk-bench"})
        return request.work(self.server.port, clients=clients, seconds=seconds)

    def processes(self) -> list[int]:
        return [pid for root in self.server.pids for pid in accounting.tree(root)]

    def empty(self) -> None:
        """
        Truncate all stored pictures but the one to fetch: they would fill the disk within minutes. They are not
        removed, because ext4 then searches the freed entries for minutes whenever it creates a file.
        """
        if self.server.images is not None:
            for path in self.server.images.rglob("*.png"):
                if path != self.keeps:
                    os.truncate(path, 0)


@dataclass(frozen=True, kw_only=True)
class Cast:
    """The servers that could be started; ``absent``: why others could not."""

    targets: list[Target]
    absent: dict[str, str]


def build(commit: str) -> str:
    """The name of an older checkout of this service. :param commit: its short hash."""
    return f"build {commit}"


def cast(stage: Stage, upstream: Upstream, *, litellm: bool, older: Mapping[str, Path]) -> Cast:
    """:param older: other checkouts of this service by name, to be measured beside it."""
    absent: dict[str, str] = {}
    webuis = upstream.webuis(WEBUIS)
    alias = f"{OPENAI_MODEL}={MODEL['sd_model_checkpoint']}"
    service = _service(SERVICE, stage.service("service", webuis, SD_MODEL_ALIASES=alias))
    redis_pid, redis_url = stage.redis()
    shared = stage.service("service-redis", webuis, REDIS_URL=redis_url)
    with_redis = Server(port=shared.port, pids=(*shared.pids, redis_pid), images=shared.images)
    targets = [
        service,
        Target(name=OPENAI, server=service.server, dialect="openai", modes=("txt2img",)),
        Target(name=A1111_DOOR, server=service.server, dialect="webui", modes=A1111),
        *(_service(name, stage.service(name.replace(" ", "-"), webuis, root=root)) for name, root in older.items()),
        _service(REDIS, with_redis),
        *_behind_nginx(stage, upstream, service, absent),
        Target(name=N3, server=stage.peer("without_pillow", upstream)),
        Target(name=N1, server=stage.peer("with_pillow", upstream)),
        Target(name=UPSTREAM, server=upstream.server, dialect="webui", modes=A1111),
    ]
    if litellm:
        targets += _litellm(stage, upstream, absent)
    else:
        absent[LITELLM_PROXY] = "left out"
    return Cast(targets=targets, absent=absent)


def _litellm(stage: Stage, upstream: Upstream, absent: dict[str, str]) -> Iterator[Target]:
    if not LITELLM.exists():
        absent[LITELLM_PROXY] = "not installed: make bench-litellm"
        return
    aside = stage.aside()
    try:
        server = aside.litellm(upstream)
    except RunError as error:
        absent[LITELLM_PROXY] = str(error).partition("\n")[0]
        aside.close()
        return
    yield Target(name=LITELLM_PROXY, server=server, dialect="openai", modes=("txt2img",))


def _service(name: str, server: Server) -> Target:
    """The service, with one stored picture to fetch; builds from before it could enlarge pictures do not do that."""
    image_id = _made(server)
    upscales: tuple[Mode, ...] = ("upscale",) if _options(server).get("upscale") else ()
    assert server.images is not None
    requests: dict[Mode, Request] = {
        "image": Request(method="GET", path=f"{PREFIX}/image/{image_id}", headers={}),
        "health": Request(method="GET", path=f"{PREFIX}/health", headers={}),
    }
    keeps = next(server.images.rglob(f"{image_id}.png"))
    modes = (*GENERATIONS, *upscales, "image", "health")
    return Target(name=name, server=server, modes=modes, requests=requests, keeps=keeps)


def _behind_nginx(stage: Stage, upstream: Upstream, service: Target, absent: dict[str, str]) -> Iterator[Target]:
    if shutil.which("nginx") is None:
        absent |= dict.fromkeys((NGINX, STOCK_NGINX, STATIC, X_ACCEL), "nginx is not installed")
        return
    assert service.keeps is not None
    static = f"location = /static.png {{ alias {service.keeps}; }}"
    nginx = stage.nginx("nginx", upstream, more=static)
    fetch = Request(method="GET", path="/static.png", headers={})
    yield Target(name=NGINX, server=nginx, dialect="webui", modes=A1111)
    stock = stage.stock_nginx("nginx-stock", upstream)
    yield Target(name=STOCK_NGINX, server=stock, dialect="webui", modes=A1111)
    yield Target(name=STATIC, server=nginx, modes=("image",), requests={"image": fetch})
    accelerated = stage.service("service-x-accel", upstream.webuis(WEBUIS), SENDFILE_HEADER="X-Accel-Redirect")
    made = _service(X_ACCEL, accelerated)
    # Connections are kept, as deploy/nginx has it.
    upstreams = f"upstream service {{ server 127.0.0.1:{accelerated.port}; keepalive 64; }}"
    front = f"location {PREFIX}/ {{ proxy_pass http://service; }}"
    internal = f"location {SENDFILE_PREFIX} {{ internal; alias {accelerated.images}/; }}"
    nginx = stage.nginx("nginx-x-accel", upstream, upstreams=upstreams, more=f"{front}\n{internal}")
    server = Server(port=nginx.port, pids=(*nginx.pids, *accelerated.pids), images=accelerated.images)
    yield Target(name=X_ACCEL, server=server, modes=("image",), requests=made.requests, keeps=made.keeps)


def _options(server: Server) -> Mapping[str, object]:
    """What the service can be asked for."""
    with requests.get(f"http://127.0.0.1:{server.port}{PREFIX}/options", timeout=60) as answer:
        found = answer.json()
    assert isinstance(found, dict)
    return found


def _made(server: Server) -> str:
    """The id of a new picture."""
    asked = generation("txt2img", 1024, 1, "service")
    url = f"http://127.0.0.1:{server.port}{asked.path}"
    with requests.post(url, asked.body, headers=dict(asked.headers), timeout=60) as answer:
        if answer.status_code != 200:
            raise RunError(f"the service cannot paint: {answer.status_code} {answer.text}")
        return str(answer.json()["image_id"])
