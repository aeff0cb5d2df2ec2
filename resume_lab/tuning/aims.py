"""What a run aims at: a recall at the lowest latency, or a latency with the highest recall.

Each aim says which indexes are worth building, finds the probes that reach it, and picks the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from resume_lab.tuning.predict import Prediction
from resume_lab.tuning.prove import Proof, Target, expected_margin, prove_recall, prove_time
from resume_lab.tuning.results import CostModel, Point
from resume_lab.tuning.scratch import Scratch
from resume_lab.tuning.trial import BuiltIndex
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import Curve

PRIOR = CostModel(fixed_ms=0.0, list_ms=1.0, row_ms=1.0, error=None, n_points=0)
"""Before anything is measured: a centroid costs as much as a row, for both fill a page."""

WITHIN_COST = 1.25
"""A second index is built, to learn what a centroid costs, if its predicted time is within this of
the first."""

WITHIN_RECALL = 0.01
"""An index is built while its predicted recall is within this of the best one."""

BUDGET_SHARE = 0.95
"""Of a latency budget this much is aimed at, for a median that is measured again moves."""


class Aim(Protocol):
    """What a run asks of an aim: of `target`, a recall, and `max_ms`, a p50, one is None."""

    @property
    def target(self) -> Target | None:
        """Return the recall to reach."""

    @property
    def max_ms(self) -> float | None:
        """Return the p50 to keep, in ms."""

    def next_index(
        self, prediction: Prediction, choice: Iterable[int], built: Iterable[int], cost: CostModel
    ) -> int | None:
        """Return the lists of the index to build next, None if no other is worth it."""

    def prove(
        self, scratch: Scratch, workload: Workload, built: BuiltIndex, prediction: Prediction
    ) -> Proof:
        """Find the probes of an index that reach the aim."""

    def best(self, points: Iterable[Point]) -> Point | None:
        """Return the best of the points that reach the aim."""

    def over_builds(self, probes: Iterable[int]) -> int:
        """Return the probes that hold for every build, from those found for each."""


@dataclass(frozen=True)
class RecallAim:
    """Reach a recall at the lowest p50."""

    target: Target
    n_queries: int
    max_ms: None = field(default=None, init=False)

    def __str__(self) -> str:
        """Name the aim."""
        return f"recall {self.target.recall:g}"

    def next_index(
        self, prediction: Prediction, choice: Iterable[int], built: Iterable[int], cost: CostModel
    ) -> int | None:
        """Return the index with the lowest predicted time at the target, while it is unbuilt.

        After the first, where it is not yet known what a centroid costs, a second that may be as
        fast is built: the one with the fewest lists, for that takes the least time.
        """
        wanted = self.target.recall + expected_margin(self.target, self.n_queries)
        times = {lists: _time_at(prediction.curve(lists), wanted, cost) for lists in choice}
        there = set(built)
        fastest = min(times, key=lambda lists: times[lists])
        if fastest not in there:
            return fastest
        near = [n for n, ms in times.items() if ms <= WITHIN_COST * times[fastest]]
        return min((n for n in near if n not in there), default=None) if len(there) == 1 else None

    def prove(
        self, scratch: Scratch, workload: Workload, built: BuiltIndex, prediction: Prediction
    ) -> Proof:
        """Find the fewest probes that reach the target."""
        curve = prediction.curve(built.index.lists)
        return prove_recall(scratch, workload, built, self.target, curve)

    def best(self, points: Iterable[Point]) -> Point | None:
        """Return the fastest point that reaches the target."""
        reaching = [point for point in points if self.target.holds(point)]
        return min(reaching, key=lambda point: point.latency.p50_ms, default=None)

    def over_builds(self, probes: Iterable[int]) -> int:
        """Return the most: with more, no build loses recall."""
        return max(probes)


@dataclass(frozen=True)
class TimeAim:
    """Stay within a p50 in ms with the highest recall."""

    max_ms: float
    target: None = field(default=None, init=False)

    def __str__(self) -> str:
        """Name the aim."""
        return f"a p50 of {self.max_ms:g} ms"

    def next_index(
        self, prediction: Prediction, choice: Iterable[int], built: Iterable[int], cost: CostModel
    ) -> int | None:
        """Return the unbuilt index with the highest predicted recall within the budget.

        The first is the one nearest to sqrt(rows): it shows what a row costs here.
        """
        if cost is PRIOR:
            if tuple(built):
                return None
            root = math.sqrt(len(prediction.workload.vectors))
            return min(choice, key=lambda lists: abs(math.log(lists / root)))
        recalls = {}
        for lists in choice:
            curve = prediction.curve(lists)
            probes = self._most_probes(curve, cost)
            recalls[lists] = float(curve.recall[probes - 1]) if probes else 0.0
        best = max(recalls.values())
        left = {lists: recall for lists, recall in recalls.items() if lists not in set(built)}
        if not left:
            return None
        most = max(left, key=lambda value: left[value])
        return most if left[most] >= best - WITHIN_RECALL else None

    def prove(
        self, scratch: Scratch, workload: Workload, built: BuiltIndex, prediction: Prediction
    ) -> Proof:
        """Find the most probes within the budget."""
        curve = prediction.curve(built.index.lists)
        return prove_time(scratch, workload, built, BUDGET_SHARE * self.max_ms, curve)

    def best(self, points: Iterable[Point]) -> Point | None:
        """Return the point of the highest recall within the budget."""
        reaching = [point for point in points if point.latency.p50_ms <= self.max_ms]
        return max(reaching, key=lambda p: (p.recall, -p.latency.p50_ms), default=None)

    def over_builds(self, probes: Iterable[int]) -> int:
        """Return the fewest: with fewer, no build takes longer."""
        return min(probes)

    def _most_probes(self, curve: Curve, cost: CostModel) -> int:
        within = np.flatnonzero(cost.p50_ms(curve) <= BUDGET_SHARE * self.max_ms)
        return int(within[-1]) + 1 if len(within) else 0


def _time_at(curve: Curve, recall: float, cost: CostModel) -> float:
    probes = curve.probes_for(recall) or curve.lists
    return float(cost.p50_ms(curve)[probes - 1])
