"""Connections that end politely, slowly or not at all hold nobody up."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from api.connection import PAUSE_S
from simulator import Simulator
from tests.hostile.innocent import AT_WORST_S, assert_nothing_noticed, innocent_callers
from tests.hostile.wire import HEALTH, connect, head, is_reset, many, rest_of
from tests.running import DEADLINE_S, PREFIX, Service, running_service, wait_until

#: More than enough: each once stopped its worker for two seconds.
CALLERS = 40

CLOSING = (
    head("GET", HEALTH, "Connection: close"),
    f"GET {HEALTH} HTTP/1.0\r\n\r\n".encode(),
    head("POST", "/nothing", "Content-Length: 1000000"),
    head("POST", "/nothing", "Content-Length: 10"),
    head("POST", "/nothing", "Transfer-Encoding: chunked"),
    b"nonsense\r\n\r\n",
    head("GET", "/openapi.json", "Connection: close"),
)


def test_callers_who_stay_after_they_were_answered(attacked: Service) -> None:
    with ExitStack() as stack:
        for sent in CLOSING:
            stack.enter_context(many(attacked.port, CALLERS, sent))
        with innocent_callers(attacked.root) as calls:
            for kind in calls:
                kind.wait_for(10)
    assert_nothing_noticed(*calls)


def test_they_are_ended_once_they_send_nothing_more(attacked: Service) -> None:
    with many(attacked.port, 2, head("GET", HEALTH, "Connection: close")) as (silent, sending):
        for caller in (silent, sending):
            assert rest_of(caller).startswith(b"HTTP/1.1 200")  # the answer, and that no more is sent
        for _ in range(3):
            time.sleep(PAUSE_S / 2)
            sending.sendall(b"x")  # what was on its way is taken
        silent.sendall(b"x")
        wait_until(lambda: is_reset(silent), "the silent one's connection is closed")


def test_more_connections_than_a_worker_takes(simulator: Simulator, tmp_path: Path) -> None:
    """Those that only wait make room: silent ones shut nobody out."""
    few = {"GUNICORN_CMD_ARGS": "--threads 20 --worker-connections 40"}
    with running_service(tmp_path, simulator.url, workers=1, **few) as service, ExitStack() as stack:
        service.wait_until_answering()
        for sent in (b"", b"GET / HT", CLOSING[0], head("GET", HEALTH)):
            stack.enter_context(many(service.port, 30, sent))
        with innocent_callers(service.root) as calls:
            for kind in calls:
                kind.wait_for(5)
        assert_nothing_noticed(*calls)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *subject, *files], check=True, capture_output=True, timeout=DEADLINE_S
    )
    both = folder / "both.pem"
    both.write_text((folder / "key").read_text() + (folder / "certificate").read_text())
    return both


@pytest.fixture(scope="module")
def over_tls(
    shared_simulator: Simulator, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One worker, gunicorn's own TLS."""
    folder = tmp_path_factory.mktemp("over_tls")
    settings = {"SD_QUEUE_LIMIT": "4", "GUNICORN_CMD_ARGS": f"--certfile {certificate}"}
    with running_service(folder, shared_simulator.url, workers=1, **settings) as service:
        wait_until(lambda: "Listening at" in service.printed, "it listens")
        wait_until(lambda: tls_health(service, certificate) == 200, "it serves")
        yield service
        assert "Traceback" not in service.printed


def tls_health(service: Service, certificate: Path) -> int:
    url = f"https://127.0.0.1:{service.port}{HEALTH}"
    try:
        return requests.get(url, verify=str(certificate), timeout=DEADLINE_S).status_code
    except requests.ConnectionError:
        return 0


def secured(service: Service, certificate: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certificate))
    return context.wrap_socket(connect(service.port), server_hostname="127.0.0.1", suppress_ragged_eofs=False)


def test_tls_says_goodbye_and_waits_for_none(over_tls: Service, certificate: Path) -> None:
    with ExitStack() as stack:
        for _ in range(CALLERS):
            caller = stack.enter_context(secured(over_tls, certificate))
            caller.sendall(head("GET", HEALTH, "Connection: close"))
            assert rest_of(caller).startswith(b"HTTP/1.1 200")  # without its goodbye this is an error
        begun = time.monotonic()
        assert tls_health(over_tls, certificate) == 200
        assert time.monotonic() - begun < AT_WORST_S


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"], ids=["", "half", "no TLS"])
def test_callers_who_never_greet_take_no_thread(over_tls: Service, certificate: Path, sent: bytes) -> None:
    """More than there are threads."""
    with many(over_tls.port, 200, sent):
        begun = time.monotonic()
        assert tls_health(over_tls, certificate) == 200
        assert time.monotonic() - begun < AT_WORST_S


def test_two_requests_in_one_piece_over_tls(over_tls: Service, certificate: Path) -> None:
    with secured(over_tls, certificate) as caller:
        caller.sendall(head("GET", HEALTH) + head("GET", HEALTH, "Connection: close"))
        assert [one[:3] for one in rest_of(caller).split(b"HTTP/1.1 ")[1:]] == [b"200", b"200"]


def test_a_refusal_over_tls(over_tls: Service, certificate: Path) -> None:
    size = 5_000_000
    with secured(over_tls, certificate) as caller:
        caller.sendall(head("POST", f"{PREFIX}/nothing", f"Content-Length: {size}") + b"x" * size)
        assert rest_of(caller).startswith(b"HTTP/1.1 404")
