"""Markdown files into the tables: read, split, embedded, written, a batch of files at a time.

The next files are read and split while the server writes. A file stands in the tables whole or not
at all. What is there already is known by the hash of the file, so the same command again does only
what is left, and asks for no embedding twice: neither of a text that stands in the tables, nor of
one that a killed process had received. Two processes at once leave the tables right, but may both
ask for the same.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Engine
from tqdm.auto import tqdm

from resume_lab.config import Settings, project_root
from resume_lab.database import schema
from resume_lab.database.copy import ahead
from resume_lab.database.failures import translated_errors
from resume_lab.database.indexes import raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.session import lent_engine
from resume_lab.embedding import Embedder, make_embedder
from resume_lab.errors import ConfigError, DataError, LabError, leaving
from resume_lab.ingestion import store
from resume_lab.ingestion.chunking import check_sizes
from resume_lab.ingestion.discovery import Found, find_markdown, is_left_out
from resume_lab.ingestion.journal import Journal
from resume_lab.ingestion.outcome import IngestReport
from resume_lab.ingestion.prepare import Chunking, PreparedFile
from resume_lab.ingestion.reading import Batch, read_batches

CHUNK_SIZE = 512
OVERLAP = 50


def ingest_content(
    content_dir: Path | str,
    *,
    embedding_model: str | None = None,
    chunk_size: int = CHUNK_SIZE,
    overlap: int = OVERLAP,
    engine: Engine | None = None,
    name: str | None = None,
    keep_missing: bool = False,
    progress: bool = False,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> IngestReport:
    """Bring the tables in line with the Markdown files of a folder.

    Sizes are in tokens. Rows stand under `name`, by default the folder's path from the project.
    Files that are gone are removed unless `keep_missing`; a file that cannot be read is reported
    and keeps the rows that it has. Raises DataError, ConfigError, ServiceError, DatabaseError; what
    was written until then stays.
    """
    check_sizes(chunk_size, overlap)
    settings = settings or Settings()
    name = _name(content_dir, name)
    found = find_markdown(Path(content_dir), name)
    embedder = embedder or make_embedder(embedding_model, settings)
    with lent_engine(engine, settings) as engine:
        schema.make_current(engine)
        run = _Run(engine, embedder, Chunking(chunk_size, overlap), settings.lab_dir / "embedded")
        return run.ingest(name, found, keep_missing=keep_missing, progress=progress)


def remove_content(
    content_dir: Path | str,
    *,
    engine: Engine | None = None,
    name: str | None = None,
    settings: Settings | None = None,
) -> int:
    """Remove all that was ingested from a folder, which need not exist; return the files removed.

    Raises DataError if nothing of it is there.
    """
    name = _name(content_dir, name)
    with lent_engine(engine, settings) as engine:
        schema.make_current(engine)
        with (
            leaving("Nothing was removed."),
            translated_errors(engine),
            engine.begin() as connection,
        ):
            files = store.stored_files(connection, f"{name}/")
            if not files:
                raise DataError(
                    f"Nothing is stored under {name}/.",
                    hint="Name the folder as it was when it was ingested, or its name with --name.",
                )
            store.remove(connection, files.values())
    return len(files)


def _name(content_dir: Path | str, name: str | None) -> str:
    if name is not None:
        return checked_name(name)
    if isinstance(content_dir, str) and not content_dir.strip():
        raise DataError("The folder is blank.", hint="Name one; . is the current folder.")
    return default_name(Path(content_dir))


def default_name(content_dir: Path) -> str:
    """Return the name of a folder's rows: its path from the project, or else the whole path."""
    path = content_dir.resolve()
    try:
        inside = path.relative_to(project_root())
    except ValueError:
        return checked_name(path.as_posix())
    return checked_name(inside.as_posix() if inside.parts else path.name)


def checked_name(name: str) -> str:
    """Return `name` without a slash at its end; raises ConfigError for one that cannot be used."""
    cleaned = name.strip().rstrip("/")
    if not cleaned or not cleaned.isprintable():
        raise ConfigError(
            f"The name {name!r} cannot be used.", hint="Give one of printable characters: --name."
        )
    return cleaned


