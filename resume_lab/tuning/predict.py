"""Recall, rows read, memory and time of settings that nobody has built."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resume_lab.database.indexes import MAX_LISTS, IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.tuning.results import Point
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import Curve, predict_curves

CANDIDATES = 8
MIN_POINTS = 4
"""Measured points from which the three parts of the time are fitted, one more than they are."""


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

    def build_memory_bytes(self, lists: int) -> int:
        """Return the maintenance_work_mem that building this index asks for."""
        return IVFFlat(lists).build_memory_bytes(self.workload.vectors.shape[1])


@dataclass(frozen=True)
class CostModel:
    """Client time of a query in ms: fixed_ms + list_ms * lists + row_ms * rows scanned.

    A query compares itself with every centroid, then with every row of the lists it probes; the
    rest does not depend on the setting. `error` is the median share by which the points it was
    fitted to differ from it.
    """

    fixed_ms: float
    list_ms: float
    row_ms: float
    error: float
    n_points: int

    def p50_ms(self, curve: Curve) -> NDArray[np.float64]:
        """Return the predicted median time at probes 1 to lists, shape (lists,)."""
        return self.fixed_ms + self.list_ms * curve.lists + self.row_ms * curve.rows_scanned


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
        candidate_lists(len(workload.vectors)) if lists is None else sorted(set(lists)),
        metric=workload.metric,
        seed=seed,
    )
    return Prediction(workload, tuple(curves), time.perf_counter() - start)


def fit_cost(points: Sequence[Point], prediction: Prediction) -> CostModel:
    """Fit the cost model to measured points by least squares of the relative errors.

    No part of the time is negative, so of all ways to leave parts out the best is taken. Raises
    ExperimentError for fewer points than the fit needs, or lists without a curve.
    """
    if len(points) < MIN_POINTS:
        raise ExperimentError(
            f"{len(points)} measured points are too few to calibrate the time of a query.",
            hint=f"Measure at least {MIN_POINTS}, of more than one number of lists.",
        )
    measured = np.array([point.latency.p50_ms for point in points])
    parts = np.array([_parts(point, prediction) for point in points]) / measured[:, None]
    costs = _non_negative_fit(parts)
    fixed_ms, list_ms, row_ms = costs.tolist()
    error = float(np.median(np.abs(parts @ costs - 1)))
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
