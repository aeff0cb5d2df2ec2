"""The probes of one index that reach an aim, found with few measurements and few queries.

Recall and time rise with probes, so the turning point is found by bisection, which starts at the
predicted value. A setting is asked more queries only while its interval straddles the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from resume_lab.tuning import trial
from resume_lab.tuning.measure import point, recalls
from resume_lab.tuning.results import ROUNDING, Point
from resume_lab.tuning.scratch import Scratch
from resume_lab.tuning.trial import BuiltIndex, Setting
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import Curve, RecallSummary

FIRST_QUERIES = 64
"""Queries of the first look at a setting; each further look doubles them."""

GUESSES = 3
SERVER_TIMED_QUERIES = 3
RULE_OF_THREE = 3.0
Z_95 = 1.96


@dataclass(frozen=True)
class Proof:
    """The probes of one index that reach the aim, None if none do, and all points on the way."""

    probes: int | None
    points: tuple[Point, ...]

    @property
    def point(self) -> Point | None:
        """Return what was measured at these probes."""
        return next((found for found in self.points if found.probes == self.probes), None)


@dataclass(frozen=True)
class Target:
    """When a recall counts as reached: with `certain`, when its lower bound reaches it.

    Too few queries can never give such a bound, however good their answers; then the mean has to.
    """

    recall: float
    certain: bool

    @classmethod
    def of(cls, recall: float, n_queries: int) -> Target:
        """Return what `n_queries` can show of this recall."""
        return cls(recall, n_queries >= queries_for_perfect(recall))

    def holds(self, point: Point) -> bool:
        """Say whether the point reaches the target."""
        reached = point.recall_low if self.certain else point.recall
        return reached >= self.recall - ROUNDING

    def is_open(self, found: RecallSummary) -> bool:
        """Say whether more queries could still change the answer."""
        return found.low < self.recall - ROUNDING <= found.high


def queries_for_perfect(recall: float) -> float:
    """Return the fewest queries that can show this recall if all of them are answered perfectly.

    The lower bound of n perfect answers is 1 - 3/n, the rule of three; nothing shows 1.
    """
    unseen = 1 - recall
    return math.inf if unseen <= ROUNDING else math.ceil(RULE_OF_THREE / unseen - ROUNDING)


def queries_needed(recall: float, standard_deviation: float, target_recall: float) -> float:
    """Return how many queries put the lower 95 % bound of such a recall at the target.

    From the normal interval of a mean, and at least what the rule of three asks for; infinite where
    the recall itself is below the target.
    """
    margin = recall - target_recall
    if margin <= ROUNDING:
        return math.inf
    normal = (Z_95 * standard_deviation / margin) ** 2
    return math.ceil(max(normal, RULE_OF_THREE * recall / margin) - ROUNDING)


def expected_margin(target: Target, n_queries: int) -> float:
    """Return by how much the mean will have to exceed the target, before anything is measured.

    A guess: the recalls of single queries scatter about half as much as if each were 0 or 1.
    """
    if not target.certain:
        return 0.0
    unseen = 1 - target.recall
    normal = Z_95 * 0.5 * math.sqrt(target.recall * unseen / n_queries)
    return min(max(normal, RULE_OF_THREE / n_queries), unseen)


def prove_recall(
    scratch: Scratch, workload: Workload, built: BuiltIndex, target: Target, curve: Curve
) -> Proof:
    """Find the fewest probes of an index that reach the target.

    The first guess is where the curve predicts it, the next ones where the curve reaches it once
    moved by how far off it was. What few queries found to hold has to hold for all of them.
    """
    points: dict[int, Point] = {}
    wanted = target.recall + expected_margin(target, len(workload.queries))

    def holds(probes: int) -> bool:
        nonlocal wanted
        points[probes] = found = look(scratch, workload, built, probes, target)
        margin = found.recall - found.recall_low if target.certain else 0.0
        off = found.recall - float(curve.recall[probes - 1])
        wanted = min(target.recall + margin - off, 1.0)
        return target.holds(found)

    def guess() -> int:
        return curve.probes_for(wanted) or lists

    lists, every = built.index.lists, len(workload.queries)
    fewest = first_that_holds(lists, holds, guess)
    while fewest <= lists:
        if points[fewest].n_queries < every:
            points[fewest] = look(scratch, workload, built, fewest, first=every)
        if target.holds(points[fewest]):
            return _proof(fewest, points)
        fewest = first_that_holds(lists, holds, guess, above=fewest)
    return _proof(None, points)


def prove_time(
    scratch: Scratch, workload: Workload, built: BuiltIndex, max_ms: float, curve: Curve
) -> Proof:
    """Find the most probes of an index whose p50 stays within `max_ms`.

    No more than are predicted to find everything. After the first guess, sqrt(lists), the time is
    taken to be proportional to the probes.
    """
    points: dict[int, Point] = {}
    guess = max(1, math.isqrt(built.index.lists))
    enough = curve.probes_for(1 - ROUNDING) or built.index.lists

    def too_slow(probes: int) -> bool:
        nonlocal guess
        points[probes] = found = look(scratch, workload, built, probes)
        guess = int(probes * max_ms / found.latency.p50_ms) + 1
        return found.latency.p50_ms > max_ms

    most = first_that_holds(enough, too_slow, lambda: guess) - 1
    return _proof(most or None, points)


def first_that_holds(
    most: int, holds: Callable[[int], bool], guess: Callable[[], int], *, above: int = 0
) -> int:
    """Return the first that holds of the values above `above`, `most` + 1 if none to `most` does.

    From one value on all of them hold. The first few that are tried are guesses. Then each
    doubles the last until something holds, and the bracket is halved.
    """
    low, high, tried = above, most + 1, 0
    while high - low > 1:
        halfway = 2 * low if high > most else (low + high) // 2
        value = guess() if tried < GUESSES else halfway
        value = min(max(value, low + 1), high - 1)
        tried += 1
        if holds(value):
            high = value
        else:
            low = value
    return high


def look(
    scratch: Scratch,
    workload: Workload,
    built: BuiltIndex,
    probes: int,
    target: Target | None = None,
    *,
    first: int = FIRST_QUERIES,
) -> Point:
    """Measure a setting on the first queries, on more while its interval straddles the target."""
    setting = Setting(built, probes)
    answers = trial.answer(scratch, workload, setting, slice(first))
    while target is not None and len(answers.ids) < len(workload.queries):
        if not target.is_open(recalls(workload, answers)):
            break
        more = slice(len(answers.ids), 2 * len(answers.ids))
        answers = answers.with_more(trial.answer(scratch, workload, setting, more))
    return point(
        scratch, workload, built, probes, answers, shuffled=False, timed=SERVER_TIMED_QUERIES
    )


def _proof(probes: int | None, points: dict[int, Point]) -> Proof:
    return Proof(probes, tuple(points[value] for value in sorted(points)))
