"""The predicted recall curve against PostgreSQL: how near it is, and how soon it is there.

Nearness: eight values of lists, each built three times, because pgvector's k-means does not fix its
seed and one build is a draw; the largest difference between the three is given beside the error.
Soon: the time for the curves of all eight against one build of lists = sqrt(rows).
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.seed_speed import empty_database
from resume_lab.database import IVFFlat
from resume_lab.tuning import Scratch, Sweep, Workload, measure, scratch_copy
from resume_lab.tuning.run import machine
from resume_lab.vectors import Kind
from resume_lab.vectors.ivf_model import predict_curves

BUILDS = 3
VALUES = 8


def lists_grid(rows: int) -> list[int]:
    """Return rows/1000 (at least 4) to 4 * sqrt(rows) in equal ratios."""
    ends = max(4, rows // 1000), min(rows // 12, 4 * math.isqrt(rows))
    return sorted({round(value) for value in np.geomspace(*ends, VALUES)})


def probes_grid(lists: int) -> list[int]:
    """Return 1, 2, 4, ... up to half of the lists."""
    return [2**power for power in range(max(1, lists // 2).bit_length())]


def one_kind(name: str, workload: Workload) -> str:
    """Return a row of the table: errors, spread of the builds, times."""
    grid = lists_grid(len(workload.vectors))
    start = time.perf_counter()
    curves = predict_curves(workload.vectors, workload.queries, workload.truth, grid)
    predict_s = time.perf_counter() - start
    errors, spreads = [], []
    with empty_database() as engine, scratch_copy(engine, workload.vectors) as scratch:
        for curve in curves:
            builds = [_recalls(_sweep(scratch, workload, curve.lists)) for _ in range(BUILDS)]
            predicted = curve.recall[np.array(probes_grid(curve.lists)) - 1]
            errors.append(predicted - np.mean(builds, axis=0))
            spreads.append(np.ptp(builds, axis=0))
        build_s = _sweep(scratch, workload, math.isqrt(len(workload.vectors))).build.build_s
    error, spread = np.abs(np.concatenate(errors)), np.concatenate(spreads)
    return (
        f"{name:10} {len(workload.vectors):7,} {len(workload.queries):8} "
        f"{error.mean():8.4f} {error.max():8.4f} {spread.mean():8.4f} {spread.max():8.4f} "
        f"{predict_s:10.1f} {build_s:8.1f} {predict_s / build_s:7.2f}"
    )


def _sweep(scratch: Scratch, workload: Workload, lists: int) -> Sweep:
    return measure(scratch, workload, IVFFlat(lists), probes_grid(lists), rounds=1)


def _recalls(sweep: Sweep) -> NDArray[np.float64]:
    return np.array([point.recall for point in sweep.points])


def main() -> None:
    """Print one line for each kind of vectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--vectors", type=Path, help="measure this file too")
    options = parser.parse_args()
    print(machine())
    print("                           |predicted - measured|    between builds      eight      one")
    print(
        "vectors       rows  queries     mean      max     mean      max   curves s  build s  ratio"
    )
    for kind in Kind:
        print(
            one_kind(kind, Workload.generated(kind, options.rows, n_queries=options.queries)),
            flush=True,
        )
    if options.vectors is not None:
        print(one_kind("file", Workload.from_file(options.vectors, n_queries=options.queries)))


if __name__ == "__main__":
    main()
