"""Images in a bucket of S3, or of a server that speaks its API.

``<prefix>/0b/9f/<id>.png`` with ``<id>.json`` beside it, as :mod:`storage.local` has them in its folder: either can be
copied to the other.

The record claims the id, the image makes it valid: both are created with ``If-None-Match: *``, the record first. So an
image always has its record. What crashed or lost its connection can leave a record alone: nobody reads it, and
:meth:`S3Storage.sweep` removes it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID, uuid4

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from storage.base import ImageFacts, OpenImage, StoredImage, encode_record, image_path, parse_image_id
from storage.errors import ImageNotFoundError, StorageConfigurationError, StorageUnavailableError
from storage.s3_address import S3Address
from storage.s3_errors import code_of, translating_s3_errors

if TYPE_CHECKING:  # they exist for type checkers only
    from obstore.store import ClientConfig, RetryConfig, S3Config

# A save ends within seconds. An hour is far beyond a suspended process or two clocks that differ.
LEFTOVER_AGE_S = 3600.0

_PAGE = 1000  # S3 lists no more at once

# Another attempt begins only while the first is this young, and so adds little to the timeouts. The library repeats
# what was refused (5xx) or never arrived; a write whose answer was lost it does not.
_RETRY: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=1),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(milliseconds=500), "base": 2},
}


@dataclass(frozen=True, kw_only=True)
class S3Timeouts:
    """Seconds for one attempt at one request, from connecting to the last byte of the answer.

    A save is a record, an image and, where that fails, a removal: about 15 s at most.
    """

    connect_s: float = 2.0
    #: Records, probes, removals.
    small_s: float = 3.0
    #: Images, and pages of a listing.
    large_s: float = 9.0


@dataclass(frozen=True, kw_only=True)
class _Keys:
    image: str
    record: str


class S3Storage:
    """An :class:`~storage.base.ImageStorage` in a bucket, shared by all hosts.

    Credentials come from where AWS's own tools find them: ``AWS_ACCESS_KEY_ID`` and the variables beside it, a web
    identity, the role of the container or machine.

    S3 does not say whether what is deleted was there: of several deletions of one image at once, more than one may
    succeed. A save whose answer is lost may have stored the image; it is removed again if that can be done.

    :param clock: seconds since 1970, to tell the age of leftovers.
    :param on_failure: called with the name of each operation that fails; an image that is not there is no failure.
    :raises StorageConfigurationError: the address, or one of the ``AWS_`` variables, cannot be used.
    """

    def __init__(
        self,
        address: S3Address,
        *,
        timeouts: S3Timeouts = S3Timeouts(),
        clock: Callable[[], float] = time.time,
        on_failure: Callable[[str], None] = lambda operation: None,
    ) -> None:
        self._small = _store(address, connect_s=timeouts.connect_s, request_s=timeouts.small_s)
        self._large = _store(address, connect_s=timeouts.connect_s, request_s=timeouts.large_s)
        self._clock = clock
        self._on_failure = on_failure

    def save(self, image_id: UUID, png: bytes, record: Mapping[str, object]) -> None:
        keys = _keys(image_id)
        record_json = encode_record(record)
        with self._reporting("save", image_id):
            _create(self._small, keys.record, record_json, "application/json")
            try:
                _create(self._large, keys.image, png, "image/png")
            except AlreadyExistsError:
                # Ours, if the first attempt was carried out but answered as failed.
                if self._read(self._large, keys.image) != png:
                    self._remove(keys.record)
                    raise
            except BaseException:
                # It may still arrive: then its record has to be there. sweep() sees to a record that stays alone.
                with suppress(BaseError, OSError):
                    self._remove(keys.image)
                raise

    def open(self, image_id: UUID) -> OpenImage:
        with self._reporting("open", image_id):
            answer = self._large.get(_keys(image_id).image)
            file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
            try:
                _fill(file, answer.stream())
            except BaseException:
                file.close()
                raise
        return OpenImage(
            file=file, size_bytes=answer.meta["size"], etag=str(image_id), modified=answer.meta["last_modified"]
        )

    def look(self, image_id: UUID) -> ImageFacts:
        with self._reporting("look", image_id):
            # Not HEAD: its 404 has no body, and would not tell a missing image from a missing bucket.
            meta = self._small.get(_keys(image_id).image, options={"range": (0, 1)}).meta
        return ImageFacts(size_bytes=meta["size"], etag=str(image_id), modified=meta["last_modified"])

    def delete(self, image_id: UUID) -> None:
        keys = _keys(image_id)
        with self._reporting("delete", image_id):
            if not self._is_there(keys.image):
                raise ImageNotFoundError(image_id)
            self._remove(keys.image)
            self._remove(keys.record)

    def check(self) -> None:
        probe = f".incoming/{uuid4()}.probe"
        with self._reporting("check"):
            _create(self._small, probe, b"probe", "text/plain")
            self._remove(probe)

    def images(self) -> Iterator[StoredImage]:
        with self._reporting("images"):
            for page in self._large.list(chunk_size=_PAGE):
                for item in page:
                    image_id = _id_in(item["path"])
                    if image_id is not None and item["path"].endswith(".png"):
                        modified = item["last_modified"].timestamp()
                        yield StoredImage(image_id=image_id, size_bytes=item["size"], modified=modified)

    def sweep(self, *, older_than_s: float = LEFTOVER_AGE_S) -> int:
        """Remove what crashed processes left behind, and return how many objects that were.

        Safe beside other sweeps, and beside saves as long as none of them takes ``older_than_s``. Never touches an
        image, its record, or an object this class would not have made.

        :raises StorageUnavailableError:
        """
        made_before = self._clock() - older_than_s
        removed = 0
        with self._reporting("sweep"):
            for key in self._leftovers(made_before):
                self._remove(key)
                removed += 1
        return removed

    @contextmanager
    def _reporting(self, operation: str, image_id: UUID | None = None) -> Iterator[None]:
        """:raises ImageNotFoundError, ImageExistsError, StorageUnavailableError: the last is reported as well."""
        try:
            with translating_s3_errors(image_id):
                yield
        except StorageUnavailableError:
            self._on_failure(operation)
            raise

    def _leftovers(self, made_before: float) -> Iterator[str]:
        # An image and its record cancel each other out, whichever is listed first. S3 lists them side by side, so
        # that only what is alone stays here.
        alone: dict[UUID, tuple[str, float]] = {}
        for page in self._large.list(chunk_size=_PAGE):
            for item in page:
                key, modified = item["path"], item["last_modified"].timestamp()
                image_id = _id_in(key)
                if image_id is not None and alone.pop(image_id, None) is None:
                    alone[image_id] = (key, modified)
                elif _is_probe(key) and modified <= made_before:
                    yield key
        for image_id, (key, modified) in alone.items():
            # The second look is for an image that is younger than the listing.
            if key.endswith(".json") and modified <= made_before and not self._is_there(_keys(image_id).image):
                yield key

    def _is_there(self, key: str) -> bool:
        # Not HEAD, as in look().
        try:
            self._small.get_range(key, start=0, length=1)
        except FileNotFoundError as exc:
            if code_of(exc) == "NoSuchKey":
                return False
            raise
        return True

    def _read(self, store: S3Store, key: str) -> bytes | None:
        try:
            return bytes(store.get(key).bytes())
        except FileNotFoundError as exc:
            if code_of(exc) == "NoSuchKey":
                return None
            raise

    def _remove(self, key: str) -> None:
        try:
            self._small.delete(key)
        except FileNotFoundError as exc:  # S3 itself does not mind, some that speak its API do
            if code_of(exc) != "NoSuchKey":
                raise


def _store(address: S3Address, *, connect_s: float, request_s: float) -> S3Store:
    config: S3Config = {
        "virtual_hosted_style_request": address.virtual_host,
        # What never overwrites must not be switched off by a variable.
        "conditional_put": "etag",
        # Not every server has the bulk API, and here it would save nothing.
        "disable_bulk_delete": True,
    }
    if address.region is not None:
        config["region"] = address.region
    if address.request_endpoint is not None:
        # Both: AWS_ENDPOINT_URL_S3 would come before the first.
        config["endpoint"] = config["aws_endpoint_url_s3"] = address.request_endpoint
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=connect_s),
        "timeout": timedelta(seconds=request_s),
    }
    if address.allow_http:
        client["allow_http"] = True
    try:
        return S3Store(
            address.bucket,
            prefix=address.prefix or None,
            config=config,
            client_options=client,
            retry_config=_RETRY,
        )
    except (BaseError, ValueError) as exc:
        raise StorageConfigurationError(
            "the AWS_ variables in the environment cannot be used: one is wrong, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY are not both there"
        ) from exc


def _create(store: S3Store, key: str, data: bytes, content_type: str) -> None:
    """
    :raises AlreadyExistsError: and what is there is left as it is.
    """
    store.put(key, data, mode="create", attributes={"Content-Type": content_type})


def _fill(file: BinaryIO, chunks: Iterator[bytes]) -> None:
    for chunk in chunks:
        file.write(chunk)
    file.seek(0)


def _keys(image_id: UUID) -> _Keys:
    image = image_path(image_id)
    return _Keys(image=image, record=image.removesuffix(".png") + ".json")


def _id_in(key: str) -> UUID | None:
    """The id of the image that ``key`` belongs to, if this module would have named it so."""
    image_id = parse_image_id(key.rpartition("/")[2].rpartition(".")[0])
    if image_id is None:
        return None
    keys = _keys(image_id)
    return image_id if key in (keys.image, keys.record) else None


def _is_probe(key: str) -> bool:
    folder, _, name = key.rpartition("/")
    return folder == ".incoming" and name.endswith(".probe") and parse_image_id(name.removesuffix(".probe")) is not None
