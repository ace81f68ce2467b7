"""How often a caller may call, counted in this process."""

from __future__ import annotations

import re
import time

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import Answer, a1111_failure_of, problem_of
from tests.api.bad_inputs import VALID
from tests.conftest import MakeApp
from tests.running import PREFIX, service_in_process

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1}
OWNERS = {"RATE_LIMIT_GLOBAL": "", "RATE_LIMIT_GENERATION": ""}  # empty is unset: the defaults


def paint(client: FlaskClient, route: str = "txt2img", **headers: str) -> Answer:
    return client.post(f"{PREFIX}/{route}", json={**VALID[route], **BODY}, headers=headers)


def told_limit(answer: Answer) -> tuple[str, str]:
    return answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]


def test_the_owners_defaults(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, **OWNERS).test_client()
    routes = ["txt2img", "img2img", "inpainting"] * 3 + ["txt2img"]
    answers = [paint(client, route) for route in routes]

    assert [answer.status_code for answer in answers] == [200] * 10
    assert [told_limit(answer) for answer in answers] == [("10", str(left)) for left in range(9, -1, -1)]
    for route in VALID:
        refused = paint(client, route)
        problem = problem_of(refused)
        assert (problem["status"], problem["code"], problem["retryable"]) == (429, "rate_limited", True)
        assert problem["detail"] == "more than 10 per 1 minute"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert len(simulator.generations) == 10
    # The 13 so far count against the 50 of all routes together.
    lists = [client.get(f"{PREFIX}/{path}") for path in ["models", "options"] * 18 + ["models"]]
    assert [answer.status_code for answer in lists] == [200] * 37
    assert told_limit(lists[-1]) == ("50", "0")
    refused = client.get(f"{PREFIX}/options")
    assert problem_of(refused)["detail"] == "more than 50 per 1 minute"
    assert told_limit(refused) == ("50", "0")
    assert [client.get(f"{PREFIX}/health/live").status_code for _ in range(60)] == [200] * 60


def test_500_an_hour(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="1000/second;500/hour").test_client()
    assert {client.get(f"{PREFIX}/models").status_code for _ in range(500)} == {200}
    assert problem_of(client.get(f"{PREFIX}/models"))["detail"] == "more than 500 per 1 hour"


