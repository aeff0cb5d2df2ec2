"""Vectors into the tables: synthetic ones or given ones, each a chunk and its embedding.

One transaction holds the whole load and the rebuild of the vector index, so a kill leaves all or
nothing. A set of vectors is known by its `embedding_model`, which names generator and seed (or the
file and its content), so the same set is never loaded twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine
from tqdm.auto import tqdm

from resume_lab.config import AppEnv, Settings
from resume_lab.database import copy
from resume_lab.database.disk import check_space, seed_bytes
from resume_lab.database.failures import translated_errors
from resume_lab.database.indexes import drop_vector_indexes, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.models import (
    CHUNK_COLUMNS,
    EMBEDDING_COLUMNS,
    EMBEDDING_DIM,
    ChunkEmbedding,
    DocumentChunk,
)
from resume_lab.database.session import lift_statement_timeout
from resume_lab.errors import ConfigError, SchemaError, leaving
from resume_lab.given import whole
from resume_lab.vectors import Kind, load_vectors, stream, unit, validate_vectors

BATCH_ROWS = 1024
UNCHANGED = "Nothing was added, and nothing that was there has changed."
Batches = Callable[[int], Iterator[NDArray[np.float32]]]
"""Given the first row to give, yields unit vectors from there on, (at most BATCH_ROWS, dim)."""


@dataclass(frozen=True)
class SeedReport:
    """What a seeding did. `rows_per_s` counts the load, not the rebuild of the index."""

    model: str
    added: int
    present: int
    load_s: float
    index_s: float

    @property
    def rows_per_s(self) -> float:
        """Return rows loaded a second, higher is better."""
        return self.added / self.load_s if self.added else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"rows_per_s": self.rows_per_s}

    def __str__(self) -> str:
        """Say it in a sentence."""
        if not self.added:
            return f"{self.model}: {self.present:,} rows are there already, nothing added."
        return (
            f"{self.model}: {self.added:,} rows added in {self.load_s:.1f} s "
            f"({self.rows_per_s:,.0f} rows/s), vector index rebuilt in {self.index_s:.1f} s."
        )


def seed(
    engine: Engine,
    *,
    rows: int,
    kind: Kind | str = Kind.RANDOM,
    seed: int = 0,
    progress: bool = False,
    allow_prod: bool = False,
) -> SeedReport:
    """Load `rows` generated unit vectors; rows already there from the same generator count.

    Raises ConfigError where APP_ENV is prod, unless `allow_prod`.
    """
    _check_env(allow_prod)
    kind = Kind(kind)
    rows, seed = whole(rows, "rows"), whole(seed, "seed", least=0)

    def batches(start: int) -> Iterator[NDArray[np.float32]]:
        return stream(
            kind,
            rows=rows - start,
            dim=EMBEDDING_DIM,
            seed=seed,
            start=start,
            batch_rows=BATCH_ROWS,
        )

    return _seed(engine, synthetic_model(kind, seed), rows, batches, progress=progress)


def seed_file(
    engine: Engine, path: Path, *, progress: bool = False, allow_prod: bool = False
) -> SeedReport:
    """Load the vectors of a `.npy`, `.npz` or `.parquet` file, scaled to unit length.

    Raises DataError, before anything is written, naming the first bad row; ConfigError where
    APP_ENV is prod, unless `allow_prod`.
    """
    _check_env(allow_prod)
    with leaving(UNCHANGED):
        vectors = load_vectors(path)
        validate_vectors(vectors, dim=EMBEDDING_DIM, what=path.name)

    def batches(start: int) -> Iterator[NDArray[np.float32]]:
        for first in range(start, len(vectors), BATCH_ROWS):
            yield unit(vectors[first : first + BATCH_ROWS])

    return _seed(engine, file_model(path, vectors), len(vectors), batches, progress=progress)


def synthetic_model(kind: Kind | str, seed: int) -> str:
    """Return the `embedding_model` of generated vectors."""
    return f"synthetic/{Kind(kind)}/seed={seed}"


def file_model(path: Path, vectors: NDArray[np.float32]) -> str:
    """Return the `embedding_model` of a file's vectors: its name and a hash of its content."""
    digest = hashlib.sha256()
    for first in range(0, len(vectors), BATCH_ROWS):
        digest.update(vectors[first : first + BATCH_ROWS].tobytes())
    name = path.name.encode(errors="replace").decode()  # a name need not be UTF-8
    return f"file/{name[:120]}@{digest.hexdigest()[:12]}"


def _check_env(allow_prod: bool) -> None:
    if not allow_prod and Settings().app_env is AppEnv.PROD:
        raise ConfigError(
            "APP_ENV is prod, where no rows are added without being asked for.",
            hint="If that is meant: `resume-lab seed --yes`, or allow_prod=True from Python.",
        )


