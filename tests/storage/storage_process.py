"""A process that uses a local storage: started by the tests, and mostly killed by them."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

from storage import ImageExistsError, LocalStorage, StorageError, StorageUnavailableError


def picture(author: str, image_id: UUID) -> bytes:
    return f"{author} {image_id}\n".encode() * 3000


def _die_at(step: str) -> Callable[[str], None]:
    def on_step(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_step


def save_and_die(root: str, step: str, image_id: str) -> None:
    uuid = UUID(image_id)
    LocalStorage(root, on_step=_die_at(step)).save(uuid, picture("child", uuid), {"author": "child"})


def delete_and_die(root: str, step: str, image_id: str) -> None:
    LocalStorage(root, on_step=_die_at(step)).delete(UUID(image_id))


def die_while_writing(root: str, max_bytes: str, image_id: str) -> None:
    """The kernel ends the process in the middle of a write, at the given size of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_bytes), int(max_bytes)))
    uuid = UUID(image_id)
    LocalStorage(root).save(uuid, picture("child", uuid), {"author": "child", "text": "x" * 2000})


def save_with_file_size_limit(root: str, max_bytes: str, image_id: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_bytes), int(max_bytes)))
    uuid = UUID(image_id)
    _print_outcome(lambda: LocalStorage(root).save(uuid, picture("child", uuid), {"text": "x" * 2000}))


def save_until_killed(root: str) -> None:
    storage = LocalStorage(root)
    while True:
        uuid = uuid4()
        storage.save(uuid, picture("child", uuid), {"author": "child"})


def save_all(root: str, author: str, *image_ids: str) -> None:
    """Try to save every id; print those that this process won."""
    storage = LocalStorage(root)
    won = []
    for uuid in map(UUID, image_ids):
        try:
            storage.save(uuid, picture(author, uuid), {"author": author})
        except ImageExistsError:
            continue
        won.append(str(uuid))
    print(json.dumps(won))


def use_as_nobody(root: str) -> None:
    """Without root's right to ignore permissions."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    storage = LocalStorage(root)
    _print_outcome(storage.check)
    _print_outcome(lambda: storage.save(uuid4(), b"png", {}))


def fill_a_small_disk(root: str) -> None:
    """Inside a mount namespace: what happens on a filesystem of 512 KiB."""
    _mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", root)
    storage = LocalStorage(root)
    kept = uuid4()
    storage.save(kept, picture("child", kept), {"author": "child"})
    before = _files(root)
    _print_outcome(lambda: storage.save(uuid4(), b"x" * 2**20, {"author": "child"}))
    _print_outcome(lambda: storage.save(uuid4(), b"png", {"author": "x" * 2**20}))
    print(_files(root) == before)
    _fill(Path(root) / "filler")
    _print_outcome(storage.check)
    print(_files(root) - {"filler"} == before)
    (Path(root) / "filler").unlink()
    _print_outcome(storage.check)
    with storage.open(kept).file as file:
        print(file.read() == picture("child", kept))


def use_a_read_only_disk(root: str) -> None:
    """Inside a mount namespace."""
    _mount("-t", "tmpfs", "tmpfs", root)
    storage = LocalStorage(root)
    kept = uuid4()
    storage.save(kept, picture("child", kept), {"author": "child"})
    _mount("-o", "remount,bind,ro", root)
    _print_outcome(storage.check)
    _print_outcome(lambda: storage.save(uuid4(), b"png", {}))
    _print_outcome(lambda: storage.delete(kept))
    with storage.open(kept).file as file:
        print(file.read() == picture("child", kept))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _files(root: str) -> set[str]:
    return {str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file()}


def _fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return


def _print_outcome(act: Callable[[], None]) -> None:
    try:
        act()
    except StorageUnavailableError as error:
        print(error.reason)
    except StorageError as error:
        print(type(error).__name__)
    else:
        print("done")


if __name__ == "__main__":
    modes: list[Callable[..., None]] = [
        save_and_die,
        delete_and_die,
        die_while_writing,
        save_with_file_size_limit,
        save_until_killed,
        save_all,
        use_as_nobody,
        fill_a_small_disk,
        use_a_read_only_disk,
    ]
    {mode.__name__: mode for mode in modes}[sys.argv[1]](*sys.argv[2:])
