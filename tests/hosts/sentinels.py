"""Redis as operators run it: a master, its replicas, and Sentinels that make another one master when it dies."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import redis

from tests.hosts.certificates import Certificates
from tests.running import Child, free_port, redis_binary, wait_until

needs_tls = pytest.mark.skipif(
    not (shutil.which("redis-server") and shutil.which("openssl")),
    reason="redis-server or openssl is not installed (apt-get install redis-server openssl)",
)

SERVICE = "pictures"

#: Sentinels take a server for dead after this. As short as goes, for tests; in earnest some seconds.
DOWN_AFTER_MS = 1000


class _Server(Child):
    def __init__(
        self, folder: Path, lines: list[str], *words: str, password: str | None, tls: Certificates | None
    ) -> None:
        folder.mkdir()
        self.port = free_port()
        conf = folder / "redis.conf"
        ports = [f"port {self.port}"] if tls is None else ["port 0", f"tls-port {self.port}", *_tls_lines(tls)]
        conf.write_text("\n".join([*ports, "bind 127.0.0.1", f"dir {folder}", *lines, ""]))
        self._command = [redis_binary(), str(conf), *words]
        self._options: dict[str, Any] = {"password": password, **({"ssl": True, **_tls_options(tls)} if tls else {})}

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "a Redis answers")

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, **self._options)

    def _answers(self) -> bool:
        with self.client() as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False


def _tls_lines(tls: Certificates) -> list[str]:
    return [
        f"tls-cert-file {tls.certificate}",
        f"tls-key-file {tls.key}",
        f"tls-ca-cert-file {tls.authority}",
        "tls-auth-clients yes",
        "tls-replication yes",  # replicas speak to their master so, and Sentinels to both
    ]


def _tls_options(tls: Certificates) -> dict[str, str]:
    """redis-py's, which are those of a URL as well."""
    return {"ssl_ca_certs": str(tls.authority), "ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key)}


class WatchedRedis:
    """
    The first of the servers is master at the beginning.

    :param sentinel_user: for the service; to be used with one Sentinel, which asks no others.
    :param tls: with it all speak nothing else, and want a certificate of everybody.
    """

    def __init__(
        self,
        folder: Path,
        *,
        servers: int = 2,
        sentinels: int = 3,
        password: str | None = None,
        sentinel_password: str | None = None,
        sentinel_user: str | None = None,
        tls: Certificates | None = None,
    ) -> None:
        self._tls = tls
        self._sentinel_user = sentinel_user
        self._password = password
        self._sentinel_password = sentinel_password
        self.servers: list[_Server] = []
        for number in range(servers):
            lines = ['save ""', "appendonly no", "repl-diskless-sync-delay 0"]
            if password:
                lines += [f'requirepass "{password}"', f'masterauth "{password}"']
            if self.servers:
                lines.append(f"replicaof 127.0.0.1 {self.servers[0].port}")
            self.servers.append(_Server(folder / f"redis{number}", lines, password=password, tls=tls))
        self.sentinels = [self._sentinel(folder / f"sentinel{number}", sentinels) for number in range(sentinels)]

    def _sentinel(self, folder: Path, count: int) -> _Server:
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} {count // 2 + 1}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        if self._password:
            lines.append(f'sentinel auth-pass {SERVICE} "{self._password}"')
        if self._sentinel_password:
            lines.append(f'requirepass "{self._sentinel_password}"')
        if self._sentinel_user:
            lines.append(f"user {self._sentinel_user} on >{self._sentinel_password}-of-user ~* &* +@all")
        return _Server(folder, lines, "--sentinel", password=self._sentinel_password, tls=self._tls)

    def url(self, *, db: int = 0) -> str:
        user = f":{quote(self._password, safe='')}@" if self._password else ""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        scheme = "rediss" if self._tls else "redis"
        asked = _tls_options(self._tls) if self._tls else {}
        if self._sentinel_user:
            asked |= {
                "sentinel_username": self._sentinel_user,
                "sentinel_password": f"{self._sentinel_password}-of-user",
            }
        elif self._sentinel_password:
            asked |= {"sentinel_password": self._sentinel_password}
        query = f"?{urlencode(asked)}" if asked else ""
        return f"{scheme}+sentinel://{user}{hosts}/{SERVICE}/{db}{query}"

    def master(self) -> int:
        """The port of the server that the first Sentinel holds for the master."""
        with self.sentinels[0].client() as client:
            return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])

    def ready(self) -> bool:
        """All replicas and all other Sentinels are known: from now on the master may die."""
        with self.sentinels[0].client() as client:
            state = client.sentinel_master(SERVICE)
        with self.servers[0].client() as client:
            replicas = int(client.info("replication")["connected_slaves"])
        known = (int(state["num-slaves"]), replicas, int(state["num-other-sentinels"]))
        return known == (len(self.servers) - 1, len(self.servers) - 1, len(self.sentinels) - 1)

    def __enter__(self) -> WatchedRedis:
        try:
            for one in (*self.servers, *self.sentinels):
                one.start()
            wait_until(self.ready, "the Sentinels know each other and the replicas")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        for one in (*self.sentinels, *self.servers):
            one.kill()
