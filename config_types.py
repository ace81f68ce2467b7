"""The types of :class:`config.Config`'s fields: each checks the text of a setting and says what is wrong with it."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import limits
from pydantic import AfterValidator, BeforeValidator

from state.redis_url import parse_redis_url, split_url
from storage.errors import StorageConfigurationError
from storage.s3_address import S3Address

_THIS_HOST = ("localhost", "127.0.0.1", "::1")

_QUOTES = tuple("\"'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb")
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::?[-?+][^}]*)?\}")

_NAME = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_ORIGIN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>(?:\*\.)?{_NAME}(?:\.{_NAME})*|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}

#: Shorter keys are a mistake, such as ``API_KEYS=a,b`` copied from an example.
_SHORTEST_KEY = 2


def left_over(text: str) -> str | None:
    """What a shell, an editor or an env file left in a setting's text by mistake; None if there is nothing."""
    pieces = [piece.strip() for piece in text.split(",")]
    if any(piece.startswith(_QUOTES) or piece.endswith(_QUOTES) for piece in pieces):
        return "has quotation marks around it, which an env file does not strip: remove them"
    if variable := _VARIABLE.search(text):
        return f"contains the variable {variable['name']}, which was not substituted: write its value"
    hidden = next((char for char in text if not char.isprintable()), None)
    return hidden and f"contains an invisible character (U+{ord(hidden):04X}): remove it"


def _split(text: object) -> object:
    if not isinstance(text, str):
        return text
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise ValueError("is set, but names nothing")  # API_KEYS="," must not mean an open service
    return parts


def _webui_url(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://host:port or https://host:port, several separated by commas")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    if "@" in parts.path or (parts.password is not None and not parts.username):
        raise ValueError("must have its user name and password, percent-encoded, before the host")
    # The address of its API is accepted as well: it is often copied from a browser.
    return url.rstrip("/").removesuffix("/sdapi/v1").rstrip("/")


def _distinct(urls: tuple[str, ...]) -> tuple[str, ...]:
    if len({_place(url) for url in urls}) != len(urls):
        raise ValueError("names the same WebUI twice (localhost and 127.0.0.1 are the same)")
    return urls


def _place(url: str) -> tuple[str, int, str]:
    """Equal for all spellings of one WebUI's address; a password makes no difference."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return "localhost" if host in _THIS_HOST else host, port, parts.path


def _rate_limit(text: str) -> str:
    try:
        windows = limits.parse_many(text)
    except ValueError:
        raise ValueError("must be limits such as 10/minute, several separated by ;") from None
    if not all(window.amount for window in windows):
        raise ValueError("must allow at least one request; for no limit, set one that is never reached: 1000000/second")
    return text


def _redis_url(url: str) -> str:
    parse_redis_url(url)
    return url


def _image_dir(path: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise ValueError("must be a path (./with:colon if it has one there); a bucket is named by STORAGE_URL")
    return path


def _storage_url(url: str) -> str:
    try:
        S3Address.parse(url)
    except StorageConfigurationError as error:
        raise ValueError(str(error)) from None
    return url


def _public_url(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an absolute http(s) URL without a query")
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or password: every caller sees it")
    if not re.fullmatch(r"[!-~]+", url) or re.search(r"[\"<>\\^`{|}]", url):
        raise ValueError("must be ASCII, as browsers send it: a host as xn--…, the rest percent-encoded")
    return url.rstrip("/")


def _host(text: str) -> str:
    bare = text.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
            raise ValueError(
                "must be an address or a host's name to listen at, without a port, which is PORT"
            ) from None
    return bare


def _doors(text: object) -> object:
    return () if isinstance(text, str) and text.strip() == "none" else _split(text)


def _api_key(key: str) -> str:
    if len(key) < _SHORTEST_KEY:
        raise ValueError(
            "contains a key of one character, which anybody can guess; make one with: openssl rand -hex 32"
        )
    if any(char.isspace() for char in key):
        raise ValueError("contains a key with white space; keys are separated by commas")
    return key


def _origin(text: str) -> str:
    """The origin as browsers send it, so that it can be compared: lower case, no default port, the shortest IPv6."""
    if text == "*":
        return text
    if "*" in text.replace("://*.", "://", 1):
        raise ValueError("may contain * only as https://*.shop.example, for all subdomains")
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise ValueError(
            "must be * alone, or origins as browsers send them, such as https://shop.example: a scheme, a host, "
            "perhaps a :port, and no slash at the end"
        )
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if host.startswith("*.") and "." not in host[2:] and host != "*.localhost":
        raise ValueError("must name a domain behind *., not a whole top-level one: https://*.shop.example")
    try:
        host = f"[{ipaddress.IPv6Address(host[1:-1])}]" if host.startswith("[") else host
    except ValueError:
        raise ValueError("has no IPv6 address between [ and ]") from None
    if port is not None and not 0 < int(port) < 65_536:
        raise ValueError("must have a port between 1 and 65535")
    is_default = port is None or port == _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}" if is_default else f"{scheme}://{host}:{int(port or 0)}"


def _alone(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError("has * beside other origins: it allows every page, so remove * or the others")
    return origins


def _redis_prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValueError("must be 1 to 64 letters, digits or . _ : -")
    return text


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


Doors = Annotated[tuple[Literal["a1111", "openai"], ...], BeforeValidator(_doors)]
ApiKeys = Annotated[tuple[Annotated[str, AfterValidator(_api_key)], ...], BeforeValidator(_split)]
CorsOrigins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split), AfterValidator(_alone)
]
Host = Annotated[str, AfterValidator(_host)]
RedisPrefix = Annotated[str, AfterValidator(_redis_prefix)]
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
