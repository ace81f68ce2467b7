"""What can go wrong between this service and a WebUI.

::

    WebUIError
    ├── WebUIConnectError        never sent
    │   └── UntrustedError       its certificate goes back to no known authority
    ├── WebUIReadError           sent, the answer was lost
    ├── WebUITimeoutError        sent, still running
    ├── WebUIStatusError         answered with an error
    │   ├── MissingRouteError    this server does not have the route
    │   ├── WebUIAuthError       our credentials are wrong
    │   ├── WebUIBusyError       it did not take the job
    │   └── OutOfMemoryError     the GPU's memory does not suffice
    ├── InvalidAnswerError       answered 200 without a valid result
    │   ├── LimitError           painted, without a word, less than was asked for
    │   └── DroppedError         painted, without a word, without something that was asked for
    │       └── UselessError     what was asked for would do nothing
    │           ├── UselessLoraError
    │           ├── UselessUpscalerError
    │           └── UselessReferenceError
    ├── JobStoppedError          somebody else ended the job at the WebUI
    ├── JobCancelledError        its caller does not want it any more
    └── PoolError                nothing was sent: no WebUI may take the job
        ├── NoWebUIError         none is reachable
        │   └── BrokenModelError those that have the model cannot load it
        ├── NoGPUError           none has a GPU and the CPU is not allowed
        ├── QueueFullError       too many jobs are already waiting
        ├── QueueTimeoutError    none became free in time
        └── DrainingError        this process is about to end

Their texts are for the log and for callers: they name neither addresses nor prompts, and nothing of a WebUI's own
text is in them but the name of its exception class.
"""

from __future__ import annotations

from typing import Literal

from sd_client.limits import Limits

#: Why an answer with status 200 holds no valid result.
InvalidReason = Literal[
    "invalid_answer",
    "missing_images",
    "model_not_loaded",
    "ambiguous_images",
    "damaged_image",
    "wrong_size",
    "wrong_model",
    "wrong_sampler",
    "wrong_steps",
    "wrong_prompt",
    "wrong_seed",
    "lora_dropped",
    "wrong_upscaler",
    "wrong_clip_skip",
    "reference_dropped",
]
#: How somebody else ended a job.
StopReason = Literal["interrupted", "skipped"]

#: Why there is no connection, by the exception class, in an operator's words.
_CONNECTION_REASONS = {
    "ConnectionRefusedError": "refused: nothing listens there",
    "gaierror": "unknown host name",
    "LocationParseError": "unknown host name",
    "UnicodeError": "unknown host name",
    "TimeoutError": "timeout",
    "SSLCertVerificationError": "certificate not trusted",
    "SSLError": "TLS failed; it may speak http only",
}


class WebUIError(Exception):
    """Base of all: a WebUI did not do what it was asked to."""

    #: Which fault it was, for programs: one of the reasons above, ``connection_lost``, or ``http_`` and a status;
    #: "" if the class says everything.
    reason: str = ""


class WebUIConnectError(WebUIError):
    """
    No connection: the request was never sent, so another WebUI may be tried.

    :param kind: the name of the exception class that says why.
    """

    def __init__(self, kind: str = "") -> None:
        reason = _CONNECTION_REASONS.get(kind, kind)
        super().__init__("no connection to the WebUI" + (f" ({reason})" if reason else ""))
        self.kind = kind


class UntrustedError(WebUIConnectError):
    """An https WebUI whose certificate is for another name, out of date, or goes back to no known authority."""


class WebUIReadError(WebUIError):
    """The request was sent and the answer was lost: the picture may have been made. Never send again."""

    reason = "connection_lost"


class WebUITimeoutError(WebUIError):
    """No whole answer in time: the job may still be running. Never send again."""


class WebUIStatusError(WebUIError):
    """
    The WebUI answered with an error status. Sending the same again mostly gives the same.

    :param status: its HTTP status.
    :param kind: the name of its exception class (``NansException``), or "" if it named none.
    """

    #: What follows from the status, in words.
    meaning = ""

    def __init__(self, status: int, kind: str = "") -> None:
        super().__init__(f"the WebUI answered {status}" + (f" ({kind})" if kind else "") + self.meaning)
        self.status = status
        self.kind = kind
        self.reason = f"http_{status}"


