"""``s3://bucket/prefix?endpoint=…``: which bucket, on which server."""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from storage.errors import StorageConfigurationError

PARAMETERS = ("endpoint", "region", "allow_http", "style")

_ACCEPTED = "accepted is s3://bucket/prefix?endpoint=https://host:port&region=name&allow_http=true&style=virtual"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What needs no escaping anywhere.
_PREFIX = re.compile(r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)*")
_PARAMETER = re.compile(r"([a-z_]+)=(\S+)")
_REGION = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True, kw_only=True)
class S3Address:
    """
    :param prefix: what all keys begin with, without a slash at its ends; empty: nothing.
    :param endpoint: the server; ``None``: what ``AWS_ENDPOINT_URL`` says, else AWS itself.
    :param region: ``None``: what ``AWS_REGION`` says, else ``us-east-1``.
    :param virtual_host: the bucket is named in the host's name, not in the path.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    allow_http: bool = False
    virtual_host: bool = False

    @classmethod
    def parse(cls, url: str) -> "S3Address":
        """
        :raises StorageConfigurationError: no message repeats what could be a secret.
        """
        place, _, query = url.partition("?")
        scheme, _, rest = place.partition("://")
        if "@" in place:
            raise _wrong("credentials do not belong in it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if scheme.lower() != "s3" or "#" in url:
            raise _wrong("it is not s3://…, or has a '#' in it")
        bucket, _, prefix = rest.partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise _wrong("the bucket's name must have 3 to 63 lower-case letters, digits, dots and hyphens")
        if prefix and not _PREFIX.fullmatch(prefix.removesuffix("/")):
            raise _wrong("the prefix must have letters, digits, dots, hyphens and underscores between its slashes")
        given = _parameters(query)
        allow_http = _one_of("allow_http", given, ("false", "true")) == "true"
        return cls(
            bucket=bucket,
            prefix=prefix.removesuffix("/"),
            endpoint=_endpoint(given["endpoint"], allow_http) if "endpoint" in given else None,
            region=_region(given["region"]) if "region" in given else None,
            allow_http=allow_http,
            virtual_host=_one_of("style", given, ("path", "virtual")) == "virtual",
        )

    @property
    def request_endpoint(self) -> str | None:
        """The endpoint with the bucket in it where the style wants it there."""
        if self.endpoint is None or not self.virtual_host:
            return self.endpoint
        scheme, _, rest = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{rest}"


def _parameters(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in query.split("&") if query else ():
        found = _PARAMETER.fullmatch(part)
        if found is None:
            raise _wrong("after '?' come name=value, separated by '&'")
        name, value = found.groups()
        if name not in PARAMETERS:
            raise _wrong(f"{name!r} is unknown; known are {', '.join(PARAMETERS)}")
        if name in given:
            raise _wrong(f"{name!r} is there twice")
        given[name] = unquote(value)
    return given


def _one_of(name: str, given: dict[str, str], values: tuple[str, ...]) -> str:
    """The first is the default."""
    value = given.get(name, values[0])
    if value not in values:
        raise _wrong(f"{name!r} must be {' or '.join(values)}")
    return value


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise _wrong("'region' must have lower-case letters, digits and hyphens, such as eu-central-1")
    return text


def _endpoint(text: str, allow_http: bool) -> str:
    parts = _split(text)
    if "@" in text:
        raise _wrong("credentials do not belong in 'endpoint': set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise _wrong("'endpoint' must be http://host:port or https://host:port, without a query")
    if any(char.isspace() or not char.isprintable() for char in text):
        raise _wrong("'endpoint' must not contain white space")
    if parts.scheme == "http" and not allow_http:
        raise _wrong("an 'endpoint' of http:// carries pictures in the clear: allow it by allow_http=true")
    return text.rstrip("/")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked only when it is read
    except ValueError:
        raise _wrong("'endpoint' is not a URL") from None
    return parts


def _wrong(problem: str) -> StorageConfigurationError:
    return StorageConfigurationError(f"the S3 address cannot be used: {problem}; {_ACCEPTED}")
