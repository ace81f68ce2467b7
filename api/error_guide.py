"""What every problem's code means to whoever gets it: shown at ``/docs/errors`` and in ``docs/errors.md``.

Texts are plain but for names in `backticks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.errors import Kind, every_kind


@dataclass(frozen=True, kw_only=True)
class Advice:
    """
    :param cause: what happened; :param remedy: what to do.
    :param retry: whether the same request may succeed later; begins with Yes, No or Sometimes.
    :param reasons: what each value of the answer's `reason` means; "NNN" in one stands for a status.
    """

    cause: str
    remedy: str
    retry: str
    reasons: Mapping[str, str] = field(default_factory=dict)


_NO = "No. The same request gets the same answer."
_AFTER = "Yes, after the seconds in `Retry-After`."

ADVICE: Mapping[str, Advice] = {
    "malformed_request": Advice(
        cause="The request cannot be read: its body is no JSON object, names a field twice or is no form, or what came "
        "is no valid HTTP. The status is 414 for a path that is too long, 431 for headers that are too large, "
        "417 for an `Expect` other than `100-continue`, 501 for a `Transfer-Encoding` other than `chunked`, else "
        "400.",
        remedy="Read `detail`: it says what is wrong and, in JSON, at which line and column. Let a library write the "
        "JSON or the form, its boundary included.",
        retry=_NO,
    ),
    "unauthorized": Advice(
        cause="This service asks for an API key, and the request has none or a wrong one. Without one this is the "
        "answer for every path that is not open, whether or not there is anything; only a method that a path never "
        "takes is `method_not_allowed` all the same.",
        remedy="Send `Authorization: Bearer KEY` or `X-API-Key: KEY` with a key that the operator gave you. A page "
        "needs the key as well, but for health, metrics, stored images, and the pages and description of the API.",
        retry=_NO,
    ),
    "forbidden": Advice(
        cause="Images cannot be deleted here: that needs an API key, and this service has none set up.",
        remedy="Ask the operator to set `API_KEYS`, or to let images go by themselves (`IMAGE_TTL_HOURS`, "
        "`IMAGE_MAX_GB`).",
        retry=_NO,
    ),
    "not_found": Advice(
        cause="There is nothing at this path.",
        remedy="Look for a slash at the end or two in a row, and compare with `/docs`. All routes begin with "
        "`/api/v1/ai/generation`.",
        retry=_NO,
    ),
    "image_not_found": Advice(
        cause="No image has this id, or it was deleted, or it grew too old (`IMAGE_TTL_HOURS`) or too many "
        "(`IMAGE_MAX_GB`).",
        remedy="Take `image_id` or `image_url` from an answer as it is. Keep what must not get lost: `image_base64`, "
        "or a download.",
        retry=_NO,
    ),
    "request_not_found": Advice(
        cause="You made no request with this id during the last hour; or it has ended, so that it cannot be cancelled. "
        "Requests belong to the API key that made them; without one, an id that is no UUID belongs to its address.",
        remedy="Send an `X-Request-ID` of your own with the generation, a UUID, and ask with the same key. "
        "Just after sending, ask again: the id is known once the request has passed its checks.",
        retry="No, unless the generation was sent only just now.",
    ),
    "method_not_allowed": Advice(
        cause="The path is right, the method is not.",
        remedy="Use one that the `Allow` header lists.",
        retry=_NO,
    ),
    "request_timeout": Advice(
        cause="The body did not come within 60 seconds.",
        remedy="Send a smaller picture: nothing is gained beyond the size that is painted. Or use a faster connection.",
        retry="Yes, at once.",
    ),
    "cancelled": Advice(
        cause="The job was cancelled with `DELETE …/requests/<request_id>` while it waited or ran.",
        remedy="Nothing: this is what was asked for. Send the request anew if it was not meant.",
        retry="No: whoever cancelled it does not want the picture.",
    ),
    "precondition_failed": Advice(
        cause="There is an image with this id, and it is not the one that `If-Match`, `If-Unmodified-Since` or, with "
        "`DELETE`, `If-None-Match` asks for.",
        remedy="Ask without the header, or with the `ETag` that `HEAD` tells. An image never changes: the tag is "
        "another's, or a smaller copy's.",
        retry=_NO,
    ),
    "payload_too_large": Advice(
        cause="The body is larger than `MAX_BODY_MB`, has more than 1 MB beside the pictures in `image` and `mask`, "
        "or is a form of more than 100 parts.",
        remedy="Scale the picture down before it is sent, or send it as JPEG. A file in a form is a quarter smaller "
        "than base64 in JSON. A picture is sent under the name of its field, and not as a list of numbers.",
        retry=_NO,
    ),
    "unsupported_media_type": Advice(
        cause="The body is neither `application/json` nor `multipart/form-data`, or it is compressed "
        "(`Content-Encoding`).",
        remedy="Set `Content-Type: application/json` for JSON; for a form let the library set it, so that the boundary "
        "is in it.",
        retry=_NO,
    ),
    "range_not_satisfiable": Advice(
        cause="The `Range` begins after the image's end, or asks for its last 0 bytes.",
        remedy="Ask for a part within the length that `Content-Range` tells, or leave `Range` out.",
        retry=_NO,
    ),
    "validation_error": Advice(
        cause="Fields, parameters or headers are wrong, missing or unknown.",
        remedy="Go through `errors`: each entry names a field, what is accepted and what came. `GET …/options` tells "
        "the limits and names of this service.",
        retry=_NO,
    ),
    "model_not_found": Advice(
        cause="No WebUI of this service has the model, or the name fits several. Nothing else is wrong with the "
        "request.",
        remedy="Take an `id` from `GET …/models`, or leave `model` out.",
        retry="No, unless the operator adds the model.",
    ),
    "capability_missing": Advice(
        cause="No WebUI of this service can do what a field asks for. Nothing else is wrong with the request.",
        remedy="Take another value: `errors` names the field and what can be had. `inpaint_fill` `noise` and "
        "`nothing` need a WebUI of A1111's kind.",
        retry="No, unless the operator adds such a WebUI.",
    ),
    "idempotency_mismatch": Advice(
        cause="This `Idempotency-Key` was used with another request during the last 24 hours.",
        remedy="Draw a new random key for each new request, and use one again only to retry the very same body.",
        retry="No. A new key, and it is a new request.",
    ),
    "rate_limited": Advice(
        cause="More calls than a limit allows: over everything (`RATE_LIMIT_GLOBAL`), over generations "
        "(`RATE_LIMIT_GENERATION`), or over images (`RATE_LIMIT_IMAGES`). Calls are counted by valid API key, or "
        "else by address.",
        remedy="Wait for `Retry-After`. Watch `X-RateLimit-Remaining` to stay below the limit.",
        retry=_AFTER,
    ),
    "caller_gone": Advice(
        cause="The caller hung up before the answer was there, and its job was stopped. Only the log shows this.",
        remedy="Let the caller's own timeout be longer than the service's, or send an `Idempotency-Key`: such a job "
        "runs to its end and waits for the retry.",
        retry="No answer is read; with an `Idempotency-Key`, asking again gets the picture.",
    ),
    "internal_error": Advice(
        cause="A fault of the service.",
        remedy="Tell the operator the `request_id`: the log has the details under it.",
        retry=_NO,
    ),
    "webui_error": Advice(
        cause="The WebUI failed, its connection broke, or what it answered is no valid result. `reason` says which it "
        "was, `detail` says it in words.",
        remedy="Try again where `retryable` is true. If it stays, tell the operator `reason` and `request_id`: the "
        "service's log has the same words under that id, the WebUI's own log has the rest.",
        retry="Sometimes: where `retryable` is true.",
        reasons={
            "http_NNN": "The WebUI answered with this status, 500 most often; `detail` has the class of its exception. "
            "`NansException`: the model or its precision cannot paint this. `http_401`: the service's user name and "
            "password for the WebUI are wrong. `http_404`: the WebUI's API is off or still starting.",
            "connection_lost": "The connection broke after the job was sent; the WebUI may have ended.",
            "invalid_answer": "What came is not an answer of a WebUI: not JSON, or of another shape.",
            "missing_images": "Fewer pictures came than were asked for.",
            "model_not_loaded": "SD.Next had no model loaded, and could not load the one that was asked for.",
            "ambiguous_images": "Masks or other extras came between the pictures, and nothing says which are which. "
            "For the operator: turn `enable_pnginfo` on in the WebUI's settings, `return_mask` and "
            "`return_mask_composite` off.",
            "damaged_image": "A picture is cut off, its data are damaged, or its format is none of PNG, JPEG and WebP.",
            "wrong_size": "The picture has another size than was asked for.",
            "wrong_model": "The WebUI painted with another model: it lost the one asked for.",
            "wrong_sampler": "The WebUI painted with another sampler.",
            "wrong_steps": "The WebUI painted with other steps or another cfg_scale.",
            "wrong_prompt": "The WebUI painted a part of the prompt.",
            "wrong_seed": "The WebUI painted with another seed.",
            "interrupted": "Somebody else interrupted the job at the WebUI; the half-painted picture was not kept.",
            "skipped": "Somebody else skipped the job at the WebUI; the half-painted picture was not kept.",
        },
    ),
    "webui_unavailable": Advice(
        cause="No WebUI is reachable, somebody else keeps them busy, the WebUI takes no more jobs now (its own rate "
        "limit), or those that have the model cannot load it; `detail` says which.",
        remedy="Wait, or choose another model. For the operator: `GET …/health` tells how many there are; see that the "
        "WebUI runs with `--api` and that `SD_WEBUI_URL` is right.",
        retry=_AFTER,
    ),
    "gpu_unavailable": Advice(
        cause="Only WebUIs with a GPU may serve (`USE_GPU=true`, `CPU_FALLBACK=false`), and none with one is "
        "reachable.",
        remedy="Wait. For the operator: start the WebUI with its GPU again, or set `CPU_FALLBACK=true`.",
        retry=_AFTER,
    ),
    "queue_full": Advice(
        cause="`SD_QUEUE_LIMIT` jobs wait already, or too many bodies or images are under way at this moment.",
        remedy="Wait, and send fewer requests at a time.",
        retry=_AFTER,
    ),
    "queue_timeout": Advice(
        cause="No WebUI became free within `SD_QUEUE_TIMEOUT`, or within the `Prefer: wait=N` of the request; or too "
        "many pictures of others were being decoded. The job was never started.",
        remedy="Wait, or allow more time with a larger `Prefer: wait=N`.",
        retry=_AFTER,
    ),
    "queue_unavailable": Advice(
        cause="The host cannot write down who waits and who paints: the disk of its `RUNTIME_DIR` is full, or fails. "
        "The job was not started.",
        remedy="Try again: another host may answer. Operators: make room in `RUNTIME_DIR`; no restart is needed.",
        retry=_AFTER,
    ),
    "storage_unavailable": Advice(
        cause="Stored images cannot be fetched or removed now: the disk or the bucket fails. New pictures still come, "
        "without an `image_url`.",
        remedy="Wait. For the operator: the log says `storage_unavailable` and why, and `python -m doctor` how to mend "
        "it.",
        retry=_AFTER,
    ),
    "draining": Advice(
        cause="The service is shutting down and takes no new jobs.",
        remedy="Wait: another one, or this one started anew, takes over.",
        retry=_AFTER,
    ),
    "gpu_out_of_memory": Advice(
        cause="The GPU's memory does not suffice for this picture or batch.",
        remedy="Ask for a smaller `width` and `height`, or a smaller `batch_size`. `inpaint_area` `masked` paints only "
        "a crop.",
        retry="No, unless the request is made smaller.",
    ),
    "webui_timeout": Advice(
        cause="The job ran longer than `SD_TIMEOUT`, or than `Prefer: wait=N` left it. `detail` says whether its "
        "WebUI can interrupt it; one that cannot paints on, and takes no other job until it has ended.",
        remedy="Ask for fewer `steps`, a smaller size or a smaller `batch_size`, or allow more time.",
        retry="No: it would take as long again.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One code with everything there is to tell about it."""

    code: str
    status: int
    title: str
    advice: Advice


