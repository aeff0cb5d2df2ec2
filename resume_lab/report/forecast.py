"""The predicted surface: recall, rows read and time over lists and probes, measured or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resume_lab.database.indexes import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.report import facts
from resume_lab.tuning.predict import Prediction
from resume_lab.tuning.results import CostModel, Point, TuningResult, WorkloadInfo
from resume_lab.vectors import Curve

Floats = NDArray[np.float64]
ENVELOPE_SHARES = 400


@dataclass(frozen=True)
class Forecast:
    """The setting of one number of lists that is predicted to meet the aim.

    `probes`, and what follows from it, is None where no probes meet it; `p50_ms` also without a
    cost model. `share` is that of the rows read, in [0, 1].
    """

    lists: int
    imbalance: float
    build_memory_bytes: int
    probes: int | None = None
    recall: float | None = None
    rows_scanned: float | None = None
    share: float | None = None
    p50_ms: float | None = None


@dataclass(frozen=True)
class Surface:
    """The curves with what is known beside them: the aim, and after a run what was measured."""

    workload: WorkloadInfo
    curves: tuple[Curve, ...]
    target_recall: float | None = None
    max_ms: float | None = None
    cost: CostModel | None = None
    points: tuple[Point, ...] = ()
    chosen: Point | None = None

    @classmethod
    def of(cls, found: TuningResult | Prediction, target_recall: float | None = None) -> Surface:
        """Take it from a prediction or a run; raises ExperimentError where nothing is predicted."""
        if not found.curves:
            raise ExperimentError(
                "Nothing is predicted here: a grid was measured without predictions.",
                hint="Tune towards a target, or give a prediction.",
            )
        curves = tuple(sorted(found.curves, key=lambda curve: curve.lists))
        if isinstance(found, Prediction):
            return cls(found.workload.info, curves, target_recall)
        return cls(
            found.workload,
            curves,
            found.target_recall if target_recall is None else target_recall,
            found.max_ms,
            found.cost,
            (*facts.alone(found), *facts.compared(found)),
            facts.recommended_point(found),
        )

    def curve(self, lists: int) -> Curve | None:
        """Return the curve of one number of lists, None if it was not predicted."""
        return next((curve for curve in self.curves if curve.lists == lists), None)

    def measured(self, lists: int, probes: int) -> Point | None:
        """Return the point of a setting, None if it was not measured."""
        return next((p for p in self.points if (p.lists, p.probes) == (lists, probes)), None)

    def share_read(self, point: Point) -> float:
        """Return the predicted share of the rows that a measured setting reads, in [0, 1]."""
        curve = self.curve(point.lists)
        return point.probes / point.lists if curve is None else share(curve)[point.probes - 1]

    def forecasts(self) -> tuple[Forecast, ...]:
        """Return for each lists the setting predicted to meet the aim: fewest rows, or in time."""
        return tuple(self._forecast(curve) for curve in self.curves)

    def cheapest(self) -> Forecast | None:
        """Return the forecast that serves the aim best: least to read, or highest recall."""
        known = [forecast for forecast in self.forecasts() if forecast.probes is not None]
        if self.target_recall is None:
            return max(known, key=lambda f: f.recall or 0.0, default=None)
        return min(known, key=_effort, default=None)

    def _forecast(self, curve: Curve) -> Forecast:
        memory = IVFFlat(curve.lists).build_memory_bytes(self.workload.dim)
        probes = self._probes(curve)
        if probes is None:
            return Forecast(curve.lists, curve.imbalance, memory)
        at = probes - 1
        return Forecast(
            curve.lists,
            curve.imbalance,
            memory,
            probes,
            float(curve.recall[at]),
            float(curve.rows_scanned[at]),
            float(share(curve)[at]),
            None if self.cost is None else float(self.cost.p50_ms(curve)[at]),
        )

    def _probes(self, curve: Curve) -> int | None:
        if self.target_recall is not None:
            return curve.probes_for(self.target_recall)
        if self.max_ms is None or self.cost is None:
            return None
        return int(np.count_nonzero(self.cost.p50_ms(curve) <= self.max_ms)) or None


def _effort(forecast: Forecast) -> float:
    """Return the predicted time, or without a cost model the rows and centroids to compare with."""
    if forecast.p50_ms is not None:
        return forecast.p50_ms
    return forecast.lists + (forecast.rows_scanned or 0.0)


def share(curve: Curve) -> Floats:
    """Return the share of the rows read at probes 1 to lists, shape (lists,)."""
    return np.asarray(curve.rows_scanned / curve.rows_scanned[-1])


def envelope(curves: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Return shares of the rows, and the highest recall that any of the curves gives for them.

    Both have shape (n_shares,) and rise; between two probes a curve is taken as a straight line
    over the logarithm of the share, as figures draw it.
    """
    shares = [share(curve) for curve in curves]
    wanted = np.geomspace(min(of_curve[0] for of_curve in shares), 1.0, ENVELOPE_SHARES)
    recalls = [
        np.interp(np.log(wanted), np.log(of_curve), curve.recall, left=0.0)
        for of_curve, curve in zip(shares, curves, strict=True)
    ]
    return wanted, np.maximum.accumulate(np.max(recalls, axis=0))
