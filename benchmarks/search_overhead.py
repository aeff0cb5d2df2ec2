"""What search_vector adds to the bare SQL of the same search, sent through psycopg2.

Bare: BEGIN, set_config, SELECT, fetchall, COMMIT on one connection that stays open, with the probes
known beforehand and the vector, a NumPy array, handed over as pgvector's documentation has it. To
be strict it is timed a second time with the vector written by `vector_text`, which is faster.

Ours: search_vector on an engine, which takes a connection from its pool and makes sure that it is
alive, and on a connection that stays open, as bare has it. Either reads the finding of the tuned
index, searches, and makes hits of the rows.

All return the same chunks. They take turns in random order, and the median of each is taken.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector.psycopg2 import register_vector
from sqlalchemy.engine import Connection, Engine

from benchmarks.seed_speed import empty_database
from resume_lab import seeding
from resume_lab.database import EMBEDDING_DIM, IVFFlat
from resume_lab.database.copy import vector_text
from resume_lab.database.indexes import (
    allow_build,
    drop_vector_indexes,
    execute,
    literal,
    raw_connection,
)
from resume_lab.retrieval import search_vector
from resume_lab.rollout.finding import Finding
from resume_lab.tuning.environment import machine
from resume_lab.vectors import Kind, generate

MODEL = seeding.synthetic_model(Kind.CLUSTERED, 0)
K, PROBES = 5, 4
QUERIES = 100
TARGET = 1.10

SETTINGS = {
    "ivfflat.probes": str(PROBES),
    "ivfflat.iterative_scan": "relaxed_order",
    "enable_sort": "off",
}
SET = "SELECT " + ", ".join(f"set_config('{name}', '{to}', true)" for name, to in SETTINGS.items())
SELECT = """
SELECT c.chunk_id, c.content, c.source_file, c.category, c.document_title, c.chunk_index,
    c.metadata_json, nearest.distance
FROM (
    SELECT e.chunk_id, e.embedding <=> %s::vector AS distance FROM chunk_embeddings e
    WHERE e.embedding_model = %s ORDER BY distance LIMIT %s
) AS nearest JOIN document_chunks c USING (chunk_id)
"""

Vector = NDArray[np.float32]
Search = Callable[[Vector], Sequence[int]]
"""Given a vector, returns the ids of its chunks, nearest first."""


def build_tuned(engine: Engine, rows: int, probes: int = PROBES) -> int:
    """Build an index whose comment says its probes; return its lists."""
    index = IVFFlat(round(rows**0.5))
    finding = Finding(
        lists=index.lists, probes=probes, k=10, distance="cosine", target_recall=None, recall=0.9,
        recall_low=0.9, confirmed_recall=None, rows=rows,
        where=f"embedding_model = {literal(MODEL)}", pgvector_version="", date="",
        needs={"enable_sort": "off"},
    )  # fmt: skip
    ddl = index.ddl(
        ("chunk_embeddings",), "embedding", "cosine", name="lab_tuned", where=finding.where
    )
    with engine.begin() as connection:
        allow_build(connection, index, EMBEDDING_DIM)
        execute(connection, ddl)
        execute(connection, f"COMMENT ON INDEX lab_tuned IS {literal(finding.as_text())}")
    return index.lists


def bare(connection: Any, adapt: Callable[[Vector], object], *, tuned: bool) -> Search:
    """Return the search as somebody would write it who knows the settings."""

    def find(vector: Vector) -> list[int]:
        with connection.cursor() as cursor:
            if tuned:
                cursor.execute(SET)
            cursor.execute(SELECT, (adapt(vector), MODEL, K))
            rows = cursor.fetchall()
        connection.commit()
        return [row[0] for row in rows]

    return find


def ours(bind: Engine | Connection) -> Search:
    """Return search_vector as a function of the vector."""
    return lambda vector: [
        hit.chunk_id for hit in search_vector(bind, vector, model=MODEL, k=K).hits
    ]


def median_ms(searches: Sequence[Search], vectors: Vector, rounds: int) -> list[float]:
    """Return the median time of each search."""
    times: list[list[float]] = [[] for _ in searches]
    for vector in np.tile(vectors, (rounds, 1)):
        found = []
        for number in random.sample(range(len(searches)), len(searches)):
            start = time.perf_counter()
            found.append(searches[number](vector))
            times[number].append(time.perf_counter() - start)
        assert all(sorted(ids) == sorted(found[0]) for ids in found)
    return [1000 * statistics.median(one) for one in times]


def compare(engine: Engine, vectors: Vector, *, tuned: bool, rounds: int) -> None:
    """Time the searches and print them with their ratios."""
    with engine.connect() as first, engine.connect() as second, engine.connect() as open_one:
        register_vector(raw_connection(first))
        searches = [
            bare(raw_connection(first), lambda vector: vector, tuned=tuned),
            bare(raw_connection(second), vector_text, tuned=tuned),
            ours(engine),
            ours(open_one),
        ]
        median_ms(searches, vectors[:10], 1)  # warm
        documented, strict, pooled, kept = median_ms(searches, vectors, rounds)
    print(f"  psycopg2, vector as pgvector documents it   {documented:8.2f} ms")
    print(f"  psycopg2, vector written by vector_text     {strict:8.2f} ms")
    print(f"  search_vector on an engine                  {pooled:8.2f} ms")
    print(f"  search_vector on an open connection         {kept:8.2f} ms")
    print(f"  engine / psycopg2 as documented      {pooled / documented:5.2f}  below {TARGET:.2f}")
    print(f"  connection / psycopg2, vector_text   {kept / strict:5.2f}  below {TARGET:.2f}")
    print(f"  engine / psycopg2, vector_text       {pooled / strict:5.2f}")


def main() -> None:
    """Print the ratios with a tuned index, and of exact search on fewer rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--exact-rows", type=int, default=3_000)
    options = parser.parse_args()
    print(f"Search, {Kind.CLUSTERED} rows x 1536, k {K}, {QUERIES} queries, {machine()}")
    with empty_database() as engine:
        with engine.begin() as connection:
            drop_vector_indexes(connection)
        seeding.seed(engine, rows=options.exact_rows, kind=Kind.CLUSTERED)
        vectors = generate(Kind.CLUSTERED, QUERIES, start=options.rows)
        print(f"Exact, {options.exact_rows:,} rows")
        compare(engine, vectors, tuned=False, rounds=2)
        seeding.seed(engine, rows=options.rows, kind=Kind.CLUSTERED)
        lists = build_tuned(engine, options.rows)
        print(f"Tuned index, {options.rows:,} rows, {PROBES} of {lists} lists probed")
        compare(engine, vectors, tuned=True, rounds=5)


if __name__ == "__main__":
    main()
