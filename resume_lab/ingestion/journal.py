"""Vectors that a server has been asked for, kept on disk until the database holds them.

Without it a kill between the answer and the commit would have them paid for twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from resume_lab.embedding.embedder import DIM
from resume_lab.errors import DataError

_RECORD = np.dtype([("hash", "V32"), ("vector", "<f4", (DIM,))])


class Journal:
    """The vectors of one model that are not committed yet, by the hash of their text.

    Each process writes a file of its own in `folder` and reads those that killed ones left.
    """

    def __init__(self, folder: Path, model: str) -> None:
        name = hashlib.sha256(model.encode()).hexdigest()[:16]
        self._own = folder / f"{name}-{os.getpid()}.vectors"
        with _readable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._left = [path for path in folder.glob(f"{name}-*.vectors") if _is_left(path)]
            self._kept = {key: v for path in self._left for key, v in _read(path).items()}

    def get(self, text_hash: str) -> NDArray[np.float32] | None:
        """Return the vector of a text, shape (1536,), if it is kept."""
        return self._kept.get(text_hash)

    def keep(self, text_hashes: list[str], vectors: NDArray[np.float32]) -> None:
        """Write vectors, shape (n, 1536), so that they survive a kill of this process."""
        records = np.empty(len(vectors), dtype=_RECORD)
        records["hash"] = [np.void(bytes.fromhex(text_hash)) for text_hash in text_hashes]
        records["vector"] = vectors
        with _readable(self._own), self._own.open("ab") as file:
            file.write(records.tobytes())

    def forget(self) -> None:
        """Remove the files: all that they hold is committed."""
        for path in (self._own, *self._left):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_left(path: Path) -> bool:
    """Say whether the process that wrote the file is gone, or is this one."""
    number = path.stem.rpartition("-")[2]
    return number.isdecimal() and (int(number) == os.getpid() or not psutil.pid_exists(int(number)))


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the whole records of a file; the last one may be torn."""
    data = path.read_bytes()
    records = np.frombuffer(data, _RECORD, len(data) // _RECORD.itemsize)
    hashes = [bytes(value).hex() for value in records["hash"]]
    return dict(zip(hashes, records["vector"], strict=True))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be used: {error.strerror or error}.",
            hint="Vectors are kept there until they are stored. Set LAB_DIR to a folder of yours.",
        ) from None