def test_what_is_told_of_several_windows(make_app: MakeApp, simulator: Simulator) -> None:
    """The shortest, unless another refuses."""
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="2/hour;5/minute").test_client()
    answers = [client.get(f"{PREFIX}/models") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert [told_limit(answer) for answer in answers] == [("5", "4"), ("5", "3"), ("2", "0"), ("2", "0")]
    assert problem_of(answers[-1])["detail"] == "more than 2 per 1 hour"


def test_a_window_that_is_named_twice_is_one(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="3/hour;3 per 1 hour").test_client()
    assert [client.get(f"{PREFIX}/models").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_refused_requests_do_not_count_against_generation(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GENERATION="2/hour").test_client()
    bad = {"prompt": ""}, {"prompt": "a", "steps": 0}, {"prompt": "a", "model": "none"}, [], {"prompt": "a", "x": 1}
    statuses = [client.post(f"{PREFIX}/txt2img", json=body).status_code for body in bad * 3]
    assert set(statuses) == {422, 400}
    assert [paint(client).status_code for _ in range(3)] == [200, 200, 429]
    assert client.post(f"{PREFIX}/txt2img", json={"prompt": ""}).status_code == 422, "and are told so all the same"


def test_refused_requests_count_against_all(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="3/hour").test_client()
    assert [client.post(f"{PREFIX}/txt2img", json={}).status_code for _ in range(4)] == [422, 422, 422, 429]


def test_a_failed_job_counts(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GENERATION="2/hour").test_client()
    simulator.set_fault("oom", times=1)
    assert [paint(client).status_code for _ in range(3)] == [503, 200, 429]


def test_retry_after_is_true(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GENERATION="1/2 seconds").test_client()
    assert paint(client).status_code == 200
    refused = paint(client)
    assert refused.status_code == 429
    wait_s = int(refused.headers["Retry-After"])
    assert 1 <= wait_s <= 2
    assert abs(int(refused.headers["X-RateLimit-Reset"]) - time.time()) <= wait_s + 1
    time.sleep(wait_s)
    assert paint(client).status_code == 200


def test_retry_after_comes_with_refusals_only(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url).test_client()
    for answer in (paint(client), client.get(f"{PREFIX}/models"), client.post(f"{PREFIX}/txt2img", json={})):
        assert "Retry-After" not in answer.headers
        assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= set(answer.headers.keys())
    assert "X-RateLimit-Limit" not in client.get(f"{PREFIX}/health").headers


def test_each_key_has_its_own_count(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(
        simulator.url, API_KEYS="one,two", RATE_LIMIT_GENERATION="1/hour", RATE_LIMIT_GLOBAL="5/hour"
    ).test_client()
    assert [paint(client, **{"X-API-Key": "one"}).status_code for _ in range(2)] == [200, 429]
    assert [paint(client, Authorization="Bearer two").status_code for _ in range(2)] == [200, 429]
    # Guessed keys are counted by address: another guess is no new caller.
    guesses = [client.get(f"{PREFIX}/models", headers={"X-API-Key": f"guess{n}"}).status_code for n in range(7)]
    assert guesses == [401] * 5 + [429] * 2
    assert client.get(f"{PREFIX}/models", headers={"X-API-Key": "one"}).status_code == 200


def test_what_leads_nowhere_counts(make_app: MakeApp, simulator: Simulator) -> None:
    """Unknown paths, methods that no route has, and redirects: each would be free, as often as one likes."""
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="4/hour").test_client()
    calls = [("GET", "/nowhere"), ("PUT", f"{PREFIX}/txt2img"), ("POST", f"{PREFIX}/health"), ("GET", "/.env")]
    assert [client.open(path, method=method).status_code for method, path in calls] == [404, 405, 405, 404]
    refused = [client.open(path, method=method) for method, path in calls]
    assert [problem_of(answer)["code"] for answer in refused] == ["rate_limited"] * 4
    assert client.get(f"{PREFIX}/models").status_code == 429
    for path in (f"{PREFIX}/health/live", "/metrics", "/openapi.json", "/docs/errors", "/"):
        assert client.get(path).status_code == 200, path


def test_keys_cannot_be_tried_at_paths_that_do_not_exist(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, API_KEYS="right,other", RATE_LIMIT_GLOBAL="5/hour").test_client()

    def tried(key: str, path: str = "/nowhere", method: str = "GET") -> int:
        return client.open(path, method=method, headers={"X-API-Key": key}).status_code

    assert [tried(f"guess{n}") for n in range(7)] == [401] * 5 + [429] * 2
    assert tried("guess", f"{PREFIX}/models") == tried("guess", f"{PREFIX}/txt2img", "PUT") == 429
    assert [tried("right") for _ in range(6)] == [404] * 5 + [429], "a right one has its own count"
    assert {tried("guess", "/nowhere", "OPTIONS"), tried("other", "/nowhere", "OPTIONS")} == {404}, "tells nothing"


def test_images_have_a_limit_of_their_own_where_it_is_set(make_app: MakeApp, simulator: Simulator) -> None:
    """A page of thumbnails is many calls at once."""
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="3/hour", RATE_LIMIT_IMAGES="60/minute;61/hour").test_client()
    url = paint(client).get_json()["image_url"]
    answers = [client.get(f"{url}?width=64&format=webp", buffered=True) for _ in range(59)]
    assert {answer.status_code for answer in answers} == {200}
    assert told_limit(answers[-1]) == ("60", "1")
    assert client.head(url, buffered=True).status_code == 200
    refused = client.get(url)
    assert problem_of(refused)["detail"] == "more than 60 per 1 minute"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    others = [client.get(f"{PREFIX}/models"), client.delete(url), client.get(f"{PREFIX}/models")]
    assert [answer.status_code for answer in others] == [200, 403, 429], "which images take nothing from, nor give to"
    assert client.get(f"{PREFIX}/image/x").status_code == 429


def test_images_count_with_everything_else_by_default(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="3/hour").test_client()
    url = paint(client).get_json()["image_url"]
    assert [client.get(url, buffered=True).status_code for _ in range(3)] == [200, 200, 429]


#: Every endpoint, and whether the limit over all routes counts it. A new one must be decided on here.
COUNTED = {
    "generation.txt2img": True,
    "generation.img2img": True,
    "generation.inpainting": True,
    "generation.upscale": True,
    "images.get_image": True,
    "images.delete_image": True,
    "models.get_models": True,
    "requests.get_request": True,
    "requests.cancel_request": True,
    "models.get_options": True,
    "openai_images.create_image": True,
    "openai_images.edit_image": True,
    "openai_models.list_models": True,
    "openai_models.get_model": True,
    "health.get_health": False,
    "health.get_live": False,
    "metrics.get_metrics": False,
    "pages.get_description": False,
    "pages.get_docs": False,
    "pages.get_docs_folder": False,
    "pages.get_errors": False,
    "pages.get_docs_file": False,
    "pages.get_studio": False,
    "pages.get_studio_file": False,
    "a1111.txt2img": True,
    "a1111.img2img": True,
    "a1111.extra_single_image": True,
    **dict.fromkeys(
        (
            f"a1111_state.{view}"
            for view in (
                *("get_options", "set_options", "get_models", "get_samplers", "get_schedulers", "get_loras"),
                *("get_upscalers", "get_latent_upscalers"),
                *("get_embeddings", "get_scripts", "get_flags", "get_nothing", "refresh", "read_png"),
            )
        ),
        True,
    ),
    "a1111_jobs.get_progress": False,
    "a1111_jobs.interrupt": False,
}


@pytest.fixture(scope="module")
def one_an_hour(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("one")
    with service_in_process(folder, shared_simulator.url, RATE_LIMIT_GLOBAL="1/hour") as app:
        yield app


def test_every_endpoint_is_decided_on(one_an_hour) -> None:
    assert {rule.endpoint for rule in one_an_hour.url_map.iter_rules()} == COUNTED.keys()


@pytest.mark.parametrize("endpoint", sorted(COUNTED))
def test_every_endpoint_is_limited_or_not(one_an_hour, endpoint: str) -> None:
    rule, *_ = one_an_hour.url_map.iter_rules(endpoint)
    (method,) = rule.methods - {"HEAD", "OPTIONS"}
    client = one_an_hour.test_client()
    caller = {"REMOTE_ADDR": f"10.0.0.{sorted(COUNTED).index(endpoint)}"}
    path = re.sub("<[a-z_:]+>", "x", rule.rule)
    answers = [client.open(path, method=method, environ_base=caller) for _ in range(2)]

    assert answers[0].status_code != 429
    assert (answers[1].status_code == 429) == COUNTED[endpoint]
    for answer in answers:
        if answer.status_code >= 400 and endpoint != "health.get_health" and not rule.rule.startswith("/v1/"):
            (a1111_failure_of if endpoint.startswith("a1111") else problem_of)(answer)
