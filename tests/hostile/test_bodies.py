"""Bodies that cost more than they weigh: they are refused while they come, and nobody else waits for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from simulator import Simulator
from tests.api.bad_inputs import BOUNDARY, PNG, part, text
from tests.hostile.senders import forget_peak, head, peak_bytes, send_at_once, watching_health, worker_of
from tests.running import Service, running_service, wait_until

#: The largest that is taken; it is sent in pieces, so that the senders need no memory of their own.
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
        running.post("/txt2img", {"prompt": "a", "width": 64, "height": 64, "steps": 1})
        yield running


def filled(route: str, start: bytes, filling: bytes, kind: str = "application/json") -> Callable[[], Iterator[bytes]]:
    """A body of the largest size: a beginning, and then the same again and again."""

    def pieces() -> Iterator[bytes]:
        yield head(route, SIZE, kind)
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


@pytest.mark.parametrize("name", BODIES)
def test_memory_is_bounded_and_health_is_answered(service: Service, name: str) -> None:
    body, status = BODIES[name]
    worker = worker_of(service)
    forget_peak(worker)
    before = peak_bytes(worker)
    with watching_health(service) as watch:
        answers = send_at_once(service, CALLERS, body)
    grown = peak_bytes(worker) - before
    print(f"{name}: {grown / 1e6:.0f} MB more, health within {watch.worst_s:.2f} s")

    told = [answer for answer in answers if answer]
    assert all(answer.startswith(b"HTTP/1.1 " + status) for answer in told), told
    assert grown < (MOST_FOR_PICTURES if "picture that" in name or "picture of" in name else MOST_BYTES)
    assert watch.worst_s < 5
    wait_until(lambda: service.get("/health").json()["queue"]["waiting"] == 0, "nothing is left of it")


def test_bodies_beyond_the_memory_for_all_are_refused_and_the_others_are_not(service: Service) -> None:
    """24 pictures of 24 MB are more than 512 MB: most are held at a time, the rest are told to come again."""
    start = b'{"prompt":"a","image":"' + text(PNG[: len(PNG) // 3 * 3]).encode()
    worker = worker_of(service)
    forget_peak(worker)
    before = peak_bytes(worker)
    with watching_health(service) as watch:
        answers = send_at_once(service, 24, filled("img2img", start, b"QUJD"))
    grown = peak_bytes(worker) - before
    print(f"24 pictures of 24 MB: {grown / 1e6:.0f} MB more, health within {watch.worst_s:.2f} s")

    statuses = {answer[9:12] for answer in answers if answer}
    assert statuses <= {b"400", b"503"}
    assert grown < 1_000_000_000
    assert service.post("/txt2img", {"prompt": "a", "width": 64, "height": 64, "steps": 1}).status_code == 200
