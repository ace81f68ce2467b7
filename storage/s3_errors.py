"""What the S3 library's exceptions mean: it has few classes, and the rest is in their text."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from obstore.exceptions import AlreadyExistsError, BaseError

from storage.errors import (
    ImageExistsError,
    ImageNotFoundError,
    StorageError,
    StorageUnavailableError,
    UnavailableReason,
)

_REASON_OF_CODE: dict[str, UnavailableReason] = {
    "NoSuchBucket": "missing",
    "AccessDenied": "permission",
    "AccountProblem": "permission",
    "AllAccessDisabled": "permission",
    "ExpiredToken": "credentials",
    "InvalidAccessKeyId": "credentials",
    "InvalidToken": "credentials",
    "RequestTimeTooSkewed": "credentials",
    "SignatureDoesNotMatch": "credentials",
    "TokenRefreshRequired": "credentials",
    "AuthorizationHeaderMalformed": "region",
    "PermanentRedirect": "region",
    "QuotaExceeded": "disk_full",
    "XMinioAdminBucketQuotaExceeded": "disk_full",
    "XMinioStorageFull": "disk_full",
}
# How the library says that it has nothing to sign with: half a pair of keys; a machine's role that was requested in
# vain; the token service, which receives the only POST there is. An answer's status alone would say "missing".
_NO_CREDENTIALS = re.compile(
    r"MissingSecretAccessKey|MissingAccessKeyId|/latest/(?:api/token|meta-data)|performing POST|token file"
)
# For answers without a code, in this order.
_REASON_OF_TEXT: tuple[tuple[re.Pattern[str], UnavailableReason], ...] = (
    (re.compile(r"redirect without LOCATION"), "region"),
    (re.compile(r"status code: 401\b"), "credentials"),
    (re.compile(r"status code: 403\b"), "permission"),
    (re.compile(r"status code: 404\b"), "missing"),
    (re.compile(r"kind: Timeout|TimedOut"), "timeout"),
    (re.compile(r"kind: Connect\b"), "unreachable"),
)
_CODE = re.compile(r"<Code>(\w+)</Code>")


@contextmanager
def translating_s3_errors(image_id: UUID | None = None) -> Iterator[None]:
    """
    :raises ImageNotFoundError, ImageExistsError, StorageUnavailableError: instead of the library's exceptions.
    """
    try:
        yield
    except (BaseError, OSError) as exc:
        raise _storage_error(exc, image_id) from exc


def _storage_error(exc: Exception, image_id: UUID | None) -> StorageError:
    if image_id is not None and isinstance(exc, AlreadyExistsError):
        return ImageExistsError(image_id)
    if image_id is not None and isinstance(exc, FileNotFoundError) and code_of(exc) == "NoSuchKey":
        return ImageNotFoundError(image_id)
    return StorageUnavailableError(_reason(exc))


def _reason(exc: Exception) -> UnavailableReason:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"  # of this host: for an image that is being fetched
    text = str(exc)
    if _NO_CREDENTIALS.search(text):
        return "credentials"
    by_text = (reason for pattern, reason in _REASON_OF_TEXT if pattern.search(text))
    by_code = _REASON_OF_CODE.get(code_of(exc))
    return by_code if by_code is not None else next(by_text, "io")


def code_of(exc: Exception) -> str:
    """S3's own code for the error, from the body of its answer; empty if there was none."""
    found = _CODE.search(str(exc))
    return found[1] if found else ""
