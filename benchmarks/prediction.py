"""The predicted recall curves against PostgreSQL: how near they are, and how soon they are there.

Nearness: eight values of lists, each built three times, because pgvector's k-means does not fix its
seed and one build is a draw. The error is predicted recall less the mean of the three builds, which
is itself uncertain by about a third of the spread between them.
Soon: the time for the curves of all eight against one build of lists = sqrt(rows).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.seed_speed import empty_database
from resume_lab.database import IVFFlat
from resume_lab.tuning import Scratch, Workload, scratch_copy, trial
from resume_lab.tuning.environment import machine
from resume_lab.vectors import Curve, Kind, predict_curves, recall_at_k

BUILDS = 3
VALUES = 8
PROBES = 10
MEAN_ERROR = 0.01
MAX_ERROR = 0.03


def lists_grid(rows: int) -> list[int]:
    """Return rows/1000 (at least 4) to 4 * sqrt(rows) in equal ratios."""
    ends = max(4, rows // 1000), min(rows // 12, 4 * math.isqrt(rows))
    return sorted({round(value) for value in np.geomspace(*ends, VALUES)})


def probes_grid(lists: int) -> list[int]:
    """Return about ten values from 1 to half of the lists in equal ratios."""
    return sorted({round(value) for value in np.geomspace(1, max(1, lists // 2), PROBES)})


def measured(
    scratch: Scratch, workload: Workload, lists: int, probes: Sequence[int]
) -> NDArray[np.float64]:
    """Return the recall of one build at each of `probes`, (n_probes,)."""
    built = trial.build(scratch, workload, IVFFlat(lists))
    try:
        answers = [trial.answer(scratch, workload, trial.Setting(built, p)) for p in probes]
    finally:
        trial.drop(scratch, built)
    return np.array([recall_at_k(a.ids, workload.truth.ids).mean() for a in answers])


def accuracy(name: str, workload: Workload) -> str:
    """Return a row of the first table: errors, and the spread of the builds."""
    errors, spreads = [], []
    with empty_database() as engine, scratch_copy(engine, workload.vectors) as scratch:
        for curve in _curves(workload):
            probes = probes_grid(curve.lists)
            builds = [measured(scratch, workload, curve.lists, probes) for _ in range(BUILDS)]
            errors.append(curve.recall[np.array(probes) - 1] - np.mean(builds, axis=0))
            spreads.append(np.ptp(builds, axis=0))
    error, spread = np.concatenate(errors), np.concatenate(spreads)
    mean, most = np.abs(error).mean(), np.abs(error).max()
    met = mean <= MEAN_ERROR and most <= MAX_ERROR
    return (
        f"{name:10} {len(workload.vectors):7,} {len(workload.queries):8} {len(error):7} "
        f"{error.mean():+8.4f} {mean:8.4f} {most:8.4f} {spread.mean():8.4f} {spread.max():8.4f}  "
        f"{'met' if met else 'missed'}"
    )


def speed(name: str, workload: Workload) -> str:
    """Return a row of the second table: the time of all curves against that of one build."""
    with empty_database() as engine, scratch_copy(engine, workload.vectors) as scratch:
        # Each the faster of two: the first touch of memory can cost more than the work.
        predict_s = min(_predict_s(workload) for _ in range(2))
        build_s = min(_build_s(scratch, workload) for _ in range(2))
    return (
        f"{name:10} {len(workload.vectors):7,} {predict_s:10.1f} {build_s:8.1f} "
        f"{predict_s / build_s:7.2f}  {'met' if predict_s < build_s else 'missed'}"
    )


def _predict_s(workload: Workload) -> float:
    start = time.perf_counter()
    _curves(workload)
    return time.perf_counter() - start


def _build_s(scratch: Scratch, workload: Workload) -> float:
    built = trial.build(scratch, workload, IVFFlat(math.isqrt(scratch.rows)))
    trial.drop(scratch, built)
    return built.build_s


def _curves(workload: Workload) -> list[Curve]:
    grid = lists_grid(len(workload.vectors))
    return predict_curves(
        workload.vectors, workload.queries, workload.truth, grid, metric=workload.metric
    )


def main() -> None:
    """Print one line for each kind of vectors in each table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows for the errors")
    parser.add_argument("--speed-rows", type=int, default=50_000, help="rows for the times")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--vectors", type=Path, help="give the errors on this file too")
    options = parser.parse_args()
    print(machine())
    print(f"Errors of recall@10; target: mean <= {MEAN_ERROR}, max <= {MAX_ERROR}")
    print("                                    predicted - measured     between builds")
    print(
        "vectors       rows  queries  points     bias   |mean|    |max|     mean      max  target"
    )
    for kind in Kind:
        workload = Workload.generated(kind, options.rows, n_queries=options.queries)
        print(accuracy(kind, workload), flush=True)
    if options.vectors is not None:
        workload = Workload.from_file(options.vectors, n_queries=options.queries)
        print(accuracy("file", workload), flush=True)
    print("\nTime for the curves of eight lists against one build of sqrt(rows); target: less")
    print("vectors       rows   curves s  build s   ratio  target")
    for kind in Kind:
        workload = Workload.generated(kind, options.speed_rows, n_queries=options.queries)
        print(speed(kind, workload), flush=True)


if __name__ == "__main__":
    main()
