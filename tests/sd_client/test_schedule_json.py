from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_client.schedule import Job, Schedule, Trouble
from sd_client.shared_schedule import HEAD_BYTES, ScheduleJson

TEXTS = st.text(max_size=6)
TIMES = st.floats(min_value=0, max_value=2e9)
JOBS = st.builds(
    Job,
    ticket=TEXTS,
    holder=TEXTS,
    webuis=st.sampled_from([(), ("a",), ("a", "b"), ("b", "a")]),
    model=TEXTS,
    since=TIMES,
    webui=st.none() | TEXTS,
    request=TEXTS,
    cancelled=st.booleans(),
    passed=st.none() | TIMES,
)
SCHEDULES = st.builds(
    Schedule,
    waiting=st.lists(JOBS, max_size=5).map(tuple),
    running=st.lists(JOBS, max_size=5).map(tuple),
    loaded=st.dictionaries(TEXTS, TEXTS, max_size=3),
    troubles=st.dictionaries(
        TEXTS, st.builds(Trouble, failures=st.integers(0, 99), until=st.none() | TIMES), max_size=3
    ),
    job_seconds=st.none() | TIMES,
    epoch=TEXTS,
)


@given(SCHEDULES)
def test_what_is_written_is_read(schedule: Schedule) -> None:
    raw = ScheduleJson().dump(schedule)
    assert ScheduleJson().load(raw) == schedule


@given(st.lists(SCHEDULES, min_size=2, max_size=4), st.randoms())
def test_processes_that_take_turns_read_what_is_written(schedules: list[Schedule], draw: random.Random) -> None:
    """What each remembers of the jobs changes nothing, whichever of them come and go, and whatever sets they have."""
    one, other = ScheduleJson(), ScheduleJson()
    jobs = [job for schedule in schedules for job in schedule.waiting]
    for schedule in schedules:
        shown = replace(schedule, waiting=tuple(draw.sample(jobs, draw.randint(0, len(jobs)))))
        raw = one.dump(shown)
        assert other.load(raw) == ScheduleJson().load(raw) == one.load(raw) == shown
        one, other = other, one


def test_a_schedule_that_cannot_be_written_spoils_nothing() -> None:
    """A model's name may be no text that can be written."""
    job = Job(ticket="t", holder="h", webuis=("b",), model="m", since=1.0)
    process = ScheduleJson()
    process.dump(Schedule(waiting=(job,)))
    with pytest.raises(ValueError, match="surrogates"):
        process.dump(Schedule(waiting=(job, replace(job, ticket="u", webuis=("a",), model="\ud800"))))
    schedule = Schedule(waiting=(replace(job, webuis=("a",)), replace(job, ticket="u")))
    assert process.load(ScheduleJson().dump(schedule)) == schedule


def test_a_job_that_has_not_changed_is_the_same_object() -> None:
    """So that with thousands that wait only those are read that have changed."""
    jobs = tuple(Job(ticket=str(n), holder="h", webuis=("w",), model="m", since=1.0) for n in range(50))
    reader = ScheduleJson()
    before = reader.load(ScheduleJson().dump(Schedule(waiting=jobs)))
    after = reader.load(ScheduleJson().dump(Schedule(waiting=jobs[1:], running=(replace(jobs[0], webui="w"),))))
    assert all(job is before.find(job.ticket) for job in after.waiting)
    assert after.running[0].webui == "w"
    assert after.running[0].webuis is after.waiting[0].webuis


def test_an_earlier_release_wrote_the_same() -> None:
    """With spaces, other orders and unknown fields: it only has to be the same JSON."""
    raw = b"""{ "change": "c", "rest": {"epoch": "e", "loaded": {"a": "m"}}, "webuis": [["b"], ["a"]], "waiting": [],
      "running": [ {"webuis": 1, "since": 2, "ticket": "t", "holder": "h", "model": "m", "webui": "a", "x": 5}] }"""
    job = Job(ticket="t", holder="h", webuis=("a",), model="m", since=2.0, webui="a")
    assert ScheduleJson().load(raw) == Schedule(running=(job,), loaded={"a": "m"}, epoch="e")


def test_a_set_of_webuis_is_written_once() -> None:
    webuis = tuple(f"webui-{number}" for number in range(100))
    jobs = tuple(Job(ticket=str(n), holder="h", webuis=webuis, model="m", since=1.0) for n in range(50))
    assert ScheduleJson().dump(Schedule(waiting=jobs[:25], running=jobs[25:])).count(b"webui-99") == 1


def test_the_head_tells_one_change_from_another() -> None:
    json = ScheduleJson()
    first = json.dump(Schedule(epoch="same"))[:HEAD_BYTES]
    assert json.last(first) == Schedule(epoch="same")
    second = json.dump(Schedule(epoch="same"))[:HEAD_BYTES]
    assert json.last(first) is None
    assert json.last(second) is not None
    assert json.last(b"") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b'{"waiting":[],"running":[],"loaded":{}}',
        b"\xff\xfe\x00",
        b"not ours",
        b'{"change":"c","webuis":[],"waiting":5,"running":[],"rest":{}}',
        b'{"change":"c","webuis":[],"running":[],"rest":{},"waiting":[{"ticket":"t","holder":"h","webuis":0,"model":"m","since":1}]}',
        b'{"else":' + b"[" * 100_000,
    ],
    ids=["empty", "no fields", "a list", "another release's", "bytes", "text", "no list", "a missing set", "too deep"],
)
def test_what_another_release_or_program_wrote_counts_as_an_empty_schedule(raw: bytes) -> None:
    assert ScheduleJson().load(raw) == Schedule()


def test_without_bytes_the_schedule_is_empty() -> None:
    assert ScheduleJson().load(None) == Schedule()
