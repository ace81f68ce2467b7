"""What a WebUI's answer says of a job beyond the fields of its ``info``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

#: Where stable-diffusion.cpp's text of a picture has its own account of the job, as JSON up to its end.
_ACCOUNT = "SDCPP: {"
#: A prompt may have these characters in it, before and within the account.
_MOST_BEGINNINGS = 20


def extra(info: Mapping[str, Any], name: str) -> str:
    """One of A1111's ``extra_generation_params``; "" if it is not there."""
    params = info.get("extra_generation_params")
    text = params.get(name) if isinstance(params, dict) else None
    return text if isinstance(text, str) else ""


def stated(info: Mapping[str, Any], says: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether stable-diffusion.cpp's server says so of each picture; False of one that gives no account."""
    texts = info.get("infotexts")
    return isinstance(texts, list) and bool(texts) and all(says(_account(text)) for text in texts)


def _account(text: object) -> Mapping[str, Any]:
    at = -1
    for _ in range(_MOST_BEGINNINGS):
        at = text.find(_ACCOUNT, at + 1) if isinstance(text, str) else -1
        if at < 0:
            break
        try:
            account = from_json(str(text)[at + len(_ACCOUNT) - 1 :])
        except ValueError:
            continue
        return account if isinstance(account, dict) else {}
    return {}
