"""The addresses that programs which speak another API are to be given; see docs/guides/clients.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from config import Config
from doctor.findings import Finding, ok

#: How each API's programs call it, and what stands behind the service's address: they add the rest themselves.
_APIS: Final[Mapping[str, tuple[str, str]]] = {"a1111": ("AUTOMATIC1111", ""), "openai": ("OpenAI", "/v1")}


def addresses(config: Config) -> dict[str, str]:
    """An address for each API of ``DOORS``, by the API's name; none where it is closed."""
    root = config.public_url or f"http://{shown(config.host)}:{config.port}"
    return {name: root + path for door, (name, path) in _APIS.items() if door in config.doors}


def check(config: Config) -> list[Finding]:
    found = ", ".join(f"{address} ({name}'s API)" for name, address in addresses(config).items())
    return [
        ok("clients", f"paste into other programs: {found}" if found else "DOORS is none: only the service's own API")
    ]


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def shown(host: str) -> str:
    """``host`` as it stands in a URL for a person on this machine."""
    local = reachable(host)
    if local in ("127.0.0.1", "::1"):
        return "localhost"
    return f"[{local}]" if ":" in local else local
