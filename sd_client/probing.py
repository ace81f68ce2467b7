"""What each WebUI can do and whether it is there, seen from the background.

One process of a host looks at the WebUIs, gently, and writes down what it saw; the others read that. A WebUI
that starts can be crashed by polling (A1111 in UI mode exits when requests arrive between gradio's start and
the API's), so there is one prober per host, one path, and seconds in between.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from sd_client.capabilities import is_native
from sd_client.client import WebUIClient
from sd_client.deadlines import until_beat
from sd_client.errors import WebUIError, WebUITimeoutError
from sd_client.learned_limits import LearnedLimits
from sd_client.limits import Limits
from sd_client.models import BrokenList, Capabilities, Checkpoint
from sd_client.starts import Starts
from sd_client.states import LAYOUT, SharedStates, WebUIState
from state.election import Election
from state.holders import Holders
from state.store import Store, StoreError

log = logging.getLogger(__name__)

#: Between two looks at a WebUI that is there. With REFRESH_S: all processes know within 5 s that one has gone.
INTERVAL_S = 4.5
#: Between two looks at one that is not: grows to this, from 2 s, the shortest that a starting A1111 bears.
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 10.0
#: Samplers, LoRAs and the GPU change rarely; the list of models is read with every look.
FULL_LOOK_S = 60.0
#: How many of them are looked at on the same beat, and how long after one another: longer than a look mostly takes, so
#: that their threads do not get in each other's way, and all well before the next beat, on which the others read.
TOGETHER = 32
TURN_S = 0.003
#: What was seen longer ago than this is from an earlier run: the prober writes at least every SHARE_S.
STALE_S = 30.0
#: How soon the other processes learn what has changed.
REFRESH_S = 0.5
#: How soon they learn that a WebUI was looked at and nothing has changed, and that the prober has died.
SHARE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds; each is explained at its constant above."""

    interval_s: float = INTERVAL_S
    first_pause_s: float = FIRST_PAUSE_S
    longest_pause_s: float = LONGEST_PAUSE_S
    full_look_s: float = FULL_LOOK_S
    stale_s: float = STALE_S
    refresh_s: float = REFRESH_S
    share_s: float = SHARE_S


DEFAULT_PACE = Pace()


