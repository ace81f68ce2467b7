"""Bodies that cost more than they weigh: they are refused while they come, and nobody else waits for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from simulator import Simulator
from tests.api.bad_inputs import BOUNDARY, PNG, part, text
from tests.hostile.innocent import SMALL, assert_nothing_noticed, innocent_callers
from tests.hostile.memory import Peak
from tests.hostile.wire import head, send_all_then_read
from tests.running import PREFIX, Service, running_service

#: The largest that is taken; it is sent in pieces, so that the senders need no memory.
SIZE = 32 * 1024 * 1024
PIECE = 256 * 1024
CALLERS = 12
FORM = f"multipart/form-data; boundary={BOUNDARY}"

#: Beside what an idle worker has: the beginning of each body, and one that is parsed.
MOST_BYTES = 150_000_000
#: For what may be a picture up to its end: all of them once, and one as text and decoded.
MOST_FOR_PICTURES = CALLERS * SIZE + 200_000_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Simulator() as webui, running_service(tmp_path_factory.mktemp("bodies"), webui.url, workers=1) as running:
        running.wait_until_answering()
        running.post("/txt2img", SMALL)
        yield running


def filled(route: str, start: bytes, filling: bytes, kind: str = "application/json") -> Callable[[], Iterator[bytes]]:
    """A body of the largest size: a beginning, and then the same again and again."""

    def pieces() -> Iterator[bytes]:
        fields = f"Content-Type: {kind}", f"Content-Length: {SIZE}", "Connection: close"
        yield head("POST", f"{PREFIX}/{route}", *fields)
        yield start
        left, whole = SIZE - len(start), filling * (PIECE // len(filling))
        while left > 0:
            yield whole[:left]
            left -= len(whole)

    return pieces


#: name -> (body, the status)
BODIES: dict[str, tuple[Callable[[], Iterator[bytes]], bytes]] = {
    "little lists": (filled("txt2img", b'{"prompt":[', b"[],"), b"413"),
    "little objects": (filled("txt2img", b'{"prompt":[', b'{"a":{}},'), b"413"),
    "little numbers": (filled("txt2img", b"[", b"1e1,"), b"413"),
    "empty texts": (filled("txt2img", b'{"prompt":[', b'"",'), b"413"),
    "names": (filled("txt2img", b"{", b'"a":1,'), b"413"),
    "lists in lists": (filled("txt2img", b"", b"["), b"413"),
    "white space": (filled("txt2img", b'{"prompt":"a"', b" "), b"413"),
    "the same picture again and again": (filled("img2img", b"{", b'"image":"QUJD",'), b"413"),
    "a Uint8Array": (filled("img2img", b'{"image":{"0":137', b',"1":80'), b"422"),
    "a picture that is no base64": (filled("img2img", b'{"image":"', b"?"), b"400"),
    "a picture of blanks": (filled("img2img", b'{"image":"', b"A "), b"400"),
    "a form of little parts": (filled("txt2img", b"", part("a", b""), FORM), b"413"),
    "a form of one text": (filled("txt2img", part("prompt", b"a"), b"a", FORM), b"413"),
    "a part without an end": (filled("txt2img", part("prompt", b"a")[:-2], b"a", FORM), b"413"),
    "a head without an end": (filled("txt2img", f"--{BOUNDARY}\r\nX-A: ".encode(), b"a", FORM), b"400"),
}


def answers_to(service: Service, callers: int, body: Callable[[], Iterator[bytes]]) -> tuple[set[bytes], int]:
    """The statuses that so many callers got at the same time, and how much the worker's memory grew meanwhile."""
    peak = Peak(service)
    with innocent_callers(service.root) as innocent, ThreadPoolExecutor(callers) as threads:
        sent = [threads.submit(send_all_then_read, service.port, body()) for _ in range(callers)]
        statuses = {one.result()[9:12] for one in sent}
    print(f"{peak.grown_bytes / 1e6:.0f} MB more; waits: {[round(calls.worst_s, 2) for calls in innocent]} s")
    assert_nothing_noticed(*innocent)
    return statuses, peak.grown_bytes


@pytest.mark.parametrize("name", BODIES)
def test_memory_is_bounded_and_nobody_else_notices(service: Service, name: str) -> None:
    body, status = BODIES[name]
    statuses, grown = answers_to(service, CALLERS, body)
    assert statuses == {status}
    assert grown < (MOST_FOR_PICTURES if "picture that" in name or "picture of" in name else MOST_BYTES)


def test_bodies_beyond_the_memory_for_all_are_refused_and_the_others_are_not(service: Service) -> None:
    """24 pictures of 24 MB are more than 512 MB: most are held at a time, the rest are told to come again."""
    start = b'{"prompt":"a","image":"' + text(PNG[: len(PNG) // 3 * 3]).encode()
    statuses, grown = answers_to(service, 24, filled("img2img", start, b"QUJD"))
    assert statuses <= {b"400", b"503"}
    assert grown < 1_000_000_000
