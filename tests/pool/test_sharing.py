"""Who gets which WebUI, over threads, workers and hosts."""

from __future__ import annotations

import pytest

from simulator import Simulator
from tests.pool.callers import Callers, Outcome, statuses, wait_for_no_lease, wait_for_queue, when
from tests.pool.conftest import MakeWebUIs, StartService
from tests.pool.webuis import (
    all_jobs,
    assert_never_crowded,
    assert_no_job_twice,
    jobs_of,
    longest_idle_while_waiting,
)
from tests.running import RedisServer

#: A WebUI may stand idle for so long while a job that it could do waits: patience, and a second.
PATIENCE_S = 0.5


def assert_well_shared(webuis: list[Simulator], outcomes: list[Outcome], *, slots: int = 1) -> None:
    assert statuses(outcomes) == {"200": len(outcomes)}
    assert_never_crowded(webuis, slots=slots)
    assert_no_job_twice(webuis)
    began = {job.seed: job.started for job in all_jobs(webuis)}
    assert len(began) == len(outcomes)
    idle_s = longest_idle_while_waiting(webuis, [(one.sent, began[one.seed]) for one in outcomes])
    assert idle_s < PATIENCE_S + 1


def test_three_webuis_two_workers(callers: Callers, make_webuis: MakeWebUIs, start_service: StartService) -> None:
    webuis = make_webuis(3)
    service = start_service(webuis, workers=2, SD_MODEL_SWITCH_PATIENCE=str(PATIENCE_S))
    outcomes = callers.paint_many([service], 36, seconds=0.15)
    assert_well_shared(webuis, outcomes)
    assert all(len(jobs_of(webui)) >= 8 for webui in webuis)
    wait_for_no_lease(service)


def test_two_slots(callers: Callers, make_webuis: MakeWebUIs, start_service: StartService) -> None:
    webuis = make_webuis(2)
    service = start_service(webuis, workers=2, SD_WEBUI_SLOTS="2", SD_MODEL_SWITCH_PATIENCE=str(PATIENCE_S))
    outcomes = callers.paint_many([service], 24, seconds=0.15)
    assert_well_shared(webuis, outcomes, slots=2)
    assert [webui.most_concurrent for webui in webuis] == [2, 2]
    wait_for_no_lease(service)


@pytest.mark.parametrize("shared_by", ["runtime_dir", "redis"])
def test_two_services_with_overlapping_lists(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService, redis_server: RedisServer, shared_by: str
) -> None:
    webuis = make_webuis(3)
    settings = {"SD_MODEL_SWITCH_PATIENCE": str(PATIENCE_S)}
    hosts = ("one", "one")
    if shared_by == "redis":
        settings["REDIS_URL"] = redis_server.url
        hosts = ("one", "two")
    lists = (webuis[:2], webuis[1:])
    services = [start_service(own, host=host, **settings) for own, host in zip(lists, hosts, strict=True)]
    outcomes = callers.paint_many(services, 30, seconds=0.15)
    assert statuses(outcomes) == {"200": 30}
    assert_never_crowded(webuis)
    assert_no_job_twice(webuis)
    by_first, by_second = ({one.seed for one in outcomes[start::2]} for start in (0, 1))
    assert {job.seed for job in jobs_of(webuis[0])} <= by_first
    assert {job.seed for job in jobs_of(webuis[2])} <= by_second
    shared = {job.seed for job in jobs_of(webuis[1])}
    assert shared & by_first
    assert shared & by_second
    wait_for_no_lease(*services)


def test_first_come_first_served_over_two_hosts(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService, redis_server: RedisServer
) -> None:
    webuis = make_webuis(1)
    services = [start_service(webuis, host=host, REDIS_URL=redis_server.url) for host in ("one", "two")]
    webuis[0].set_fault("hang-before", times=1)
    jobs = [callers.paint(services[0], seconds=0.02)]
    when(lambda: webuis[0].generations, "the first job runs")
    for number in range(6):
        jobs.append(callers.paint(services[number % 2], seconds=0.02, prompt=str(number)))
        wait_for_queue(services[1], number + 1)
    webuis[0].clear_faults()
    assert [job.result().status for job in jobs] == [200] * 7
    assert [job.prompt for job in jobs_of(webuis[0])][1:] == [str(number) for number in range(6)]


