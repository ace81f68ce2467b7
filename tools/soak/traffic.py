"""Callers of every kind, and the answers they got."""

from __future__ import annotations

import base64
import io
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import requests
from PIL import Image

from tests.api.bad_inputs import BAD_REQUESTS, MASK, PNG, text
from tests.running import PREFIX, Service
from tests.services import picture_samples as samples

#: Longer than the service lets a job wait and run: without an answer after this, there will be none.
PATIENCE_S = 90.0

#: How a generation may end while WebUIs, Redis and workers fail; everything else is a finding.
PAINTING = frozenset(
    {"200", "webui_error", "webui_unavailable", "gpu_out_of_memory", "webui_timeout", "queue_full", "queue_timeout"}
)
#: The same at the doors, by status: OpenAI's has another one where a retry would end in the same way.
DOORS_PAINTING = frozenset({"200", "400", "502", "503", "504"})
_PHOTO = samples.encode(samples.noise(200, 120), "JPEG", exif=samples.exif_orientation(6))
_FEW_BAD = tuple(bad for bad in BAD_REQUESTS if len(bad.body) < 20_000 and "model" not in bad.fields)
_MOST_IDS = 5000


#: The kinds whose requests are all answered, so that it is known what the service must have counted.
COUNTABLE = frozenset({"txt2img", "img2img", "inpainting", "retry", "image", "health", "models", "cancel", "bad"})

#: Refused before the limit on generations counts.
_UNCOUNTED = frozenset({400, 401, 404, 405, 408, 411, 413, 414, 415, 417, 422, 429, 431, 501})


@dataclass
class Counts:
    """
    What the service must have counted, according to its answers.

    :ivar calls: of all routes with a limit; :ivar generations: of these, those that asked for a place on a WebUI.
    :ivar keyed: pictures that an Idempotency-Key leads to.
    """

    calls: int = 0
    generations: int = 0
    keyed: set[str] = field(default_factory=set)


