"""Searches from many clients at once, on an index of 50,000 rows, and while others write.

A client is a thread that searches again and again, without a pause, on the engine that all threads
of its process share: 5 connections and up to 10 more, for which further clients wait their turn.
Python runs one thread of a process at a time, so some steps spread the clients over processes.
Recall is against exact neighbours, each search counted; the queries are the same in every step.

Beside the quiet steps, 8 clients search while another thread of their process ingests a folder
that changes, rebuilds the index, puts another in its place as a rollout does, or vacuums and
analyzes the table. Then they go on for half a minute, and memory is watched.

It stops with an error where a search fails, recall changes, a connection is left, or memory grows.
"""

from __future__ import annotations

import argparse
import functools
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.clients import (
    HEAD,
    K,
    Load,
    Truth,
    Vectors,
    by_vector,
    drive,
    drive_processes,
)
from benchmarks.ingestion import Drawn, document
from benchmarks.search_overhead import MODEL, build_tuned
from benchmarks.seed_speed import empty_database
from resume_lab import seeding
from resume_lab.config import Settings
from resume_lab.database.indexes import drop_vector_indexes, execute, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.session import engine_for
from resume_lab.ingestion import ingest_content
from resume_lab.retrieval import search
from resume_lab.rollout import swap
from resume_lab.rollout.finding import standing_indexes, tuned_index
from resume_lab.tuning.environment import machine
from resume_lab.tuning.results import WorkloadInfo
from resume_lab.tuning.workload import embeddings_of
from resume_lab.vectors import Kind, exact_neighbours, generate

CLIENTS = (1, 2, 4, 8, 16, 32)
BUSY_CLIENTS = 8
PROCESSES = ((2, 1), (2, 4), (4, 4))
PROBES = 2
"""So few that recall is below 1, and a change would show."""

QUERIES = 200
FILES = 5
MIB = 1024**2
MEMORY_LOOKS = 9
MOST_GROWTH_MIB = 8.0
"""Of this process, and of a backend of the server, in half a minute."""


class Prepared:
    """Gives the vectors made beforehand for texts that are their numbers."""

    model = MODEL
    is_remote = False

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def batches(self, texts: Sequence[str]) -> Iterator[Vectors]:
        """Yield the vectors of these numbers."""
        yield self._vectors[[int(text) for text in texts]]


# --- what others do meanwhile


def ingest(engine: Engine, folder: Path, rng: np.random.Generator) -> None:
    """Change every file of a folder and ingest it, as vectors of another model."""
    for number in range(FILES):
        (folder / f"{number}.md").write_text(document(rng, number))
    settings = Settings(lab_dir=folder / ".lab")
    ingest_content(folder, engine=engine, embedder=Drawn(), name="load", settings=settings)


def run_alone(engine: Engine, *statements: str) -> None:
    """Run statements that commit one by one."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            run = functools.partial(execute, connection, statement)
            interruptible(raw_connection(connection), run)


def replace_index(engine: Engine, rows: int) -> None:
    """Build another tuned index beside the one that stands, and put it in its place."""
    table = embeddings_of(MODEL, partial=True)
    info = WorkloadInfo(rows, 1536, QUERIES, K, "cosine", "load", table=table)
    with engine.connect() as connection:
        standing = standing_indexes(connection, table.table, table.column)
        tuned = tuned_index(connection, table.table, table.column, table.where)
    assert tuned is not None
    steps = swap.forth(info, table, tuned[1], "lab_tuned", standing, "load")
    run_alone(engine, *steps.alone)
    with engine.begin() as connection:
        for statement in steps.together:
            execute(connection, statement)


# --- what must hold


def check_same(name: str, quiet: Load, busy: Load) -> None:
    """The index is the same, so each query finds what it found."""
    both = (quiet.asked > 0) & (busy.asked > 0)
    assert np.array_equal(quiet.recalls[both], busy.recalls[both]), f"{name}: recall changed"


def check_alike(name: str, quiet: Load, busy: Load) -> None:
    """Every build is another index: the recalls agree within their intervals."""
    assert busy.recall.high >= quiet.recall.low, f"{name}: recall fell to {busy.recall}"


def check_no_connection_left(engine: Engine) -> None:
    """None is lent, and after the engine is disposed of the server knows of none."""
    assert engine.pool.checkedout() == 0
    engine.dispose()
    watching = sa.create_engine(engine.url, isolation_level="AUTOCOMMIT")
    left = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'resume_lab'")
    with watching.connect() as connection:
        deadline = time.monotonic() + 5
        while (count := connection.scalar(left)) and time.monotonic() < deadline:
            time.sleep(0.1)
    watching.dispose()
    assert count == 0, f"{count} connections are left"
    print("Connections left: 0 lent, 0 on the server after the engine was disposed of")


def own_memory_mib(engine: Engine) -> tuple[float, float]:
    """Return the memory that this process has to itself, and the mean of the engine's backends."""
    backends = sa.text("SELECT pid FROM pg_stat_activity WHERE application_name = 'resume_lab'")
    gc.collect()
    with engine.connect() as connection:
        pids = connection.scalars(backends).all()
    private = [psutil.Process(pid).memory_full_info().uss for pid in pids]
    return psutil.Process().memory_full_info().uss / MIB, float(np.mean(private)) / MIB


