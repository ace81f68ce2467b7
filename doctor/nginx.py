"""nginx' configuration against the service's settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from api.images import SENDFILE_PREFIX
from config import Config
from doctor.findings import Finding, error, ok, warning

_PART = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|(?:\$\{\w+\}|[^\s{};"'#])+""")
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "": 1}
_UNITS_MB = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "": 1 / 1024 / 1024}

#: nginx' own, where nothing is said.
_DEFAULT_READ_TIMEOUT = "60s"
_DEFAULT_BODY_SIZE = "1m"


@dataclass(frozen=True, kw_only=True)
class Directive:
    """``blocks``: the heads of those it is in, outermost first."""

    blocks: tuple[str, ...]
    name: str
    words: tuple[str, ...]


def parse(text: str) -> Iterator[Directive]:
    """Of a configuration, or of several after one another, as ``nginx -T`` prints them; a block counts as one, too."""
    blocks: list[str] = []
    words: list[str] = []
    for part in _PART.findall(text):
        if part == "}":
            del blocks[-1:]
        elif part in ("{", ";"):
            if words:
                yield Directive(blocks=tuple(blocks), name=words[0], words=tuple(words[1:]))
            blocks += [" ".join(words)] if part == "{" else []
            words = []
        elif not part.startswith("#"):
            words.append(part[1:-1] if part[0] in "\"'" else part)


def check(text: str, config: Config, *, keepalive_s: float) -> list[Finding]:
    """
    :param text: all of nginx' configuration.
    :param keepalive_s: after which the service ends an idle connection.
    """
    directives = list(parse(text))
    found = [
        *_of_sizes(directives, config),
        *_of_switches(directives),
        *_of_addresses(directives, config),
        *_of_connections(directives, keepalive_s),
        *_of_images(directives, config),
    ]
    return found or [ok("nginx", "its configuration fits the settings")]


def _of_sizes(directives: Sequence[Directive], config: Config) -> list[Finding]:
    found = []
    longest_s = max(_seconds(word) for word in _values(directives, "proxy_read_timeout") or [_DEFAULT_READ_TIMEOUT])
    if longest_s < config.longest_answer_s:
        text = f"proxy_read_timeout is {longest_s:g} s, but a generation may take {config.longest_answer_s:g} s: a 504"
        found.append(
            error("nginx", text, f"proxy_read_timeout {config.longest_answer_s:g}s; in the generation routes' location")
        )
    largest_mb = max(_megabytes(word) for word in _values(directives, "client_max_body_size") or [_DEFAULT_BODY_SIZE])
    if largest_mb < config.max_body_mb:
        text = f"client_max_body_size is {largest_mb:g} MB, but MAX_BODY_MB is {config.max_body_mb:g}"
        found.append(error("nginx", text, f"client_max_body_size {config.max_body_mb:g}m;"))
    return found


def _of_switches(directives: Sequence[Directive]) -> list[Finding]:
    found = []
    if "non_idempotent" in _values(directives, "proxy_next_upstream"):
        text = "proxy_next_upstream has non_idempotent: a picture whose answer is lost is painted twice"
        found.append(error("nginx", text, "take non_idempotent away"))
    if "on" in _values(directives, "proxy_ignore_client_abort"):
        text = "proxy_ignore_client_abort is on: the jobs of callers who hung up go on"
        found.append(warning("nginx", text, "proxy_ignore_client_abort off;"))
    if "off" in _values(directives, "proxy_request_buffering"):
        text = "proxy_request_buffering is off: slow bodies hold the service's own places for them"
        found.append(warning("nginx", text, "proxy_request_buffering on;"))
    return found


def _of_addresses(directives: Sequence[Directive], config: Config) -> list[Finding]:
    headers = {one.words[0].lower() for one in directives if one.name == "proxy_set_header" and one.words}
    tells = "x-forwarded-for" in headers
    if config.trusted_proxies and not tells:
        text = (
            "TRUSTED_PROXIES is set, but nginx sends no X-Forwarded-For of its own: callers can pretend to be anybody"
        )
        return [error("nginx", text, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;")]
    if tells and not config.trusted_proxies:
        text = "nginx tells the callers' addresses, but TRUSTED_PROXIES is 0: all of them share one rate limit"
        return [warning("nginx", text, "TRUSTED_PROXIES=1, or as many proxies as there are")]
    return []


def _of_connections(directives: Sequence[Directive], keepalive_s: float) -> list[Finding]:
    upstream = [one for one in directives if one.blocks and one.blocks[-1].startswith("upstream ")]
    kept_s = max((_seconds(word) for word in _values(upstream, "keepalive_timeout")), default=60.0)
    if not _values(upstream, "keepalive") or kept_s < keepalive_s:
        return []
    text = (
        f"it keeps idle connections for {kept_s:g} s, the service ends them after {keepalive_s:g} s: a 502 now and then"
    )
    return [warning("nginx", text, "keepalive_timeout 60s; in the upstream")]


def _of_images(directives: Sequence[Directive], config: Config) -> list[Finding]:
    if config.sendfile_header is None:
        return []
    location = f"location {SENDFILE_PREFIX}"
    inside = [one for one in directives if one.blocks and one.blocks[-1] == location]
    if not any(one.name == "internal" for one in inside):
        text = f"SENDFILE_HEADER is set, but nginx has no internal {location}: every image is 404"
        return [error("nginx", text, "take the location over from deploy/nginx/nginx.conf")]
    folder = os.path.abspath(config.image_dir)
    alias = next(iter(_values(inside, "alias")), "")
    if alias.rstrip("/") == folder and alias.endswith("/"):
        return []
    text = f"nginx looks for images in {alias or 'no folder'}, IMAGE_DIR is {folder}/"
    return [warning("nginx", text, f"alias {folder}/; unless nginx sees the same folder under another path")]


def _values(directives: Sequence[Directive], name: str) -> list[str]:
    return [word for one in directives if one.name == name for word in one.words]


def _seconds(text: str) -> float:
    """As nginx writes times: ``90``, ``1m30s``."""
    return sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)(ms|[smhd]?)", text))


def _megabytes(text: str) -> float:
    """As nginx writes sizes; 0 is no limit at all."""
    found = re.fullmatch(r"(\d+)([kmg]?)", text.lower())
    if found is None:
        return 0.0
    return float(found[1]) * _UNITS_MB[found[2]] or float("inf")
