import json
import socket
import threading
import time

import pytest
import requests

from simulator import Fault, FaultError, Simulator
from simulator.faults import fault_of, parse_fault
from tests.simulator.pixels import opened, until

SMALL = {"prompt": "a secret", "steps": 1, "width": 64, "height": 64, "seed": 1}


def post(api, **body) -> requests.Response:
    # Not the session: each on a new connection.
    return requests.post(f"{api.sim.url}/sdapi/v1/txt2img", json={**SMALL, **body}, timeout=20)


def connected(api) -> socket.socket:
    host, port = api.sim.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def first_byte(api) -> bytes:
    """Connect, ask for nothing, and wait."""
    with connected(api) as sock:
        return sock.recv(1)


def asked_on(sock: socket.socket) -> bytes:
    """Ask, and read until the other side closes."""
    sock.sendall(request_bytes())
    answer = b""
    while part := sock.recv(1000):
        answer += part
    return answer


def request_bytes() -> bytes:
    body = json.dumps(SMALL).encode()
    return b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("kind", ["refuse", "reset-before", "reset-after"])
def test_a_reset_is_seen_as_a_reset(api, kind):
    api.sim.set_fault(kind)
    with connected(api) as sock, pytest.raises(ConnectionError):
        asked_on(sock)
    assert [bool(one.body) for one in api.sim.generations] == ([] if kind == "refuse" else [kind == "reset-after"])
    with pytest.raises(requests.ConnectionError):
        post(api)
    assert api.get("progress").status_code == 200


def test_refusing_everything_needs_no_request(start):
    api = start(faults=(Fault(kind="refuse", route="*", times=1),))
    with pytest.raises(ConnectionResetError):
        first_byte(api)
    assert post(api).status_code == 200


def test_hanging_before_the_answer_lasts_until_the_faults_are_cleared(api):
    api.sim.set_fault("hang-before")
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{api.sim.url}/sdapi/v1/txt2img", json=SMALL, timeout=0.1)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(post(api)))
    thread.start()
    until(lambda: len(api.sim.generations) == 2, "it has come")
    assert not answers
    api.sim.clear_faults()
    thread.join()
    assert answers[0].status_code == 200


@pytest.mark.parametrize("kind", ["hang-middle", "cut", "drip"])
def test_an_answer_that_breaks_off(api, kind):
    api.sim.set_fault(kind)
    with connected(api) as sock, sock.makefile("rb") as reader:
        sock.sendall(request_bytes())
        while (line := reader.readline()) != b"\r\n":
            if line.startswith(b"content-length"):
                length = int(line.split()[1])
        began = reader.read(2)
        assert began == b'{"'
        if kind != "cut":
            api.sim.clear_faults()
        rest = reader.read()
        assert len(began + rest) < length
        if kind != "drip":
            assert len(began + rest) == length // 2


def test_hanging_ends_with_the_client_or_the_simulator(start):
    api = start()
    for kind in ("hang-before", "hang-middle", "drip"):
        api.sim.set_fault(kind, times=1)
    for _ in range(3):
        with connected(api) as sock:
            sock.sendall(request_bytes())
    until(lambda: len(api.sim.generations) == 3, "all have come")
    until(lambda: all(one.finished for one in api.sim.generations), "nobody hangs any longer")
    api.sim.set_fault("hang-before")
    with connected(api) as sock:
        sock.sendall(request_bytes())
        until(lambda: len(api.sim.generations) == 4, "it has come")
        api.sim.close()


def test_slow(api):
    api.sim.set_fault("slow", seconds=0.2)
    started = time.monotonic()
    assert post(api).status_code == 200
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    ("kind", "status", "part"),
    [
        ("garbage", 200, "<html>"),
        ("not-json", 200, '{"images":["iVBORw0KGgo'),
        (
            "oom",
            500,
            '"error":"OutOfMemoryError","detail":"","body":"","errors":"CUDA out of memory. Tried to allocate',
        ),
        ("nan", 500, '"error":"NansException"'),
        ("load-failed", 500, "'NoneType' object has no attribute 'lowvram'"),
        ("error-plain", 500, "Internal Server Error"),
        ("error-json", 500, "/opt/stable-diffusion-webui/modules/processing.py: a secret"),
        ("busy", 503, '"type":"service_unavailable"'),
        ("rate-limited", 429, "rate limit"),
        ("unauthorized", 401, '"detail":"Not authenticated"'),
        ("disabled", 404, '{"detail":"Not Found"}'),
    ],
)
def test_other_answers(api, kind, status, part):
    api.sim.set_fault(kind)
    response = post(api)
    assert (response.status_code, part in response.text) == (status, True)
    assert response.headers["server"] == "uvicorn"


def answer(api, kind: str, **body) -> dict:
    api.sim.set_fault(kind, times=1)
    response = post(api, **body)
    assert response.status_code == 200
    assert "x-process-time" in response.headers
    return response.json()


