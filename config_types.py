"""What a setting's text must look like: the types of :class:`config.Config`'s fields, which tell what is wrong."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import limits
import redis
from pydantic import AfterValidator, BeforeValidator

_SENTINELS = re.compile(
    r"redis(?P<tls>s?)\+sentinel://(?:[^@/?#]*@)?(?P<hosts>[^@/?#]+)/[^/?#]+(?:/[0-9]{1,5})?(?:\?(?P<query>[^?#]*))?"
)
_THIS_HOST = ("localhost", "127.0.0.1", "::1")
_OF_SENTINELS = ("sentinel_username", "sentinel_password")


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
    # The address of its API is taken as well: whoever copies it from a browser means the WebUI.
    return url.rstrip("/").removesuffix("/sdapi/v1").rstrip("/")


def _distinct(urls: tuple[str, ...]) -> tuple[str, ...]:
    if len({_place(url) for url in urls}) != len(urls):
        raise ValueError("names the same WebUI twice (localhost and 127.0.0.1 are one)")
    return urls


def _place(url: str) -> tuple[str, int, str]:
    """The same for all spellings of one WebUI; with another password it is still the same one."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return "localhost" if host in _THIS_HOST else host, port, parts.path


def _rate_limit(text: str) -> str:
    try:
        limits.parse_many(text)
    except ValueError:
        raise ValueError("must be limits such as 10/minute, several separated by ;") from None
    return text


def _redis_url(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme in ("redis+sentinel", "rediss+sentinel"):
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
    _parameters_of_redis(url)
    return url


def _parameters_of_redis(url: str) -> None:
    try:
        redis.ConnectionPool.from_url(url).make_connection()  # contacts nobody
    except (TypeError, ValueError, redis.RedisError):
        raise ValueError("has a parameter that is unknown, or has a wrong value") from None


def _sentinel_url(url: str) -> str:
    found = _SENTINELS.fullmatch(url)
    if found is None:
        raise ValueError("must be redis+sentinel://host:port,host:port/service/db, the db optional")
    for host in found["hosts"].split(","):
        if not _parsed(f"redis://{host}").hostname:
            raise ValueError("must name its Sentinels as host:port, separated by commas")
    asked = parse_qsl(found["query"] or "", keep_blank_values=True)
    names = [name for name, _ in asked]
    known = [name in _OF_SENTINELS or (found["tls"] and name.startswith("ssl_")) for name in names]
    if not all(known) or len(set(names)) < len(names) or not all(value for _, value in asked):
        raise ValueError("has a parameter that is unknown, or has a wrong value")
    of_tls = {name: value for name, value in asked if name not in _OF_SENTINELS}
    _parameters_of_redis(f"rediss:///?{urlencode(of_tls)}")
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


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
WebUIUrls = Annotated[
    tuple[Annotated[str, AfterValidator(_webui_url)], ...], BeforeValidator(_split), AfterValidator(_distinct)
]
ModelAliases = Annotated[dict[str, str], BeforeValidator(_aliases)]
RateLimit = Annotated[str, AfterValidator(_rate_limit)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
ImageDir = Annotated[str, AfterValidator(_image_dir)]
StorageUrl = Annotated[str, AfterValidator(_storage_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
