"""Programs that people use, as they are, against the service: what they paint, and what they say when it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from simulator import Simulator
from tests.clients.conftest import KEYS, SIZE, Edit, generations, model_of, opened
from tests.clients.programs import A1111, LANGCHAIN, OPENAI, WEBUIAPI, Program, Running
from tests.running import DEADLINE_S, Service, free_port, running_service, wait_until

Start = Callable[[Program], Running]

ALL = [*OPENAI, *A1111]
FULL = [program for program in ALL if not program.plain]
#: Version 1 of the package knows no streams of images.
STREAMING = [program for program in OPENAI if program.name in ("openai-newest", "openai-2", "openai")]


@dataclass(frozen=True)
class Painting:
    """What some WebUIs were asked to paint."""

    webuis: Sequence[Simulator]

    @property
    def jobs(self) -> int:
        return sum(len(webui.generations) for webui in self.webuis)


def named(programs: list[Program]) -> Any:
    """With this scope pytest brings a program's tests together, and with them the processes that run them."""
    each = [pytest.param(program, id=program.name) for program in programs]
    return pytest.mark.parametrize("program", each, scope="session")


def where(service: Service, program: Program) -> dict[str, Any]:
    return {"root": service.root, "key": program.key}


@pytest.fixture
def open_to(program: Program, service: Service, guarded: Service) -> Service:
    """The service with keys; for what has no field for one, the one without."""
    return service if program.plain else guarded


@named(ALL)
def test_one_picture_and_two(program: Program, client: Running, open_to: Service) -> None:
    generate = {"do": "generate", **where(open_to, program)}
    one, two = client.ask(generate), client.ask({**generate, "n": 2})
    for outcome, number in ((one, 1), (two, 2)):
        pictures = [opened(encoded) for encoded in outcome["pictures"]]
        assert [picture.size for picture in pictures] == [(SIZE, SIZE)] * number
    assert len(set(two["pictures"])) == 2


@named(STREAMING)
def test_a_stream(program: Program, client: Running, guarded: Service) -> None:
    outcome = client.ask({"do": "stream", **where(guarded, program), "n": 2})
    assert outcome["events"] == ["image_generation.completed"] * 2
    assert [opened(encoded).size for encoded in outcome["pictures"]] == [(SIZE, SIZE)] * 2


@named(FULL)
def test_an_edit_keeps_what_the_mask_keeps(program: Program, client: Running, guarded: Service, edited: Edit) -> None:
    mask = edited.transparent if program in OPENAI else edited.white
    files = {"image": str(edited.image), "mask": str(mask)}
    outcome = client.ask({"do": "edit", **where(guarded, program), **files})
    (picture,) = [opened(encoded) for encoded in outcome["pictures"]]
    assert edited.is_kept(picture)
    assert edited.is_painted(picture)


@named(ALL)
def test_a_refusal_is_one_attempt_and_its_sentence_arrives(program: Program, client: Running, open_to: Service) -> None:
    since = len(open_to.printed)
    refused = client.ask({"do": "generate", **where(open_to, program), "size": "20x256"})
    field = "size" if program in OPENAI else "width"
    assert generations(open_to, since=since) == [400 if program in OPENAI else 422]
    if program.tells:
        said = refused.get("said") or refused["error"]
        assert field in said
        assert "20" in said


@named(FULL)
def test_a_wrong_key_is_one_attempt_and_its_sentence_arrives(
    program: Program, client: Running, guarded: Service
) -> None:
    since = len(guarded.printed)
    refused = client.ask({"do": "generate", "root": guarded.root, "key": "another-key"})
    assert generations(guarded, since=since) == [401]
    assert "key" in (refused.get("said") or refused["error"])


