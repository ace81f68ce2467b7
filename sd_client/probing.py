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
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from sd_client.capabilities import is_native
from sd_client.client import WebUIClient
from sd_client.errors import WebUIError, WebUITimeoutError
from sd_client.learned_limits import LearnedLimits
from sd_client.limits import Limits
from sd_client.models import BrokenList, Capabilities, Checkpoint
from state.election import Election
from state.holders import Holders
from state.store import Store, StoreError

log = logging.getLogger(__name__)

#: Between two looks at a WebUI that is there.
INTERVAL_S = 5.0
#: Between two looks at one that is not: grows to this, from 2 s, the shortest that a starting A1111 bears.
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 10.0
#: Samplers, LoRAs and the GPU change rarely; the list of models is read with every look.
FULL_LOOK_S = 60.0
#: What was seen longer ago than this is from an earlier run: the prober writes at least every INTERVAL_S.
STALE_S = 30.0
#: How soon the other processes learn what the prober saw.
REFRESH_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds; each is explained at its constant above."""

    interval_s: float = INTERVAL_S
    first_pause_s: float = FIRST_PAUSE_S
    longest_pause_s: float = LONGEST_PAUSE_S
    full_look_s: float = FULL_LOOK_S
    stale_s: float = STALE_S
    refresh_s: float = REFRESH_S


@dataclass(frozen=True, kw_only=True)
class WebUIState:
    """
    :param capabilities: the last that were seen, kept while the WebUI is down; None if it never answered.
    :param seen: when it was looked at last, seconds of ``time.monotonic``.
    :param start: names its start as far as it is known: as long as somebody finds it there with every look, it was not
        started anew, and it is the same on all hosts. "" while it is not there, or if that cannot be said.
    :param full_look: when all its capabilities were read.
    :param reason: why it is not available, for the log; "" if it is.
    """

    available: bool
    seen: float
    start: str = ""
    full_look: float = 0.0
    capabilities: Capabilities | None = None
    reason: str = ""


DEFAULT_PACE = Pace()
_STATE = TypeAdapter(WebUIState)


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
        self._pool = hashlib.sha256(" ".join(sorted(clients)).encode()).hexdigest()[:12]
        self._store = store
        self._starts = shared or store
        self._election = Election(store, holders, f"probing:{self._pool}")
        self._is_busy = is_busy
        self._on_return = on_return
        self._pace = pace
        self._clock = clock
        self._states: dict[str, WebUIState] = {}
        # What another process saw, and as it is stored: with many WebUIs, parsing all of it again would take long.
        self._read: dict[str, tuple[bytes, WebUIState]] = {}
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
        failing = False
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
            self._stopped.wait(self._pace.refresh_s)

    def _begin_or_give_way(self, *, elected: bool) -> None:
        looks = not self._given_way.is_set()
        if not looks or not elected:
            self._refresh()  # whoever begins goes on from what an earlier prober knew, models above all
        else:
            self._refresh_limits()
        if elected and not looks:
            self._given_way = threading.Event()
            for webui in self._clients:
                self._spawn(self._watch, f"probe-{webui}", webui, self._given_way)
        elif looks and not elected:
            self._given_way.set()
            for event in self._wake.values():
                event.set()

    def _refresh(self) -> None:
        for webui in self._clients:
            with suppress(StoreError, ValidationError):
                self._read_one(webui)
        self._refresh_limits()
        now = self._clock()
        with self._mutex:
            # This process may have probed until a moment ago, so its own states count as well.
            known = [*self._states.items(), *((webui, state) for webui, (_, state) in self._read.items())]
            by_age = sorted(known, key=lambda one: one[1].seen)
            fresh = {webui: state for webui, state in by_age if 0 <= now - state.seen < self._pace.stale_s}
            self._states = fresh
        if len(fresh) == len(self._clients):
            self._looked.set()

    def _refresh_limits(self) -> None:
        """Whoever runs a job learns them, whichever process looks."""
        with self._mutex:
            clamping = (w for w, state in self._states.items() if state.capabilities and state.capabilities.clamps)
            self._limits.refresh(clamping)

    def _read_one(self, webui: str) -> None:
        raw = self._store.get(self._key(webui))
        if raw is not None and (webui not in self._read or self._read[webui][0] != raw):
            self._read[webui] = raw, _STATE.validate_json(raw)

    def _key(self, webui: str) -> str:
        return f"probe:{self._pool}:{webui}"

    def _watch(self, webui: str, given_way: threading.Event) -> None:
        pace = self._pace
        pause_s = pace.first_pause_s
        while not self._stopped.is_set() and not given_way.is_set():
            self._wake[webui].clear()
            before = self._states.get(webui)
            state = self._look_safely(webui, before)
            state = replace(state, start=self._named_start(webui, available=state.available))
            self._publish(webui, state)
            self._log_broken_lists(webui, before, state)
            if state.available and (before is None or not before.available or _paths(before) != _paths(state)):
                self._on_return(webui)
            if before is None or (before.available, before.reason) != (state.available, state.reason):
                status = "available" if state.available else f"unavailable: {state.reason}"
                log.warning("webui %s", status, extra={"webui": self._places[webui]})
            wait_s = pace.interval_s if state.available else pause_s
            pause_s = pace.first_pause_s if state.available else min(pause_s * 2, pace.longest_pause_s)
            # A failed job wakes the prober, but no sooner than a starting WebUI bears.
            if not self._stopped.wait(min(wait_s, pace.first_pause_s)):
                self._wake[webui].wait(max(0.0, wait_s - pace.first_pause_s))

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
            if before and before.available and known and begun - before.full_look < self._pace.full_look_s:
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

    def _named_start(self, webui: str, *, available: bool) -> str:
        """The name that the last look of any host gave it, if that was not too long ago."""
        key = f"webui-start:{webui}"
        try:
            if not available:
                self._starts.delete(key)
                return ""
            name = self._starts.get(key) or uuid.uuid4().hex.encode()
            self._starts.put(key, name, ttl_s=self._pace.stale_s)
        except StoreError as error:
            log.error(
                "whether a webui was started anew cannot be kept: %s", error, extra={"webui": self._places[webui]}
            )
            return ""
        return name.decode()

    def _publish(self, webui: str, state: WebUIState) -> None:
        with self._mutex:
            if not state.available:
                self._limits.forget(webui)
            self._states = {**self._states, webui: state}
            try:
                self._store.put(self._key(webui), _STATE.dump_json(state), ttl_s=self._pace.stale_s)
            except (StoreError, ValueError) as error:
                # This process goes on with what it sees; for the others it grows stale.
                why = error if isinstance(error, StoreError) else type(error).__name__
                log.error("what a look at a webui saw cannot be shared with other workers: %s", why)
            if len(self._states) == len(self._clients):
                self._looked.set()


def _broken_lists(state: WebUIState | None) -> dict[str, BrokenList]:
    return {broken.route: broken for broken in state.capabilities.broken} if state and state.capabilities else {}


def _paths(state: WebUIState) -> set[str]:
    return {checkpoint.path for checkpoint in state.capabilities.checkpoints} if state.capabilities else set()


def _with_models(known: Capabilities, checkpoints: tuple[Checkpoint, ...]) -> Capabilities:
    """A1111 lists no models, for a moment, while it reads its folder anew: then the last ones count."""
    return replace(known, checkpoints=checkpoints or known.checkpoints)