@dataclass
class Tally:
    """What all callers saw, together. Times are of ``time.monotonic``."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    #: When the request was sent and when its connection broke without an answer, and whose it was.
    lost: list[tuple[float, float, str]] = field(default_factory=list)
    #: When each request was sent, its kind, and the seconds until its last answer.
    took: list[tuple[float, str, float]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    slowest_health_s: float = 0.0
    counts: Counts = field(default_factory=lambda: Counts())

    def recent(self, draw: random.Random) -> str | None:
        return draw.choice(self.images[-_MOST_IDS:]) if self.images else None


class Caller(threading.Thread):
    """Sends one request after another, each of a random kind, until ``ended`` is set."""

    def __init__(
        self,
        service: Service,
        tally: Tally,
        mutex: threading.Lock,
        ended: threading.Event,
        seed: int,
        kinds: Container[str] | None = None,
        *,
        pause_s: float = 0.0,
        sides: Sequence[int] = (64, 64, 128),
    ) -> None:
        """
        :param kinds: of requests; None for all. :param pause_s: the mean pause before a request, in seconds.
        :param sides: of the pictures, in pixels; one of them is drawn for each generation.
        """
        super().__init__(name=f"caller-{seed}")
        self._service = service
        self._tally = tally
        self._mutex = mutex
        self._ended = ended
        self._draw = random.Random(seed)
        self._pause_s = pause_s
        self._sides = sides
        every: Mapping[str, tuple[int, Callable[[], None]]] = {
            "txt2img": (8, self._txt2img),
            "img2img": (4, self._img2img),
            "inpainting": (4, self._inpainting),
            "openai": (2, self._openai),
            "a1111": (2, self._a1111),
            "retry": (4, self._retry),
            "image": (8, self._image),
            "health": (4, self._health),
            "models": (2, self._models),
            "cancel": (3, self._cancel),
            "hang-up": (3, self._hang_up),
            "slow": (1, self._slow),
            "bad": (8, self._bad),
        }
        self._kinds = {name: every[name] for name in every if kinds is None or name in kinds}

    def run(self) -> None:
        names = list(self._kinds)
        weights = [self._kinds[name][0] for name in names]
        while not self._ended.is_set():
            name = self._draw.choices(names, weights)[0]
            if self._pause_s and self._ended.wait(self._draw.expovariate(1 / self._pause_s)):
                return
            sent = time.monotonic()
            try:
                self._kinds[name][1]()
                with self._mutex:
                    self._tally.took.append((sent, name, time.monotonic() - sent))
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, ConnectionError):
                with self._mutex:
                    self._tally.lost.append((sent, time.monotonic(), name))
            except requests.Timeout:
                self._find(f"{name}: no answer within {PATIENCE_S:g} s")

    # --- Kinds of request ------------------------------------------------------------------------------------------

    def _txt2img(self) -> None:
        form = self._draw.choice(["base64", "url", "png"])
        if form == "png":
            answer = self._post("txt2img", self._fields(), headers={"Accept": "image/png"})
            if self._painted("txt2img", answer):
                self._look_at(answer.content, answer.headers["X-Image-Id"], "Location" in answer.headers)
        else:
            fields = {**self._fields(), "response_format": form, "batch_size": self._draw.choice([1, 1, 2])}
            self._take("txt2img", self._post("txt2img", fields))

    def _img2img(self) -> None:
        fields = {**self._fields(), "resize_mode": self._draw.choice(["stretch", "crop", "fill"])}
        if self._draw.random() < 0.5:
            answer = self._post("img2img", {**fields, "image": text(_PHOTO)})
        else:
            url = f"{self._service.url}/img2img"
            answer = requests.post(url, data=fields, files={"image": ("a.jpg", _PHOTO)}, timeout=PATIENCE_S)
            self._keep_counts(answer, generation=True)
        self._take("img2img", answer)

    def _inpainting(self) -> None:
        self._take("inpainting", self._post("inpainting", {**self._fields(), "image": text(PNG), "mask": text(MASK)}))

    def _openai(self) -> None:
        fields = self._fields()
        asked = {"prompt": fields["prompt"], "size": f"{fields['width']}x{fields['height']}"}
        self._at_a_door("openai", "/v1/images/generations", asked, lambda body: body["data"][0]["b64_json"])

    def _a1111(self) -> None:
        self._at_a_door("a1111", "/sdapi/v1/txt2img", self._fields(), lambda body: body["images"][0])

    def _at_a_door(self, name: str, path: str, fields: dict[str, Any], picture: Callable[[Any], str]) -> None:
        answer = requests.post(f"{self._service.root}{path}", json=fields, timeout=PATIENCE_S)
        self._count(name, str(answer.status_code), DOORS_PAINTING, answer.text[:200])
        if answer.status_code == 200:
            self._decode(base64.b64decode(picture(answer.json())), f"answer of {path}")

    def _retry(self) -> None:
        """Repeat one request with one key, also after its connection broke: it must yield one picture."""
        fields, headers = {**self._fields(), "response_format": "url"}, {"Idempotency-Key": uuid4().hex}
        ids = set()
        for _ in range(self._draw.randint(2, 4)):
            try:
                answer = self._post("txt2img", fields, headers=headers)
            except requests.ConnectionError:
                time.sleep(0.5)
                continue
            if self._painted("retry", answer):
                body = answer.json()
                if body["image_url"]:  # what could not be kept cannot be given again
                    ids.add(body["image_id"])
                    self._keep(body["image_id"])
                    with self._mutex:
                        self._tally.counts.keyed.add(body["image_id"])
        if len(ids) > 1:
            self._find(f"retry: {len(ids)} pictures for one key")

    def _image(self) -> None:
        image_id = self._tally.recent(self._draw)
        if image_id is None:
            return
        query = self._draw.choice(["", "", "?format=webp", "?format=jpeg&width=32", "?width=40"])
        headers = self._draw.choice([{}, {}, {"Range": "bytes=10-99"}, {"If-None-Match": f'"{image_id}"'}])
        answer = self._ask("GET", f"/image/{image_id}{query}", headers=headers)
        self._count("image", str(answer.status_code), {"200", "206", "304"})
        if answer.status_code == 200:
            self._decode(answer.content, f"image {image_id}{query}")

    def _health(self) -> None:
        began = time.monotonic()
        answer = self._ask("GET", "/health")
        with self._mutex:
            self._tally.slowest_health_s = max(self._tally.slowest_health_s, time.monotonic() - began)
        self._count("health", str(answer.status_code), {"200", "503"})

    def _models(self) -> None:
        answer = self._ask("GET", self._draw.choice(["/models", "/options", "/requests/none", "/image/none"]))
        self._count("models", str(answer.status_code), {"200", "404"})

    def _cancel(self) -> None:
        request_id = uuid4().hex
        canceller = threading.Thread(target=self._cancel_soon, args=(request_id,))
        canceller.start()
        fields = {**self._fields(), "steps": 100, "response_format": "url"}
        answer = self._post("txt2img", fields, headers={"X-Request-ID": request_id})
        canceller.join()  # not if the connection breaks, whose moment counts
        if answer.status_code == 409:
            self._count("cancel", "cancelled", {"cancelled"})
        else:
            self._take("cancel", answer)

    def _cancel_soon(self, request_id: str) -> None:
        time.sleep(self._draw.random())
        try:
            following = self._ask("GET", f"/requests/{request_id}")
            deleting = self._ask("DELETE", f"/requests/{request_id}")
        except requests.ConnectionError:
            return
        self._count("follow", str(following.status_code), {"200", "404"})
        self._count("delete", str(deleting.status_code), {"204", "404"})

    def _hang_up(self) -> None:
        body = json.dumps({**self._fields(), "steps": 100}).encode()
        with self._connection() as connection:
            connection.sendall(self._head(len(body)) + body)
            time.sleep(self._draw.random() / 2)
        self._count("hang-up", "left", {"left"})

    def _slow(self) -> None:
        """Half a head, or half a body, and then nothing."""
        head = self._head(1000)
        with self._connection() as connection:
            connection.sendall(head[: len(head) // 2] if self._draw.random() < 0.5 else head + b'{"prompt": ')
            time.sleep(self._draw.random() * 3)
        self._count("slow", "left", {"left"})

    def _bad(self) -> None:
        bad = self._draw.choice(_FEW_BAD)
        headers = {**bad.headers, **({"Content-Type": bad.content_type} if bad.content_type else {})}
        try:
            url = f"{self._service.url}/{bad.route}"
            answer = requests.post(url, data=bad.body, headers=headers, timeout=PATIENCE_S)
            self._keep_counts(answer, generation=True)
        except (requests.exceptions.InvalidHeader, UnicodeError):
            return  # this client cannot send it
        self._count("bad", str(answer.status_code), {str(bad.status)}, bad.name)

    # --- What is done with answers ---------------------------------------------------------------------------------

    def _fields(self) -> dict[str, Any]:
        side = self._draw.choice(self._sides)
        steps = self._draw.choice([1, 2, 4, 16])
        return {"prompt": "a harbour", "width": side, "height": side, "steps": steps}

    def _post(
        self, route: str, fields: dict[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        answer = requests.post(f"{self._service.url}/{route}", json=fields, headers=headers, timeout=PATIENCE_S)
        self._keep_counts(answer, generation=True)
        return answer

    def _ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None) -> requests.Response:
        answer = requests.request(method, self._service.url + path, headers=headers, timeout=PATIENCE_S)
        self._keep_counts(answer, generation=False)
        return answer

    def _keep_counts(self, answer: requests.Response, *, generation: bool) -> None:
        """Answers that show the state of a limit belong to calls that were counted."""
        if "X-RateLimit-Limit" not in answer.headers:
            return
        replayed = "Idempotency-Replayed" in answer.headers
        with self._mutex:
            self._tally.counts.calls += 1
            self._tally.counts.generations += generation and not replayed and answer.status_code not in _UNCOUNTED

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._service.port), PATIENCE_S)

    def _head(self, length: int) -> bytes:
        kind = "Content-Type: application/json"
        return f"POST {PREFIX}/txt2img HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {length}\r\n\r\n".encode()

    def _painted(self, name: str, answer: requests.Response) -> bool:
        outcome = "200" if answer.status_code == 200 else answer.json()["code"]
        self._count(name, outcome, PAINTING, answer.text[:200] if outcome not in PAINTING else "")
        return outcome == "200"

    def _take(self, name: str, answer: requests.Response) -> None:
        if not self._painted(name, answer):
            return
        body = answer.json()
        for image in body.get("images", [body]):
            if data := image.get("image_base64"):
                png = base64.b64decode(data.partition(",")[2])
                self._look_at(png, image["image_id"], image["image_url"] is not None)
            elif image["image_url"] is not None:
                self._keep(image["image_id"])

    def _look_at(self, png: bytes, image_id: str, stored: bool) -> None:
        self._decode(png, f"answer {image_id}")
        if stored:
            self._keep(image_id)

    def _decode(self, data: bytes, what: str) -> None:
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        except OSError as error:
            self._find(f"{what} is not a valid picture: {error}")

    def _keep(self, image_id: str) -> None:
        with self._mutex:
            self._tally.images.append(image_id)

    def _count(self, name: str, outcome: str, expected: frozenset[str] | set[str], what: str = "") -> None:
        with self._mutex:
            self._tally.outcomes[name, outcome] += 1
        if outcome not in expected:
            self._find(f"{name}: {outcome} {what}")

    def _find(self, what: str) -> None:
        with self._mutex:
            self._tally.findings.append(what)
