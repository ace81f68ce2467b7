"""The images that a WebUI returns: as PNG files that are complete, each with the record that is stored beside it."""

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sd_client.models import NOTHING_USED, GenerationParams, Inpainting, UnchangedFields, Used
from services import exif
from services.picture_decoding import decode_upright
from services.picture_files import read_file
from services.picture_formats import PNG_SIGNATURE, PictureError, describe, sniff
from services.png import Header, encode_png, has_all_rows, read_chunks, read_header

#: Upscalers make 8192 x 8192; the compressed form of far more is a few kB.
_MAX_PIXELS: Final = 100_000_000


class ResultError(PictureError):
    """A WebUI returned something that is not a usable image: its fault, not the caller's. Another try may succeed."""


def png_size(data: bytes) -> tuple[int, int]:
    """
    Width and height in pixels, from the file's first 33 bytes.

    :raises ResultError: it is not a PNG.
    """
    header = _header(data)
    return header.width, header.height


def to_png(data: bytes, *, parameters: str | None) -> bytes:
    """
    A JPEG or WebP as PNG with a ``parameters`` text chunk. A PNG is returned as it is, without a look inside.

    :param parameters: the text; None for the one in the EXIF UserComment, where A1111 puts it. It is written as tEXt,
        or as iTXt if Latin-1 cannot express it.
    :raises ResultError: the file is neither PNG, JPEG nor WebP, or it is damaged.
    """
    if data.startswith(PNG_SIGNATURE):
        return data
    if sniff(data) not in ("JPEG", "WEBP"):
        raise ResultError("is not a PNG, JPEG or WebP image", received=describe(data))
    image = decode_result(data)
    text = parameters if parameters is not None else exif.user_comment(read_file(data).exif)
    info = PngInfo()
    if text is not None:
        info.add_text("parameters", text)
    return encode_png(image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGB"), text=info)


def check_whole(png: bytes) -> None:
    """
    Checks that all pixels of a PNG can be had, without keeping them: some milliseconds for 1024 x 1024.

    :raises ResultError: it is damaged.
    """
    if not _header(png).is_common:
        decode_result(png)
        return
    try:
        chunks = read_chunks(png)
    except PictureError as error:
        raise ResultError(error.message, received=error.received) from error
    if not has_all_rows(png, chunks, trusted=True):
        raise ResultError("cannot be decoded: its pixels are damaged, or not all there", received=describe(png))


def decode_result(data: bytes) -> Image.Image:
    """
    :raises ResultError: the file is damaged, or too large.
    """
    try:
        return decode_upright(data, max_pixels=_MAX_PIXELS)
    except PictureError as error:
        raise ResultError(error.message, received=error.received) from error


def _header(data: bytes) -> Header:
    header = read_header(data)
    if header is None:
        raise ResultError("is not a PNG", received=describe(data))
    return header


@dataclass(frozen=True, kw_only=True)
class Origin:
    """
    What the images of one request have in common.

    :param mode: which of the three routes.
    :param model: its public name.
    :param taken_s: from the accepted request to the checked images.
    """

    mode: str
    model: str
    request_id: str
    taken_s: float
    params: GenerationParams
    used: Used = NOTHING_USED


def image_record(origin: Origin, *, image_id: UUID, seed: int, number: int) -> dict[str, Any]:
    """:param number: the image's place in its batch, from 0 on."""
    params = origin.params
    record: dict[str, Any] = {
        "image_id": str(image_id),
        "request_id": origin.request_id,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "processing_time_s": round(origin.taken_s, 3),
        "mode": origin.mode,
        "model": origin.model,
        "checkpoint": params.checkpoint.title,
        "checkpoint_hash": params.checkpoint.hash,
        "sampler": params.sampler,
        "scheduler": params.scheduler,
        "clip_skip": params.clip_skip,
        "width": params.width,
        "height": params.height,
        "seed": seed,
        "batch_index": number,
    }
    unchanged = {each.name: getattr(params, each.name) for each in fields(UnchangedFields)}
    record |= {name: value for name, value in unchanged.items() if value is not None}
    if params.hires is not None:
        record["hires"] = asdict(params.hires)
    if params.loras:
        record["loras"] = [{"name": lora.name, "weight": lora.weight} for lora in params.loras]
    if params.reference is not None and origin.used.reference is not None:
        record["reference"] = {**asdict(origin.used.reference), "weight": params.reference.weight}
    return record | _of_mask(params.inpainting)


def _of_mask(inpainting: Inpainting | None) -> dict[str, Any]:
    if inpainting is None:
        return {}
    return {
        "mask_blur": inpainting.mask_blur,
        "inpaint_area": inpainting.area,
        "inpaint_padding": inpainting.padding,
        "inpaint_fill": inpainting.fill,
    }
