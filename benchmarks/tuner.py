"""The tuner against an exhaustive grid: how much sooner it is, and how near to the grid's best.

The grid measures eight values of lists, each with twelve probes and every query once; the tuner may
build the same. Both aim at a recall whose lower bound reaches the target, on the same queries.
Afterwards the two settings are built side by side and timed in turn, for times taken minutes apart
cannot be compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy.engine import Engine

from benchmarks.prediction import lists_grid
from benchmarks.seed_speed import empty_database
from resume_lab.database import IVFFlat
from resume_lab.tuning import Point, Workload, measure, scratch_copy, trial, tune
from resume_lab.tuning.environment import machine
from resume_lab.tuning.measure import measure_in_turn
from resume_lab.tuning.run import DEFAULT_TARGET_RECALL
from resume_lab.vectors import Kind

PROBES = 12
ROUNDS = 5
"""Of the final comparison: enough that the medians of equal settings agree within 1 %."""

Setting = tuple[int, int]


def probes_grid(lists: int) -> list[int]:
    """Return 1 to half of the lists in equal ratios, at most PROBES values."""
    return sorted({round(value) for value in np.geomspace(1, max(1, lists // 2), PROBES)})


def exhaustive(engine: Engine, workload: Workload, lists: Sequence[int]) -> tuple[Point, float]:
    """Return the fastest point of the grid that reaches the target, and the wall time in s."""
    start = time.perf_counter()
    points: list[Point] = []
    with scratch_copy(engine, workload.vectors) as scratch:
        for value in lists:
            sweep = measure(scratch, workload, IVFFlat(value), probes_grid(value), rounds=1)
            points += sweep.points
    took_s = time.perf_counter() - start
    reaching = [point for point in points if point.recall_low >= DEFAULT_TARGET_RECALL]
    return min(reaching, key=lambda point: point.latency.p50_ms), took_s


def side_by_side(engine: Engine, workload: Workload, settings: Sequence[Setting]) -> list[float]:
    """Return the p50 in ms of each setting, measured in turn."""
    with scratch_copy(engine, workload.vectors) as scratch:
        built = {
            lists: trial.build(scratch, workload, IVFFlat(lists))
            for lists in {lists for lists, _ in settings}
        }
        wanted = [(built[lists], probes) for lists, probes in settings]
        points, _ = measure_in_turn(scratch, workload, wanted, rounds=ROUNDS)
    return [point.latency.p50_ms for point in points]


def one_kind(name: str, workload: Workload) -> str:
    """Return a row of the table."""
    choosing, _ = workload.split()
    lists = lists_grid(len(workload.vectors))
    with empty_database() as engine:
        start = time.perf_counter()
        advised = tune(engine, workload, lists=lists, rebuilds=0).recommendation
        tuner_s = time.perf_counter() - start
        assert advised is not None
        best, grid_s = exhaustive(engine, choosing, lists)
        own, other = (advised.lists, advised.probes), (best.lists, best.probes)
        times = side_by_side(engine, choosing, [own] if own == other else [own, other])
    return (
        f"{name:10} {len(workload.vectors):7,} {grid_s:8.0f} {tuner_s:8.1f} "
        f"{tuner_s / grid_s:7.3f}   {other[0]:5} {other[1]:4}   {own[0]:5} {own[1]:4}   "
        f"{times[-1]:7.2f} {times[0]:7.2f} {times[0] / times[-1]:6.3f}   "
        f"{advised.confirmed_recall:.3f} ({advised.confirmed_low:.3f}-{advised.confirmed_high:.3f})"
    )


def main() -> None:
    """Print one line for each kind of vectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=400, help="half choose, half confirm")
    parser.add_argument("--vectors", type=Path, help="tune this file too")
    options = parser.parse_args()
    print(machine())
    print(f"target recall {DEFAULT_TARGET_RECALL:g} with its lower 95 % bound; p50 side by side")
    print("                      wall time           grid's best    tuner's        p50 ms")
    print(
        "vectors       rows   grid s  tuner s   ratio   lists probes  lists probes   "
        "grid   tuner   ratio  confirmed recall"
    )
    for kind in (Kind.CLUSTERED, Kind.SPECTRUM):
        workload = Workload.generated(kind, options.rows, n_queries=options.queries)
        print(one_kind(kind, workload), flush=True)
    if options.vectors is not None:
        print(one_kind("file", Workload.from_file(options.vectors, n_queries=options.queries)))


if __name__ == "__main__":
    main()
