"""The files beside a data directory that say who uses its server.

Each process that uses the server holds a shared lock on `.lease`; the kernel lets go of it even
when the process is killed. `.lock` is held while the server is started or stopped. `.keep` names
the server that stays when nobody uses it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from resume_lab.database.data_directory import me, owner
from resume_lab.errors import EmbeddedError

_held: dict[Path, tuple[int, IO[str]]] = {}
_held_lock = threading.Lock()


class Leases:
    """The three files of one server, `name`, in `lab_dir`."""

    def __init__(self, lab_dir: Path, name: str) -> None:
        self._lab_dir = lab_dir
        self._lock_file = lab_dir / f"{name}.lock"
        self._lease_file = lab_dir / f"{name}.lease"
        self._keep_file = lab_dir / f"{name}.keep"

    def make(self) -> None:
        """Make the folder and the files; raises EmbeddedError."""
        with explained_file_errors(self._lab_dir):
            self._lab_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_file.touch(mode=0o600)
            self._lease_file.touch(mode=0o600)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let one process at a time start or stop the server."""
        with explained_file_errors(self._lab_dir):
            lock = _locked(self._lock_file, fcntl.LOCK_EX)
        with lock:
            yield

    def take(self, leave: Callable[[], None]) -> None:
        """Hold the server for this process, once; `leave` is called when the process ends."""
        with _held_lock:
            owner_pid, lease = _held.get(self._lease_file, (None, None))
            if owner_pid == os.getpid() and lease and _is_file_of(lease, self._lease_file):
                return  # a forked child takes its own
            if lease:
                lease.close()
            with explained_file_errors(self._lab_dir):
                lease = _locked(self._lease_file, fcntl.LOCK_SH)
            if owner_pid != os.getpid():
                atexit.register(leave)
            _held[self._lease_file] = (os.getpid(), lease)

    def give_up(self) -> bool:
        """Let go of the server; return whether this process held it."""
        with _held_lock:
            pid, lease = _held.pop(self._lease_file, (None, None))
        if lease is None or pid != os.getpid():
            return False
        fcntl.flock(lease, fcntl.LOCK_UN)  # closing is not enough: forked children have it open too
        lease.close()
        return True

    def is_unused(self) -> bool:
        """Say whether no process holds the server."""
        with self._lease_file.open("a") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def keep(self, identity: str) -> None:
        """Let this run of the server stay when nobody uses it."""
        self._keep_file.write_text(identity)

    def drop_keep(self) -> None:
        """Let the server go with its last user."""
        self._keep_file.unlink(missing_ok=True)

    def is_kept(self, identity: str | None) -> bool:
        """Say whether this run of the server is to stay; not if the file cannot be read."""
        try:
            return identity is not None and self._keep_file.read_text(errors="replace") == identity
        except OSError:
            return False


@contextlib.contextmanager
def explained_file_errors(lab_dir: Path, done: str = "written") -> Iterator[None]:
    """Turn what the operating system says of a file below `lab_dir` into EmbeddedError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedError(
            f"{lab_dir} cannot be {done}: {error.strerror or error}.",
            state="Nothing in it was deleted.",
            hint=_hint(error.errno, lab_dir),
        ) from None


def _hint(number: int | None, lab_dir: Path) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "Free space on its disk, then run the same command again."
    if number == errno.EROFS:
        return "Set LAB_DIR to a folder on a disk that can be written."
    if number in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        return "LAB_DIR must be a folder: set it to another, or move the file away."
    return (
        "Set LAB_DIR to a folder of your own"
        f" (this one belongs to {owner(lab_dir)}; you are {me()})."
    )


def _locked(path: Path, kind: int) -> IO[str]:
    """Open a file and wait for the lock on it; one deleted meanwhile would lock nothing."""
    while True:
        file = path.open("a")
        fcntl.flock(file, kind)
        if _is_file_of(file, path):
            return file
        file.close()


def _is_file_of(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
