"""The Redis of ``REDIS_URL``."""

from __future__ import annotations

from uuid import uuid4

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, ResponseError
from redis.sentinel import MasterNotFoundError

from doctor.findings import Finding, error, ok, warning
from state.connection import open_redis

_SUBJECT = "redis"


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
        remedy = "correct user name and password in REDIS_URL (percent-encoded)"
        return error(_SUBJECT, "it refuses the password", remedy)
    if isinstance(problem, NoPermissionError):
        text = "its user may not do what the service needs"
        return error(_SUBJECT, text, "ACL SETUSER … ~<REDIS_PREFIX>:* +@all -@dangerous")
    if isinstance(problem, MasterNotFoundError):
        remedy = "check that the Sentinels run, the service's name in REDIS_URL, and with TLS the certificates"
        return error(_SUBJECT, "no Sentinel knows where the master is", remedy)
    if isinstance(problem, redis.TimeoutError):
        text = "it does not answer within a quarter of a second"
        return error(_SUBJECT, text, "check whether it hangs, or is far away")
    if isinstance(problem, redis.ConnectionError):
        remedy = "check that it runs, host and port in REDIS_URL, and with TLS the certificates"
        return error(_SUBJECT, "it cannot be reached", remedy)
    return error(_SUBJECT, f"it answers with an error ({type(problem).__name__})", "look at its own log")


def _of_info(client: redis.Redis) -> list[Finding]:
    try:
        info = client.info()
    except NoPermissionError:  # the service does not need it
        return [ok(_SUBJECT, "it answers; this user may not see its version and role (INFO)")]
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    found = [ok(_SUBJECT, f"{name} {version}, {info['role']}")]
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory", 0) and policy != "noeviction":
        text = f"with maxmemory-policy {policy} it may discard the queue, limits and keys when it is full"
        found.append(warning(_SUBJECT, text, "maxmemory-policy noeviction"))
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
        remedy = "name the master in REDIS_URL, or redis+sentinel://…"
        return [error(_SUBJECT, "it refuses writes: it is a replica", remedy)]
    except (NoPermissionError, redis.ConnectionError) as problem:
        return [_of_error(problem)]
    except ResponseError:
        text = "it refuses writes: its memory or its disk is full"
        return [error(_SUBJECT, text, "INFO memory and INFO persistence show which; details are in its own log")]
    return []
