"""Every setting of the service: read once from the environment, checked whole, then frozen.

:class:`Config` is the one list of settings; ``docs/configuration.md`` is held against it by a test.
Only ``stable_diffusion_api.py``, ``gunicorn.conf.py`` and the doctor read it: everything
below takes plain keyword arguments.
"""

from __future__ import annotations

import difflib
import os
import ssl
import tempfile
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config_types import (
    ApiKeys,
    CorsOrigins,
    Doors,
    Host,
    ImageDir,
    LogLevel,
    ModelAliases,
    PublicUrl,
    RateLimit,
    RedisPrefix,
    RedisUrl,
    StorageUrl,
    WebUIUrls,
    left_over,
)

#: Limits of each worker; see :attr:`Config.threads`.
BODIES_AT_A_TIME = 64
#: In addition, for requests without pictures, whose bodies are small and wait for no decoder.
PROMPTS_AT_A_TIME = 32
#: Bytes of all those bodies together; there is always room for two of the largest.
BODY_BYTES_AT_A_TIME = 512 * 1024 * 1024
DOWNLOADS_AT_A_TIME = 64
WAITING_RETRIES = 16
SPARE_THREADS = 16

#: Including decoding and checking. For a bucket: :class:`storage.s3.S3Timeouts`, for each image.
STORING_ON_DISK_S = 10.0
STORING_IN_BUCKET_S = 15.0

#: Seconds for which a caller's idle connection is kept. Longer than balancers keep theirs (nginx 60 s, AWS 60 s): the
#: service must not close a connection in the moment in which a balancer sends a request on it.
KEEPALIVE_S = 75

#: How similar to a setting an unknown variable must be to count as a misspelling (difflib ratio).
#: High, because Kubernetes adds variables such as SD_WEBUI_PORT for a service called sd-webui.
_MISSPELLING = 0.9


class ConfigError(ValueError):
    """The environment holds invalid settings; the text lists every problem, one per line."""


