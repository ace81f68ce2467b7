"""The pool's rules in a time of their own, against WebUIs that get jobs in turn."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass

from sd_client import schedule
from sd_client.granting import grant
from sd_client.schedule import Job, Schedule

#: How often waiting jobs are looked at without anything having happened; as in the service.
KEEP_S = 0.5
PATIENCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    :param load: of what the WebUIs could do if they never had to load a model.
    :param shares: of the jobs, by model.
    :param job_s: how long a job takes; :param load_s: how much longer where its model must be loaded.
    """

    jobs: int
    load: float
    shares: Mapping[str, float]
    webuis: int
    job_s: float
    load_s: float

    def arrivals(self) -> list[tuple[float, str]]:
        """When each comes and what model it needs: the same for every rule."""
        draw = random.Random(7)
        now, found = 0.0, []
        for _ in range(self.jobs):
            now += draw.expovariate(self.load * self.webuis / self.job_s)
            found.append((now, draw.choices(list(self.shares), list(self.shares.values()))[0]))
        return found


def scheduled(load: Load) -> tuple[int, float]:
    """Models loaded, and what a job waited on average, by the pool's rules."""
    webuis = tuple(f"w{number}" for number in range(load.webuis))
    state = Schedule()
    arrivals = load.arrivals()[::-1]
    ends: list[tuple[float, str]] = []
    came: dict[str, float] = {}
    now = waited = 0.0
    loads = 0
    while arrivals or state.waiting or ends:
        due = [arrivals[-1][0]] if arrivals else []
        due += [ends[0][0]] if ends else []
        due += [now + KEEP_S] if state.waiting else []
        now = min(due)
        while arrivals and arrivals[-1][0] <= now:
            since, model = arrivals.pop()
            ticket = str(len(came))
            came[ticket] = since
            state = schedule.enter(state, Job(ticket=ticket, holder="h", webuis=webuis, model=model, since=since))
        while ends and ends[0][0] <= now:
            state = schedule.leave(state, heapq.heappop(ends)[1])
        before = state
        state = grant(state, slots=1, patience_s=PATIENCE_S, now=now)
        for job in state.running[len(before.running) :]:
            switch = before.loaded.get(job.webui or "") != job.model
            loads += switch
            waited += now - came[job.ticket]
            heapq.heappush(ends, (now + load.job_s + switch * load.load_s, job.ticket))
    return loads, waited / load.jobs


def round_robin(load: Load) -> tuple[int, float]:
    """The same where jobs are dealt to the WebUIs in turn, whatever they have loaded."""
    free = [0.0] * load.webuis
    loaded = [""] * load.webuis
    loads, waited = 0, 0.0
    for number, (came, model) in enumerate(load.arrivals()):
        webui = number % load.webuis
        switch = loaded[webui] != model
        begins = max(came, free[webui])
        waited += begins - came
        loads += switch
        free[webui] = begins + load.job_s + switch * load.load_s
        loaded[webui] = model
    return loads, waited / load.jobs
