"""gunicorn's threaded worker, changed where it deals with connections.

A request takes a thread once its head is complete and its response has room, until the response has been sent. All
other connections belong to one poller in the main thread: those that wait for their next request, for the rest of a
head, or for their caller to take earlier responses; and those that are ending, from which incoming bytes are discarded.
Each has a deadline, nothing blocks on one, and if there are too many, the one with the nearest deadline is closed.
gunicorn itself waits in its main thread for callers who close, and lets each silent one keep a thread for seconds.

Two more differences: if a caller's next request arrives at once, the same thread answers it, since handing the
connection to the main thread and back costs as much CPU as a health check. And invalid HTTP is answered and logged like
everything else: gunicorn answers HTML that quotes the caller, and logs its address and its request line, which may
contain a prompt or a key.

How a worker stops: ``docs/decisions/0014-connections.md``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import select
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.sock import ssl_context
from gunicorn.workers.gthread import ThreadWorker

from api.connection import PAUSE_S, Connection, ConnectionResponse, Next
from api.no_request import refusal
from api.siblings import SIBLINGS, State
from sd_client.deadlines import until_beat

log = logging.getLogger(__name__)

#: How long a thread waits for its caller's next request, and how many threads may do so at a time: half of
#: ``config.SPARE_THREADS``, since others may need them.
_LINGER_MS = 2
_MOST_LINGERING = 8

#: How long a stopping worker keeps idle connections: a request may just be on its way.
_STOPPING_S = 2.0
#: How long a worker waits at first: when the whole service stops, its workers learn of it one after the other.
_SETTLED_S = 0.2
#: How long a worker waits for its successor to start, and the successor for its first look at the WebUIs.
_COMING_S = 60.0
_FIRST_LOOK_S = 10.0

#: The states of workers that accept connections, or will.
_TAKERS = (State.SERVING, State.COMING, State.STOPPING)

#: How often connections past their deadline are closed.
_SWEEP_S = 0.25


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """
    To be named as gunicorn's ``logger_class``. The service logs each request itself; gunicorn would format another line
    for each, for a logger that writes none.
    """

    access_log_enabled = False


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """
    To be named as gunicorn's ``worker_class``.

    :cvar head_s: seconds in which a request's head must arrive, counted from its first byte.
    :cvar send_s: seconds in which a caller must take the next piece of a response. A large one as a whole has another
        deadline (``transfers.WHOLE_ANSWER_S``).
    """

    head_s = 20.0
    send_s = 30.0

    alive: bool

    def __init__(self, age: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(age, *args, **kwargs)
        SIBLINGS.set_state(age, State.COMING)
        self._lingering = threading.BoundedSemaphore(_MOST_LINGERING)
        self._waiting: set[Connection] = set()
        self._swept = 0.0
        self._takes_callers = False
        self._got_signal = False
        self._in_a_hurry = False
        self._drained_at: float | None = None

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl_context(self.cfg) if self.cfg.is_ssl else None

    # In the main thread: nothing here waits for a caller.

    def run(self) -> None:
        """Serves until a signal stops it, then finishes what has begun."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        if SIBLINGS.any_other_is(State.SERVING, State.STOPPING, age=self.age):
            looked = self._extension("looked")
            self._run_until(lambda: bool(looked()) or not self.alive, most_s=_FIRST_LOOK_S)
        # If it is stopped before its first look, it leaves callers to the others, if there are any.
        self._takes_callers = self.alive or not SIBLINGS.any_other_is(*_TAKERS, age=self.age)
        if self.alive:
            SIBLINGS.set_state(self.age, State.SERVING)
        self._run_until(lambda: not self.alive, each_s=1.0)
        self._stop()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called for SIGTERM."""
        SIBLINGS.set_state(self.age, State.STOPPING)
        self._got_signal = True
        super().handle_exit(sig, frame)

    def _stop(self) -> None:
        """
        If another worker serves, that one takes new callers from now on. Otherwise this one tells them that the service
        is stopping, for as long as jobs run.
        """
        SIBLINGS.set_state(self.age, State.STOPPING)
        self._run_until(lambda: False, most_s=_SETTLED_S)
        self._run_until(self._another_serves_or_none_comes, most_s=_COMING_S)
        self._hurry()
        idle = self._extension("idle")
        self._run_until(lambda: not self._is_the_last() or bool(idle()) or self._is_late())
        self._stop_accepting()
        SIBLINGS.set_state(self.age, State.GONE)
        self._run_until(lambda: self.nr_conns == 0 or (self._is_the_last() and self._is_late()))
        self.tpool.shutdown(wait=False)
        self.poller.close()
        self.method_queue.close()

    def _another_serves_or_none_comes(self) -> bool:
        serves = SIBLINGS.any_other_is(State.SERVING, age=self.age)
        return serves or not SIBLINGS.any_other_is(State.COMING, age=self.age)

    def _is_the_last(self) -> bool:
        """Whether the whole service stops; if so, waiting jobs are dropped."""
        if not self._got_signal or SIBLINGS.any_other_is(State.SERVING, State.COMING, age=self.age):
            return False
        if self._drained_at is None:
            self._drained_at = time.monotonic()
            self._extension("drain")()
        return True

    def _is_late(self) -> bool:
        """Whether gunicorn's master is about to kill what is left."""
        return self._drained_at is not None and time.monotonic() > self._drained_at + self.cfg.graceful_timeout

    def _extension(self, name: str) -> Callable[[], object]:
        """The application's function of this name; one that returns True if there is none."""
        known: dict[str, Callable[[], object]] = getattr(self.wsgi, "extensions", {})
        return known.get(name, lambda: True)

    def _stop_accepting(self) -> None:
        """Callers who are connected already are served; later ones go to another worker, or are refused."""
        takes_callers, self._takes_callers = self._takes_callers, False
        self.set_accept_enabled(False)
        for listener in self.sockets:
            for _ in range(self.worker_connections if takes_callers else 0):
                if not self.accept(listener):
                    break
            listener.close()

    def _run_until(self, reached: Callable[[], bool], *, each_s: float = 0.1, most_s: float = float("inf")) -> None:
        ends = time.monotonic() + most_s
        while not reached() and time.monotonic() < ends:
            self._step(min(until_beat(each_s), max(0.0, ends - time.monotonic())))

    def _step(self, most_s: float) -> None:
        self.notify()
        self.set_accept_enabled(self._takes_callers and (self._has_room() or bool(self._waiting)))
        for key, _ in self.poller.select(most_s):
            key.data(key.fileobj)
        now = time.monotonic()
        if now - self._swept >= _SWEEP_S:
            self._swept = now
            for late in [conn for conn in self._waiting if conn.until <= now]:
                self._close(late)
        if self.alive and not self.is_parent_alive():
            self.handle_exit(0, None)

    def _has_room(self) -> bool:
        return bool(self.nr_conns < self.worker_connections)

    def accept(self, listener: Any) -> bool:
        """Returns whether somebody was there."""
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionError):
            return False
        except OSError as error:
            log.warning("a connection cannot be accepted: %s", error.strerror)
            self._make_room()  # the reason may be that there are no more file descriptors
            self.set_accept_enabled(False)  # until the next step
            return False
        if not self._has_room():
            self._make_room()
        self.nr_conns += 1
        self.enqueue_req(Connection(sock, client, listener.getsockname(), self.cfg, send_s=self.send_s))
        return True

    def _make_room(self) -> None:
        """Closes a connection that only waits: the one that would be closed next anyway."""
        if self._waiting:
            self._close(min(self._waiting, key=lambda conn: conn.until))

    def finish_request(self, conn: Connection, future: Future[Next]) -> None:
        """Called when a thread is done with a connection."""
        then = Next.END if future.cancelled() or future.exception() else future.result()
        now = time.monotonic()
        try:
            if then is Next.END:
                self._end(conn)
            elif then is Next.ROOM:
                self._wait(conn, selectors.EVENT_WRITE, now + self.send_s, self._go_on)
            elif then is Next.REQUEST and conn.has_more:
                self.enqueue_req(conn)  # others go first
            elif conn.head_since is not None:
                self._wait(conn, selectors.EVENT_READ, conn.head_since + self.head_s, self._go_on)
            else:
                self._wait(conn, selectors.EVENT_READ, now + self.cfg.keepalive, self._go_on)
        except (OSError, ValueError, KeyError):  # it has been closed
            self._close(conn)

    def _wait(self, conn: Connection, event: int, until: float, then: Callable[[Connection], None]) -> None:
        now = time.monotonic()
        conn.until = min(until, now + _STOPPING_S) if self._in_a_hurry else until
        if conn.until <= now:  # a caller who sends byte after byte is hardly ever among those who wait
            self._close(conn)
            return
        self._waiting.add(conn)
        if event:
            self.poller.register(conn.sock, event, lambda _: then(conn))

    def _go_on(self, conn: Connection) -> None:
        if conn in self._waiting:  # else it has just been closed
            self._waiting.remove(conn)
            self.poller.unregister(conn.sock)
            self.enqueue_req(conn)

    def _end(self, conn: Connection) -> None:
        """Called when the response has been sent, or there is none."""
        now = time.monotonic()
        if conn.stopped_reading():
            self._wait(conn, 0, now + PAUSE_S, self._discard)
        elif conn.half_close():
            self._wait(conn, selectors.EVENT_READ, now + PAUSE_S, self._discard)
        else:
            self._close(conn)

    def _discard(self, conn: Connection) -> None:
        if conn in self._waiting and not conn.discard():
            self._close(conn)

    def _close(self, conn: Connection) -> None:
        self._waiting.discard(conn)
        with contextlib.suppress(OSError, ValueError, KeyError):  # it is not with the poller
            self.poller.unregister(conn.sock)
        conn.close()
        self.nr_conns -= 1

    def _hurry(self) -> None:
        self._in_a_hurry = True
        latest = time.monotonic() + _STOPPING_S
        for conn in self._waiting:
            conn.until = min(conn.until, latest)

    # In one thread per request.

    def handle(self, conn: Connection) -> Next:
        """Called for every connection on which something has arrived."""
        try:
            if not conn.is_open:
                conn.open(self._tls)
            while (then := self._handle_one(conn)) is Next.REQUEST and self._more_comes(conn):
                pass
            return then
        except OSError as error:
            ended = isinstance(error, ConnectionError | BlockingIOError | TimeoutError | ssl.SSLError)
            if not ended and error.errno != errno.ENOTCONN:
                log.exception("a connection failed")
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a response
            self.handle_error(None, conn.sock, conn.client, error)
        return Next.END

    def _handle_one(self, conn: Connection) -> Next:
        if not conn.has_room:
            return Next.ROOM
        request = conn.next_request()
        if isinstance(request, Next):
            return request
        return Next.REQUEST if self.handle_request(request, conn) else Next.END

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Returns whether the connection can be used for another request."""
        response, environ = wsgi.create(
            req, conn.sock, conn.client, conn.server, self.cfg, response_class=ConnectionResponse, response_args=(conn,)
        )
        environ["wsgi.multithread"] = True
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive:
            response.force_close()
        try:
            self._send(self.wsgi(environ, response.start_response), response, environ)
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise
            log.exception("a response broke off")
            return False
        return not response.should_close()

    @staticmethod
    def _send(body: Any, response: ConnectionResponse, environ: dict[str, Any]) -> None:
        try:
            if isinstance(body, environ["wsgi.file_wrapper"]):
                response.write_file(body)
            else:
                for piece in body:
                    response.write(piece)
            response.close()
        finally:
            if hasattr(body, "close"):
                body.close()

    def _more_comes(self, conn: Connection) -> bool:
        """Not if it has arrived already, before the response to the last one: others go first."""
        if not self.alive or self.cfg.is_ssl or conn.has_more:
            return False
        if not self._lingering.acquire(blocking=False):
            return False
        try:
            waiting = select.poll()
            waiting.register(conn.sock, select.POLLIN)
            return bool(waiting.poll(_LINGER_MS))
        finally:
            self._lingering.release()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answers a request with which the service cannot be called."""
        with contextlib.suppress(OSError):
            client.sendall(refusal(exc, errors_page=self.wsgi.config["ERRORS_PAGE"]))
