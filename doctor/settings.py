"""What the settings mean together, and which variables of the environment may be meant as settings."""

from __future__ import annotations

import re
from collections.abc import Mapping

from config import Config
from doctor.findings import Finding, warning
from doctor.timeouts import Server

#: Of names shorter than this another letter makes another word: they must be the same.
_LONG = 7
#: What people put before the names of all settings of one program.
_PREFIX = re.compile(r"^(?:STABLEDIFFUSION|SD)(?:API(?!KEY))?")
#: Too common to be taken for ours in whatever spelling: some shells set them.
_COMMON = frozenset({"HOST", "PORT"})
#: An API key that can be found by trying: 16 characters of hexadecimal are 64 bits.
_SHORT_KEY = 16


def holds(config: Config, server: Server) -> str:
    """One line about what holds now, for whoever starts the service; with nothing secret and no address in it."""
    keys = f"API keys: {len(config.api_keys)}" if config.api_keys else "open to every caller, for API_KEYS is not set"
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
    Variables that are read by nobody and look like a setting that is not there: its default holds, which may be an open
    service. Those of which there is no doubt are an error of :class:`config.Config` already.
    """
    settings = {name.upper() for name in Config.model_fields}
    absent = sorted(name for name in settings - _COMMON if not environ.get(name, "").strip())
    found = []
    for name in sorted(environ.keys() - settings):
        # Kubernetes tells of every service, such as one called sd, by variables like SD_PORT.
        if not environ[name].strip() or re.match(r"(?:tcp|udp)://", environ[name]):
            continue
        if near := next((setting for setting in absent if _is_near(name, setting)), None):
            text = f"{name} is in the environment, which no setting is called; {near} is not set, and its default holds"
            found.append(warning("settings", text, f"call it {near} if that is meant"))
    return found


def _is_near(name: str, setting: str) -> bool:
    given, ours = _plain(name), _plain(setting)
    return any(_alike(one, ours) for one in {given, _PREFIX.sub("", given)}) or (
        # WEBUI_URL for SD_WEBUI_URL; MODEL alone may be anybody's.
        setting.count("_") > 1 and given == _PREFIX.sub("", ours)
    )


def _plain(name: str) -> str:
    """Without what is often another in a name: capitals, underscores, plurals."""
    words = re.split(r"[^A-Z0-9]+", name.upper())
    return "".join(re.sub(r"S$", "", re.sub(r"IES$", "Y", word)) for word in words)


def _alike(one: str, other: str) -> bool:
    """The same but for one letter that is missing, too many, another, or in its neighbour's place."""
    if one == other:
        return True
    if len(other) < _LONG or abs(len(one) - len(other)) > 1:
        return False
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest, other_rest = one[start:], other[start:]
    swapped = rest[1::-1] + rest[2:]
    return other_rest in (rest[1:], swapped) or rest == other_rest[1:] or rest[1:] == other_rest[1:]
