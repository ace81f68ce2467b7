"""An enlarged picture: how large it becomes, and how what a WebUI returns is brought to that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sd_client.errors import InvalidAnswerError
from sd_client.models import PaintedImage, UpscaleParams
from sd_client.upscaling import STEP
from services.picture_formats import PictureError
from services.pictures import flatten
from services.png import encode_png
from services.results import check_whole, decode_result, png_size, to_png


def final_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """By a factor, rounded down to multiples of 8 as WebUIs do; pixels."""
    return int(width * scale) // STEP * STEP, int(height * scale) // STEP * STEP


def finished(image: PaintedImage, params: UpscaleParams) -> bytes:
    """
    A PNG of exactly the size that is due: what is over, at most a hundredth and some pixels, is cut off around it.

    :raises InvalidAnswerError: the picture is damaged, or too small.
    """
    due = params.width, params.height
    try:
        png = to_png(image.data, parameters=None)
        size = png_size(png)
        if size == due:
            if png is image.data:
                check_whole(png)
            return png
        if size[0] < due[0] or size[1] < due[1]:
            text = f"the WebUI enlarged to {size[0]}x{size[1]} instead of {due[0]}x{due[1]}"
            raise InvalidAnswerError(text, reason="wrong_size")
        left, top = (size[0] - due[0]) // 2, (size[1] - due[1]) // 2
        return encode_png(flatten(decode_result(png).crop((left, top, left + due[0], top + due[1])), "white"))
    except PictureError as error:
        raise InvalidAnswerError("the WebUI sent a damaged picture", reason="damaged_image") from error


def upscale_record(params: UpscaleParams, *, image_id: UUID, request_id: str, taken_s: float) -> dict[str, Any]:
    """:param taken_s: from the accepted request to the checked image."""
    return {
        "image_id": str(image_id),
        "request_id": request_id,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "processing_time_s": round(taken_s, 3),
        "mode": "upscale",
        "upscaler": params.upscaler,
        "from_width": params.from_width,
        "from_height": params.from_height,
        "width": params.width,
        "height": params.height,
        "batch_index": 0,
    }