class _Run:
    """One ingestion: what it works with, and what it has done so far."""

    def __init__(
        self, engine: Engine, embedder: Embedder, chunking: Chunking, journal_folder: Path
    ) -> None:
        self._engine = engine
        self._embedder = embedder
        self._chunking = chunking
        self._journal = Journal(journal_folder, embedder.model) if embedder.is_remote else None
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._stored: dict[str, store.StoredFile] = {}
        self._known: dict[str, int] = {}
        self._report = IngestReport("", embedder.model)

    def ingest(
        self, name: str, found: Found, *, keep_missing: bool, progress: bool
    ) -> IngestReport:
        start = time.perf_counter()
        self._report = replace(self._report, name=name, problems=found.problems)
        with (
            self._timed("look up"),
            translated_errors(self._engine),
            self._engine.connect() as connection,
        ):
            self._stored = store.stored_files(connection, f"{name}/")
            self._known = store.known_texts(connection, self._embedder.model)
        batches = read_batches(found.files, self._stored, self._chunking, self._embedder.model)
        with (
            tqdm(total=len(found.files), unit="file", desc=name, disable=not progress) as bar,
            ahead(batches, depth=1) as read,
        ):
            for batch in read:
                self._finish(batch, len(found.files))
                bar.update(batch.seen)
        self._drop_missing(found, keep_missing=keep_missing)
        if self._report.chunks or self._report.completed or self._report.removed:
            self._analyze()
        if self._journal is not None:
            self._journal.close(self._known)
        total_s = time.perf_counter() - start
        return replace(self._report, seconds=dict(self._seconds), total_s=total_s)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - start

    def _count(self, **more: int) -> None:
        """Add to the numbers of the report."""
        sums = {field: getattr(self._report, field) + n for field, n in more.items()}
        self._report = replace(self._report, **sums)

    def _finish(self, batch: Batch, total: int) -> None:
        """Embed and write a batch; an error says how far it went."""
        self._seconds["read"] += batch.read_s
        self._seconds["split"] += batch.split_s
        self._count(unchanged=batch.unchanged)
        problems = (*self._report.problems, *batch.problems)
        self._report = replace(self._report, problems=problems)
        if not batch.files:
            return
        try:
            self._write(batch.files, self._vectors(batch.files))
        except LabError as error:
            done = self._report.added + self._report.changed + self._report.completed
            error.state = f"{done + self._report.unchanged:,} of {total:,} files are stored."
            onwards = "The same command goes on from there; nothing is embedded twice."
            error.hint = f"{error.hint}\n{onwards}" if error.hint else onwards
            raise

    def _vectors(self, files: list[PreparedFile]) -> dict[str, NDArray[np.float32]]:
        texts = {c.text_hash: c.embedded_text for file in files for c in file.chunks}
        with self._timed("reuse"):
            vectors = self._present(texts)
        self._count(reused=len(vectors))
        wanted = [key for key in texts if key not in vectors]
        with self._timed("embed"):
            start = 0
            for made in self._embedder.batches([texts[key] for key in wanted]):
                keys = wanted[start : start + len(made)]
                if self._journal is not None:
                    self._journal.keep(keys, made)
                    self._count(requests=1)
                vectors.update(zip(keys, made, strict=True))
                self._count(embedded=len(made))
                start += len(made)
        return vectors

    def _present(self, texts: dict[str, str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors that need not be made: kept by a killed process, or stored."""
        vectors = {}
        if self._journal is not None:
            vectors = {k: v for k in texts if (v := self._journal.get(k)) is not None}
        chunk_ids = {k: self._known[k] for k in texts if k in self._known and k not in vectors}
        if chunk_ids:
            with translated_errors(self._engine), self._engine.begin() as connection:
                model = self._embedder.model
                vectors |= store.read_vectors(connection, model, chunk_ids)
        return vectors

    def _write(self, files: list[PreparedFile], vectors: store.Vectors) -> None:
        with (
            self._timed("write"),
            translated_errors(self._engine),
            self._engine.begin() as connection,
        ):
            written = interruptible(
                raw_connection(connection),
                lambda: store.write(
                    connection, self._embedder.model, files, vectors, self._stored.values()
                ),
            )
        if self._journal is not None:
            self._journal.clear()
        self._known |= written.chunk_ids
        self._count(
            added=written.added,
            changed=written.changed,
            completed=written.completed,
            unchanged=written.unchanged,
            chunks=written.chunks,
            tokens=written.tokens,
        )
        lost = Counter(self._report.lost) + written.lost
        self._report = replace(self._report, lost=dict(lost))

    def _drop_missing(self, found: Found, *, keep_missing: bool) -> None:
        """Remove files that are gone; not those that only could not be looked at."""
        there = {file.source_file for file in found.files}
        gone = {
            source_file: stored
            for source_file, stored in self._stored.items()
            if source_file not in there and _was_looked_for(source_file, self._report.name, found)
        }
        if keep_missing:
            self._count(missing=len(gone))
            return
        with (
            self._timed("write"),
            translated_errors(self._engine),
            self._engine.begin() as connection,
        ):
            store.remove(connection, gone.values())
        self._count(removed=len(gone))

    def _analyze(self) -> None:
        """Leave out a table whose index is being built concurrently: autovacuum comes to it.

        The build waits for whoever waits for it, and PostgreSQL would end one of the two.
        """
        with (
            self._timed("write"),
            translated_errors(self._engine),
            self._engine.begin() as connection,
        ):
            connection.execute(sa.text("ANALYZE (SKIP_LOCKED) document_chunks, chunk_embeddings"))


def _was_looked_for(source_file: str, name: str, found: Found) -> bool:
    """Say whether the file would have been found if it were there."""
    below = source_file.removeprefix(f"{name}/").split("/")
    folders = tuple(f"{place.rstrip('/')}/" for place in found.refused)
    is_unknown = source_file in found.refused or source_file.startswith(folders)
    return not (is_unknown or any(map(is_left_out, below)))