class Config(BaseModel):
    """All settings. A field's name in upper case is its environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # WebUIs
    sd_webui_url: WebUIUrls = Field(("http://localhost:7860",), repr=False)
    #: The authorities that WebUIs behind https are checked against; None: REQUESTS_CA_BUNDLE, SSL_CERT_FILE, or the
    #: well-known ones.
    sd_webui_ca_bundle: str | None = None
    sd_webui_slots: int = Field(1, ge=1, le=8)
    sd_model: str = Field("sd-v1-5", min_length=1)
    sd_model_aliases: ModelAliases = {}
    sd_sampler: str | None = Field(None, min_length=1)
    sd_scheduler: str | None = Field(None, min_length=1)
    #: For upscales that name none.
    sd_upscaler: str | None = Field(None, min_length=1)
    #: For requests without ``clip_skip``.
    sd_clip_skip: int = Field(1, ge=1, le=12)
    use_gpu: bool = True
    cpu_fallback: bool = True
    #: Seconds a job may run on a WebUI before it is interrupted.
    sd_timeout: float = Field(300.0, ge=1, le=86_400)
    #: Seconds a job may wait for a free WebUI.
    sd_queue_timeout: float = Field(120.0, ge=0, le=86_400)
    #: Seconds a job waits for a busy WebUI that has its model loaded before an idle one has to load it.
    sd_model_switch_patience: float = Field(5.0, ge=0, le=3600)
    #: The most jobs that may wait, over all workers.
    sd_queue_limit: int = Field(64, ge=0, le=10_000)

    # HTTP
    host: Host = Field("0.0.0.0", min_length=1)  # noqa: S104 - a container listens to its network
    port: int = Field(5002, ge=1, le=65_535)
    public_url: PublicUrl | None = None
    max_body_mb: float = Field(32.0, ge=0.1, le=1024)
    trusted_proxies: int = Field(0, ge=0, le=10)
    cors_origins: CorsOrigins = ()
    api_keys: ApiKeys = Field((), repr=False)
    #: The APIs of other servers that are spoken beside the service's own.
    doors: Doors = ("a1111", "openai")
    #: The page at /.
    studio: bool = True

    # Bounds of a request
    max_prompt_chars: int = Field(10_000, ge=1, le=1_000_000)
    max_steps: int = Field(150, ge=1, le=1000)
    max_pixels: int = Field(1536 * 1536, ge=512 * 512, le=2048 * 2048)
    #: Of the picture after a second pass (hires fix).
    max_hires_pixels: int = Field(2048 * 2048, ge=512 * 512, le=4096 * 4096)
    #: Of an enlarged picture.
    max_upscale_pixels: int = Field(4096 * 4096, ge=512 * 512, le=8192 * 8192)
    max_batch_size: int = Field(4, ge=1, le=16)
    #: A phone's picture of 50 MP (8192 x 6144) fits.
    max_input_pixels: int = Field(8192 * 6144, ge=16 * 16, le=200_000_000)

    # Storage, limits, logs
    image_dir: ImageDir = Field("./data/images", min_length=1)
    #: A bucket instead of ``image_dir``.
    storage_url: StorageUrl | None = None
    #: The header that makes nginx send an image of ``image_dir`` itself; None: the service sends it.
    sendfile_header: Literal["X-Accel-Redirect"] | None = None
    #: Images older than this are removed; None: never.
    image_ttl_hours: float | None = Field(None, gt=0, le=876_000)
    #: Beyond this size the oldest images are removed; None: never.
    image_max_gb: float | None = Field(None, gt=0, le=1_000_000)
    #: Where the workers of one host keep what they share (small files, gone with a reboot).
    runtime_dir: str = Field(
        default_factory=lambda: os.path.join(tempfile.gettempdir(), f"stable-diffusion-api-{os.getuid()}")
    )
    redis_url: RedisUrl | None = Field(None, repr=False)
    #: What every key in Redis begins with.
    redis_prefix: RedisPrefix = "sd-api"
    rate_limit_global: RateLimit = "50/minute;500/hour"
    rate_limit_generation: RateLimit = "10/minute"
    #: For images alone, which then do not count towards ``rate_limit_global``; None: they do.
    rate_limit_images: RateLimit | None = None
    log_level: LogLevel = "INFO"
    log_format: Literal["json", "text"] = "json"

    @property
    def threads(self) -> int:
        """
        Threads a worker needs so that no kind of request can take those of another: every job that may wait or run,
        every body that may be read, every image that may be sent, every retry that may wait for its first attempt; and
        health and refusals.
        """
        jobs = self.sd_queue_limit + len(self.sd_webui_url) * self.sd_webui_slots
        received = BODIES_AT_A_TIME + PROMPTS_AT_A_TIME
        return jobs + received + DOWNLOADS_AT_A_TIME + WAITING_RETRIES + SPARE_THREADS

    @property
    def storing_s(self) -> float:
        """The longest time from the WebUI's last byte to the response: a batch is stored one image after the other."""
        return STORING_IN_BUCKET_S * self.max_batch_size if self.storage_url else STORING_ON_DISK_S

    @property
    def graceful_timeout_s(self) -> int:
        """For the running jobs of a stopping worker; a supervisor must wait longer before it kills it."""
        return int(self.sd_timeout + self.storing_s) + 5

    @property
    def longest_answer_s(self) -> float:
        """The longest that a caller may have to wait for a generation."""
        return self.sd_queue_timeout + self.sd_timeout + self.storing_s

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1024 * 1024)

    @property
    def image_place(self) -> str:
        """The bucket or the folder."""
        return self.storage_url or self.image_dir

    @property
    def image_ttl_s(self) -> float | None:
        return None if self.image_ttl_hours is None else self.image_ttl_hours * 3600

    @property
    def image_max_bytes(self) -> float | None:
        return None if self.image_max_gb is None else self.image_max_gb * 1e9

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """
        An empty variable counts as unset, as in a compose file that passes ``SD_SAMPLER=`` on.

        :raises ConfigError: with every problem, never with a value that could be a secret.
        """
        known = {name.upper() for name in cls.model_fields}
        given = {name: value for name, value in environ.items() if value.strip()}
        problems = _misspelt(given, known)
        if {"STORAGE_URL", "IMAGE_DIR"} <= given.keys():
            problems.append("STORAGE_URL: cannot be set together with IMAGE_DIR: images are kept in one place")
        if {"STORAGE_URL", "SENDFILE_HEADER"} <= given.keys():
            problems.append(
                "SENDFILE_HEADER: cannot be set together with STORAGE_URL: nginx sends files of IMAGE_DIR only"
            )
        for name in sorted(known & given.keys()):
            if problem := left_over(given[name].strip()):
                problems.append(f"{name}: {problem}")
                del given[name]
        values: dict[str, Any] = {name.lower(): given[name].strip() for name in known & given.keys()}
        problems += _folder_problems(given)
        values, ca_problems = _with_ca_bundle(values, given)
        problems += ca_problems
        try:
            config = cls(**values)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False, include_context=False):
                problems.append(f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}")
        if problems:
            raise ConfigError("invalid configuration:\n  " + "\n  ".join(problems))
        return config


def _folder_problems(given: Mapping[str, str]) -> list[str]:
    homes = [name for name in ("IMAGE_DIR", "RUNTIME_DIR") if given.get(name, "").strip().startswith("~")]
    return [f"{name}: must be a path; ~ is not read" for name in homes]


def _with_ca_bundle(values: dict[str, Any], given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The other variables are those of curl, requests and OpenSSL; without https they are not read."""
    known = ["SD_WEBUI_CA_BUNDLE"]
    if "https://" in given.get("SD_WEBUI_URL", "").lower():
        known += ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]
    name = next((name for name in known if name in given), None)
    if name is None:
        return values, []
    path = given[name].strip()
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is one
        reason = "contains no certificate in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
        return values, [f"{name}: cannot be used ({reason})"]
    return {**values, "sd_webui_ca_bundle": path}, []


def check_folder(path: str) -> str | None:
    """Creates ``RUNTIME_DIR`` if it is missing; returns what is wrong with it, None if nothing."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as error:
        return f"RUNTIME_DIR: cannot be used ({error.strerror})"
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        return "RUNTIME_DIR: must belong to this user, and be writable by nobody else"
    return None


def _misspelt(given: Mapping[str, str], known: set[str]) -> list[str]:
    problems = []
    for name in sorted(given.keys() - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=_MISSPELLING)
        if near and near[0].split("_")[0] == name.split("_")[0]:
            problems.append(f"{name}: unknown setting; did you mean {near[0]}?")
    return problems
