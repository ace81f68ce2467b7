"""The schedule under any sequence of events, with a clock that it sets."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from sd_client.failures import BRIEFLY_S
from sd_client.granting import grant
from sd_client.schedule import (
    Job,
    Schedule,
    broke,
    doubt,
    enter,
    failed,
    forget,
    leave,
    pardon,
    put_back,
    seconds_until_free,
    succeeded,
)

WEBUIS = ("a", "b", "c")
MODELS = ("sd15", "sdxl")
HOLDERS = ("worker-1", "worker-2")


class Scheduling(RuleBasedStateMachine):
    """Compares the schedule with what the jobs' owners know of them."""

    jobs = Bundle("jobs")

    @initialize(slots=st.integers(1, 2), patience_s=st.sampled_from([0.0, 5.0]))
    def begin(self, slots: int, patience_s: float) -> None:
        self.schedule = Schedule()
        self.slots = slots
        self.patience_s = patience_s
        self.now = 100.0
        #: By ticket, as they entered: their ``since`` is when they began to wait.
        self.alive: dict[str, Job] = {}
        self.entered = 0

    @rule(target=jobs, webuis=st.sets(st.sampled_from(WEBUIS), min_size=1), model=st.sampled_from(MODELS),
          holder=st.sampled_from(HOLDERS))  # fmt: skip
    def job_comes(self, webuis: set[str], model: str, holder: str) -> str:
        self.entered += 1
        job = Job(
            ticket=f"job-{self.entered}", holder=holder, webuis=tuple(sorted(webuis)), model=model, since=self.now
        )
        self.alive[job.ticket] = job
        self.schedule = enter(self.schedule, job)
        self.now += 0.001  # no two jobs come at the same moment
        self.places_are_given()
        return job.ticket

    @rule(ticket=consumes(jobs), ran_s=st.none() | st.floats(0.1, 100))
    def job_goes(self, ticket: str, ran_s: float | None) -> None:
        """It ended, or its caller left; it may be long gone with its holder."""
        self.alive.pop(ticket, None)
        job = self.schedule.find(ticket)
        self.schedule = leave(self.schedule, ticket, ran_s=ran_s)
        if job is not None and job.webui is not None and ran_s is not None:
            self.schedule = succeeded(self.schedule, job.webui)
        self.places_are_given()

    @rule(ticket=consumes(jobs), answered=st.booleans())
    def job_fails(self, ticket: str, answered: bool) -> None:
        job = self.schedule.find(ticket)
        self.alive.pop(ticket, None)
        self.schedule = leave(self.schedule, ticket)
        if job is not None and job.webui is not None:
            self.schedule = failed(self.schedule, job.webui, now=self.now, answered=answered)
        self.places_are_given()

    @rule(holder=st.sampled_from(HOLDERS))
    def holder_dies(self, holder: str) -> None:
        self.alive = {ticket: job for ticket, job in self.alive.items() if job.holder != holder}
        self.schedule = forget(self.schedule, {holder})
        self.places_are_given()

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.places_are_given()

    def places_are_given(self) -> None:
        running_before = {job.ticket for job in self.schedule.running}
        self.schedule = grant(self.schedule, slots=self.slots, patience_s=self.patience_s, now=self.now)
        started = [job for job in self.schedule.running if job.ticket not in running_before]
        self.first_came_first_served([self.alive[job.ticket] for job in started])
        for job in started:
            assert job.webui is not None
            trouble = self.schedule.troubles.get(job.webui)
            assert trouble is None or trouble.until is None or trouble.until <= self.now, "given to a WebUI that is out"
            doubted = self.is_doubted(job.webui)
            others = self.alive[job.ticket].webuis
            assert not doubted or all(self.is_doubted(webui) for webui in others), "given to one that is doubted"
            on_trial = trouble is not None and trouble.until is not None
            assert not on_trial or self.schedule.busy(job.webui) == 1, "more than one on trial"
        self.nobody_idles()
        again = grant(self.schedule, slots=self.slots, patience_s=self.patience_s, now=self.now)
        assert again == self.schedule, "granting twice gives more than granting once"

    def first_came_first_served(self, started: list[Job]) -> None:
        for waiting in self.schedule.waiting:
            for job in started:
                same = (job.webuis, job.model) == (waiting.webuis, waiting.model)
                assert not (same and waiting.since < job.since), "overtaken by a younger job that needs the same"

    def is_doubted(self, webui: str) -> bool:
        trouble = self.schedule.troubles.get(webui)
        return trouble is not None and self.now < trouble.doubted_until

    def is_open(self, webui: str) -> bool:
        trouble = self.schedule.troubles.get(webui)
        if trouble is None or trouble.until is None:
            return True
        return trouble.until <= self.now and self.schedule.busy(webui) == 0

    def nobody_idles(self) -> None:
        for job in self.schedule.waiting:
            webuis = [webui for webui in job.webuis if self.is_open(webui)]
            if not all(self.is_doubted(webui) for webui in job.webuis):
                webuis = [webui for webui in webuis if not self.is_doubted(webui)]
            if any(self.schedule.busy(webui) < self.slots for webui in webuis):
                has_model = [webui for webui in webuis if self.schedule.loaded.get(webui) == job.model]
                assert job.passed is not None
                assert self.now - job.passed < self.patience_s, "a WebUI idles and the job has waited long enough"
                assert has_model, "a WebUI idles and there is nothing to wait for"
                assert all(self.schedule.busy(webui) == self.slots for webui in has_model), "idle, with the model"

    @invariant()
    def no_webui_has_too_many_jobs(self) -> None:
        for webui in WEBUIS:
            assert self.schedule.busy(webui) <= self.slots

    @invariant()
    def no_job_is_lost_or_doubled(self) -> None:
        tickets = [job.ticket for job in (*self.schedule.waiting, *self.schedule.running)]
        assert sorted(tickets) == sorted(self.alive)

    @invariant()
    def every_job_runs_where_it_can(self) -> None:
        for job in self.schedule.running:
            assert job.webui in self.alive[job.ticket].webuis
        assert all(job.webui is None for job in self.schedule.waiting)

    @invariant()
    def who_came_first_is_first_in_the_queue(self) -> None:
        assert [job.since for job in self.schedule.waiting] == sorted(job.since for job in self.schedule.waiting)


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# --- By example -----------------------------------------------------------------------------------------------------


