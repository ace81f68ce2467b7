"""A summary of the settings, and variables of the environment that look like misspelt settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher

from config import Config
from doctor.findings import Finding, warning
from doctor.timeouts import Server

#: How similar two names must be (difflib's ratio): one letter of seven may differ. In shorter names that makes another
#: word.
_SIMILAR = 0.85
#: Prefixes that people put before all settings of one program.
_PREFIX = re.compile(r"^(?:STABLEDIFFUSION|SD)(?:API(?!KEY))?")
#: Too common to be taken for a misspelt setting: some shells set them.
_COMMON = frozenset({"HOST", "PORT"})
#: A shorter API key can be found by trying: 16 hexadecimal characters are 64 bits.
_SHORT_KEY = 16


def holds(config: Config, server: Server) -> str:
    """One line that sums the settings up at the start of the service, without secrets or addresses."""
    keys = f"API keys: {len(config.api_keys)}" if config.api_keys else "open to every caller: API_KEYS is not set"
    counted = "in each worker" if server.workers > 1 else "in one worker"
    return "; ".join(
        [
            keys,
            f"rate limits counted {f'in Redis, as {config.redis_prefix}' if config.redis_url else counted}",
            f"trusted proxies: {config.trusted_proxies}",
            f"WebUIs: {len(config.sd_webui_url)}",
            f"images in {'a bucket' if config.storage_url else 'a folder'}",
        ]
    )


def weak_keys(config: Config) -> list[Finding]:
    short = sum(len(key) < _SHORT_KEY for key in config.api_keys)
    if not short:
        return []
    text = (
        f"of API_KEYS, {short} of {len(config.api_keys)} are shorter than {_SHORT_KEY} characters, and can be guessed"
    )
    return [warning("keys", text, "make each with: openssl rand -hex 32")]


def misspelt(environ: Mapping[str, str]) -> list[Finding]:
    """
    Variables that nothing reads and that look like a setting that is not set: its default applies, which may be an open
    service. Obvious misspellings are already an error of :class:`config.Config`.
    """
    settings = {name.upper() for name in Config.model_fields}
    absent = sorted(name for name in settings - _COMMON if not environ.get(name, "").strip())
    found = []
    for name in sorted(environ.keys() - settings):
        # Kubernetes adds variables for every service: SD_PORT for one called sd.
        if not environ[name].strip() or re.match(r"(?:tcp|udp)://", environ[name]):
            continue
        if near := next((setting for setting in absent if _is_near(name, setting)), None):
            text = f"{name} is in the environment, but is not a setting; {near} is not set, so its default applies"
            found.append(warning("settings", text, f"call it {near} if that is meant"))
    return found


def _is_near(name: str, setting: str) -> bool:
    given, ours = _plain(name), _plain(setting)
    return any(_alike(one, ours) for one in {given, _PREFIX.sub("", given)}) or (
        # WEBUI_URL for SD_WEBUI_URL; MODEL alone may be anybody's.
        setting.count("_") > 1 and given == _PREFIX.sub("", ours)
    )


def _plain(name: str) -> str:
    """A name without capitals, underscores and plurals."""
    words = re.split(r"[^A-Z0-9]+", name.upper())
    return "".join(re.sub(r"S$", "", re.sub(r"IES$", "Y", word)) for word in words)


def _alike(one: str, other: str) -> bool:
    return abs(len(one) - len(other)) <= 1 and SequenceMatcher(None, one, other).ratio() >= _SIMILAR
