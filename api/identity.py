"""Who the caller is."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from typing import Literal

from flask import g, request

Purpose = Literal["limits", "following", "idempotency"]

#: Nobody finds one by trying: a UUID, or as many digits, as the service and nginx make them.
_CANNOT_BE_GUESSED = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

#: All callers without a usable address count as one: a proxy writes "unknown", a Unix socket has none.
_NO_ADDRESS = "address:unknown"


def caller(purpose: Purpose, *, request_id: str = "") -> str:
    """
    A name for this request's caller, for a purpose. With a valid API key it is the key's hash, for every purpose.
    Otherwise:

    * ``limits``: the address, since there is nothing else. It is a weak name: many share one, and some have many.
    * ``following``: "everybody" if the request's id cannot be guessed, so that whoever knows it may ask: a phone or an
      office often has another address a moment later. Other ids ("1", "test") may be chosen by several callers at once,
      so they belong to the address.
    * ``idempotency``: "everybody". A retry comes after a connection broke, which is when addresses change, and it must
      not paint again.

    :param request_id: the id of the request that is followed or cancelled.
    """
    key: str | None = g.get("api_key")
    if key is not None:
        return f"key:{hashlib.sha256(key.encode()).hexdigest()}"
    if purpose == "idempotency" or (purpose == "following" and _CANNOT_BE_GUESSED.fullmatch(request_id)):
        return "everybody"
    return _of_address(request.remote_addr or "")


@functools.lru_cache(1024)
def _of_address(text: str) -> str:
    """
    One spelling for each address: without the port that some proxies add (Azure's), and without a zone. An IPv6 address
    becomes its /64, which is what one customer gets; an IPv4 address mapped into IPv6 is the IPv4 address.
    """
    host = text.strip().lower()
    if bracketed := re.fullmatch(r"\[(.*)\](?::[0-9]*)?", host):
        host = bracketed[1]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _NO_ADDRESS
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"address:{ipaddress.IPv6Network((int(address), 64), strict=False)}"
        address = address.ipv4_mapped
    return f"address:{address}"