def waiting(ticket: str, *, webuis: tuple[str, ...] = ("a", "b"), model: str = "sd15", since: float = 0.0) -> Job:
    return Job(ticket=ticket, holder="me", webuis=webuis, model=model, since=since)


def entered(*jobs: Job, loaded: dict[str, str] | None = None) -> Schedule:
    schedule = Schedule(loaded=loaded or {})
    for job in jobs:
        schedule = enter(schedule, job)
    return schedule


def granted(schedule: Schedule, *, slots: int = 1, patience_s: float = 0.0, now: float = 10.0) -> dict[str, str | None]:
    after = grant(schedule, slots=slots, patience_s=patience_s, now=now)
    return {job.ticket: job.webui for job in after.running}


def test_a_job_takes_the_webui_that_has_its_model() -> None:
    assert granted(entered(waiting("1"), loaded={"a": "sdxl", "b": "sd15"})) == {"1": "b"}


def test_a_webui_whose_model_nobody_waits_for_is_the_one_to_load_another() -> None:
    jobs = (waiting("1", model="new", webuis=("a", "b")), waiting("2", model="sdxl", webuis=("a",)))
    assert granted(entered(*jobs, loaded={"a": "sdxl", "b": "sd15"})) == {"1": "b", "2": "a"}


def test_a_job_that_needs_no_model_takes_any_webui_and_leaves_its_model_as_it_is() -> None:
    """An upscale: the next job of that model loads nothing."""
    loaded = {"a": "sdxl", "b": "sd15"}
    state = grant(
        entered(waiting("1", model=""), waiting("2", model=""), loaded=loaded), slots=1, patience_s=60, now=10
    )
    assert {job.webui for job in state.running} == {"a", "b"}
    assert all(job.proven and not job.switches for job in state.running)
    assert state.loaded == loaded


def test_a_job_that_needs_no_model_waits_for_no_model() -> None:
    jobs = (waiting("1", webuis=("a",)), waiting("2", model="", since=1.0))
    assert granted(entered(*jobs, loaded={"a": "sd15", "b": "sdxl"}), patience_s=60) == {"1": "a", "2": "b"}