@pytest.fixture(scope="module")
def brief(service_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One generation in six seconds for each caller, of the service's one process."""
    limit = {"RATE_LIMIT_GENERATION": "1/6second"}
    folder = tmp_path_factory.mktemp("brief")
    with running_service(folder, service_simulator.url, workers=1, **KEYS, **limit) as service:
        service.wait_until_answering()
        yield service


@named(FULL)
def test_a_short_limit_is_waited_for(program: Program, client: Running, brief: Service) -> None:
    """By programs that try again; the others say when they may."""
    since = len(brief.printed)
    generate = {"do": "generate", **where(brief, program)}
    first, second = client.ask(generate), client.ask(generate)
    assert len(first["pictures"]) == 1
    if program.attempts > 1:
        assert generations(brief, since=since) == [200, 429, 200]
        assert len(second["pictures"]) == 1
    else:
        assert generations(brief, since=since) == [200, 429]
        assert "again" in (second.get("said") or second["error"])


@pytest.fixture(scope="module")
def hourly(service_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One generation in an hour for each caller."""
    limit = {"RATE_LIMIT_GENERATION": "1/hour"}
    folder = tmp_path_factory.mktemp("hourly")
    with running_service(folder, service_simulator.url, workers=1, **KEYS, **limit) as service:
        service.wait_until_answering()
        yield service


@named(FULL)
def test_nobody_waits_for_an_hour(program: Program, client: Running, hourly: Service) -> None:
    since = len(hourly.printed)
    generate = {"do": "generate", **where(hourly, program)}
    _, refused = client.ask(generate), client.ask(generate)
    assert generations(hourly, since=since) == [200] + [429] * (1 if program.obeys else program.attempts)
    assert "1 per 1 hour" in (refused.get("said") or refused["error"])


@pytest.fixture(scope="module")
def without_webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    nobody = f"http://127.0.0.1:{free_port()}"
    with running_service(tmp_path_factory.mktemp("without"), nobody, workers=1, **KEYS) as service:
        service.wait_until_answering(503)
        yield service


@named(FULL)
def test_attempts_without_a_webui(program: Program, client: Running, without_webui: Service) -> None:
    since = len(without_webui.printed)
    refused = client.ask({"do": "generate", **where(without_webui, program)})
    assert generations(without_webui, since=since) == [503] * program.attempts
    assert "WebUI" in (refused.get("said") or refused["error"])


@pytest.fixture(scope="module")
def slow_webuis() -> Iterator[list[Simulator]]:
    """Two, so that two callers' jobs run at the same time: a step takes a fifth of a second."""
    with Simulator(step_time=0.2) as first, Simulator(step_time=0.2) as second:
        yield [first, second]


@pytest.fixture(scope="module")
def slow(slow_webuis: list[Simulator], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    urls = ",".join(webui.url for webui in slow_webuis)
    with running_service(tmp_path_factory.mktemp("slow"), urls, **KEYS) as service:
        service.wait_until_answering()
        yield service


@pytest.fixture
def painting(slow_webuis: list[Simulator]) -> Painting:
    for webui in slow_webuis:
        webui.forget_requests()
    return Painting(slow_webuis)


@named([program for program in ALL if program.sends_headers])
def test_a_cancelled_job_is_painted_once(program: Program, client: Running, slow: Service, painting: Painting) -> None:
    """Whatever the program does about it."""
    name = f"of-{program.name}"
    long = {"do": "generate", **where(slow, program), "size": "512x512", "steps": 150, "request_id": name}
    client.send(long)
    wait_until(lambda: painting.jobs == 1, "a WebUI paints")
    since = len(slow.printed)
    key = {"X-API-Key": program.key}
    assert requests.delete(f"{slow.url}/requests/{name}", headers=key, timeout=DEADLINE_S).ok
    refused = client.receive()
    assert "cancelled" in (refused.get("said") or refused["error"])
    assert generations(slow, since=since) == [400 if program in OPENAI else 409]
    assert painting.jobs == 1


@named(STREAMING)
def test_a_stream_whose_job_is_cancelled_says_so(
    program: Program, client: Running, slow: Service, painting: Painting
) -> None:
    name = f"stream-of-{program.name}"
    client.send({"do": "stream", **where(slow, program), "steps": 150, "request_id": name})
    wait_until(lambda: painting.jobs == 1, "a WebUI paints")
    key = {"X-API-Key": program.key}
    assert requests.delete(f"{slow.url}/requests/{name}", headers=key, timeout=DEADLINE_S).ok
    assert "cancelled" in client.receive()["error"]
    assert painting.jobs == 1


def test_two_callers_choose_models_at_the_same_time_and_each_gets_its_own(
    start: Start, guarded: Service, service_simulator: Simulator
) -> None:
    service_simulator.forget_requests()
    models = {"ann": "dreamshaper_8", "bob": "sd_xl_base_1.0"}
    callers = {name: (start(WEBUIAPI), {"root": guarded.root, "key": f"key-of-{name}"}) for name in models}
    for name, (client, address) in callers.items():
        client.send({"do": "choose", **address, "model": models[name]})
        for _ in range(3):
            client.send({"do": "generate", **address})
    for name, (client, _) in callers.items():
        assert client.receive()["chosen"].startswith(models[name])
        assert [client.receive()["model"] for _ in range(3)] == [models[name]] * 3
    asked = Counter(model_of(job) for job in service_simulator.generations)
    assert asked == {"dreamshaper_8": 3, "sd_xl_base_1.0": 3}


def test_an_interrupt_ends_the_callers_own_job_alone(start: Start, slow: Service, painting: Painting) -> None:
    ann, bob = ({"root": slow.root, "key": f"key-of-{name}"} for name in ("ann", "bob"))
    anns, bobs, interrupting = start(WEBUIAPI), start(WEBUIAPI), start(WEBUIAPI)
    anns.send({"do": "generate", **ann, "size": "512x512", "steps": 150})
    bobs.send({"do": "generate", **bob, "size": "512x512", "steps": 40})
    wait_until(lambda: painting.jobs == 2, "both WebUIs paint")
    assert interrupting.ask({"do": "interrupt", **ann}) == {"answer": {}}
    assert "cancelled" in anns.receive()["error"]
    assert len(bobs.receive()["pictures"]) == 1


def test_webuiapi_enlarges_a_picture(start: Start, guarded: Service, edited: Edit) -> None:
    client = start(WEBUIAPI)
    enlarge = {"do": "enlarge", **where(guarded, WEBUIAPI), "image": str(edited.image)}
    outcome = client.ask(enlarge)
    (picture,) = [opened(encoded) for encoded in outcome["pictures"]]
    assert picture.size == (2 * SIZE, 2 * SIZE)
    assert "Postprocess upscaler: Lanczos" in outcome["info"]
    refused = client.ask({**enlarge, "upscaler": "R-ESRGAN 4x+"})
    assert "upscaler_1: is not an upscaler of this service" in refused["error"]


def test_what_webuiapi_asks_for_besides(start: Start, guarded: Service) -> None:
    answers = start(WEBUIAPI).ask({"do": "lists", **where(guarded, WEBUIAPI)})
    assert "Euler a" in answers["samplers"]
    assert "karras" in answers["schedulers"]
    assert set(answers["models"]) == {"v1-5-pruned-emaonly", "sd_xl_base_1.0", "dreamshaper_8"}
    assert answers["progress"] == 0


@named(OPENAI[:3])
def test_models_can_be_chosen_from_a_list(program: Program, client: Running, guarded: Service) -> None:
    models = client.ask({"do": "models", **where(guarded, program)})["models"]
    assert {"sd-v1-5", "dreamshaper_8", "sd_xl_base_1.0"} <= set(models)


def test_langchains_tool_with_a_client_that_asks_for_addresses(start: Start, guarded: Service) -> None:
    """It reads nothing else, and does not ask for them."""
    client = start(LANGCHAIN)
    address = client.ask({"do": "generate_by_address", **where(guarded, LANGCHAIN)})["text"]
    path = address.removeprefix("https://pictures.example.com")
    assert requests.get(guarded.root + path, timeout=DEADLINE_S).content.startswith(b"\x89PNG")
    assert client.ask({"do": "generate", **where(guarded, LANGCHAIN)})["kind"] == "TypeError"
