"""Recall, latency and plan of the settings of one index, as PostgreSQL gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql

from resume_lab.database.indexes import DISTANCES, IVFFlat, allow_build, execute, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.session import translated_driver_errors
from resume_lab.errors import ExperimentError
from resume_lab.tuning.plans import Plan, explain
from resume_lab.tuning.results import INTERVAL_LEVEL, Exact, Latency, Point
from resume_lab.tuning.scratch import COLUMN, Scratch
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import distances, recall_at_k, recall_tie_aware, summarise

INDEX_NAME = "lab_ivfflat"
ROUNDS = 2
EXACT_QUERIES = 30
"""Queries of the exact scan in each round; with two rounds enough for a p95."""

SERVER_TIMED_QUERIES = 10
WARM_UP_QUERIES = 3
DISTANCE_BLOCK_QUERIES = 256

USE_INDEX = "SET LOCAL enable_sort = off"
"""Leaves the planner the vector index: every other way to the nearest rows has to sort."""

EXACT = 0
"""Stands for the exact scan among the probes of a sweep."""


@dataclass(frozen=True)
class Build:
    """What building the index cost."""

    build_s: float
    size_bytes: int


@dataclass(frozen=True)
class Sweep:
    """One index, built once, and the points of its probes; `exact` was measured among them."""

    index: IVFFlat
    points: tuple[Point, ...]
    exact: Exact
    build: Build
    measure_s: float


@dataclass(frozen=True, eq=False)
class _Answers:
    """What the queries of one setting returned: ids, -1 where fewer than k came, and times."""

    ids: NDArray[np.int64]
    samples_ms: NDArray[np.float64]


def measure(
    scratch: Scratch,
    workload: Workload,
    index: IVFFlat,
    probes: Sequence[int],
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Sweep:
    """Build `index` on the scratch copy, measure every value of `probes`, drop the index.

    Each query runs once a round under each setting; the order of the settings is shuffled in each
    round, with the exact scan among them, so that drift of the machine falls on all alike. Raises
    ExperimentError for probes that the index cannot have.
    """
    probes = checked(index, probes, workload)
    build = _build(scratch, workload, index)
    try:
        start = time.perf_counter()
        answers = _run_rounds(scratch, workload, probes, rounds, np.random.default_rng(seed))
        plans = {p: _plans(scratch, workload, p) for p in (EXACT, *probes)}
        measure_s = time.perf_counter() - start
    finally:
        _drop_index(scratch)
    exact = Exact(Latency.of(answers[EXACT].samples_ms), *_server_time_and_summary(plans[EXACT][1]))
    points = tuple(_point(index, p, workload, answers[p], plans[p], exact, build) for p in probes)
    return Sweep(index, points, exact, build, measure_s)


def checked(index: IVFFlat, probes: Sequence[int], workload: Workload) -> list[int]:
    """Return the probes in order, each once; raises ExperimentError for what cannot be measured."""
    rows = len(workload.vectors)
    if index.lists > rows:
        raise ExperimentError(
            f"lists is {index.lists}, but there are only {rows:,} rows.",
            hint=f"Take at most rows / 50 = {max(1, rows // 50)}.",
        )
    for value in probes:
        if not 1 <= value <= index.lists:
            raise ExperimentError(
                f"probes is {value}; with lists = {index.lists} it can be 1 to {index.lists}."
            )
    if not probes:
        raise ExperimentError("No probes to measure.", hint="Give at least one, such as 1.")
    return sorted(set(probes))


def _build(scratch: Scratch, workload: Workload, index: IVFFlat) -> Build:
    ddl = index.ddl(scratch.table, COLUMN, workload.metric.value, name=INDEX_NAME)
    with scratch.engine.begin() as connection:
        allow_build(connection, index, scratch.dim)
        execute(connection, "SET LOCAL statement_timeout = 0")  # some hosts allow two minutes
        start = time.perf_counter()
        interruptible(raw_connection(connection), lambda: execute(connection, ddl))
        build_s = time.perf_counter() - start
        size = connection.scalar(
            sa.text("SELECT pg_relation_size(to_regclass(format('%I.%I', :s, :i)))"),
            {"s": scratch.schema, "i": INDEX_NAME},
        )
    return Build(build_s, int(size or 0))


def _drop_index(scratch: Scratch) -> None:
    with scratch.engine.begin() as connection:
        name = sql.Identifier(scratch.schema, INDEX_NAME)
        execute(connection, sql.SQL("DROP INDEX IF EXISTS {}").format(name))


def _run_rounds(
    scratch: Scratch,
    workload: Workload,
    probes: list[int],
    rounds: int,
    rng: np.random.Generator,
) -> dict[int, _Answers]:
    warm_up = workload.query_texts[:WARM_UP_QUERIES]
    for setting in (EXACT, max(probes)):
        _run(scratch, workload, setting, warm_up)
    parts: dict[int, list[_Answers]] = {setting: [] for setting in (EXACT, *probes)}
    for _ in range(rounds):
        for setting in rng.permutation([EXACT, *probes]).tolist():
            texts = workload.query_texts[: EXACT_QUERIES if setting == EXACT else None]
            parts[setting].append(_run(scratch, workload, setting, texts))
    return {
        setting: _Answers(of[0].ids, np.concatenate([part.samples_ms for part in of]))
        for setting, of in parts.items()
    }


def _run(scratch: Scratch, workload: Workload, setting: int, texts: list[str]) -> _Answers:
    """Run queries under one setting in one transaction; client time of each."""
    query = _query(scratch, workload)
    ids = np.full((len(texts), workload.k), -1, dtype=np.int64)
    samples_ms = np.empty(len(texts))

    def work(cursor: Any) -> None:
        statement = query.as_string(cursor)
        for number, text in enumerate(texts):
            start = time.perf_counter()
            cursor.execute(statement, [text])
            rows = cursor.fetchall()
            samples_ms[number] = (time.perf_counter() - start) * 1000
            ids[number, : len(rows)] = [row[0] for row in rows]

    with _setting(scratch, setting) as cursor:
        interruptible(cursor.connection, lambda: work(cursor))
    return _Answers(ids, samples_ms)


def _query(scratch: Scratch, workload: Workload) -> sql.Composed:
    return sql.SQL("SELECT id FROM {} ORDER BY {} {} %s::vector LIMIT {}").format(
        sql.Identifier(*scratch.table),
        sql.Identifier(COLUMN),
        sql.SQL(DISTANCES[workload.metric.value].operator),
        sql.Literal(workload.k),
    )


@contextmanager
def _setting(scratch: Scratch, setting: int, *, forced: bool = True) -> Iterator[Any]:
    """Give a cursor in a transaction with this setting, and end the setting with it.

    With `forced` the planner is told to use the index, or for EXACT not to.
    """
    with (
        scratch.engine.begin() as connection,
        translated_driver_errors(),
        raw_connection(connection).cursor() as cursor,
    ):
        cursor.execute("SELECT '[1]'::vector")  # loads the library: only then is a value checked
        if setting == EXACT:
            cursor.execute("SET LOCAL enable_indexscan = off")
        else:
            _set_probes(cursor, setting)
            if forced:
                cursor.execute(USE_INDEX)
        yield cursor


def _set_probes(cursor: Any, probes: int) -> None:
    cursor.execute("SELECT set_config('ivfflat.probes', %s, true)", [str(probes)])
    cursor.execute("SHOW ivfflat.probes")
    (value,) = cursor.fetchone()
    if value != str(probes):
        raise ExperimentError(f"The server took ivfflat.probes = {value} instead of {probes}.")


def _plans(scratch: Scratch, workload: Workload, setting: int) -> tuple[Plan, Plan]:
    """Return the plan of the planner's free choice, and the forced one with its server time."""
    query = _query(scratch, workload)
    texts = workload.query_texts[:SERVER_TIMED_QUERIES]
    with _setting(scratch, setting, forced=False) as cursor:
        free = explain(cursor, query, texts[0])
    with _setting(scratch, setting) as cursor:
        timed = interruptible(
            cursor.connection,
            lambda: [explain(cursor, query, text, analyze=True) for text in texts],
        )
    server_ms = float(np.median([plan.server_ms for plan in timed]))
    return free, Plan(timed[0].summary, timed[0].indexes, server_ms)


