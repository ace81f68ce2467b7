"""Whether all timeouts from the caller to the GPU fit each other."""

from __future__ import annotations

from dataclasses import dataclass

from config import KEEPALIVE_S, Config
from doctor.findings import Finding, ok, warning

#: Seconds after which nginx, with ``deploy/nginx/upstream.conf``, closes an idle connection to the service.
NGINX_KEEPALIVE_S = 60

WORKER_CLASS = "api.worker.Worker"


@dataclass(frozen=True, kw_only=True)
class Server:
    """gunicorn's effective settings, including those of its command line."""

    workers: int
    worker_class: str
    threads: int
    graceful_timeout_s: float
    keepalive_s: float


def planned(config: Config) -> Server:
    """The values that ``gunicorn.conf.py`` derives from the settings."""
    return Server(
        workers=2,
        worker_class=WORKER_CLASS,
        threads=config.threads,
        graceful_timeout_s=config.graceful_timeout_s,
        keepalive_s=KEEPALIVE_S,
    )


def contradictions(config: Config, server: Server) -> list[Finding]:
    """Settings that contradict each other; also checked whenever the service starts."""
    return [*_of_server(config, server), *_of_proxy(config)]


def needed(config: Config) -> list[Finding]:
    """What proxies and supervisors must be set to, which the service cannot see."""
    answer_s = config.longest_answer_s
    return [
        ok(
            "timeouts",
            f"callers and proxies must wait {answer_s:g} s at least for a generation "
            f"(nginx: proxy_read_timeout {answer_s:g}s; client_max_body_size {config.max_body_mb:g}m)",
        ),
        ok(
            "timeouts",
            f"whoever stops the service must wait {config.graceful_timeout_s + 5} s at least before it kills",
        ),
    ]


def _of_server(config: Config, server: Server) -> list[Finding]:
    found = []
    if server.worker_class != WORKER_CLASS:
        text = f"gunicorn's worker class is {server.worker_class}, which the service does not support"
        found.append(warning("gunicorn", text, f"leave it at {WORKER_CLASS} (no -k, no --worker-class)"))
    if server.threads < config.threads:
        text = (
            f"a worker has {server.threads} threads, but {config.threads} requests may hold one at a time: "
            "health checks can come to wait"
        )
        found.append(warning("gunicorn", text, f"--threads {config.threads}, or a smaller SD_QUEUE_LIMIT"))
    job_s = config.sd_timeout + config.storing_s
    if server.graceful_timeout_s < job_s:
        text = (
            f"a stopping worker ends after {server.graceful_timeout_s:g} s, but a job may take {job_s:g} s "
            "(SD_TIMEOUT and storing): running jobs are lost at every stop"
        )
        found.append(warning("gunicorn", text, f"--graceful-timeout {job_s + 5:g}, or a smaller SD_TIMEOUT"))
    if 0 < server.keepalive_s <= NGINX_KEEPALIVE_S:
        text = (
            f"idle connections are closed after {server.keepalive_s:g} s, just when nginx, which keeps them for "
            f"{NGINX_KEEPALIVE_S} s, may send a request: a 502 now and then"
        )
        found.append(warning("gunicorn", text, "--keep-alive 75, or a shorter one in nginx's upstream"))
    return found


def _of_proxy(config: Config) -> list[Finding]:
    if config.sendfile_header and not config.trusted_proxies:
        text = "SENDFILE_HEADER implies an nginx in front, but TRUSTED_PROXIES is 0: all callers share one rate limit"
        return [warning("proxy", text, "TRUSTED_PROXIES=1, or as many proxies as there are")]
    return []


def per_process(config: Config, server: Server) -> list[Finding]:
    """Limits that are counted per process."""
    if config.redis_url is not None or server.workers < 2:
        return []
    many = server.workers
    text = f"without REDIS_URL each of {many} workers counts for itself: up to {many} times as much gets through"
    return [warning("rate limits", text, "set REDIS_URL, or start one worker (gunicorn -w 1)")]
