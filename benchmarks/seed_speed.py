"""How fast seeding loads rows: against the server's own limit, and against SQLAlchemy.

The limit: COPY of the same bytes, encoded beforehand and held in memory, into the same two tables
of the same server. Both loads run without the vector index, which seeding builds afterwards. The
rounds alternate, and the median of each is taken, so drift of the machine falls on both.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.database import ChunkEmbedding, DocumentChunk, EmbeddedServer, copy, schema
from resume_lab.database.indexes import drop_vector_indexes, raw_connection
from resume_lab.database.models import CHUNK_COLUMNS, EMBEDDING_COLUMNS
from resume_lab.database.session import engine_for
from resume_lab.tuning.environment import machine
from resume_lab.vectors import Kind, stream

BULK_ROWS = 2_000
ROUNDS = 3


@contextlib.contextmanager
def empty_database() -> Iterator[Engine]:
    """Give a migrated database on a server of its own, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder))
        with contextlib.ExitStack() as ending:
            ending.callback(server.leave)  # an interrupt may come while it starts
            engine = engine_for(server.use())
            ending.callback(engine.dispose)
            schema.upgrade(engine)
            yield engine


def empty(engine: Engine) -> None:
    """Remove all rows and let the server finish what it has to write."""
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(sa.text("TRUNCATE document_chunks, chunk_embeddings"))
        connection.execute(sa.text("CHECKPOINT"))


def seed_rate(engine: Engine, rows: int, kind: Kind) -> float:
    """Return rows/s of seeding, generating and encoding included."""
    empty(engine)
    return seeding.seed(engine, rows=rows, kind=kind).rows_per_s


def encoded(rows: int, kind: Kind) -> tuple[list[bytes], list[bytes]]:
    """Return the bytes that seeding sends: batches of chunks, batches of embeddings."""
    model = seeding.synthetic_model(kind, 0)
    vectors = stream(kind, rows=rows, batch_rows=seeding.BATCH_ROWS)
    return (
        list(seeding.chunk_batches(model, 1, 0, rows)),
        list(seeding.embedding_batches(model, 1, vectors, lambda _: None)),
    )


def copy_rate(engine: Engine, rows: int, chunks: list[bytes], embeddings: list[bytes]) -> float:
    """Return rows/s of COPY from memory in one transaction."""
    empty(engine)
    with engine.begin() as connection:
        set_aside = drop_vector_indexes(connection)
        raw = raw_connection(connection)
        start = time.perf_counter()
        copy.copy_rows(raw, ("document_chunks",), CHUNK_COLUMNS, chunks)
        copy.copy_rows(raw, ("chunk_embeddings",), EMBEDDING_COLUMNS, embeddings)
        rate = rows / (time.perf_counter() - start)
        for index in set_aside:
            index.rebuild(connection, dim=1536)
    return rate


def bulk_insert_rate(engine: Engine, rows: int, kind: Kind) -> float:
    """Return rows/s of SQLAlchemy's bulk insert of the same rows."""
    empty(engine)
    vectors = [vector for batch in stream(kind, rows=rows) for vector in batch]
    with engine.begin() as connection:
        drop_vector_indexes(connection)
        start = time.perf_counter()
        connection.execute(
            sa.insert(DocumentChunk),
            [
                {"chunk_id": n, "content": f"Vector {n}", "source_file": "bulk", "chunk_index": n}
                for n in range(rows)
            ],
        )
        connection.execute(
            sa.insert(ChunkEmbedding),
            [
                {"chunk_id": n, "embedding": vector, "embedding_model": "bulk"}
                for n, vector in enumerate(vectors)
            ],
        )
        rate = rows / (time.perf_counter() - start)
        connection.rollback()
    return rate


def main() -> None:
    """Print the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--kind", type=Kind, default=Kind.RANDOM)
    options = parser.parse_args()
    print(f"Seeding, {options.rows:,} {options.kind} rows x 1536, {machine()}")
    with empty_database() as engine:
        chunks, embeddings = encoded(options.rows, options.kind)
        copied, seeded = [], []
        for _ in range(ROUNDS):
            copied.append(copy_rate(engine, options.rows, chunks, embeddings))
            seeded.append(seed_rate(engine, options.rows, options.kind))
        bulk = bulk_insert_rate(engine, BULK_ROWS, options.kind)
    copy_median, seed_median = statistics.median(copied), statistics.median(seeded)
    print(f"COPY of encoded bytes   {copy_median:9,.0f} rows/s")
    print(f"seed                    {seed_median:9,.0f} rows/s")
    print(f"SQLAlchemy bulk insert  {bulk:9,.0f} rows/s ({BULK_ROWS:,} rows)")
    print(f"seed / COPY             {seed_median / copy_median:9.2f}   at least 0.80 is wanted")
    print(f"seed / bulk insert      {seed_median / bulk:9.1f}   at least 10 is wanted")


if __name__ == "__main__":
    main()