def test_spoilt_images(api):
    with pytest.raises(ValueError, match="base64"):
        opened(answer(api, "not-base64")["images"][0])
    with pytest.raises(OSError, match="identify"):
        opened(answer(api, "not-picture")["images"][0])
    assert answer(api, "empty-images")["images"] == []
    assert len(answer(api, "too-few", batch_size=3)["images"]) == 2
    assert opened(answer(api, "wrong-size")["images"][0]).size == (40, 32)
    assert opened(answer(api, "jpeg")["images"][0]).format == "JPEG"
    assert opened(answer(api, "webp")["images"][0]).format == "WEBP"


def test_spoilt_info(api):
    assert "info" not in answer(api, "no-info")
    assert answer(api, "empty-info")["info"] == ""
    good = post(api).json()
    wrong = answer(api, "wrong-model")
    info = json.loads(wrong["info"])
    assert (info["sd_model_name"], info["sd_model_hash"]) == ("another-model", "0123456789")
    assert "Model hash: 0123456789, Model: another-model" in info["infotexts"][0]
    assert wrong["images"] != good["images"]
    assert json.loads(answer(api, "wrong-sampler")["info"])["sampler_name"] == "PLMS"


def test_a_fault_strikes_so_many_times_and_then_the_next(api):
    api.sim.set_fault("oom", times=2)
    api.sim.set_fault("busy", times=1)
    assert [post(api).status_code for _ in range(4)] == [500, 500, 503, 200]


def test_a_fault_strikes_its_route_only(api):
    api.sim.set_fault("busy:route=sd-models")
    assert api.get("sd-models").status_code == 503
    assert api.get("options").status_code == 200
    assert post(api).status_code == 200
    api.sim.clear_faults()
    api.sim.set_fault(Fault(kind="busy", route="*"))
    assert api.get("options").status_code == 503
    assert requests.get(f"{api.sim.url}/internal/ping", timeout=20).status_code == 503


@pytest.mark.parametrize(
    "spec",
    [
        *("", "nope", "oom:times", "oom:times=x", "oom:times=0", "slow:seconds=-1", "oom:when=now", "oom:route"),
        *("oom:of=3", "oom:times=3:of=3", "oom:times=1:of=x"),
    ],
)
def test_a_bad_specification_is_refused(spec):
    with pytest.raises(FaultError):
        parse_fault(spec)


def test_specifications():
    spec = "slow:route=img2img:times=3:of=5:seconds=1.5"
    assert parse_fault(spec) == Fault(kind="slow", route="img2img", times=3, of=5, seconds=1.5)
    assert fault_of({"kind": "cut", "times": 2}) == Fault(kind="cut", times=2)


def test_some_of_every_so_many(api):
    api.sim.set_fault("oom:times=2:of=3")
    assert [post(api).status_code for _ in range(7)] == [500, 500, 200, 500, 500, 200, 500]


def test_control_over_http(api):
    url = f"{api.sim.url}/simulator"
    assert requests.post(f"{url}/faults", json={"kind": "oom", "times": 1}, timeout=20).json() == [
        {"kind": "oom", "route": None, "times": 1, "of": None, "seconds": None}
    ]
    assert requests.post(f"{url}/faults", json=[{"kind": "busy"}, {"kind": "cut"}], timeout=20).status_code == 200
    assert post(api).status_code == 500
    state = requests.get(f"{url}/state", timeout=20).json()
    assert [fault["kind"] for fault in state["faults"]] == ["busy", "cut"]
    assert (state["flavour"], state["generations"], state["most_concurrent"]) == ("a1111", 1, 1)
    requests.delete(f"{url}/faults", timeout=20)
    post(api, prompt="x" * 9000)
    shown = requests.get(f"{url}/requests", timeout=20).json()
    assert [one["route"] for one in shown] == ["txt2img", "txt2img"]
    assert shown[1]["body"].startswith('{"prompt": "xxx')
    assert len(shown[1]["body"]) == 2000
    requests.delete(f"{url}/requests", timeout=20)
    assert api.sim.requests == []


@pytest.mark.parametrize("body", ["{", "5", '{"kind":"nope"}', '{"route":"x"}', '[{"kind":"oom","times":"x"}]'])
def test_a_bad_fault_over_http_is_refused(api, body):
    response = requests.post(f"{api.sim.url}/simulator/faults", data=body, timeout=20)
    assert (response.status_code, "error" in response.json()) == (400, True)
    assert requests.get(f"{api.sim.url}/simulator/faults", timeout=20).json() == []
    response = requests.get(f"{api.sim.url}/simulator/nope", timeout=20)
    assert (response.status_code, "POST /simulator/faults" in response.json()["error"]) == (404, True)


@pytest.mark.parametrize("flavour", ["forge", "sdnext", "sdcpp"])
def test_every_flavour_fails_in_its_own_shape(flavour):
    with Simulator(flavour=flavour) as sim:
        for kind in ("oom", "unauthorized", "too-few", "wrong-size", "empty-info", "wrong-model"):
            sim.set_fault(kind, times=1)
        answers = [
            requests.post(f"{sim.url}/sdapi/v1/txt2img", json={**SMALL, "batch_size": 2}, timeout=20) for _ in range(7)
        ]
    assert [one.status_code for one in answers] == [500, 401, 200, 200, 200, 200, 200]
    assert "CUDA out of memory" in answers[0].text
    assert len(answers[2].json()["images"]) == 1
    assert len(answers[6].json()["images"]) == 2
