"""Vectors that a server has been asked for, kept on disk until the database holds them.

Without it a kill between the answer and the commit would have them paid for twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Container, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil
from numpy.typing import NDArray

from resume_lab.embedding.embedder import DIM
from resume_lab.errors import DataError

_RECORD = np.dtype([("hash", "V32"), ("vector", "<f4", (DIM,))])
_KEPT_S = 30 * 24 * 3600
"""What nobody has come back for in a month is dropped."""


class Journal:
    """The vectors of one model that are not committed yet, by the hash of their text.

    Each run writes a file of its own in `folder` and reads those of all others, whatever they
    ingest: a text has the same vector everywhere.
    """

    def __init__(self, folder: Path, model: str) -> None:
        name = hashlib.sha256(model.encode()).hexdigest()[:16]
        self._own = folder / f"{name}-{os.getpid()}-{uuid4().hex}.vectors"
        with _explained(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._others = {path: _read(path) for path in folder.glob(f"{name}-*.vectors")}
            self._own.touch()  # a folder that cannot be written is noticed before anything is paid
        self._kept = {key: v for vectors in self._others.values() for key, v in vectors.items()}

    def get(self, text_hash: str) -> NDArray[np.float32] | None:
        """Return the vector of a text, shape (1536,), if it is kept."""
        return self._kept.get(text_hash)

    def keep(self, text_hashes: list[str], vectors: NDArray[np.float32]) -> None:
        """Write vectors, shape (n, 1536), so that they survive a kill of this process."""
        records = np.empty(len(vectors), dtype=_RECORD)
        records["hash"] = [np.void(bytes.fromhex(text_hash)) for text_hash in text_hashes]
        records["vector"] = vectors
        with _explained(self._own), self._own.open("ab") as file:
            file.write(records.tobytes())

    def clear(self) -> None:
        """Drop what this run has written: it is committed."""
        with _explained(self._own):
            self._own.write_bytes(b"")

    def close(self, stored: Container[str]) -> None:
        """Remove the own file, and those of ended runs whose texts are all among `stored`."""
        for path, vectors in self._others.items():
            if _is_old(path) or (_is_ended(path) and all(key in stored for key in vectors)):
                _remove(path)
        _remove(self._own)


def _is_ended(path: Path) -> bool:
    number = path.stem.split("-")[1]
    return (
        not number.isdecimal() or not psutil.pid_exists(int(number)) or int(number) == os.getpid()
    )


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _KEPT_S
    except OSError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the whole records of a file; the last one may be torn, and the file gone."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    records = np.frombuffer(data, _RECORD, len(data) // _RECORD.itemsize)
    hashes = [bytes(value).hex() for value in records["hash"]]
    return dict(zip(hashes, records["vector"], strict=True))


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be used: {error.strerror or error}.",
            hint="Vectors are kept there until they are stored. Make room, or set LAB_DIR to a "
            "folder of yours.",
        ) from None