@pytest.mark.parametrize(("loaded", "switches"), [("sd15", False), ("sdxl", True), ("", False), (None, False)])
def test_a_job_that_makes_its_webui_load_another_model_is_known(loaded: str | None, switches: bool) -> None:
    schedule = entered(waiting("1", webuis=("a",)), loaded={} if loaded is None else {"a": loaded})
    (job,) = grant(schedule, slots=1, patience_s=0, now=1.0).running
    assert job.switches == switches


def test_jobs_that_the_same_webuis_can_do_refer_to_one_tuple() -> None:
    """What is done for each tuple would otherwise be done for each job, with every change of the schedule."""
    schedule = Schedule()
    for number in range(3):
        schedule = enter(
            schedule, waiting(str(number), webuis=tuple(f"webui {place}" for place in range(2)), since=number)
        )
    schedule = enter(schedule, waiting("other", webuis=("webui 1",), since=3))
    assert len({id(job.webuis) for job in schedule.waiting[:3]}) == 1
    assert schedule.waiting[3].webuis == ("webui 1",)


def test_a_patient_job_waits_for_the_busy_webui_with_its_model() -> None:
    schedule = grant(entered(waiting("1"), loaded={"a": "sd15"}), slots=1, patience_s=5, now=0)
    schedule = grant(enter(schedule, waiting("2", since=1.0)), slots=1, patience_s=5, now=1.0)
    assert granted(schedule, patience_s=5, now=5.9) == {"1": "a"}
    assert granted(schedule, patience_s=5, now=6.0) == {"1": "a", "2": "b"}


def test_a_younger_job_may_use_what_an_older_one_leaves() -> None:
    schedule = grant(entered(waiting("1", webuis=("a",))), slots=1, patience_s=0, now=0)
    schedule = enter(enter(schedule, waiting("2", webuis=("a",), since=1)), waiting("3", since=2))
    assert granted(schedule) == {"1": "a", "3": "b"}


def test_a_running_job_knows_since_when_it_runs() -> None:
    schedule = grant(entered(waiting("1", since=3.0)), slots=1, patience_s=0, now=7.5)
    assert schedule.running[0].since == 7.5


def test_a_job_that_comes_back_keeps_its_place() -> None:
    schedule = entered(waiting("2", since=2.0), waiting("3", since=3.0), waiting("1", since=1.0))
    assert [job.ticket for job in schedule.waiting] == ["1", "2", "3"]


def test_two_slots_spread_over_the_webuis() -> None:
    jobs = [waiting(str(number), since=number) for number in range(5)]
    where = granted(entered(*jobs, loaded={"a": "sd15", "b": "sd15"}), slots=2)
    assert sorted(str(webui) for webui in where.values()) == ["a", "a", "b", "b"]
    assert {where["0"], where["1"]} == {"a", "b"}


def test_an_older_job_takes_what_a_younger_one_has_just_loaded() -> None:
    """With two slots: "2" waits for the full "b"; "3" makes "a" load the same model, so "2" need not wait longer."""
    running = entered(waiting("0", webuis=("b",)), waiting("1", webuis=("b",)))
    schedule = grant(running, slots=2, patience_s=5, now=0)
    schedule = enter(enter(schedule, waiting("2", since=1)), waiting("3", webuis=("a",), since=2))
    assert granted(schedule, slots=2, patience_s=5, now=2) == {"0": "b", "1": "b", "2": "a", "3": "a"}


def test_a_webui_that_loses_jobs_is_out_for_longer_each_time() -> None:
    schedule = Schedule()
    out_s = []
    for _ in range(7):
        schedule = failed(schedule, "a", now=100.0, answered=False)
        out_s.append(schedule.troubles["a"].until - 100.0)
    assert out_s == [2, 4, 8, 16, 32, 60, 60]
    assert succeeded(schedule, "b") == schedule
    assert succeeded(schedule, "a").troubles["a"].until is None
    for _ in range(3):
        schedule = succeeded(schedule, "a")
    assert schedule.troubles == {}, "forgotten after a few successes, however many failures there were"