#: What ``deploy/nginx/nginx.conf`` answers by itself, in the same shape.
_OF_THE_PROXY = (
    Entry(
        code="service_unavailable",
        status=503,
        title="Service unavailable",
        advice=Advice(
            cause="From the proxy in front: the service cannot be reached (503), or its answer was lost (502).",
            remedy="Wait. With an `Idempotency-Key` a generation whose answer was lost is not painted twice.",
            retry="Yes, after the seconds in `Retry-After`; a POST best with an `Idempotency-Key`.",
        ),
    ),
    Entry(
        code="service_timeout",
        status=504,
        title="Service timed out",
        advice=Advice(
            cause="From the proxy in front: the service gave no answer in time.",
            remedy="Ask with the same `Idempotency-Key`: the job runs on, and its answer is kept.",
            retry="Sometimes: with the same `Idempotency-Key`.",
        ),
    ),
)


def entries() -> list[Entry]:
    """Every code once, by status."""
    first: dict[str, Kind] = {}
    for kind in every_kind():
        first.setdefault(kind.code, kind)
    found = [
        Entry(code=code, status=kind.status, title=kind.title, advice=ADVICE[code]) for code, kind in first.items()
    ]
    return sorted([*found, *_OF_THE_PROXY], key=lambda entry: entry.status)