class MissingRouteError(WebUIStatusError):
    """The server lacks the route: a missing capability, or an API that is not up yet."""

    meaning = ": its API may be off or still starting"


class WebUIAuthError(WebUIStatusError):
    """The WebUI refused the user name and password of ``SD_WEBUI_URL``. Trying again is of no use."""

    meaning = ": it does not accept this service's user name and password"


class WebUIBusyError(WebUIStatusError):
    """
    The server takes no job now. Try again later.

    KoboldCpp answers 503 while it paints for somebody else, SD.Next 429 beyond its rate limit.
    """


class OutOfMemoryError(WebUIStatusError):
    """The GPU ran out of memory. The same size will fail again; a smaller one may not."""


class InvalidAnswerError(WebUIError):
    """A 200 that holds no valid result: no JSON, too few pictures, another model. Trying again may work."""

    def __init__(self, message: str, *, reason: InvalidReason = "invalid_answer") -> None:
        super().__init__(message)
        self.reason: InvalidReason = reason


class JobStoppedError(WebUIError):
    """
    Somebody else interrupted or skipped the job at the WebUI, so that its picture is half-painted. Trying again may
    work.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(f"somebody else {reason} the job at the WebUI")
        self.reason: StopReason = reason


class DroppedError(InvalidAnswerError):
    """The WebUI painted without something that was asked for, or its answer does not prove that it used it."""


class UselessError(DroppedError):
    """What was asked for would change nothing on this WebUI. Nothing of the job was painted."""


class UselessLoraError(UselessError):
    """
    A LoRA changes nothing in what the model paints on this WebUI, or cannot be loaded there. Nothing of the job was
    painted.

    :param name: of the LoRA.
    """

    def __init__(self, name: str) -> None:
        super().__init__("a LoRA changes nothing in the pictures of this model", reason="lora_dropped")
        self.name = name


class UselessUpscalerError(UselessError):
    """
    An upscaler enlarges as Lanczos does on this WebUI: its weights are missing or broken.

    :param name: of the upscaler, as the WebUI lists it.
    """

    def __init__(self, name: str) -> None:
        super().__init__("an upscaler enlarges as Lanczos does", reason="wrong_upscaler")
        self.name = name


class UselessReferenceError(UselessError):
    """
    None of the ways in which this WebUI can be asked to use a reference picture works with this model.

    :param adapters: how many IP-Adapters were tried.
    """

    def __init__(self, adapters: int) -> None:
        super().__init__("no way to use a reference picture works with this model", reason="reference_dropped")
        self.adapters = adapters


class LimitError(InvalidAnswerError):
    """
    A server that clamps in silence has met one of its limits; no other WebUI could do the job. The limit is known from
    now on, so that the same request is refused before it is painted.

    :param limits: all that is known of the WebUI by now.
    """

    def __init__(self, message: str, limits: Limits, *, reason: InvalidReason) -> None:
        super().__init__(message, reason=reason)
        self.limits = limits


class PoolError(WebUIError):
    """
    Nothing was sent, so trying again is safe.

    :param retry_after_s: whole seconds after which trying again is worth while.
    """

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoWebUIError(PoolError):
    """No WebUI is reachable."""


class BrokenModelError(NoWebUIError):
    """The WebUIs that have the job's model cannot load it."""

    def __init__(self) -> None:
        text = "the WebUIs that have this model cannot load it now; choose another model, or try again later"
        super().__init__(text, retry_after_s=60)


class NoGPUError(PoolError):
    """No WebUI with a GPU is reachable, and ``CPU_FALLBACK`` is off."""


class QueueFullError(PoolError):
    """As many jobs wait as may."""


class QueueUnavailableError(PoolError):
    """The place where this host keeps its queue is full, or cannot be used."""

    def __init__(self) -> None:
        super().__init__("this host cannot keep its queue", retry_after_s=5)


class QueueTimeoutError(PoolError):
    """No WebUI became free in the time the job could wait."""


class DrainingError(PoolError):
    """The service is shutting down."""


class JobCancelledError(WebUIError):
    """The caller cancelled the job by its id."""