def test_a_webui_that_answers_errors_is_out_after_the_third() -> None:
    schedule = Schedule()
    out_s = []
    for _ in range(4):
        schedule = failed(schedule, "a", now=100.0, answered=True)
        out_s.append(schedule.troubles["a"].until)
    assert out_s == [None, None, 102.0, 104.0]


def test_a_webui_that_answered_one_error_keeps_its_slots() -> None:
    schedule = failed(
        entered(waiting("1", webuis=("a",)), waiting("2", webuis=("a",), since=1)), "a", now=0.0, answered=True
    )
    assert granted(schedule, slots=2, now=0.0) == {"1": "a", "2": "a"}


def test_a_webui_that_failed_gets_nothing_that_another_one_could_do() -> None:
    """Also while that one is busy: whoever fails at once is always idle."""
    busy = grant(entered(waiting("0", webuis=("b",))), slots=1, patience_s=0, now=0.0)
    schedule = failed(enter(busy, waiting("1", since=1)), "a", now=1.0, answered=True)
    assert granted(schedule, now=2.9) == {"0": "b"}
    assert granted(schedule, now=3.0) == {"0": "b", "1": "a"}, "on trial"
    alone = enter(schedule, waiting("2", webuis=("a",), since=2))
    assert granted(alone, now=2.9) == {"0": "b", "2": "a"}, "what no other one could do is not kept from it"


def test_what_a_webui_cannot_load_is_not_granted_there_however_long_it_has_waited() -> None:
    schedule = broke(entered(waiting("1"), waiting("2", model="sdxl")), "a", ["sd15"], now=9.0, sure=True)
    assert granted(schedule) == {"1": "b", "2": "a"}
    schedule = broke(schedule, "b", ["sd15"], now=9.0, sure=False)
    assert granted(schedule) == {"2": "a"}
    assert granted(schedule, now=9.0 + BRIEFLY_S) == {"1": "b", "2": "a"}


def test_where_all_have_failed_all_are_used() -> None:
    schedule = entered(waiting("1"), waiting("2", since=1))
    for webui in ("a", "b"):
        schedule = failed(schedule, webui, now=1.0, answered=True)
    assert granted(schedule, now=1.1).keys() == {"1", "2"}


def test_too_little_memory_is_doubted_but_not_out_and_may_be_the_jobs_fault() -> None:
    schedule = entered(waiting("1"), waiting("2", since=1), loaded={"a": "sd15"})
    for _ in range(5):
        schedule = doubt(schedule, "a", now=0.0)
    assert granted(schedule, now=31.9) == {"1": "b"}
    assert granted(schedule, now=32.0) == {"1": "a", "2": "b"}
    both = doubt(doubt(Schedule(), "a", now=0.0), "b", now=0.0)
    assert pardon(both, ("a", "b")).troubles == {}
    once = doubt(failed(Schedule(), "a", now=0.0, answered=True), "a", now=1.0)
    assert pardon(once, ("a", "c")).troubles["a"].failures == 1


def test_among_idle_ones_that_without_failures_comes_first() -> None:
    schedule = failed(entered(waiting("1"), loaded={"a": "sd15", "b": "sd15"}), "a", now=0.0, answered=True)
    assert granted(schedule, now=100.0) == {"1": "b"}
    schedule = failed(entered(waiting("1")), "a", now=0.0, answered=True)
    assert granted(schedule, now=100.0) == {"1": "b"}


@dataclass
class Line:
    """Callers who send a job as soon as they have an answer, to "bad" and "good"; what becomes of so many jobs."""

    fails: Callable[[int], bool]
    jobs: int = 122
    callers: int = 4
    good_s: float = 1.0
    quick_s: float = 0.01

    def failed(self) -> int:
        schedule, now, sent, on_bad, lost = Schedule(), 0.0, 0, 0, 0
        ends: dict[str, tuple[float, bool]] = {}
        while sent < self.jobs or schedule.running or schedule.waiting:
            while sent < self.jobs and len(schedule.running) + len(schedule.waiting) < self.callers:
                sent += 1
                schedule = enter(schedule, waiting(str(sent), webuis=("bad", "good"), since=now))
            schedule = grant(schedule, slots=1, patience_s=5.0, now=now)
            for job in schedule.running:
                if job.ticket not in ends:
                    wrong = job.webui == "bad" and self.fails(on_bad)
                    on_bad += job.webui == "bad"
                    ends[job.ticket] = now + (self.quick_s if wrong else self.good_s), wrong
            running = sorted((ends[job.ticket][0], job.ticket, str(job.webui)) for job in schedule.running)
            if not running or running[0][0] > now + 0.5:  # as often as the pool looks anew
                now += 0.5
                continue
            now, ticket, webui = running[0]
            wrong = ends[ticket][1]
            schedule = leave(schedule, ticket, ran_s=None if wrong else self.good_s)
            lost += wrong
            schedule = failed(schedule, webui, now=now, answered=True) if wrong else succeeded(schedule, webui)
        return lost


