"""The listening socket, and one thread for every connection."""

import contextlib
import itertools
import socket
import ssl
import struct
import threading

from simulator.connection import Connection
from simulator.site import Site

BACKLOG = 256


class Server:
    """Accepts connections for a site until it is closed.

    :param port: 0 for any free one.
    :param certificate: a PEM file with certificate and key, to speak TLS.
    :raises OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, site: Site, *, certificate: str | None = None) -> None:
        self._site = site
        self._tls = _tls(certificate) if certificate else None
        self._listener = socket.create_server((host, port), backlog=BACKLOG)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        slots = site.flavour.connection_threads
        self._slots: contextlib.AbstractContextManager[object] = (
            threading.BoundedSemaphore(slots) if slots else contextlib.nullcontext()
        )
        self._acceptor = threading.Thread(target=self._accept, name="simulator-accept", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._listener.getsockname()[:2]
        return (host, port)

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def close(self) -> None:
        """Stop accepting, break every connection, and wait until all threads have ended."""
        # A close alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._acceptor.is_alive():
            self._acceptor.join()
        with self._lock:
            threads = list(self._open.values())
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        for number in itertools.count(1):
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._site.faults.take_at_accept():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            else:
                self._begin(sock, number)

    def _begin(self, sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            try:
                # The handshake comes with the first byte read, in the connection's own thread.
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except OSError:  # The client has gone already.
                return
        thread = threading.Thread(target=self._serve, args=(sock, number), name=f"simulator-{number}", daemon=True)
        with self._lock:
            self._open[sock] = thread
        thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            with self._slots:
                Connection(sock, number, self._site).serve()
        finally:
            sock.close()
            with self._lock:
                del self._open[sock]


def _tls(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context
