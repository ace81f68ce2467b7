"""``python -m doctor``: see ``--help``, and docs/operations.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from config import Config, ConfigError
from doctor import clients, images, nginx, redis_server, settings, timeouts, webuis
from doctor.findings import Finding, as_json, as_text, error, exit_status, ok


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit status: 0 all is well, 1 there are warnings, 2 there are errors."""
    asked = _arguments(arguments)
    try:
        config = Config.from_env(environ)
    except ConfigError as problem:
        _, *problems = str(problem).split("\n  ")
        findings = [error("settings", text, "see docs/configuration.md") for text in problems]
    else:
        findings = [*examine(config), *settings.misspelt(environ), *_of_nginx(asked.nginx, config)]
    sys.stdout.write((as_json if asked.json else as_text)(findings) + "\n")
    return exit_status(findings)


def examine(config: Config) -> list[Finding]:
    """Checks everything that the settings name. Nothing is changed, except by probes that are removed again."""
    server = timeouts.planned(config)
    return [
        ok("settings", f"valid, and consistent with each other: {settings.holds(config, server)}"),
        *settings.weak_keys(config),
        *clients.check(config),
        *webuis.check(config),
        *(redis_server.check(config.redis_url, prefix=config.redis_prefix) if config.redis_url else []),
        *images.check(config),
        *images.check_runtime_folder(config),
        *timeouts.contradictions(config, server),
        *timeouts.per_process(config, server),
        *timeouts.needed(config),
    ]


def _of_nginx(files: Sequence[str], config: Config) -> list[Finding]:
    if not files:
        return []
    try:
        directives = [one for name in files for one in _directives(name)]
    except (OSError, UnicodeDecodeError) as problem:
        return [error("nginx", f"its configuration cannot be read: {problem}", "nginx -T | python -m doctor --nginx -")]
    return nginx.check(directives, config)


def _directives(name: str) -> Iterable[nginx.Directive]:
    return nginx.printed(sys.stdin.read()) if name == "-" else nginx.read(Path(name))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m doctor",
        description="Checks the settings in the environment against WebUIs, Redis, storage and timeouts. "
        "Call it with the service's own environment, as its user.",
        epilog="Exit status: 0 all is well, 1 warnings, 2 errors.",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--nginx",
        nargs="+",
        default=[],
        metavar="FILE",
        help="also check nginx's configuration: its main file, or - for `nginx -T` on standard input",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], os.environ))