class Probing:
    """
    One process of a host looks at the WebUIs, the others read what it saw.

    :param clients: by the WebUI's id, in the order of ``SD_WEBUI_URL``; the log names them by their place in it.
    :param store: of this host: another one may reach other WebUIs.
    :param is_busy: whether a WebUI runs one of this pool's jobs: one that is too busy to answer a look is not down.
    :param shared: of all hosts; None if there is one.
    :param on_return: called when one is there that was not, or that lists other models than before.
    """

    def __init__(
        self,
        clients: Mapping[str, WebUIClient],
        store: Store,
        holders: Holders,
        *,
        is_busy: Callable[[str], bool],
        on_return: Callable[[str], None] = lambda webui: None,
        shared: Store | None = None,
        pace: Pace = DEFAULT_PACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = clients
        self._places = {webui: place for place, webui in enumerate(clients)}
        # Whoever serves the same WebUIs looks at them once.
        self._pool = hashlib.sha256(" ".join((LAYOUT, *sorted(clients))).encode()).hexdigest()[:12]
        self._starts = Starts(shared or store, ttl_s=pace.stale_s)
        self._starts_renewed = float("-inf")
        self._election = Election(store, holders, f"seen:{self._pool}")
        self._is_busy = is_busy
        self._on_return = on_return
        self._pace = pace
        self._clock = clock
        self._states: dict[str, WebUIState] = {}
        self._shared = SharedStates(store, self._pool, ttl_s=pace.stale_s)
        self._sharing = threading.Lock()
        self._read: Mapping[str, WebUIState] = {}
        self._limits = LearnedLimits(store, self._pool)
        self._failed: dict[str, float] = {}
        self._mutex = threading.Lock()
        self._stopped = threading.Event()
        self._looked = threading.Event()
        self._wake = {webui: threading.Event() for webui in clients}
        # Set while another process looks, or nobody.
        self._given_way = threading.Event()
        self._given_way.set()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to look; returns at once. What another process saw is known from now on."""
        self._refresh()
        self._spawn(self._run, "probing")

    def close(self) -> None:
        """Ends all looking; waits for the threads, at most as long as one look takes."""
        self._stopped.set()
        for event in self._wake.values():
            event.set()
        for thread in self._threads:
            thread.join()

    def states(self) -> dict[str, WebUIState]:
        """By WebUI id; without those that were not looked at yet. One that failed a job since is unavailable."""
        with self._mutex:
            states = self._states | self._limited()
            for webui, failed in self._failed.items():
                if (state := states.get(webui)) and failed >= state.seen:
                    states[webui] = replace(state, available=False)
            return states

    def learn(self, webui: str, limits: Limits) -> None:
        """What a job has shown that a WebUI can paint, or cannot: known at once here, soon to the other processes."""
        with self._mutex:
            state = self._states.get(webui)
            if state is not None and state.capabilities is not None:
                self._limits.learn(webui, state.capabilities, limits)

    def start_of(self, webui: str) -> str:
        """See :class:`WebUIState`; "" of one that was not looked at yet."""
        state = self._states.get(webui)
        return state.start if state else ""

    def wait_for_first_look(self, timeout_s: float) -> bool:
        """Whether every WebUI has been looked at, waiting for it if need be."""
        return self._looked.wait(timeout_s)

    def report_failure(self, webui: str) -> None:
        """A job could not reach it: not available until the next look says otherwise."""
        with self._mutex:
            self._failed[webui] = self._clock()
        self._wake[webui].set()

    def _limited(self) -> dict[str, WebUIState]:
        """Those of which limits were learned."""
        return {
            webui: replace(state, capabilities=self._limits.applied(webui, state.capabilities))
            for webui in self._limits
            if (state := self._states.get(webui)) and state.capabilities
        }

    def _spawn(self, target: Callable[..., None], name: str, *args: object) -> None:
        thread = threading.Thread(target=target, name=name, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        pace, failing = self._pace, False
        while not self._stopped.is_set():
            try:
                elected = self._election.is_won()
            except StoreError as error:
                if not failing:
                    log.error("the process that probes the WebUIs cannot be elected in RUNTIME_DIR: %s", error)
                failing = True
            else:
                failing = False
                self._begin_or_give_way(elected=elected)
            until = self._clock() + until_beat(pace.share_s)
            while not self._stopped.wait(until_beat(self._period_s)) and self._clock() < until:
                self._refresh(only_changes=True)

    @property
    def _period_s(self) -> float:
        return self._pace.share_s if self._looks else self._pace.refresh_s

    @property
    def _looks(self) -> bool:
        return not self._given_way.is_set()

    def _begin_or_give_way(self, *, elected: bool) -> None:
        looks = self._looks
        if looks and elected:
            self._refresh_limits()
            self._renew_starts()
            self._share()
        else:
            self._refresh()  # whoever begins goes on from what an earlier prober knew, models above all
        if elected and not looks:
            self._given_way = threading.Event()
            for webui in self._clients:
                self._spawn(self._watch, f"probe-{webui}", webui, self._given_way)
        elif looks and not elected:
            self._given_way.set()
            for event in self._wake.values():
                event.set()

    def _refresh(self, *, only_changes: bool = False) -> None:
        before = self._read
        with suppress(StoreError), self._sharing:
            self._read = self._shared.read()
        self._refresh_limits()
        if only_changes and self._read is before:
            return
        now, read = self._clock(), self._read
        with self._mutex:
            # This process may have probed until a moment ago, so its own states count as well.
            by_age = sorted((*self._states.items(), *read.items()), key=lambda one: one[1].seen)
            fresh = {webui: state for webui, state in by_age if 0 <= now - state.seen < self._pace.stale_s}
            self._states = fresh
        if len(fresh) == len(self._clients):
            self._looked.set()

    def _refresh_limits(self) -> None:
        """Whoever runs a job learns them, whichever process looks."""
        with self._mutex:
            if any(state.capabilities and state.capabilities.clamps for state in self._states.values()):
                self._limits.refresh()

    def _watch(self, webui: str, given_way: threading.Event) -> None:
        pace = self._pace
        pause_s = pace.first_pause_s
        beat, turn = divmod(self._places[webui], TOGETHER)
        phase_s = beat * pace.refresh_s + turn * TURN_S
        while not self._stopped.is_set() and not given_way.is_set():
            self._wake[webui].clear()
            before = self._states.get(webui)
            state = self._look_safely(webui, before)
            state = replace(state, start=self._start(webui, available=state.available))
            self._publish(webui, before, state)
            self._log_broken_lists(webui, before, state)
            if state.available and (before is None or not before.available or _paths_differ(before, state)):
                self._on_return(webui)
            if before is None or (before.available, before.reason) != (state.available, state.reason):
                status = "available" if state.available else f"unavailable: {state.reason}"
                log.warning("webui %s", status, extra={"webui": self._places[webui]})
            wait_s = until_beat(pace.interval_s, phase_s=phase_s) if state.available else pause_s
            pause_s = pace.first_pause_s if state.available else min(pause_s * 2, pace.longest_pause_s)
            looked = self._clock()
            if self._wake[webui].wait(wait_s):
                # A failed job wakes the prober, but no sooner than a starting WebUI bears.
                self._stopped.wait(max(0.0, pace.first_pause_s - (self._clock() - looked)))

    def _look_safely(self, webui: str, before: WebUIState | None) -> WebUIState:
        """Whatever a WebUI answers, the next look comes."""
        begun = self._clock()
        try:
            return self._look(webui, before)
        except Exception as error:
            place = {"webui": self._places[webui]}
            log.exception("a look ended in an error: %s", type(error).__name__, extra=place)
            known = before.capabilities if before else None
            return WebUIState(available=False, seen=begun, capabilities=known, reason=type(error).__name__)

    def _log_broken_lists(self, webui: str, before: WebUIState | None, state: WebUIState) -> None:
        """Once when a list breaks, and once when it is whole again."""
        was = _broken_lists(before)
        for route, broken in _broken_lists(state).items():
            if route not in was:
                text = "webui without a usable answer to %s, so the service goes on without it: %s"
                log.warning(text, route, broken.reason, extra={"webui": self._places[webui]})
        for route in was.keys() - _broken_lists(state).keys():
            log.warning("webui answers %s again", route, extra={"webui": self._places[webui]})

    def _look(self, webui: str, before: WebUIState | None) -> WebUIState:
        client = self._clients[webui]
        known = before.capabilities if before else None
        begun = self._clock()
        try:
            if before and before.available and known and begun < self._next_full_look(webui, before):
                models = client.sd_models()
                # KoboldCpp lists nothing as long as it has no image model: what it can do was not known till now.
                if not models or is_native(models) == is_native(known.checkpoints):
                    return replace(before, seen=begun, capabilities=_with_models(known, models))
            seen = client.capabilities(known)
            if known and not seen.checkpoints:
                seen = _with_models(seen, known.checkpoints)
            # What came too late is asked for again with the next look; what is broken may well stay so.
            full_look = 0.0 if any(broken.late for broken in seen.broken) else begun
            return WebUIState(available=True, seen=begun, full_look=full_look, capabilities=seen)
        except WebUITimeoutError as error:
            busy = before is not None and before.available and self._is_busy(webui)
            return WebUIState(available=busy, seen=begun, capabilities=known, reason="" if busy else str(error))
        except WebUIError as error:
            return WebUIState(available=False, seen=begun, capabilities=known, reason=str(error))

    def _next_full_look(self, webui: str, before: WebUIState) -> float:
        """
        A period after the last. Those that were looked at for the first time together are drawn apart once: the second
        comes by half a period earlier at most.
        """
        half_s = self._pace.full_look_s / 2
        earliest = before.full_look + half_s
        return earliest + until_beat(half_s, now=earliest, phase_s=self._places[webui] * self._pace.interval_s)

    def _start(self, webui: str, *, available: bool) -> str:
        """See :class:`WebUIState`."""
        known = self._states.get(webui)
        if known is not None and known.available == available and (known.start or not available):
            return known.start
        try:
            names = self._starts.renew([webui] if available else [], gone=[] if available else [webui])
        except StoreError as error:
            self._log_unnamed(error, webui)
            return ""
        return names.get(webui, "")

    def _renew_starts(self) -> None:
        """Several times before they expire. Another host may have seen that one was started anew."""
        if self._clock() - self._starts_renewed < self._pace.stale_s / 3:
            return
        there = [webui for webui, state in self._states.items() if state.available]
        names: Mapping[str, str] = {}
        try:
            names = self._starts.renew(there)
            self._starts_renewed = self._clock()
        except StoreError as error:
            self._log_unnamed(error)
        with self._mutex:
            self._states = {
                webui: replace(state, start=names.get(webui, "")) if webui in there else state
                for webui, state in self._states.items()
            }

    def _log_unnamed(self, error: StoreError, webui: str | None = None) -> None:
        place = {} if webui is None else {"webui": self._places[webui]}
        log.error("whether a webui was started anew cannot be kept: %s", error, extra=place)

    def _publish(self, webui: str, before: WebUIState | None, state: WebUIState) -> None:
        with self._mutex:
            if not state.available:
                self._limits.forget(webui)
            self._states = {**self._states, webui: state}
        if before is None or replace(before, seen=state.seen, full_look=state.full_look) != state:
            self._share()
        if len(self._states) == len(self._clients):
            self._looked.set()

    def _share(self) -> None:
        with self._sharing:
            try:
                self._shared.write(self._states)
            except (StoreError, ValueError) as error:
                # This process goes on with what it sees; for the others it grows stale.
                why = error if isinstance(error, StoreError) else type(error).__name__
                log.error("what a look at a webui saw cannot be shared with other workers: %s", why)


def _broken_lists(state: WebUIState | None) -> dict[str, BrokenList]:
    return {broken.route: broken for broken in state.capabilities.broken} if state and state.capabilities else {}


def _paths_differ(one: WebUIState, other: WebUIState) -> bool:
    return one.capabilities is not other.capabilities and _paths(one) != _paths(other)


def _paths(state: WebUIState) -> set[str]:
    return {checkpoint.path for checkpoint in state.capabilities.checkpoints} if state.capabilities else set()


def _with_models(known: Capabilities, checkpoints: tuple[Checkpoint, ...]) -> Capabilities:
    """A1111 lists no models, for a moment, while it reads its folder anew: then the last ones count."""
    if not checkpoints or checkpoints == known.checkpoints:
        return known
    return replace(known, checkpoints=checkpoints)
