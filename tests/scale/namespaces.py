"""Machines on one network, each a network namespace, whose cable can be pulled. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_NET = "10.213.77"
OURS = f"{_NET}.254"


def why_not() -> str | None:
    """Why there can be none here."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed (Debian: apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"sd{os.getpid()}try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "this machine does not allow network namespaces (a container without CAP_SYS_ADMIN?)"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def _ip(*words: str, machine: str | None = None) -> None:
    command = ["ip", *(["-n", machine] if machine else []), *words]
    subprocess.run(command, check=True, capture_output=True, text=True)


class Network:
    """A switch in a separate namespace; this process is on the network as well."""

    def __init__(self) -> None:
        self._prefix = f"sd{os.getpid()}"
        self._switch = f"{self._prefix}sw"
        self._ours = f"{self._prefix}o"
        self._machines: list[str] = []

    def start(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("link", "add", "switch", "type", "bridge", machine=self._switch)
        _ip("link", "set", "switch", "up", machine=self._switch)
        ours = self._ours
        _ip("link", "add", ours, "type", "veth", "peer", "name", "ours", "netns", self._switch)
        _ip("addr", "add", f"{OURS}/24", "dev", ours)
        _ip("link", "set", ours, "up")
        self._plug("ours")

    def machine(self, name: str) -> tuple[str, list[str]]:
        """A new one: its address, and what a command must begin with to run on it."""
        full = f"{self._prefix}{name}"
        _ip("netns", "add", full)
        self._machines.append(full)
        address = f"{_NET}.{len(self._machines)}"
        _ip("link", "add", name, "netns", self._switch, "type", "veth", "peer", "name", "eth0", "netns", full)
        _ip("addr", "add", f"{address}/24", "dev", "eth0", machine=full)
        _ip("link", "set", "eth0", "up", machine=full)
        _ip("link", "set", "lo", "up", machine=full)
        self._plug(name)
        return address, ["ip", "netns", "exec", full]

    def cut(self, name: str) -> None:
        """Nothing comes through any more; nobody is told."""
        _ip("link", "set", name, "nomaster", machine=self._switch)

    def heal(self, name: str) -> None:
        _ip("link", "set", name, "master", "switch", machine=self._switch)

    def stop(self) -> None:
        # A namespace ends later than this returns, and with it what is in it; our end must be gone at once.
        subprocess.run(["ip", "link", "del", self._ours], check=False, capture_output=True)
        for name in (*self._machines, self._switch):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def _plug(self, name: str) -> None:
        _ip("link", "set", name, "master", "switch", machine=self._switch)
        _ip("link", "set", name, "up", machine=self._switch)


@contextmanager
def network() -> Iterator[Network]:
    made = Network()
    try:
        made.start()
        yield made
    finally:
        made.stop()
