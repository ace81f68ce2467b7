"""Every setting of the service: read once from the environment, checked whole, then frozen.

:class:`Config` is the one list of settings; ``docs/configuration.md`` is held against it by a test.
Only ``stable_diffusion_api.py`` and ``gunicorn.conf.py`` read it: everything below them takes plain
keyword arguments.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

import limits
import redis
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

#: Per worker; see :attr:`Config.threads`.
BODIES_AT_A_TIME = 64
DOWNLOADS_AT_A_TIME = 64
WAITING_RETRIES = 16
SPARE_THREADS = 16

#: Decoding and checking included; a bucket: :class:`storage.s3.S3Timeouts`, for each image.
STORING_ON_DISK_S = 10.0
STORING_IN_BUCKET_S = 15.0

#: How long a caller's idle connection is kept. Longer than the balancers in front keep theirs (nginx 60 s, AWS 60 s):
#: the one who closes first must not be the one that could be sent a request at the same moment.
KEEPALIVE_S = 75

#: How alike an unknown variable must be to a setting to be taken for a misspelling of it (difflib ratio).
#: High, because Kubernetes adds variables such as SD_WEBUI_PORT for a service called sd-webui.
_MISSPELLING = 0.9

_SENTINELS = re.compile(
    r"redis\+sentinel://(?:[^@/?#]*@)?(?P<hosts>[^@/?#]+)/[^/?#]+(?:/[0-9]{1,5})?(?:\?sentinel_password=[^&#]+)?"
)


class ConfigError(ValueError):
    """The environment cannot be used as it is; the text lists every problem, a line each."""


def _split(text: object) -> object:
    if not isinstance(text, str):
        return text
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise ValueError("is set, but names nothing")  # API_KEYS="," must not mean an open service
    return parts


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked only when it is read
    except ValueError:
        # The parser's own text quotes the URL, and what it takes for the port may be a piece of the password.
        raise ValueError("is not a URL; in a user name or password / ? # [ ] @ : , must be percent-encoded") from None
    return parts


def _webui_url(url: str) -> str:
    parts = _parsed(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://host:port or https://host:port, several separated by commas")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    if any(char.isspace() for char in url):
        raise ValueError("must not have white space in it")
    if "@" in parts.path or (parts.password is not None and not parts.username):
        raise ValueError("must have its user name and password, percent-encoded, before the host")
    return url.rstrip("/")


def _distinct(urls: tuple[str, ...]) -> tuple[str, ...]:
    # With another password it is still the same one.
    addresses = {url.partition("://")[2].rpartition("@")[2].lower() for url in urls}
    if len(addresses) != len(urls):
        raise ValueError("names the same WebUI twice")
    return urls


def _rate_limit(text: str) -> str:
    try:
        limits.parse_many(text)
    except ValueError:
        raise ValueError("must be limits such as 10/minute, several separated by ;") from None
    return text


def _redis_url(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme == "redis+sentinel":
        return _sentinel_url(url)
    if scheme == "redis+cluster":
        raise ValueError(
            "Redis Cluster is not supported: the queue is one key, which a cluster cannot share out; use Sentinel"
        )
    parts = _parsed(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be redis://host:port/db, rediss://…, unix:///path or redis+sentinel://…")
    if parts.scheme != "unix" and not re.fullmatch(r"(?:/[0-9]{0,5})?", parts.path):
        raise ValueError("must have the number of its database after the host, or nothing")
    try:
        redis.ConnectionPool.from_url(url).make_connection()  # contacts nobody
    except (TypeError, ValueError):
        raise ValueError("has a parameter that is unknown, or has a wrong value") from None
    return url


def _sentinel_url(url: str) -> str:
    found = _SENTINELS.fullmatch(url)
    if found is None:
        raise ValueError("must be redis+sentinel://host:port,host:port/service/db, the db optional")
    for host in found["hosts"].split(","):
        if not _parsed(f"redis://{host}").hostname:
            raise ValueError("must name its Sentinels as host:port, separated by commas")
    return url


def _image_dir(path: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise ValueError("must be a path (./with:colon if it has one there); a bucket is named by STORAGE_URL")
    return path


def _storage_url(url: str) -> str:
    parts = _parsed(url)
    if "@" in url:
        raise ValueError("must not have credentials: they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if parts.scheme != "s3" or not parts.hostname:
        raise ValueError("must be s3://bucket/prefix; a folder is named by IMAGE_DIR")
    return url


def _public_url(url: str) -> str:
    parts = _parsed(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an absolute http(s) URL without a query")
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or password: every caller sees it")
    return url.rstrip("/")


def _aliases(text: object) -> object:
    if not isinstance(text, str):
        return text
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if any(not alias.strip() or not target.strip() for alias, _, target in pairs):
        raise ValueError("must be alias=model, several separated by commas")
    aliases = {alias.strip(): target.strip() for alias, _, target in pairs}
    if len(aliases) != len(pairs):
        raise ValueError("names the same alias twice")
    return aliases


def _upper(text: object) -> object:
    return text.upper() if isinstance(text, str) else text


Urls = Annotated[tuple[Annotated[str, AfterValidator(_webui_url)], ...], BeforeValidator(_split)]
Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
RateLimit = Annotated[str, AfterValidator(_rate_limit)]


class Config(BaseModel):
    """All settings. A field's name in upper case is its environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # WebUIs
    sd_webui_url: Annotated[Urls, AfterValidator(_distinct)] = Field(("http://localhost:7860",), repr=False)
    sd_webui_slots: int = Field(1, ge=1, le=8)
    sd_model: str = Field("sd-v1-5", min_length=1)
    sd_model_aliases: Annotated[dict[str, str], BeforeValidator(_aliases)] = {}
    sd_sampler: str | None = Field(None, min_length=1)
    sd_scheduler: str | None = Field(None, min_length=1)
    use_gpu: bool = True
    cpu_fallback: bool = True
    #: Seconds a job may run on a WebUI before it is interrupted.
    sd_timeout: float = Field(300.0, ge=1, le=86_400)
    #: Seconds a job may wait for a free WebUI.
    sd_queue_timeout: float = Field(120.0, ge=0, le=86_400)
    #: Seconds a job waits for a busy WebUI that has its model loaded before an idle one has to load it.
    sd_model_switch_patience: float = Field(5.0, ge=0, le=3600)
    #: Jobs that may wait, over all workers of the host.
    sd_queue_limit: int = Field(64, ge=0, le=10_000)

    # HTTP
    host: str = Field("0.0.0.0", min_length=1)  # noqa: S104 - a container listens to its network
    port: int = Field(5002, ge=1, le=65_535)
    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    max_body_mb: float = Field(32.0, ge=0.1, le=1024)
    trusted_proxies: int = Field(0, ge=0, le=10)
    cors_origins: Words = ()
    api_keys: Words = Field((), repr=False)
    #: The page at /.
    studio: bool = True

    # What a request may ask for
    max_prompt_chars: int = Field(10_000, ge=1, le=1_000_000)
    max_steps: int = Field(150, ge=1, le=1000)
    max_pixels: int = Field(1536 * 1536, ge=512 * 512, le=2048 * 2048)
    max_batch_size: int = Field(4, ge=1, le=16)
    max_input_pixels: int = Field(50_000_000, ge=16 * 16, le=200_000_000)

    # Storage, limits, logs
    image_dir: Annotated[str, AfterValidator(_image_dir)] = Field("./data/images", min_length=1)
    #: A bucket instead of ``image_dir``.
    storage_url: Annotated[str, AfterValidator(_storage_url)] | None = None
    #: How nginx is told to send an image of ``image_dir`` by itself; None: the service sends it.
    sendfile_header: Literal["X-Accel-Redirect"] | None = None
    #: Images older than this are removed; None: never.
    image_ttl_hours: float | None = Field(None, gt=0, le=876_000)
    #: The oldest images are removed beyond this; None: never.
    image_max_gb: float | None = Field(None, gt=0, le=1_000_000)
    #: Where the workers of one host agree on who uses which WebUI (small files, gone with a reboot).
    runtime_dir: str = Field(
        default_factory=lambda: os.path.join(tempfile.gettempdir(), f"stable-diffusion-api-{os.getuid()}")
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = Field(None, repr=False)
    rate_limit_global: RateLimit = "50/minute;500/hour"
    rate_limit_generation: RateLimit = "10/minute"
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    log_format: Literal["json", "text"] = "json"

    @property
    def threads(self) -> int:
        """
        Threads a worker needs so that no kind of request can take those of another: every job that may wait or run,
        every body that may be read, every image that may be sent, every retry that may wait for its first attempt; and
        health and refusals.
        """
        jobs = self.sd_queue_limit + len(self.sd_webui_url) * self.sd_webui_slots
        return jobs + BODIES_AT_A_TIME + DOWNLOADS_AT_A_TIME + WAITING_RETRIES + SPARE_THREADS

    @property
    def storing_s(self) -> float:
        """The longest from the WebUI's last byte to the answer: a batch is stored one image after the other."""
        return STORING_IN_BUCKET_S * self.max_batch_size if self.storage_url else STORING_ON_DISK_S

    @property
    def graceful_timeout_s(self) -> int:
        """For the running jobs of a worker that stops; what stops it must wait longer before it kills."""
        return int(self.sd_timeout + self.storing_s) + 5

    @property
    def longest_answer_s(self) -> float:
        """What whoever waits for a generation must be ready to wait."""
        return self.sd_queue_timeout + self.sd_timeout + self.storing_s

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1024 * 1024)

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
            problems.append("STORAGE_URL: cannot be set beside IMAGE_DIR: images are kept in one place")
        if {"STORAGE_URL", "SENDFILE_HEADER"} <= given.keys():
            problems.append("SENDFILE_HEADER: cannot be set beside STORAGE_URL: nginx sends files of IMAGE_DIR only")
        values: dict[str, Any] = {name.lower(): given[name].strip() for name in known & given.keys()}
        problems += _folder_problems(given)
        try:
            config = cls(**values)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False, include_context=False):
                problems.append(f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}")
        if problems:
            raise ConfigError("invalid configuration:\n  " + "\n  ".join(problems))
        return config


def _folder_problems(given: Mapping[str, str]) -> list[str]:
    problems = []
    for name in ("IMAGE_DIR", "RUNTIME_DIR"):
        path = given.get(name, "").strip()
        if path.startswith("~"):
            problems.append(f"{name}: must be a path; ~ is not read")
        elif "\0" in path:
            problems.append(f"{name}: must not contain NUL")
    return problems


def check_folder(path: str) -> str | None:
    """What is wrong with ``RUNTIME_DIR``, which nothing can do without; makes it where it is missing."""
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
