"""What a Redis can come to that answers and is of no use, each brought about as an operator or a fault would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis

from tests.running import RedisServer

PASSWORD = "changed overnight"


@dataclass(frozen=True, kw_only=True)
class State:
    """``error``: the class of redis-py that tells it."""

    begin: Callable[[redis.Redis], object]
    end: Callable[[redis.Redis], object]
    error: str


def _configured(name: str, value: str, usual: str, error: str) -> State:
    return State(
        begin=lambda admin: admin.config_set(name, value), end=lambda admin: admin.config_set(name, usual), error=error
    )


def _ask_for_a_password(admin: redis.Redis) -> None:
    admin.config_set("requirepass", PASSWORD)
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


STATES: Mapping[str, State] = {
    "full": _configured("maxmemory", "1", "0", "OutOfMemoryError"),
    "a replica": State(
        begin=lambda admin: admin.execute_command("REPLICAOF", "127.0.0.1", "1"),
        end=lambda admin: admin.execute_command("REPLICAOF", "NO", "ONE"),
        error="ReadOnlyError",
    ),
    "without its replicas": _configured("min-replicas-to-write", "1", "0", "ResponseError"),
    "with another password": State(
        begin=_ask_for_a_password,
        end=lambda admin: admin.config_set("requirepass", ""),
        error="AuthenticationError",
    ),
    "read only for this user": State(
        begin=lambda admin: admin.execute_command("ACL", "SETUSER", "default", "-@write"),
        end=lambda admin: admin.execute_command("ACL", "SETUSER", "default", "+@write"),
        error="NoPermissionError|ResponseError",  # a command's own, or that of a script's
    ),
}


def _list(admin: redis.Redis, name: str) -> None:
    admin.rpush(name, "not", "ours")


def _hash(admin: redis.Redis, name: str) -> None:
    admin.hset(name, "not", "ours")


def _sorted_set(admin: redis.Redis, name: str) -> None:
    admin.zadd(name, {"another strategy's": 1})


def _text(admin: redis.Redis, name: str) -> None:
    admin.set(name, "not ours")


def _counter(admin: redis.Redis, name: str) -> None:
    """As the fixed-window strategy keeps."""
    admin.incr(name, 3)


#: What may lie under a name that the service has a use for.
FOREIGN: Mapping[str, Callable[[redis.Redis, str], None]] = {
    "list": _list,
    "hash": _hash,
    "sorted set": _sorted_set,
    "text": _text,
    "counter": _counter,
}


def administrator(server: RedisServer) -> redis.Redis:
    """A connection that keeps its rights whatever becomes of the others."""
    return redis.Redis.from_url(server.url, single_connection_client=True)
