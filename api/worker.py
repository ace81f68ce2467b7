"""gunicorn's threaded worker where it meets what comes over a connection, before any of the service does.

A thread is taken only by a request whose head is whole and whose answer has room, until the answer is out. All other
connections are with one poller in the main thread: those that wait for their next request, for the rest of a head, or
until their caller takes the answers before; and those that end, of which what still comes is discarded. Each has a
deadline, none is waited for, and the one that has waited longest makes room where there are too many. gunicorn itself
waits for callers who close, in its main thread, and lets each silent one keep a thread for some seconds.

Two more things are other than gunicorn has them. A caller's next request, where it comes at once, is answered by the
same thread: to give its connection to the main thread and have it back costs as much as a health check. And what is no
HTTP is answered and logged as everything else is: gunicorn answers HTML that quotes the caller, and logs its address
and its request line, in which a prompt or a key may stand.

How it stops: ``docs/decisions/0014-connections.md``.
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

from api.connection import PAUSE_S, Answer, Connection, Next
from api.no_request import refusal
from api.siblings import SIBLINGS, State

log = logging.getLogger(__name__)

#: What a thread waits for a caller's next request, and how many threads may at a time: each may be wanted by others,
#: and these are half of ``config.SPARE_THREADS``.
_LINGER_MS = 2
_MOST_LINGERING = 8

#: How long a stopping worker keeps connections that wait, for a request that may just be on its way.
_STOPPING_S = 2.0
#: A stop of the whole service reaches its workers one after the other.
_SETTLED_S = 0.2
#: What is waited for another worker that starts, and by that one for its first look at the WebUIs.
_COMING_S = 60.0
_FIRST_LOOK_S = 10.0

#: Who takes callers, or will.
_TAKERS = (State.SERVING, State.COMING, State.STOPPING)

#: How often connections are looked through for those that are late.
_SWEEP_S = 0.25


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """
    To be named as gunicorn's ``logger_class``: each request has its line from the service itself. gunicorn would put
    together its own for each, for a logger that writes none.
    """

    access_log_enabled = False


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """
    To be named as gunicorn's ``worker_class``.

    :cvar head_s: seconds in which a request's head must come, from its first byte on.
    :cvar send_s: seconds in which a caller must take the next piece of an answer. A large one as a whole has a deadline
        of its own (``transfers.WHOLE_ANSWER_S``).
    """

    head_s = 20.0
    send_s = 30.0

    alive: bool

    def __init__(self, age: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(age, *args, **kwargs)
        SIBLINGS.tell(age, State.COMING)
        self._lingering = threading.BoundedSemaphore(_MOST_LINGERING)
        self._waiting: set[Connection] = set()
        self._swept = 0.0
        self._takes_callers = False
        self._told_to_stop = False
        self._in_a_hurry = False
        self._drained_at: float | None = None

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl_context(self.cfg) if self.cfg.is_ssl else None

    # In the main thread: none of these waits for a caller.

    def run(self) -> None:
        """Serves until a signal stops it, and ends what has begun."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        if SIBLINGS.others_are(State.SERVING, State.STOPPING, age=self.age):
            looked = self._extension("looked")
            self._turn_until(lambda: bool(looked()) or not self.alive, most_s=_FIRST_LOOK_S)
        # One that is stopped before it has looked leaves callers to the others, if there are any.
        self._takes_callers = self.alive or not SIBLINGS.others_are(*_TAKERS, age=self.age)
        if self.alive:
            SIBLINGS.tell(self.age, State.SERVING)
        self._turn_until(lambda: not self.alive, each_s=1.0)
        self._stop()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called for SIGTERM."""
        SIBLINGS.tell(self.age, State.STOPPING)
        self._told_to_stop = True
        super().handle_exit(sig, frame)

    def _stop(self) -> None:
        """
        Where another worker serves, that one takes new callers from now on; else they are answered here that the
        service is stopping, as long as jobs run.
        """
        SIBLINGS.tell(self.age, State.STOPPING)
        self._turn_until(lambda: False, most_s=_SETTLED_S)
        self._turn_until(self._another_serves_or_none_comes, most_s=_COMING_S)
        self._hurry()
        idle = self._extension("idle")
        self._turn_until(lambda: not self._is_the_last() or bool(idle()) or self._is_late())
        self._stop_accepting()
        SIBLINGS.tell(self.age, State.GONE)
        self._turn_until(lambda: self.nr_conns == 0 or (self._is_the_last() and self._is_late()))
        self.tpool.shutdown(wait=False)
        self.poller.close()
        self.method_queue.close()

    def _another_serves_or_none_comes(self) -> bool:
        serves = SIBLINGS.others_are(State.SERVING, age=self.age)
        return serves or not SIBLINGS.others_are(State.COMING, age=self.age)

    def _is_the_last(self) -> bool:
        """Whether the whole service stops; then jobs that wait are dropped."""
        if not self._told_to_stop or SIBLINGS.others_are(State.SERVING, State.COMING, age=self.age):
            return False
        if self._drained_at is None:
            self._drained_at = time.monotonic()
            self._extension("drain")()
        return True

    def _is_late(self) -> bool:
        """Whether gunicorn's master is about to kill what is left."""
        return self._drained_at is not None and time.monotonic() > self._drained_at + self.cfg.graceful_timeout

    def _extension(self, name: str) -> Callable[[], object]:
        """Of the application, where it has any."""
        known: dict[str, Callable[[], object]] = getattr(self.wsgi, "extensions", {})
        return known.get(name, lambda: True)

    def _stop_accepting(self) -> None:
        """Whoever is connected already is served; whoever comes later is another worker's, or refused."""
        takes_callers, self._takes_callers = self._takes_callers, False
        self.set_accept_enabled(False)
        for listener in self.sockets:
            for _ in range(self.worker_connections if takes_callers else 0):
                if not self.accept(listener):
                    break
            listener.close()

    def _turn_until(self, reached: Callable[[], bool], *, each_s: float = 0.1, most_s: float = float("inf")) -> None:
        ends = time.monotonic() + most_s
        while not reached() and time.monotonic() < ends:
            self._turn(min(each_s, max(0.0, ends - time.monotonic())))

    def _turn(self, most_s: float) -> None:
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
        """Whether somebody was there."""
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionError):
            return False
        except OSError as error:
            log.warning("a connection cannot be accepted: %s", error.strerror)
            self._make_room()  # the reason may be that there are no more file descriptors
            self.set_accept_enabled(False)  # until the next turn
            return False
        if not self._has_room():
            self._make_room()
        self.nr_conns += 1
        self.enqueue_req(Connection(sock, client, listener.getsockname(), self.cfg, send_s=self.send_s))
        return True

    def _make_room(self) -> None:
        """One that only waits is closed: the one that would be closed next anyway."""
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
        conn.until = min(until, time.monotonic() + _STOPPING_S) if self._in_a_hurry else until
        self._waiting.add(conn)
        if event:
            self.poller.register(conn.sock, event, lambda _: then(conn))

    def _go_on(self, conn: Connection) -> None:
        if conn in self._waiting:  # else it has just been closed
            self._waiting.remove(conn)
            self.poller.unregister(conn.sock)
            self.enqueue_req(conn)

    def _end(self, conn: Connection) -> None:
        """Its answer is out, or there is none."""
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

    # In a thread of its own for each request.

    def handle(self, conn: Connection) -> Next:
        """Called for every connection on which something came."""
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
        except Exception as error:  # noqa: BLE001 - whatever it is, its caller gets an answer
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
        """Whether the connection can be used for another request."""
        answer, environ = wsgi.create(
            req, conn.sock, conn.client, conn.server, self.cfg, response_class=Answer, response_args=(conn,)
        )
        environ["wsgi.multithread"] = True
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive:
            answer.force_close()
        try:
            self._send(self.wsgi(environ, answer.start_response), answer, environ)
        except OSError:
            raise
        except Exception:
            if not answer.headers_sent:
                raise
            log.exception("an answer broke off")
            return False
        return not answer.should_close()

    @staticmethod
    def _send(body: Any, answer: Answer, environ: dict[str, Any]) -> None:
        try:
            if isinstance(body, environ["wsgi.file_wrapper"]):
                answer.write_file(body)
            else:
                for piece in body:
                    answer.write(piece)
            answer.close()
        finally:
            if hasattr(body, "close"):
                body.close()

    def _more_comes(self, conn: Connection) -> bool:
        """Not where it is here already, sent before it was its turn: others go first."""
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
        """Answers what is no request that the service could be called with."""
        with contextlib.suppress(OSError):
            client.sendall(refusal(exc, errors_page=self.wsgi.config["ERRORS_PAGE"]))