@pytest.mark.parametrize(
    ("fails", "most"),
    [
        pytest.param(lambda number: True, 9, id="always and at once"),
        pytest.param(lambda number: number % 3 != 2, 12, id="two of three"),
        pytest.param(lambda number: number % 2 == 0, 25, id="every other"),
    ],
)
def test_a_webui_that_fails_draws_no_jobs_to_itself(fails: Callable[[int], bool], most: int) -> None:
    assert Line(fails=fails).failed() <= most


def test_a_webui_that_was_out_gets_one_job_on_trial() -> None:
    schedule = failed(entered(waiting("1"), waiting("2", since=1)), "a", now=0.0, answered=False)
    assert granted(schedule, slots=2, now=1.9) == {"1": "b", "2": "b"}
    alone = failed(
        entered(waiting("1", webuis=("a",)), waiting("2", webuis=("a",), since=1)), "a", now=0.0, answered=False
    )
    assert granted(alone, slots=2, now=1.9) == {}
    assert granted(alone, slots=2, now=2.0) == {"1": "a"}


def test_what_is_missing_is_put_back_as_it_was() -> None:
    first, second = waiting("1", since=1), waiting("2", since=2)
    whole = grant(entered(first, second), slots=1, patience_s=0, now=5)
    (one, two) = whole.running
    assert put_back(Schedule(), (one, two)).running == (one, two)
    assert put_back(whole, (first, second)) == whole
    assert put_back(entered(second), (first,)).waiting == (first, second)


def test_leaving_what_is_not_there_changes_nothing() -> None:
    schedule = entered(waiting("1"))
    assert leave(schedule, "2") == schedule
    assert forget(schedule, {"other"}) == schedule


def test_the_average_follows_the_jobs() -> None:
    schedule = leave(entered(), "1", ran_s=10.0)
    assert schedule.job_seconds == 10.0
    assert leave(schedule, "2").job_seconds == 10.0
    assert leave(schedule, "3", ran_s=20.0).job_seconds == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("jobs", "webuis", "slots", "seconds"),
    [(0, 1, 1, 0.0), (1, 1, 1, 10.0), (3, 1, 1, 30.0), (1, 2, 1, 0.0), (3, 2, 1, 10.0), (3, 1, 2, 10.0), (0, 0, 1, 0)],
)
def test_seconds_until_free(jobs: int, webuis: int, slots: int, seconds: float) -> None:
    schedule = grant(
        entered(*(waiting(str(number), webuis=("a",)) for number in range(jobs))), slots=slots, patience_s=0, now=0
    )
    assert seconds_until_free(schedule, slots=slots, webuis=webuis) == seconds


# --- A clock that was set back --------------------------------------------------------------------------------------

HOUR_S = 3600.0


def test_a_webui_is_out_no_longer_than_it_can_be() -> None:
    before = failed(Schedule(), "a", now=HOUR_S, answered=False)
    after = grant(enter(before, waiting("first", since=0.0, webuis=("a",))), slots=1, patience_s=0.0, now=0.0)
    assert [job.webui for job in after.running] == ["a"], "not out for an hour"
    assert after.troubles["a"].failures == 1, "on trial, as it would be"


def test_a_webui_that_is_out_stays_so_for_its_time() -> None:
    for failures in range(1, 9):
        state = Schedule()
        for _ in range(failures):
            state = failed(state, "a", now=10.0, answered=False)
        state = enter(state, waiting("first", since=9.0, webuis=("a",)))
        assert grant(state, slots=1, patience_s=0.0, now=11.9).running == ()
        assert grant(state, slots=1, patience_s=0.0, now=9.5).running == (), "two processes may differ by as much"


