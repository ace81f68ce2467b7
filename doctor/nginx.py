"""nginx's configuration against the service's settings."""

from __future__ import annotations

import errno
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from api.images import SENDFILE_PREFIX
from config import Config
from doctor.findings import Finding, error, ok, warning

_PART = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|(?:\$\{\w+\}|[^\s{};"'#])+""")
_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_UNITS_MB = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "": 1 / 1024 / 1024}
_TIME = re.compile(r"(\d+)(ms|[smhd]?)\s*")
_SIZE = re.compile(r"(\d+)([kmg]?)", re.IGNORECASE)

#: nginx's own defaults.
_DEFAULT_READ_TIMEOUT = "60s"
_DEFAULT_BODY_SIZE = "1m"

#: Written by ``nginx -T`` before each file; those that are included are all there.
_PRINTED = "# configuration file "
#: Files of nginx's packages, which hold nothing that is checked here.
_OF_NGINX_ITSELF = re.compile(r"(?:.*/)?(?:mime\.types|\w+_params|modules-enabled/\*\.conf)")
_LOCATION = re.compile(rf"location (?:\^~ )?{re.escape(SENDFILE_PREFIX)}")


@dataclass(frozen=True, kw_only=True)
class Directive:
    """``blocks``: the heads of the enclosing blocks, outermost first."""

    blocks: tuple[str, ...]
    name: str
    words: tuple[str, ...]


def read(path: Path, includers: Sequence[Path] = (), within: Sequence[str] = ()) -> Iterator[Directive]:
    """
    The directives of a file, with those of included files in place; an ``include`` of a missing file is kept.

    :param includers: the files that include it, the main file first, whose folder relative names start from.
    :raises OSError: a file cannot be read, or includes itself.
    :raises UnicodeDecodeError: a file is not text.
    """
    if path in includers:
        raise OSError(errno.ELOOP, "it includes itself", str(path))
    includers = (*includers, path)
    folder = includers[0].parent
    for one in parse(path.read_text(encoding="utf-8"), within):
        pattern = one.words[0] if one.name == "include" and one.words else ""
        found = sorted(glob.glob(str(folder / pattern))) if pattern else []
        if not found and not (pattern and glob.has_magic(pattern)):
            yield one
        for included in found:
            yield from read(Path(included), includers, one.blocks)


def printed(text: str) -> list[Directive]:
    """The directives that ``nginx -T`` printed; in any other text an ``include`` is kept."""
    return [one for one in parse(text) if one.name != "include" or _PRINTED not in text]


def parse(text: str, within: Sequence[str] = ()) -> Iterator[Directive]:
    """The directives of a text; a block counts as one as well."""
    blocks = list(within)
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


def check(directives: Sequence[Directive], config: Config) -> list[Finding]:
    """:param directives: nginx's whole configuration."""
    missing = _of_includes(directives)
    found = [*missing, *_of_retries(directives)]
    if not missing:  # else they may be in a file that is not here
        found += [
            *_of_read_timeout(directives, config),
            *_of_body_size(directives, config),
            *_of_addresses(directives, config),
            *_of_images(directives, config),
        ]
    return found or [ok("nginx", "its configuration fits the settings")]


def _of_includes(directives: Sequence[Directive]) -> list[Finding]:
    missing = [name for name in _values(directives, "include") if not _OF_NGINX_ITSELF.fullmatch(name)]
    if not missing:
        return []
    text = f"it includes {', '.join(dict.fromkeys(missing))}, which is not here: its contents are unknown"
    return [warning("nginx", text, "nginx -T | python -m doctor --nginx - on the machine where it runs")]


