"""Files read and split, a batch at a time, but for those that stand in the tables as they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resume_lab.ingestion.discovery import FileProblem, FoundFile
from resume_lab.ingestion.markdown import MAX_BYTES, UnreadableFile, too_large
from resume_lab.ingestion.prepare import Chunking, PreparedFile, file_hash, prepare
from resume_lab.ingestion.store import StoredFile
from resume_lab.printable import escaped

BATCH_CHUNKS = 500
"""A batch of files is written when it has this many chunks."""


@dataclass
class Batch:
    """Files to write, and what became of the others of the `seen` that were looked at for them."""

    files: list[PreparedFile] = field(default_factory=list)
    seen: int = 0
    chunks: int = 0
    unchanged: int = 0
    problems: list[FileProblem] = field(default_factory=list)
    read_s: float = 0.0
    split_s: float = 0.0


def read_batches(
    files: Iterable[FoundFile], stored: Mapping[str, StoredFile], chunking: Chunking, model: str
) -> Iterator[Batch]:
    """Yield what has to be written so that every file stands there, embedded by `model`."""
    batch = Batch()
    for found in files:
        batch.seen += 1
        try:
            _take(batch, found, stored.get(found.source_file), chunking, model)
        except UnreadableFile as error:
            shown = escaped(found.source_file)
            batch.problems.append(FileProblem(shown, error.line, error.reason))
        if batch.chunks >= BATCH_CHUNKS:
            yield batch
            batch = Batch()
    yield batch


def _take(
    batch: Batch, found: FoundFile, stored: StoredFile | None, chunking: Chunking, model: str
) -> None:
    start = time.perf_counter()
    data = _read(found.path)
    digest = file_hash(found, data)
    is_done = (
        stored is not None
        and stored.chunking == str(chunking)
        and stored.file_hash == digest
        and stored.is_embedded(model)
    )
    read = time.perf_counter()
    batch.read_s += read - start
    if is_done:
        batch.unchanged += 1
        return
    prepared = prepare(found, data, digest, chunking)
    batch.split_s += time.perf_counter() - read
    batch.files.append(prepared)
    batch.chunks += len(prepared.chunks)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise too_large(size)
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror or error}") from None