def watch_memory(url: sa.URL, vectors: Vectors, truth: Truth, seconds: float) -> None:
    """Search for a while on connections that all stay open; print and check how memory grows."""
    engine = engine_for(url, pool_size=BUSY_CLIENTS, max_overflow=0)
    find, part = by_vector(engine, vectors), seconds / MEMORY_LOOKS
    drive(find, truth, BUSY_CLIENTS, part)  # caches fill at first
    seen, searches = [own_memory_mib(engine)], 0
    for _ in range(MEMORY_LOOKS):
        searches += len(drive(find, truth, BUSY_CLIENTS, part).samples_ms)
        seen.append(own_memory_mib(engine))
    minutes = np.linspace(0, seconds / 60, len(seen))
    for name, values in zip(("this process", "a backend"), np.transpose(seen), strict=True):
        slope = np.polyfit(minutes, values, 1)[0]
        first, last = np.median(values[:3]), np.median(values[-3:])
        print(
            f"Memory of {name}: {first:.1f} MiB, {seconds:.0f} s and {searches:,} searches later "
            f"{last:.1f} MiB, slope {slope:+.2f} MiB a minute"
        )
        assert last - first < MOST_GROWTH_MIB, f"{name} grew"
    check_no_connection_left(engine)


def main() -> None:
    """Print a line for each step, and check what must hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each step takes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, empty_database() as engine:
        with engine.begin() as connection:
            drop_vector_indexes(connection)
        seeding.seed(engine, rows=options.rows, kind=Kind.CLUSTERED)
        lists = build_tuned(engine, options.rows, PROBES)
        vectors = generate(Kind.CLUSTERED, QUERIES, start=options.rows)
        near = exact_neighbours(generate(Kind.CLUSTERED, options.rows), vectors, K)
        truth = [frozenset(ids.tolist()) for ids in near.ids]
        print(
            f"Load, {options.rows:,} {Kind.CLUSTERED} rows x 1536, {PROBES} of {lists} lists "
            f"probed, k {K}, {QUERIES} queries, {machine()}\n{HEAD}"
        )
        measure(engine, vectors, truth, options.rows, options.seconds, Path(folder))
        check_no_connection_left(engine)
        watch_memory(engine.url, vectors, truth, 5 * options.seconds)


def measure(
    engine: Engine,
    vectors: Vectors,
    truth: Truth,
    rows: int,
    seconds: float,
    folder: Path,
) -> None:
    """Go through the steps."""
    find = by_vector(engine, vectors)

    def step(name: str, load: Load) -> Load:
        print(load.line(name), flush=True)
        assert not load.errors, load.errors
        return load

    drive(find, truth, BUSY_CLIENTS, 1)  # warm
    quiet = Load.of(
        [step(f"{n} thread{'s' * (n > 1)}", drive(find, truth, n, seconds)) for n in CLIENTS]
    )
    prepared = Prepared(vectors)
    by_text = functools.partial(search, engine=engine, embedder=prepared, k=K)
    load = drive(lambda n: by_text(str(n)), truth, BUSY_CLIENTS, seconds)
    check_same("search", quiet, step(f"{BUSY_CLIENTS} threads, search", load))
    for processes, threads in PROCESSES:
        load = drive_processes(engine.url, vectors, truth, processes, threads, seconds)
        name = f"{processes} processes x {threads} thread{'s' * (threads > 1)}"
        check_same(name, quiet, step(name, load))

    rng = np.random.default_rng(0)
    meanwhile: dict[str, tuple[Callable[[], object], Callable[[str, Load, Load], None]]] = {
        "ingestion": (lambda: ingest(engine, folder, rng), check_same),
        "VACUUM and ANALYZE": (
            lambda: run_alone(engine, "VACUUM (ANALYZE) chunk_embeddings, document_chunks"),
            check_same,
        ),
        "REINDEX CONCURRENTLY": (
            lambda: run_alone(engine, "REINDEX INDEX CONCURRENTLY lab_tuned"), check_alike,
        ),
        "a rollout's swap": (lambda: replace_index(engine, rows), check_alike),
    }  # fmt: skip
    for name, (work, check) in meanwhile.items():
        load = drive(find, truth, BUSY_CLIENTS, seconds, work)
        check(name, quiet, step(f"{BUSY_CLIENTS} threads, {name} ({load.rounds}x)", load))


if __name__ == "__main__":
    main()