def _of_read_timeout(directives: Sequence[Directive], config: Config) -> list[Finding]:
    longest_s, unreadable = _largest(directives, "proxy_read_timeout", _seconds, _DEFAULT_READ_TIMEOUT)
    if unreadable or longest_s >= config.longest_answer_s:
        return unreadable
    text = f"proxy_read_timeout is {longest_s:g} s, but a generation may take {config.longest_answer_s:g} s: a 504"
    return [
        error("nginx", text, f"proxy_read_timeout {config.longest_answer_s:g}s; in the generation routes' location")
    ]


def _of_body_size(directives: Sequence[Directive], config: Config) -> list[Finding]:
    largest_mb, unreadable = _largest(directives, "client_max_body_size", _megabytes, _DEFAULT_BODY_SIZE)
    if unreadable or largest_mb >= config.max_body_mb:
        return unreadable
    text = f"client_max_body_size is {largest_mb:g} MB, but MAX_BODY_MB is {config.max_body_mb:g}"
    return [error("nginx", text, f"client_max_body_size {config.max_body_mb:g}m;")]


def _of_retries(directives: Sequence[Directive]) -> list[Finding]:
    if "non_idempotent" not in _values(directives, "proxy_next_upstream"):
        return []
    text = "proxy_next_upstream has non_idempotent: a picture whose answer is lost is painted twice"
    return [error("nginx", text, "remove non_idempotent")]


def _of_addresses(directives: Sequence[Directive], config: Config) -> list[Finding]:
    headers = {one.words[0].lower() for one in directives if one.name == "proxy_set_header" and one.words}
    tells = "x-forwarded-for" in headers
    if config.trusted_proxies and not tells:
        text = "TRUSTED_PROXIES is set, but nginx sets no X-Forwarded-For: callers can pretend to be anybody"
        return [error("nginx", text, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;")]
    if tells and not config.trusted_proxies:
        text = "nginx forwards the callers' addresses, but TRUSTED_PROXIES is 0: all of them share one rate limit"
        return [warning("nginx", text, "TRUSTED_PROXIES=1, or as many proxies as there are")]
    return []


def _of_images(directives: Sequence[Directive], config: Config) -> list[Finding]:
    if config.sendfile_header is None:
        return []
    location = f"location {SENDFILE_PREFIX}"
    inside = [one for one in directives if one.blocks and _LOCATION.fullmatch(one.blocks[-1])]
    if not any(one.name == "internal" for one in inside):
        text = f"SENDFILE_HEADER is set, but nginx has no internal {location}: every image is 404"
        return [error("nginx", text, "copy the location from deploy/nginx/nginx.conf")]
    folder = os.path.abspath(config.image_dir)
    alias = next(iter(_values(inside, "alias")), "")
    if alias.rstrip("/") == folder and alias.endswith("/"):
        return []
    text = f"nginx looks for images in {alias or 'no folder'}, IMAGE_DIR is {folder}/"
    return [warning("nginx", text, f"alias {folder}/; unless nginx sees the same folder under another path")]


def _values(directives: Sequence[Directive], name: str) -> list[str]:
    return [word for one in directives if one.name == name for word in one.words]


def _largest(
    directives: Sequence[Directive], name: str, measure: Callable[[str], float | None], default: str
) -> tuple[float, list[Finding]]:
    """The largest value, and findings about those that cannot be measured: a variable, an unknown unit."""
    measured = {word: measure(word) for word in _values(directives, name) or [default]}
    unreadable = [word for word, value in measured.items() if value is None]
    found = [
        warning("nginx", f"{name} {word} cannot be read here", "write it as a number with its unit")
        for word in unreadable
    ]
    return max((value for value in measured.values() if value is not None), default=0.0), found


def _seconds(text: str) -> float | None:
    """As nginx writes times: ``90``, ``1m30s``, ``"1m 30s"``; None for anything else."""
    if not text or _TIME.sub("", text):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _TIME.findall(text))


def _megabytes(text: str) -> float | None:
    """As nginx writes sizes, 0 being no limit at all; None for anything else."""
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    return float(found[1]) * _UNITS_MB[found[2].lower()] or float("inf")