def _server_time_and_summary(plan: Plan) -> tuple[float, str]:
    return plan.server_ms or 0.0, plan.summary


def _point(
    index: IVFFlat,
    probes: int,
    workload: Workload,
    answers: _Answers,
    plans: tuple[Plan, Plan],
    exact: Exact,
    build: Build,
) -> Point:
    free, forced = plans
    recall = summarise(recall_at_k(answers.ids, workload.truth.ids), confidence=INTERVAL_LEVEL)
    tie_aware = recall_tie_aware(
        _found_distances(workload, answers.ids), workload.truth.distances[:, -1]
    )
    latency = Latency.of(answers.samples_ms)
    server_ms, forced_summary = _server_time_and_summary(forced)
    return Point(
        index="ivfflat",
        lists=index.lists,
        probes=probes,
        recall=recall.mean,
        recall_low=recall.low,
        recall_high=recall.high,
        recall_tie_aware=float(tie_aware.mean()),
        recall_p5=recall.p5,
        recall_min=recall.min,
        rows_returned=float((answers.ids >= 0).mean()),
        latency=latency,
        server_ms=server_ms,
        speedup_vs_exact=exact.latency.p50_ms / latency.p50_ms,
        used_index=free.uses(INDEX_NAME),
        plan=free.summary,
        used_index_forced=forced.uses(INDEX_NAME),
        forced_plan=forced_summary,
        build_s=build.build_s,
        size_bytes=build.size_bytes,
    )


def _found_distances(workload: Workload, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the distances of what was found, shape (n_queries, k), nan where nothing was."""
    found = np.full(ids.shape, np.nan)
    for first in range(0, len(ids), DISTANCE_BLOCK_QUERIES):
        part = slice(first, first + DISTANCE_BLOCK_QUERIES)
        rows = workload.vectors[np.maximum(ids[part], 0)]
        found[part] = distances(workload.queries[part], rows, workload.metric)
    return np.where(ids >= 0, found, np.nan)
