"""Recall, rows read, memory and time of settings that nobody has built."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resume_lab.database.indexes import MAX_LISTS
from resume_lab.errors import ExperimentError
from resume_lab.given import wholes
from resume_lab.tuning.results import CostModel, Point
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import Curve, Difficulty, predict_curves

CANDIDATES = 8
EXPECTED_RECALL = 0.95
HOPELESS_SHARE = 0.5
"""Reading more of the rows than this, an index leaves out too little to gain by it."""

MIN_POINTS = 4
"""Measured points from which the three parts of the time are fitted, one more than they are."""

MIN_POINTS_OF_ONE = 2
"""Of a single index: there a centroid is taken to cost as much as a row, for both fill a page."""

TELLING_RATIO = 2
"""Indexes tell a centroid from a row only if one has so many times the lists of another."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The curves of several numbers of lists, found in `predict_s` seconds without SQL."""

    workload: Workload = field(repr=False)
    curves: tuple[Curve, ...]
    predict_s: float

    def curve(self, lists: int) -> Curve:
        """Return the curve of one number of lists; raises ExperimentError if it was not made."""
        for curve in self.curves:
            if curve.lists == lists:
                return curve
        made = ", ".join(str(curve.lists) for curve in self.curves)
        raise ExperimentError(f"No curve of lists = {lists} was predicted; there are {made}.")


def candidate_lists(rows: int, own: Iterable[int] = ()) -> list[int]:
    """Return lists in equal ratios from rows/1000 to 4 * sqrt(rows), with sqrt(rows) and `own`.

    The ends are pgvector's README and FAISS's guidance for IVF; no list holds fewer than 5 rows.
    """
    most = max(1, min(MAX_LISTS, rows // 5))
    root = math.isqrt(rows)
    low, high = min(most, max(2, rows // 1000)), min(most, 4 * root)
    grid = {round(value) for value in np.geomspace(low, max(low, high), CANDIDATES)}
    return sorted({min(most, value) for value in {*grid, low, root, high}} | set(own))


def predict(workload: Workload, lists: Sequence[int] | None = None, *, seed: int = 0) -> Prediction:
    """Predict the curve of each of `lists`, by default of the candidates for so many rows."""
    start = time.perf_counter()
    curves = predict_curves(
        workload.vectors,
        workload.queries,
        workload.truth,
        wholes(lists, "lists") if lists else candidate_lists(len(workload.vectors)),
        metric=workload.metric,
        seed=seed,
    )
    return Prediction(workload, tuple(curves), time.perf_counter() - start)


def expectation(
    prediction: Prediction, difficulty: Difficulty, target_recall: float | None = None
) -> str:
    """Say in a sentence which share of the rows has to be read for a recall, and what follows."""
    recall = EXPECTED_RECALL if target_recall is None else target_recall
    rows = len(prediction.workload.vectors)
    ways = []
    for curve in prediction.curves:
        probes = curve.probes_for(recall) or curve.lists
        scanned = float(curve.rows_scanned[probes - 1])
        ways.append((scanned + curve.lists, scanned / rows, curve.lists, probes))
    _, share, lists, probes = min(ways)
    at = f"recall@{prediction.workload.k} {recall:g}"
    if share > HOPELESS_SHARE:
        because = f", because: {difficulty.verdict}" if difficulty.is_hopeless else "."
        return (
            f"No IVFFlat setting can gain much over exact search on these vectors: {at} takes "
            f"{share:.0%} of the rows or more{because}"
        )
    return f"Expect {at} from about {_percent(share)} of the rows (lists {lists}, probes {probes})."


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def fit_cost(points: Sequence[Point], prediction: Prediction) -> CostModel:
    """Fit the cost model to measured points by least squares of the relative errors.

    No part of the time is negative, so of all ways to leave parts out the best is taken. Points of
    one index, or of similar ones, cannot tell a centroid from a row, which then cost the same.
    Raises ExperimentError for fewer points than the fit needs, or lists without a curve.
    """
    lists = [point.lists for point in points] or [1]
    one = max(lists) < TELLING_RATIO * min(lists)
    needed = MIN_POINTS_OF_ONE if one else MIN_POINTS
    if len(points) < needed:
        raise ExperimentError(
            f"{len(points)} measured points are too few to calibrate the time of a query.",
            hint=f"Measure at least {MIN_POINTS}, of more than one number of lists.",
        )
    measured = np.array([point.latency.p50_ms for point in points])
    parts = np.array([_parts(point, prediction) for point in points]) / measured[:, None]
    if one:
        parts = np.column_stack([parts[:, 0], parts[:, 1] + parts[:, 2]])
    costs = _non_negative_fit(parts)
    off = np.abs(parts @ costs - 1)
    error = float(np.median(off)) if len(off) > parts.shape[1] + 1 else None
    fixed_ms, list_ms, row_ms = costs[[0, 1, 1] if one else [0, 1, 2]].tolist()
    return CostModel(fixed_ms, list_ms, row_ms, error, len(points))


def _parts(point: Point, prediction: Prediction) -> tuple[float, float, float]:
    scanned = prediction.curve(point.lists).rows_scanned[point.probes - 1]
    return 1.0, float(point.lists), float(scanned)


def _non_negative_fit(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return non-negative costs that bring parts @ costs nearest to 1, shape (n_parts,)."""
    n_points, n_parts = parts.shape
    best, least = np.zeros(n_parts), np.inf
    for size in range(1, n_parts + 1):
        for chosen in itertools.combinations(range(n_parts), size):
            columns = list(chosen)
            found, *_ = np.linalg.lstsq(parts[:, columns], np.ones(n_points), rcond=None)
            residual = float(((parts[:, columns] @ found - 1) ** 2).sum())
            if (found >= 0).all() and residual < least:
                best, least = np.zeros(n_parts), residual
                best[columns] = found
    return best