def test_who_came_before_is_served_before_who_comes_after() -> None:
    state = Schedule(running=(replace(waiting("runs", since=HOUR_S), webui="a"),), loaded={"a": "sd15"})
    state = enter(
        enter(state, waiting("first", since=HOUR_S, webuis=("a",))), waiting("second", since=HOUR_S + 1, webuis=("a",))
    )
    state = grant(state, slots=1, patience_s=0.0, now=0.0)
    for number in range(3):
        state = grant(
            enter(state, waiting(f"later-{number}", since=1.0 + number, webuis=("a",))),
            slots=1,
            patience_s=0.0,
            now=1.0,
        )
    assert [job.ticket for job in state.waiting] == ["first", "second", "later-0", "later-1", "later-2"]
    assert state.running[0].since == 0.0, "from which is told how long it will still run"


def test_patience_ends() -> None:
    """A job that passed an idle WebUI on, for one that has its model is busy, does not do so for an hour."""
    busy = Job(ticket="runs", holder="h", webuis=("a",), model="sd15", since=0.0, webui="a")
    passed = Job(ticket="patient", holder="h", webuis=("a", "b"), model="sd15", since=HOUR_S, passed=HOUR_S)
    state = Schedule(running=(busy,), waiting=(passed,), loaded={"a": "sd15", "b": "sdxl"})
    state = grant(state, slots=1, patience_s=5.0, now=0.0)
    assert len(state.waiting) == 1
    assert grant(state, slots=1, patience_s=5.0, now=5.0).waiting == ()


class Pool:
    """
    WebUIs that get their jobs from the schedule alone: jobs take 0.8 to 1.2 s of its clock, nothing else takes any.

    :param some: those that can do the third of the jobs that asks for more.
    """

    def __init__(self, webuis: tuple[str, ...], some: tuple[str, ...], *, callers: int) -> None:
        self._random = random.Random(7)
        self._webuis = webuis
        self._some = some
        self._schedule = Schedule(loaded=dict.fromkeys(webuis, "sd15"))
        self._ends: list[tuple[float, str]] = []
        self.waits: dict[tuple[str, ...], list[float]] = {webuis: [], some: []}
        self.busy_s = 0.0
        for _ in range(callers):
            self._ask(0.0)

    def run(self, until: float) -> None:
        """Each caller asks again as soon as it has an answer."""
        while self._ends[0][0] < until:
            now, ticket = heapq.heappop(self._ends)
            self._schedule = leave(self._schedule, ticket)
            self._ask(now)

    def _ask(self, now: float) -> None:
        job = Job(
            ticket=f"job-{len(self._schedule.waiting)}-{now}-{self._random.random()}",
            holder="worker-1",
            model="sd15",
            since=now,
            webuis=self._some if self._random.random() < 1 / 3 else self._webuis,
        )
        before = {running.ticket for running in self._schedule.running}
        waiting = {other.ticket: other.since for other in (*self._schedule.waiting, job)}
        self._schedule = grant(enter(self._schedule, job), slots=1, patience_s=0.0, now=now)
        for running in self._schedule.running:
            if running.ticket not in before:
                took_s = self._random.uniform(0.8, 1.2)
                self.busy_s += took_s
                self.waits[running.webuis].append(now - waiting[running.ticket])
                heapq.heappush(self._ends, (now + took_s, running.ticket))


@pytest.mark.parametrize("callers", [16, 24, 36])
def test_webuis_of_which_half_can_do_a_third_of_the_jobs(callers: int) -> None:
    """They are all busy, also with no more callers than WebUIs, and nobody waits much longer than the others."""
    webuis = tuple(f"webui-{number}" for number in range(16))
    pool, seconds = Pool(webuis, webuis[::2], callers=callers), 100.0
    pool.run(until=seconds)
    assert pool.busy_s / len(webuis) >= 0.93 * seconds
    longest, longest_of_some = (max(pool.waits[able]) for able in (webuis, webuis[::2]))
    assert longest_of_some < longest + 2
