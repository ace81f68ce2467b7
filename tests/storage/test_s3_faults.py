"""What each method of an S3 storage says when the bucket fails; that it comes back is what bounds the time."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from storage import S3Address, StorageUnavailableError, UnavailableReason
from storage.s3 import S3Storage, S3Timeouts
from tests.storage.s3_servers import S3Server, always, aws_variables, s3_error, serving

ID = UUID("0b9f1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3")
USUAL = S3Timeouts()
#: For servers that answer nothing: to connect is the kernel's part, which they do.
SHORT = S3Timeouts(small_s=0.2, large_s=0.3)

METHODS: dict[str, Callable[[S3Storage], object]] = {
    "save": lambda storage: storage.save(ID, b"png" * 100_000, {}),
    "open": lambda storage: storage.open(ID),
    "look": lambda storage: storage.look(ID),
    "delete": lambda storage: storage.delete(ID),
    "images": lambda storage: list(storage.images()),
    "sweep": lambda storage: storage.sweep(),
    "check": lambda storage: storage.check(),
}


def reasons(url: str, timeouts: S3Timeouts = USUAL) -> dict[str, UnavailableReason]:
    """What each method says, all called at once; each failure is reported, no message has a piece of the address."""
    failed: list[str] = []
    storage = S3Storage(S3Address.parse(url), timeouts=timeouts, on_failure=failed.append)

    def told(method: Callable[[S3Storage], object]) -> UnavailableReason:
        with pytest.raises(StorageUnavailableError) as error:
            method(storage)
        assert str(error.value) == f"the image storage is unavailable: {error.value.reason}"
        return error.value.reason

    with ThreadPoolExecutor(len(METHODS)) as threads:
        found = dict(zip(METHODS, threads.map(told, METHODS.values()), strict=True))
    assert sorted(failed) == sorted(METHODS)
    return found


def everywhere(reason: str) -> dict[str, str]:
    return dict.fromkeys(METHODS, reason)


def test_a_bucket_that_does_not_exist(s3_server: S3Server) -> None:
    assert reasons(s3_server.url(bucket="nowhere")) == everywhere("missing")


def test_a_server_that_is_down_and_comes_back(own_s3_server: S3Server) -> None:
    url = own_s3_server.url("p")
    storage = S3Storage(S3Address.parse(url))
    storage.check()
    own_s3_server.kill()
    assert reasons(url) == everywhere("unreachable")
    with pytest.raises(StorageUnavailableError):
        storage.check()
    own_s3_server.start()
    storage.save(ID, b"png", {})


def test_a_server_that_is_frozen_and_comes_back(own_s3_server: S3Server) -> None:
    url = own_s3_server.url("p")
    storage = S3Storage(S3Address.parse(url))
    storage.check()
    own_s3_server.freeze()
    assert reasons(url, SHORT) == everywhere("timeout")
    own_s3_server.thaw()
    storage.save(UUID(int=1), b"png", {})


def test_a_save_takes_about_fifteen_seconds_at_most() -> None:
    assert USUAL.small_s + USUAL.large_s + USUAL.small_s <= 15
    assert USUAL.connect_s < USUAL.small_s


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, s3_error("InvalidAccessKeyId"), "credentials"),
        (403, s3_error("SignatureDoesNotMatch"), "credentials"),
        (403, s3_error("RequestTimeTooSkewed"), "credentials"),
        (400, s3_error("ExpiredToken"), "credentials"),
        (401, b"", "credentials"),
        (403, s3_error("AccessDenied"), "permission"),
        (403, b"", "permission"),
        (301, s3_error("PermanentRedirect"), "region"),
        (301, b"", "region"),
        (400, s3_error("AuthorizationHeaderMalformed"), "region"),
        (507, s3_error("XMinioStorageFull"), "disk_full"),
        (403, s3_error("QuotaExceeded"), "disk_full"),
        (501, s3_error("NotImplemented"), "io"),
        (400, b"<html>", "io"),
    ],
)
def test_what_a_server_answers(aws_credentials: None, status: int, body: bytes, reason: str) -> None:
    with serving(always(status, body)) as url:
        assert reasons(url) == everywhere(reason)


def test_a_web_server_that_knows_no_s3(aws_credentials: None) -> None:
    with serving(always(404, b"<html>Not Found</html>")) as url:
        assert reasons(url) == everywhere("missing")


def test_no_credentials(s3_server: S3Server) -> None:
    """Neither variables nor a machine's role."""
    with serving(always(404, b"")) as url:
        machine = S3Address.parse(url).endpoint
        with aws_variables(AWS_METADATA_ENDPOINT=str(machine)):
            assert reasons(s3_server.url()) == everywhere("credentials")


def test_a_token_service_that_is_away(own_s3_server: S3Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("token")
    variables = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}
    with serving(always(200, b"")) as url:
        gone = str(S3Address.parse(url).endpoint).replace("http:", "https:")
    with aws_variables(**variables, AWS_ENDPOINT_URL_STS=gone):
        assert reasons(own_s3_server.url()) == everywhere("credentials")


def test_an_image_that_stops_in_the_middle(aws_credentials: None) -> None:
    release = threading.Event()
    with serving(always(200, b"half", length=8, until=release)) as url:
        storage = S3Storage(S3Address.parse(url), timeouts=SHORT)
        with pytest.raises(StorageUnavailableError) as error:
            storage.open(ID)
        release.set()
    assert error.value.reason == "timeout"


def test_an_image_that_is_cut_off(aws_credentials: None) -> None:
    with serving(always(200, b"half", length=8)) as url:
        storage = S3Storage(S3Address.parse(url))
        with pytest.raises(StorageUnavailableError) as error:
            storage.open(ID)
    assert error.value.reason == "io"