def test_more_work_goes_to_the_faster_one(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    slow, fast = *make_webuis(1, step_time=4.0), *make_webuis(1, step_time=0.5)
    service = start_service([slow, fast])
    assert statuses(callers.paint_many([service], 24, seconds=0.25)) == {"200": 24}
    assert len(jobs_of(fast)) > len(jobs_of(slow)) > 0


def test_a_gpu_comes_first_and_the_cpu_serves_while_there_is_none(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    (gpu,), (cpu,) = make_webuis(1), make_webuis(1, device="cpu")
    service = start_service([cpu, gpu])
    assert statuses(callers.paint_many([service], 6, seconds=0.1)) == {"200": 6}
    assert (len(jobs_of(gpu)), len(jobs_of(cpu))) == (6, 0)
    gpu.close()
    assert statuses(callers.paint_many([service], 4, seconds=0.1)) == {"200": 4}
    assert len(jobs_of(cpu)) == 4
    assert service.get("/health").json()["device"] == "cpu"


# --- Models -----------------------------------------------------------------------------------------------------------

BOTH = ("v1-5-pruned-emaonly.safetensors", "dreamshaper_8.safetensors")


def test_webuis_without_the_checkpoint_are_never_asked(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    (both,), (one,) = make_webuis(1, models=BOTH), make_webuis(1, models=BOTH[:1])
    service = start_service([one, both])
    jobs = [callers.paint(service, model="dreamshaper_8", seconds=0.1) for _ in range(6)]
    jobs += [callers.paint(service, model="v1-5-pruned-emaonly", seconds=0.1) for _ in range(6)]
    assert [job.result().status for job in jobs] == [200] * 12
    assert {job.model for job in jobs_of(one)} == {"v1-5-pruned-emaonly"}
    assert "dreamshaper_8" in {job.model for job in jobs_of(both)}


def test_the_idle_one_that_has_the_model_is_taken(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    (a,), (b,) = make_webuis(1, models=BOTH), make_webuis(1, models=BOTH[::-1])
    service = start_service([a, b])
    for model in ("dreamshaper_8", "v1-5-pruned-emaonly") * 3:
        assert callers.paint(service, model=model, seconds=0.02).result().status == 200
    assert {job.model for job in jobs_of(a)} == {"v1-5-pruned-emaonly"}
    assert {job.model for job in jobs_of(b)} == {"dreamshaper_8"}


@pytest.mark.parametrize(("patience_s", "where"), [(30, [3, 0]), (0.3, [2, 1])])
def test_waiting_for_the_one_that_has_the_model(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService, patience_s: float, where: list[int]
) -> None:
    (a,), (b,) = make_webuis(1, models=BOTH), make_webuis(1, models=BOTH[::-1])
    service = start_service([a, b], SD_MODEL_SWITCH_PATIENCE=str(patience_s))
    for webui in (a, b):
        webui.set_fault("hang-before", times=1)
    jobs = [callers.paint(service, seconds=0.1)]
    when(lambda: a.generations, "the first job runs")
    jobs += [callers.paint(service, seconds=0.1)]
    wait_for_queue(service, 1) if patience_s > 1 else when(lambda: b.generations, "the other one loads the model")
    jobs += [callers.paint(service, seconds=0.1)]
    wait_for_queue(service, 2 if patience_s > 1 else 1)
    a.clear_faults()
    when(lambda: sum(job.done() for job in jobs) >= 2, "the one that has the model does the others")
    b.clear_faults()
    assert [job.result().status for job in jobs] == [200] * 3
    assert [len(jobs_of(webui)) for webui in (a, b)] == where