def _seed(engine: Engine, model: str, rows: int, batches: Batches, *, progress: bool) -> SeedReport:
    with leaving(UNCHANGED), translated_errors(engine), engine.begin() as connection:
        return interruptible(
            raw_connection(connection),
            lambda: _load(connection, model, rows, batches, progress=progress),
        )


def _load(
    connection: Connection, model: str, rows: int, batches: Batches, *, progress: bool
) -> SeedReport:
    """Do the whole of it in the transaction of `connection`."""
    lift_statement_timeout(connection)
    _lock(connection)
    present = _present(connection, model)
    if present >= rows:
        return SeedReport(model, 0, present, 0.0, 0.0)
    added = rows - present
    set_aside = drop_vector_indexes(connection)
    _check_space(connection, added, len(set_aside))
    start = time.perf_counter()
    first_id = _reserve_ids(connection, added)
    raw = raw_connection(connection)
    chunks = chunk_batches(model, first_id, present, rows)
    copy.copy_rows(raw, (DocumentChunk.__tablename__,), CHUNK_COLUMNS, chunks)
    with tqdm(total=added, unit="row", desc=model, disable=not progress) as bar:
        embeddings = embedding_batches(model, first_id, batches(present), bar.update)
        with copy.ahead(embeddings) as encoded:
            copy.copy_rows(raw, (ChunkEmbedding.__tablename__,), EMBEDDING_COLUMNS, encoded)
    loaded = time.perf_counter()
    for index in set_aside:
        index.rebuild(connection, EMBEDDING_DIM)
    connection.execute(sa.text("ANALYZE document_chunks, chunk_embeddings"))
    return SeedReport(model, added, present, loaded - start, time.perf_counter() - loaded)


def _check_space(connection: Connection, added: int, indexes: int) -> None:
    """Refuse a load that the disk has no room for, the rebuild of `indexes` on all rows with it."""
    every = connection.scalar(sa.select(sa.func.count()).select_from(ChunkEmbedding)) or 0
    needed = seed_bytes(added, EMBEDDING_DIM, present=every, indexes=indexes)
    check_space(connection, needed, f"Seeding {added:,} rows")


def _lock(connection: Connection) -> None:
    """Keep other writers out of the chunks until the end.

    Readers of the chunks go on; those of the embeddings wait from the drop of the index to the end.
    """
    try:
        connection.execute(sa.text("LOCK TABLE document_chunks IN SHARE ROW EXCLUSIVE MODE"))
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != "42P01":
            raise
        raise SchemaError(
            "The tables are not there yet.", hint="Run `resume-lab migrate` first."
        ) from None


def _present(connection: Connection, model: str) -> int:
    count = connection.scalar(
        sa.select(sa.func.count())
        .select_from(ChunkEmbedding)
        .where(ChunkEmbedding.embedding_model == model)
    )
    return int(count or 0)


def _reserve_ids(connection: Connection, rows: int) -> int:
    """Return the first of `rows` consecutive chunk ids; the table lock keeps them ours."""
    sequence = "pg_get_serial_sequence('document_chunks', 'chunk_id')"
    statement = f"SELECT setval({sequence}, nextval({sequence}) + :more)"
    last = connection.scalar(sa.text(statement), {"more": rows - 1})
    return int(last or 0) - rows + 1


def chunk_batches(model: str, first_id: int, start: int, stop: int) -> Iterator[bytes]:
    """Encode the chunks of vectors `start` to `stop`, for CHUNK_COLUMNS."""
    source, title = copy.text(model), copy.text(f"Vectors of {model}")
    category, metadata = copy.text(model.partition("/")[0]), copy.jsonb(json.dumps({"lab": True}))
    for first in range(start, stop, BATCH_ROWS):
        yield copy.encode_rows(
            (
                copy.int4(first_id + number - start),
                copy.text(f"Vector {number} of {model}."),
                source,
                category,
                title,
                copy.int4(number),
                metadata,
            )
            for number in range(first, min(first + BATCH_ROWS, stop))
        )


def embedding_batches(
    model: str,
    first_id: int,
    batches: Iterator[NDArray[np.float32]],
    count: Callable[[int], object],
) -> Iterator[bytes]:
    """Encode the embeddings of consecutive chunks, for EMBEDDING_COLUMNS; `count` gets rows."""
    name = model.encode()
    for vectors in batches:
        ids = np.arange(first_id, first_id + len(vectors), dtype=np.int32)
        yield copy.encode_batch(ids, vectors, name)
        first_id += len(vectors)
        count(len(vectors))
