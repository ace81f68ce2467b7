"""One Idempotency-Key, one picture."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import Answer, problem_of
from tests.api.bad_inputs import FORM, MASK, PNG, VALID, form, part
from tests.conftest import MakeApp
from tests.running import PREFIX, wait_until

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}


@pytest.fixture
def keyed(make_app: MakeApp, simulator: Simulator) -> Iterator[FlaskClient]:
    yield make_app(simulator.url).test_client()
    simulator.clear_faults()


def paint(client: FlaskClient, key: str, route: str = "txt2img", **changes: object) -> Answer:
    body = {**VALID[route], **SMALL, **changes}
    return client.post(f"{PREFIX}/{route}", json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("key", ["k", "!~", "x" * 255, "../../etc/passwd", "0b9f-uuid"])
@pytest.mark.parametrize("changes", [{}, {"batch_size": 2}, {"response_format": "url"}, {"seed": 3}])
def test_the_first_answer_comes_again(
    keyed: FlaskClient, simulator: Simulator, key: str, changes: dict[str, object]
) -> None:
    first, second = (paint(keyed, key, **changes) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    own = {"request_id"}
    bodies = [{name: value for name, value in one.get_json().items() if name not in own} for one in (first, second)]
    assert bodies[0] == bodies[1]
    assert len(simulator.generations) == 1


def test_as_png(keyed: FlaskClient, simulator: Simulator) -> None:
    headers = {"Idempotency-Key": "p", "Accept": "image/png"}
    first, second = (keyed.post(f"{PREFIX}/txt2img", json=SMALL, headers=headers) for _ in range(2))
    assert first.data == second.data
    assert (first.headers["X-Seed"], first.headers["Location"]) == (
        second.headers["X-Seed"],
        second.headers["Location"],
    )
    assert len(simulator.generations) == 1


@pytest.mark.parametrize("changes", [{"prompt": "b"}, {"steps": 2}, {"seed": 1}, {"batch_size": 2}])
def test_another_body_is_refused(keyed: FlaskClient, simulator: Simulator, changes: dict[str, object]) -> None:
    assert paint(keyed, "k").status_code == 200
    problem = problem_of(paint(keyed, "k", **changes))
    assert (problem["status"], problem["code"], problem["retryable"]) == (422, "idempotency_mismatch", False)
    assert paint(keyed, "k").status_code == 200
    assert len(simulator.generations) == 1


def test_another_picture_is_another_body(keyed: FlaskClient) -> None:
    def send(image: bytes) -> Answer:
        body = form(part("prompt", b"a"), part("image", image, "a.png"))
        return keyed.post(f"{PREFIX}/img2img", data=body, content_type=FORM, headers={"Idempotency-Key": "k"})

    assert [send(PNG).status_code for _ in range(2)] == [200, 200]
    assert problem_of(send(MASK))["code"] == "idempotency_mismatch"


def test_a_key_belongs_to_its_route_and_its_caller(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, API_KEYS="one,two").test_client()

    def send(route: str, key: str) -> Answer:
        headers = {"Idempotency-Key": "k", "X-API-Key": key}
        return client.post(f"{PREFIX}/{route}", json={**VALID[route], **SMALL}, headers=headers)

    answers = [send(route, key) for route in VALID for key in ("one", "two")]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert not [answer for answer in answers if "Idempotency-Replayed" in answer.headers]
    assert len(simulator.generations) == 6


def test_on_an_open_service_a_retry_may_come_from_another_address(make_app: MakeApp, simulator: Simulator) -> None:
    """From Wi-Fi to mobile: the connection broke because of that, and the picture must not be painted again."""
    client = make_app(simulator.url, TRUSTED_PROXIES="1").test_client()

    def send(address: str) -> Answer:
        headers = {"Idempotency-Key": "k", "X-Forwarded-For": address}
        return client.post(f"{PREFIX}/txt2img", json={**VALID["txt2img"], **SMALL}, headers=headers)

    answers = [send(address) for address in ("198.51.100.7", "198.51.100.7:50123", "203.0.113.9", "[2001:db8::1]:443")]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true", "true"]
    assert len(simulator.generations) == 1


def test_failed_attempts_are_not_kept(keyed: FlaskClient, simulator: Simulator) -> None:
    simulator.set_fault("oom", times=1)
    assert [paint(keyed, "k").status_code for _ in range(3)] == [503, 200, 200]
    assert paint(keyed, "bad", steps=0).status_code == 422
    assert paint(keyed, "bad", steps=1).status_code == 200


def test_the_second_waits_for_the_first(keyed: FlaskClient, simulator: Simulator) -> None:
    simulator.set_fault("hang-before")
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(paint, keyed.application.test_client(), "k") for _ in range(3)]
        wait_until(lambda: len(simulator.generations) == 1, "the first is painted")
        simulator.clear_faults()
        answers = [job.result() for job in jobs]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.get_json()["image_id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 2
    assert len(simulator.generations) == 1


def test_replays_are_not_counted_against_the_generation_limit(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GENERATION="2/hour").test_client()
    statuses = [paint(client, key).status_code for key in ("a", "a", "a", "b", "a", "c", "b")]
    assert statuses == [200, 200, 200, 200, 200, 429, 200]


def test_a_restart_forgets_nothing(make_app: MakeApp, simulator: Simulator, tmp_path) -> None:
    folder = str(tmp_path / "images")
    answers = [paint(make_app(simulator.url, IMAGE_DIR=folder).test_client(), "k", seed=9) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers.get("Idempotency-Replayed") == "true"
    assert answers[0].get_json()["image_base64"] == answers[1].get_json()["image_base64"]
