"""What every table, figure and page says about a result: its data, its digits, its marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from resume_lab.tuning.results import (
    INTERVAL_LEVEL,
    MIN_SAMPLES_P95,
    MIN_SAMPLES_P99,
    Point,
    TuningResult,
    WorkloadInfo,
    pareto_frontier,
)

DASH = "\N{EN DASH}"
INTERVAL = f"{INTERVAL_LEVEL:.0%} interval"
TIMES = "\N{MULTIPLICATION SIGN}"
MISSING = DASH
MIB = 1024 * 1024
ALONE = "~"
"""Stands before a latency that was not taken in turn with the others."""


def ms_text(value: float | None) -> str:
    """Write milliseconds for prose, with three significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f} ms"


def interval_text(point: Point) -> str:
    """Write the interval of a point's recall as low to high."""
    return f"{point.recall_low:.3f}{DASH}{point.recall_high:.3f}"


def speedup_text(value: float) -> str:
    """Write how many times as fast as the exact scan, higher is better."""
    if math.isnan(value):
        return MISSING
    return f"{value:.1f}x" if value < 100 else f"{value:,.0f}x"


def setting_text(lists: int, probes: int) -> str:
    """Name an operating point."""
    return f"lists {lists}, probes {probes}"


def size_text(workload: WorkloadInfo) -> str:
    """Say how much was measured and by which distance."""
    sampled = f" sampled from {workload.sampled_from:,}" if workload.sampled_from else ""
    more = f" + {workload.n_confirming:,}" if workload.n_confirming else ""
    return (
        f"{workload.rows:,} rows{sampled} {TIMES} {workload.dim} d, {workload.distance} distance, "
        f"{workload.n_queries:,}{more} queries, k = {workload.k}"
    )


def data_text(workload: WorkloadInfo) -> str:
    """Say what was measured on."""
    return f"{workload.source}: {size_text(workload)}"


def aim_text(target_recall: float | None, max_ms: float | None) -> str:
    """Say what was aimed at: a recall, or a p50 latency not to exceed."""
    if target_recall is not None:
        return f"target recall {target_recall:g}"
    return "no target" if max_ms is None else f"p50 latency at most {max_ms:g} ms"


def compared(result: TuningResult) -> tuple[Point, ...]:
    """Return the points whose latency was taken in turn; all of them where none was."""
    return tuple(p for p in result.points if p.shuffled) or result.points


def alone(result: TuningResult) -> tuple[Point, ...]:
    """Return the points timed alone beside others that were timed in turn, one a setting."""
    chosen = {(p.index, p.lists, p.probes) for p in compared(result)}
    left = {(p.index, p.lists, p.probes): p for p in result.points}
    return tuple(p for setting, p in left.items() if setting not in chosen)


def queries_of(result: TuningResult, point: Point) -> int:
    """Return the number of queries that the recall of a point stands on."""
    return point.n_queries or result.workload.n_queries


def sample_counts(result: TuningResult) -> tuple[int, int]:
    """Return the fewest and the most latency samples of a compared setting or the exact scan."""
    latencies = [result.exact.latency, *(point.latency for point in compared(result))]
    counts = [len(latency.samples_ms) for latency in latencies]
    return min(counts), max(counts)


def samples_text(result: TuningResult) -> str:
    """Say how many samples each latency stands on."""
    low, high = sample_counts(result)
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"client time, {count} samples a setting"


def latency_text(result: TuningResult) -> str:
    """Say how latency was taken, in a sentence or two."""
    conditions = result.environment.conditions.strip()
    return f"Latency: {samples_text(result)}. {conditions}".strip()


def notes(result: TuningResult) -> tuple[str, ...]:
    """Explain what a reader would stumble over; empty where nothing is unusual."""
    return (
        *alone_notes(result),
        *percentile_notes(result),
        *planner_notes(result.points),
        *row_notes(result),
    )


def alone_notes(result: TuningResult) -> tuple[str, ...]:
    """Say what a latency is worth that was not taken in turn."""
    if all(point.shuffled for point in result.points):
        return ()
    return (
        f"{ALONE} stands before a latency taken on the way to the decision, one setting after the "
        "other: it leads the search and is not compared. The others were timed in turn.",
    )


def percentile_notes(result: TuningResult) -> tuple[str, ...]:
    """Say why a percentile is missing."""
    if all(point.latency.p99_ms is not None for point in result.points):
        return ()
    return (
        f"{MISSING} stands where samples are too few: p95 needs {MIN_SAMPLES_P95}, "
        f"p99 needs {MIN_SAMPLES_P99}.",
    )


def planner_notes(points: Iterable[Point]) -> tuple[str, ...]:
    """Say what it means that an index was not used."""
    points = tuple(points)
    found = []
    if any(not point.used_index and point.used_index_forced for point in points):
        found.append(
            "Used index 'no': left free, the planner picks another plan; "
            "the figures are those of the index, which it was told to use."
        )
    if any(not point.used_index_forced for point in points):
        found.append(
            "Used index 'never': even told to use the index the planner did not; "
            "the figures are not those of the index."
        )
    return tuple(found)


def row_notes(result: TuningResult) -> tuple[str, ...]:
    """Say where a query came back with fewer than k rows."""
    k = result.workload.k
    short = [point for point in result.points if point.rows_returned < 1]
    if not short:
        return ()
    worst = min(short, key=lambda point: point.rows_returned)
    return (
        f"Fewer than {k} rows came back at {len(short)} of {len(result.points)} settings; "
        f"fewest at {setting_text(worst.lists, worst.probes)}: "
        f"{worst.rows_returned * k:.1f} on average.",
    )


def used_index_text(point: Point) -> str:
    """Say whether the planner uses the index: yes, no, or never."""
    if not point.used_index_forced:
        return "never"
    return "yes" if point.used_index else "no"


def in_order(result: TuningResult) -> tuple[Point, ...]:
    """Return the points by lists, then probes."""
    return tuple(sorted(result.points, key=_order))


def _order(point: Point) -> tuple[int, str, int, bool]:
    return point.lists, point.index, point.probes, point.shuffled


def by_index(points: Sequence[Point]) -> dict[str, tuple[Point, ...]]:
    """Return the points of each index by rising probes, under the label of the index."""
    kinds: dict[int, set[str]] = {}
    for point in points:
        kinds.setdefault(point.lists, set()).add(point.index)
    groups: dict[str, tuple[Point, ...]] = {}
    for point in sorted(points, key=_order):
        label = f"lists {point.lists}"
        if len(kinds[point.lists]) > 1:
            label += f", {point.index}"
        groups[label] = (*groups.get(label, ()), point)
    return groups


def recommended_point(result: TuningResult) -> Point | None:
    """Return the measured point behind the recommendation."""
    chosen = result.recommendation
    if chosen is None:
        return None
    matches = [p for p in result.points if (p.lists, p.probes) == (chosen.lists, chosen.probes)]
    return min(
        matches, key=lambda p: (not p.shuffled, abs(p.latency.p50_ms - chosen.p50_ms)), default=None
    )


def frontier(result: TuningResult) -> frozenset[Point]:
    """Return the points of the Pareto frontier as a set."""
    return frozenset(pareto_frontier(compared(result)))
