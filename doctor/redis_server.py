"""The Redis of ``REDIS_URL``."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, ResponseError
from redis.sentinel import MasterNotFoundError

from doctor.findings import Finding, error, ok, warning
from state.connection import open_redis

_SUBJECT = "redis"

#: The oldest version that the service is tested with.
_OLDEST = (7, 0)
#: The share of its memory from which Redis counts as nearly full, if it has a limit.
_FULL = 0.9


def check(url: str, *, prefix: str = "sd-api") -> list[Finding]:
    """:param url: ``REDIS_URL``; never in the output, it may hold a password. :param prefix: of all keys."""
    client = open_redis(url)
    try:
        client.ping()
        return [*_of_info(client), *_of_rights(client, prefix)]
    except redis.RedisError as problem:
        return [_of_error(problem)]
    finally:
        client.close()


def _of_error(problem: redis.RedisError) -> Finding:
    if isinstance(problem, AuthenticationError):
        return error(
            _SUBJECT, "it refuses the password", "correct user name and password in REDIS_URL (percent-encoded)"
        )
    if isinstance(problem, NoPermissionError):
        text = "its user may not do what the service needs"
        return error(_SUBJECT, text, "ACL SETUSER … ~<REDIS_PREFIX>:* +@all -@dangerous")
    if isinstance(problem, MasterNotFoundError):
        text = "no Sentinel knows where the master is"
        return error(
            _SUBJECT,
            text,
            "check that the Sentinels run, the service's name in REDIS_URL, and with TLS the certificates",
        )
    if isinstance(problem, redis.TimeoutError):
        return error(
            _SUBJECT, "it does not answer within a quarter of a second", "check whether it hangs, or is far away"
        )
    if isinstance(problem, redis.ConnectionError):
        remedy = "check that it runs, host and port in REDIS_URL, and with TLS the certificates"
        return error(_SUBJECT, "it cannot be reached", remedy)
    return error(_SUBJECT, f"it answers with an error ({type(problem).__name__})", "look at its own log")


def _of_info(client: redis.Redis) -> list[Finding]:
    try:
        return _of_facts(client.info())
    except NoPermissionError:  # the service does not need it
        return [ok(_SUBJECT, "it answers; this user may not see its version and role (INFO)")]


def _of_facts(info: dict[str, Any]) -> list[Finding]:
    version = str(info.get("valkey_version") or info.get("redis_version", ""))
    name = "Valkey" if "valkey_version" in info else "Redis"
    found = [ok(_SUBJECT, f"{name} {version}, {info.get('role', 'role unknown')}")]
    if name == "Redis" and tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        found.append(
            warning(
                _SUBJECT,
                f"version {version} is older than any that the service is tested with",
                f"Redis {oldest} or newer",
            )
        )
    if info.get("role") == "slave":
        text = "it is a replica: the first failover or restart loses what is written here, if it takes it at all"
        found.append(error(_SUBJECT, text, "name the master in REDIS_URL, or redis+sentinel://…"))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    most = int(info.get("maxmemory", 0))
    if most and policy != "noeviction":
        text = f"with maxmemory-policy {policy} it may discard the queue, limits and keys when it is full"
        found.append(warning(_SUBJECT, text, "maxmemory-policy noeviction"))
    if most and int(info.get("used_memory", 0)) > _FULL * most:
        found.append(warning(_SUBJECT, "more than nine tenths of its memory are used", "a larger maxmemory"))
    return found


def _of_rights(client: redis.Redis, prefix: str) -> list[Finding]:
    """Tries once everything that the service does: a value that expires, a transaction, a script, the time."""
    key = f"{prefix}:doctor:{uuid4()}"
    try:
        with client.pipeline() as pipeline:
            pipeline.watch(key)  # type: ignore[no-untyped-call]
            pipeline.multi()
            pipeline.set(key, 1, ex=10)
            pipeline.execute()
        client.eval("return redis.call('GET', KEYS[1])", 1, key)
        client.time()
        client.delete(key)
    except ReadOnlyError:
        return [
            error(_SUBJECT, "it refuses writes: it is a replica", "name the master in REDIS_URL, or redis+sentinel://…")
        ]
    except (ResponseError, redis.ConnectionError) as problem:
        if isinstance(problem, NoPermissionError | redis.ConnectionError):
            return [_of_error(problem)]
        text = "it refuses writes: its memory or its disk is full"
        return [error(_SUBJECT, text, "INFO memory and INFO persistence show which; details are in its own log")]
    return []
