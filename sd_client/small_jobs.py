"""Small jobs that are done in a job's own place before it, or after it, so that trials can see what becomes of them."""

from __future__ import annotations

import functools
import io
import time
from dataclasses import dataclass, replace

from PIL import Image

from sd_client.client import JobCall, WebUIClient
from sd_client.matching import match
from sd_client.models import (
    SMALL_SIZE,
    Capabilities,
    Checkpoint,
    Lora,
    PaintedImage,
    Reference,
    ReferencePicture,
    ReferenceWay,
    UpscaleParams,
    small_picture,
)
from sd_client.pixels import fingerprint, rgb


@dataclass(frozen=True, kw_only=True)
class SmallJobs:
    """
    Each may raise a WebUIError, and one that the WebUI cannot do any more a LookupError.

    :param webui: its id.
    :param task_id: and ``call``: the job's.
    :param ends: when the job must have ended, by ``time.monotonic``.
    """

    webui: str
    client: WebUIClient
    capabilities: Capabilities
    task_id: str
    call: JobCall
    ends: float

    def paint(
        self, checkpoint: Checkpoint, *, loras: tuple[Lora, ...] = (), way: ReferenceWay | None = None
    ) -> PaintedImage:
        """:param way: in which a reference picture is used; None: without one."""
        reference = Reference(pictures={way.method: small_reference()}, weight=1.0) if way else None
        small = small_picture(checkpoint, loras=loras, reference=reference)
        matched = match(self.capabilities, small)
        if matched is None:
            raise LookupError("the WebUI does not offer what it offered for the job")
        matched = replace(matched, reference=way)
        return self.client.generate(
            small, self.capabilities, matched, task_id=self.task_id, timeout_s=self._left_s(), call=self.call
        )[0]

    def enlarge(self, upscaler: str) -> PaintedImage:
        """To twice its sides; no WebUI knows such a job by an id."""
        width, height = SMALL_SIZE
        params = UpscaleParams(
            image=small_reference().file,
            from_width=width,
            from_height=height,
            width=2 * width,
            height=2 * height,
            upscaler=upscaler,
        )
        return self.client.upscale(params, self.capabilities, timeout_s=self._left_s(), call=self.call)

    def _left_s(self) -> float:
        return max(0.001, self.ends - time.monotonic())


def small_pixels(image: PaintedImage) -> bytes:
    """:raises InvalidAnswerError: it is damaged, or has another size."""
    return rgb(image.data, size=SMALL_SIZE, message="the WebUI painted a small picture in another size")


@functools.cache
def small_reference() -> ReferencePicture:
    """Stripes of two colours: a square, and as large as the picture, which is right for both methods."""
    picture = Image.new("RGB", SMALL_SIZE, (200, 30, 40))
    for left in range(0, SMALL_SIZE[0], 16):
        picture.paste((30, 60, 190), (left, 0, left + 8, SMALL_SIZE[1]))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return ReferencePicture(file=file.getvalue(), size=SMALL_SIZE, fingerprint=fingerprint(picture))
