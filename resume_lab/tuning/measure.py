"""Operating points: what the answers under a setting are worth, against the exact ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from resume_lab.database.indexes import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.given import wholes
from resume_lab.tuning import trial
from resume_lab.tuning.plans import Plan
from resume_lab.tuning.results import INTERVAL_LEVEL, Exact, Latency, Point
from resume_lab.tuning.scratch import Scratch, scratch_copy
from resume_lab.tuning.trial import EXACT, Answers, BuiltIndex, Setting
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import (
    RecallSummary,
    distances,
    recall_at_k,
    recall_tie_aware,
    summarise,
)

ROUNDS = 2
SERVER_TIMED_QUERIES = 10
SERVER_TIMED_SCANS = 3
DISTANCE_BLOCK_QUERIES = 256


@dataclass(frozen=True)
class Sweep:
    """One index, built once, and the points of its probes; `exact` was measured among them."""

    index: IVFFlat
    points: tuple[Point, ...]
    exact: Exact
    build: BuiltIndex
    measure_s: float


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

    Latency is taken in turn, with the exact scan among the settings. Raises ExperimentError for
    probes that the index cannot have.
    """
    probes = checked(index, probes, workload)
    built = trial.build(scratch, workload, index)
    try:
        start = time.perf_counter()
        wanted = [(built, value) for value in probes]
        points, exact = measure_in_turn(scratch, workload, wanted, rounds=rounds, seed=seed)
        measure_s = time.perf_counter() - start
    finally:
        trial.drop(scratch, built)
    return Sweep(index, points, exact, built, measure_s)


def recall_per_query(
    engine: Engine, workload: Workload, index: IVFFlat, probes: Sequence[int]
) -> dict[int, NDArray[np.float64]]:
    """Build `index` on a scratch copy; return the recall of every query at each of `probes`."""
    probes = checked(index, probes, workload)
    with scratch_copy(engine, workload.vectors) as scratch:
        built = trial.build(scratch, workload, index)
        answers = {p: trial.answer(scratch, workload, Setting(built, p)) for p in probes}
    return {p: recall_at_k(found.ids, workload.truth.ids) for p, found in answers.items()}


def measure_in_turn(
    scratch: Scratch,
    workload: Workload,
    wanted: Sequence[tuple[BuiltIndex, int]],
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> tuple[tuple[Point, ...], Exact]:
    """Return the point of each index and probes, and the exact scan, measured in turn."""
    rng = np.random.default_rng(seed)
    settings = [Setting(built, probes) for built, probes in wanted]
    answers = trial.answers_in_turn(scratch, workload, settings, rounds=rounds, rng=rng)
    exact = _exact(scratch, workload, answers[EXACT])
    points = (
        point(scratch, workload, built, probes, answers[Setting(built, probes)], shuffled=True)
        for built, probes in wanted
    )
    return tuple(against(exact, found) for found in points), exact


def against(exact: Exact, point: Point) -> Point:
    """Return the point with its speed-up over this exact scan."""
    return replace(point, speedup_vs_exact=exact.latency.p50_ms / point.latency.p50_ms)


def checked(index: IVFFlat, probes: Sequence[int], workload: Workload) -> list[int]:
    """Return the probes in order, each once; raises ExperimentError for what cannot be measured."""
    probes = wholes(probes, "probes", error=ExperimentError)
    rows = len(workload.vectors)
    if index.lists > rows:
        raise ExperimentError(
            f"lists is {index.lists}, but there are only {rows:,} rows.",
            hint=f"Take fewer; rows / 50 = {max(1, rows // 50)} keeps 50 rows in each list.",
        )
    for value in probes:
        if not 1 <= value <= index.lists:
            raise ExperimentError(
                f"probes is {value}; with lists = {index.lists} it can be 1 to {index.lists}."
            )
    if not probes:
        raise ExperimentError("No probes to measure.", hint="Give at least one, such as 1.")
    return probes


def recalls(workload: Workload, answers: Answers) -> RecallSummary:
    """Summarise the recall of the first queries of the workload, those that were answered."""
    truth = workload.truth.ids[: len(answers.ids)]
    return summarise(recall_at_k(answers.ids, truth), confidence=INTERVAL_LEVEL)


def point(
    scratch: Scratch,
    workload: Workload,
    built: BuiltIndex,
    probes: int,
    answers: Answers,
    *,
    shuffled: bool,
    timed: int = SERVER_TIMED_QUERIES,
) -> Point:
    """Return the operating point that was answered so; `against` gives it its speed-up."""
    free, forced = trial.plans(scratch, workload, Setting(built, probes), timed=timed)
    recall = recalls(workload, answers)
    kth = workload.truth.distances[: len(answers.ids), -1]
    tie_aware = recall_tie_aware(_found_distances(workload, answers.ids), kth)
    server_ms, forced_summary = _server_time_and_summary(forced)
    return Point(
        index="ivfflat",
        lists=built.index.lists,
        probes=probes,
        recall=recall.mean,
        recall_low=recall.low,
        recall_high=recall.high,
        recall_tie_aware=float(tie_aware.mean()),
        recall_p5=recall.p5,
        recall_min=recall.min,
        rows_returned=float((answers.ids >= 0).mean()),
        latency=Latency.of(answers.samples_ms),
        server_ms=server_ms,
        speedup_vs_exact=float("nan"),
        used_index=free.uses(built.name),
        plan=free.summary,
        used_index_forced=forced.uses(built.name),
        forced_plan=forced_summary,
        build_s=built.build_s,
        size_bytes=built.size_bytes,
        n_queries=len(answers.ids),
        shuffled=shuffled,
    )


def _exact(scratch: Scratch, workload: Workload, answers: Answers) -> Exact:
    _, plan = trial.plans(scratch, workload, EXACT, timed=SERVER_TIMED_SCANS)
    return Exact(Latency.of(answers.samples_ms), *_server_time_and_summary(plan))


def _server_time_and_summary(plan: Plan) -> tuple[float, str]:
    return plan.server_ms or 0.0, plan.summary


def _found_distances(workload: Workload, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the distances of what was found, shape (n_queries, k), nan where nothing was."""
    found = np.full(ids.shape, np.nan)
    for first in range(0, len(ids), DISTANCE_BLOCK_QUERIES):
        part = slice(first, first + DISTANCE_BLOCK_QUERIES)
        rows = workload.vectors[np.maximum(ids[part], 0)]
        found[part] = distances(workload.queries[: len(ids)][part], rows, workload.metric)
    return np.where(ids >= 0, found, np.nan)
