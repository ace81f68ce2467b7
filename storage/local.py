"""Images in a folder of this host.

``<root>/0b/9f/<id>.png`` with ``<id>.json`` beside it; what is still being written is in ``<root>/.incoming``.

The record claims the id, the image makes it valid: the record is created first, under its final name and only if
nothing has that name; the image is written elsewhere on the same filesystem, made durable and renamed to its place.
So an id has a whole image or none, and an image always has its record. A crash can leave a record alone or a file in
``.incoming``: nobody reads those, and :meth:`LocalStorage.sweep` removes them. Hard links would do the same in fewer
steps, but not every filesystem (FUSE, exFAT, some network shares) has them.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from itertools import chain
from pathlib import Path
from uuid import UUID, uuid4

from storage.base import ImageFacts, OpenImage, StoredImage, encode_record, image_path, parse_image_id
from storage.errors import ImageExistsError, ImageNotFoundError, StorageUnavailableError, UnavailableReason
from storage.files import children, is_older, is_there, open_existing, open_new, remove_if_there

# The owner writes, the group reads, as in storage/files.py.
_FOLDER_MODE = 0o750

# A save takes well under a second. An hour is far beyond a suspended process or a clock that was just set.
LEFTOVER_AGE_S = 3600.0

SAVE_STEPS = (
    "folders_ready",
    "record_created",
    "record_written",
    "incoming_created",
    "incoming_written",
    "image_visible",
    "image_durable",
)
DELETE_STEPS = ("image_removed", "removal_durable", "record_removed")

_SHARD = re.compile(r"[0-9a-f]{2}")

_REASONS: dict[int, UnavailableReason] = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
}


@dataclass(frozen=True, kw_only=True)
class _Paths:
    image: Path
    record: Path
    incoming: Path


class LocalStorage:
    """An :class:`~storage.base.ImageStorage` in a folder, shared by all threads and processes of the host.

    :param root: created when first needed, with its parents. A relative one counts from the working directory of now.
    :param fsync: ``False`` is faster and may lose images, or leave damaged ones, when the host loses power.
    :param clock: seconds since 1970, as file times are.
    :param on_failure: called with the name of each operation that the disk fails; an image that is not there is none.
    :param on_step: called after each of ``SAVE_STEPS`` and ``DELETE_STEPS`` with its name.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        fsync: bool = True,
        clock: Callable[[], float] = time.time,
        on_failure: Callable[[str], None] = lambda operation: None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._root = Path(root).absolute()
        self._incoming = self._root / ".incoming"
        self._fsync = fsync
        self._clock = clock
        self._on_failure = on_failure
        self._on_step = on_step

    def save(self, image_id: UUID, png: bytes, record: Mapping[str, object]) -> None:
        paths = self._paths(image_id)
        record_json = encode_record(record)
        with self._reporting("save"):
            self._make_folder(self._incoming)
            self._make_folder(paths.image.parent)
            self._on_step("folders_ready")
            record_file = _claim(image_id, paths)
            try:
                with record_file:
                    self._on_step("record_created")
                    self._write(record_file, record_json)
                self._on_step("record_written")
                self._place_image(paths, png)
            except BaseException:
                _remove_in_order(paths.incoming, paths.image, paths.record)
                raise

    def open(self, image_id: UUID) -> OpenImage:
        with self._reporting("open"):
            return self._open(image_id)

    def look(self, image_id: UUID) -> ImageFacts:
        with self._reporting("look"):
            image = self._open(image_id)
        image.file.close()
        return ImageFacts(size_bytes=image.size_bytes, etag=image.etag, modified=image.modified)

    def delete(self, image_id: UUID) -> None:
        paths = self._paths(image_id)
        with self._reporting("delete"):
            try:
                os.unlink(paths.image)
            except FileNotFoundError as exc:
                raise ImageNotFoundError(image_id) from exc
            self._on_step("image_removed")
            # A power cut must not undo the first removal and keep the second: an image without record.
            self._sync_folder(paths.image.parent)
            self._on_step("removal_durable")
            paths.record.unlink(missing_ok=True)
            self._on_step("record_removed")

    def check(self) -> None:
        with self._reporting("check"):
            self._make_folder(self._incoming)
            probe = self._incoming / f"{uuid4()}.probe"
            try:
                with open_new(probe) as file:
                    self._write(file, b"probe")
                self._sync_folder(self._incoming)
            finally:
                probe.unlink(missing_ok=True)

    def images(self) -> Iterator[StoredImage]:
        with self._reporting("images"):
            for shard in self._all_shards():
                yield from _images_in(shard)

    def sweep(self, *, older_than_s: float = LEFTOVER_AGE_S) -> int:
        """Remove what crashed processes left behind, and return how many files that were.

        Safe beside other sweeps, and beside saves as long as none of them takes ``older_than_s``: age is the only
        sign that a writer is gone. Never touches an image, its record, or a file this class would not have made.

        :raises StorageUnavailableError:
        """
        made_before = self._clock() - older_than_s
        with self._reporting("sweep"):
            leftovers = chain(self._old_incoming(made_before), self._old_lone_records(made_before))
            return sum(remove_if_there(path) for path in leftovers)

    @contextmanager
    def _reporting(self, operation: str) -> Iterator[None]:
        """:raises StorageUnavailableError: instead of the system's errors; reported as well."""
        try:
            yield
        except (OSError, StorageUnavailableError) as exc:
            self._on_failure(operation)
            if isinstance(exc, StorageUnavailableError):
                raise
            raise StorageUnavailableError(_REASONS.get(exc.errno or 0, "io")) from exc

    def _open(self, image_id: UUID) -> OpenImage:
        try:
            file = open_existing(self._paths(image_id).image)
        except FileNotFoundError as exc:
            raise ImageNotFoundError(image_id) from exc
        status = os.fstat(file.fileno())
        return OpenImage(
            file=file,
            size_bytes=status.st_size,
            etag=str(image_id),
            modified=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    def _paths(self, image_id: UUID) -> _Paths:
        image = self._root / image_path(image_id)
        return _Paths(
            image=image,
            record=image.with_suffix(".json"),
            incoming=self._incoming / f"{image_id}.png",
        )

    def _place_image(self, paths: _Paths, png: bytes) -> None:
        with open_new(paths.incoming) as file:
            self._on_step("incoming_created")
            self._write(file, png)
        self._on_step("incoming_written")
        os.rename(paths.incoming, paths.image)
        self._on_step("image_visible")
        # For both names: a filesystem with a journal writes the record's no later than the image's.
        self._sync_folder(paths.image.parent)
        self._on_step("image_durable")

    def _write(self, file: FileIO, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        if self._fsync:
            os.fsync(file)

    def _make_folder(self, path: Path) -> None:
        # Anything else with the name of the folder shows when something is opened in it.
        try:
            os.mkdir(path, _FOLDER_MODE)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_folder(path.parent)
            with suppress(FileExistsError):
                os.mkdir(path, _FOLDER_MODE)
        self._sync_folder(path.parent)

    def _sync_folder(self, path: Path) -> None:
        if not self._fsync:
            return
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _old_incoming(self, made_before: float) -> Iterator[str]:
        for entry in children(self._incoming):
            name, ending = os.path.splitext(entry.name)
            if ending in (".png", ".probe") and parse_image_id(name) and is_older(entry.path, made_before):
                yield entry.path

    def _old_lone_records(self, made_before: float) -> Iterator[str]:
        for shard in self._all_shards():
            names = {entry.name for entry in children(shard)}
            for name in names:
                image = f"{name.removesuffix('.json')}.png"
                if not name.endswith(".json") or image in names or parse_image_id(name.removesuffix(".json")) is None:
                    continue
                # The second look is for an image that is younger than the listing.
                if is_older(f"{shard}/{name}", made_before) and not is_there(f"{shard}/{image}"):
                    yield f"{shard}/{name}"

    def _all_shards(self) -> Iterator[str]:
        return (shard for outer in _shards(self._root) for shard in _shards(outer))


def _claim(image_id: UUID, paths: _Paths) -> FileIO:
    # An image without a record was not stored by this class (restored by hand, perhaps), and must not be overwritten.
    if is_there(paths.image):
        raise ImageExistsError(image_id)
    try:
        return open_new(paths.record)
    except FileExistsError as exc:
        raise ImageExistsError(image_id) from exc


def _remove_in_order(*paths: Path) -> None:
    # Stops at the first that cannot be removed: a record must outlive its image. The error that led here is the one
    # to report.
    with suppress(OSError):
        for path in paths:
            path.unlink(missing_ok=True)


def _images_in(shard: str) -> Iterator[StoredImage]:
    for entry in children(shard):
        name, ending = os.path.splitext(entry.name)
        image_id = parse_image_id(name) if ending == ".png" else None
        if image_id is None:
            continue
        with suppress(FileNotFoundError):  # removed since the listing
            status = entry.stat(follow_symlinks=False)
            yield StoredImage(image_id=image_id, size_bytes=status.st_size, modified=status.st_mtime)


def _shards(folder: Path | str) -> Iterator[str]:
    for entry in children(folder):
        if _SHARD.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield entry.path
