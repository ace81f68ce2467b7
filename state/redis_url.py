"""The forms of ``REDIS_URL``: redis-py's own, and one for Sentinels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

_SENTINEL_PORT = 26379
_SENTINELS = re.compile(
    r"redis(?P<tls>s?)\+sentinel://(?:(?P<user>[^@/?#:]*)(?::(?P<password>[^@/?#]*))?@)?(?P<hosts>[^@/?#]+)"
    r"/(?P<service>[^/?#]+)(?:/(?P<db>[0-9]{1,5}))?(?:\?(?P<query>[^?#]*))?"
)
_OF_SENTINELS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, kw_only=True)
class SentinelAddress:
    """
    :param service: what the Sentinels call the group of servers.
    :param username: and ``password``: of the Redis servers.
    :param sentinel_username: and ``sentinel_password``: of the Sentinels, if they have any.
    :param tls: ``ssl`` and redis-py's other options for it, for the Sentinels as well as the servers; empty: no TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    tls: Mapping[str, Any] = field(default_factory=dict)


def parse_redis_url(url: str) -> SentinelAddress | None:
    """
    The Sentinels that a URL names; None if it is one of redis-py's own, for a single server. Nothing is contacted.

    :param url: ``redis://``, ``rediss://`` or ``unix://``, or
        ``redis+sentinel://[[user]:password@]host[:port],…/service[/db][?sentinel_password=…]``, or
        ``rediss+sentinel://…`` with any ``ssl_`` parameter of ``rediss://``.
    :raises ValueError: what is wrong, as a sentence about the URL; it never repeats what could be a secret.
    """
    scheme = url.partition("://")[0]
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinels(url)
    if scheme == "redis+cluster":
        raise ValueError(
            "Redis Cluster is not supported: the queue is one key, which a cluster cannot share out; use Sentinel"
        )
    parts = split_url(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be redis://host:port/db, rediss://…, unix:///path or redis+sentinel://…")
    if parts.scheme != "unix" and not re.fullmatch(r"(?:/[0-9]{0,5})?", parts.path):
        raise ValueError("must have the number of its database after the host, or nothing")
    _check_parameters(url)
    return None


def _sentinels(url: str) -> SentinelAddress:
    # Not urlsplit(), which knows one host only; newer Pythons also refuse a name followed by an [IPv6 address].
    found = _SENTINELS.fullmatch(url)
    if found is None:
        raise ValueError("must be redis+sentinel://host:port,host:port/service/db, the db optional")
    asked = _parameters(found["query"] or "", tls=bool(found["tls"]))
    of_tls = {name: value for name, value in asked.items() if name not in _OF_SENTINELS}
    return SentinelAddress(
        sentinels=tuple(_location(host) for host in found["hosts"].split(",")),
        service=unquote(found["service"]),
        db=int(found["db"] or 0),
        username=unquote(found["user"] or "") or None,
        password=unquote(found["password"] or "") or None,
        sentinel_username=asked.get("sentinel_username"),
        sentinel_password=asked.get("sentinel_password"),
        tls=_tls(of_tls) if found["tls"] else {},
    )


def _location(host: str) -> tuple[str, int]:
    parts = split_url(f"redis://{host}")
    if not parts.hostname:
        raise ValueError("must name its Sentinels as host:port, separated by commas")
    return parts.hostname, parts.port or _SENTINEL_PORT


def _parameters(query: str, *, tls: bool) -> dict[str, str]:
    asked = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in asked]
    known = [name in _OF_SENTINELS or (tls and name.startswith("ssl_")) for name in names]
    if not all(known) or len(set(names)) < len(names) or not all(value for _, value in asked):
        raise ValueError("has a parameter that is unknown, or has a wrong value")
    return dict(asked)


def _tls(asked: Mapping[str, str]) -> dict[str, Any]:
    """:param asked: ``ssl_`` parameters, which are read as in ``rediss://``."""
    from redis.connection import parse_url

    url = f"rediss:///?{urlencode(asked)}"
    _check_parameters(url)
    options = parse_url(url)  # type: ignore[no-untyped-call]
    return {"ssl": True, **{name: value for name, value in options.items() if name.startswith("ssl_")}}


def _check_parameters(url: str) -> None:
    import redis  # not above: without a URL nobody needs it, and it takes 6 MB

    try:
        redis.ConnectionPool.from_url(url).make_connection()  # contacts nobody
    except (TypeError, ValueError, redis.RedisError):
        raise ValueError("has a parameter that is unknown, or has a wrong value") from None


def split_url(url: str) -> SplitResult:
    """:raises ValueError: it is not a URL; the text quotes nothing of it."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked only when it is read
    except ValueError:
        # The parser's own text quotes the URL, and what it takes for the port may be a piece of the password.
        raise ValueError("is not a URL; in a user name or password / ? # [ ] @ : , must be percent-encoded") from None
    if any(char.isspace() for char in url):
        raise ValueError("must not contain white space")
    return parts
