"""Indexes on the scratch copy, and what PostgreSQL answers under one setting of one of them."""

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

from resume_lab.database.failures import translated_driver_errors
from resume_lab.database.indexes import DISTANCES, IVFFlat, allow_build, execute, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.errors import ExperimentError
from resume_lab.tuning.plans import Plan, explain
from resume_lab.tuning.scratch import COLUMN, Scratch
from resume_lab.tuning.workload import Workload

INDEX_NAME = "lab_ivfflat"
EXACT_QUERIES = 15
"""Queries of the exact scan in each round: enough for a median, and it takes long."""

WARM_UP_QUERIES = 3

USE_INDEX = "SET LOCAL enable_sort = off"
"""Leaves the planner the vector index: every other way to the nearest rows has to sort."""


@dataclass(frozen=True)
class BuiltIndex:
    """An index that is there, and what building it cost."""

    index: IVFFlat
    name: str
    build_s: float
    size_bytes: int


@dataclass(frozen=True)
class Setting:
    """What a query runs under: an index and its probes, or without an index the exact scan."""

    built: BuiltIndex | None = None
    probes: int = 0


EXACT = Setting()


@dataclass(frozen=True, eq=False)
class Answers:
    """What the queries of one setting returned: ids, -1 where fewer than k came, and times.

    `ids` has shape (n_queries, k). `samples_ms`, client time, holds one or more of each query.
    """

    ids: NDArray[np.int64]
    samples_ms: NDArray[np.float64]

    def with_more(self, others: Answers) -> Answers:
        """Return these and those of further queries."""
        return Answers(
            np.concatenate([self.ids, others.ids]),
            np.concatenate([self.samples_ms, others.samples_ms]),
        )


def build(scratch: Scratch, workload: Workload, index: IVFFlat) -> BuiltIndex:
    """Build an index beside those that are there, under a name that its lists give."""
    name = f"{INDEX_NAME}_{index.lists}"
    ddl = index.ddl(scratch.table, COLUMN, workload.metric.value, name=name)
    with scratch.engine.begin() as connection:
        allow_build(connection, index, scratch.dim)
        execute(connection, "SET LOCAL statement_timeout = 0")  # some hosts allow two minutes
        start = time.perf_counter()
        interruptible(raw_connection(connection), lambda: execute(connection, ddl))
        build_s = time.perf_counter() - start
        size = connection.scalar(
            sa.text("SELECT pg_relation_size(to_regclass(format('%I.%I', :s, :i)))"),
            {"s": scratch.schema, "i": name},
        )
    return BuiltIndex(index, name, build_s, int(size or 0))


def drop(scratch: Scratch, built: BuiltIndex) -> None:
    """Drop an index."""
    with scratch.engine.begin() as connection:
        execute(connection, _drop_index(scratch, built.name))


def answer(
    scratch: Scratch, workload: Workload, setting: Setting, queries: slice = slice(None)
) -> Answers:
    """Ask the queries one by one under one setting, in one transaction."""
    texts = workload.query_texts[queries]
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

    with _in_force(scratch, setting) as cursor:
        interruptible(cursor.connection, lambda: work(cursor))
    return Answers(ids, samples_ms)


def answers_in_turn(
    scratch: Scratch,
    workload: Workload,
    settings: Sequence[Setting],
    *,
    rounds: int,
    rng: np.random.Generator,
) -> dict[Setting, Answers]:
    """Ask every query once a round under each setting and, fewer of them, by the exact scan.

    The order of the settings is shuffled in each round, so that drift of the machine falls on all
    alike. Before the first each index is warmed up at its most probes.
    """
    most: dict[BuiltIndex | None, Setting] = {None: EXACT}
    for setting in sorted(settings, key=lambda s: s.probes):
        most[setting.built] = setting
    for setting in most.values():
        answer(scratch, workload, setting, slice(WARM_UP_QUERIES))
    every = [EXACT, *settings]
    parts: dict[Setting, list[Answers]] = {setting: [] for setting in every}
    for _ in range(rounds):
        for number in rng.permutation(len(every)).tolist():
            setting = every[number]
            queries = slice(EXACT_QUERIES if setting == EXACT else None)
            parts[setting].append(answer(scratch, workload, setting, queries))
    return {
        setting: Answers(of[0].ids, np.concatenate([part.samples_ms for part in of]))
        for setting, of in parts.items()
    }


def plans(
    scratch: Scratch, workload: Workload, setting: Setting, *, timed: int
) -> tuple[Plan, Plan]:
    """Return the plan of the planner's free choice, and the forced one.

    The forced plan's server time is the median of the first `timed` queries.
    """
    query = _query(scratch, workload)
    texts = workload.query_texts[:timed]
    with _in_force(scratch, setting, forced=False) as cursor:
        free = explain(cursor, query, texts[0])
    with _in_force(scratch, setting) as cursor:
        analyzed = interruptible(
            cursor.connection,
            lambda: [explain(cursor, query, text, analyze=True) for text in texts],
        )
    server_ms = float(np.median([plan.server_ms for plan in analyzed]))
    return free, Plan(analyzed[0].summary, analyzed[0].indexes, server_ms)


def _query(scratch: Scratch, workload: Workload) -> sql.Composed:
    return sql.SQL("SELECT id FROM {} ORDER BY {} {} %s::vector LIMIT {}").format(
        sql.Identifier(*scratch.table),
        sql.Identifier(COLUMN),
        sql.SQL(DISTANCES[workload.metric.value].operator),
        sql.Literal(workload.k),
    )


@contextmanager
def _in_force(scratch: Scratch, setting: Setting, *, forced: bool = True) -> Iterator[Any]:
    """Give a cursor in a transaction with this setting, undone at its end.

    With `forced` the planner is told to use the index, or for EXACT not to.
    """
    with (
        scratch.engine.connect() as connection,  # closing it rolls back
        translated_driver_errors(),
        raw_connection(connection).cursor() as cursor,
    ):
        cursor.execute("SELECT '[1]'::vector")  # loads the library: only then is a value checked
        if setting.built is None:
            cursor.execute("SET LOCAL enable_indexscan = off")
        else:
            _hide_others(cursor, scratch, setting.built)
            _set_probes(cursor, setting.probes)
            if forced:
                cursor.execute(USE_INDEX)
        yield cursor


def _hide_others(cursor: Any, scratch: Scratch, built: BuiltIndex) -> None:
    """Drop the other indexes in a transaction that is rolled back: they would compete."""
    cursor.execute(
        "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        "WHERE indrelid = to_regclass(format('%%I.%%I', %s, %s)) AND relname <> %s",
        [*scratch.table, built.name],
    )
    for (name,) in cursor.fetchall():
        cursor.execute(_drop_index(scratch, name))


def _drop_index(scratch: Scratch, name: str) -> sql.Composed:
    return sql.SQL("DROP INDEX {}").format(sql.Identifier(scratch.schema, name))


def _set_probes(cursor: Any, probes: int) -> None:
    cursor.execute("SELECT set_config('ivfflat.probes', %s, true)", [str(probes)])
    cursor.execute("SHOW ivfflat.probes")
    (value,) = cursor.fetchone()
    if value != str(probes):
        raise ExperimentError(f"The server took ivfflat.probes = {value} instead of {probes}.")
