"""What a tuning run found: frozen records, and their form as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTERVAL_LEVEL = 0.95
"""Confidence of every interval of a recall."""

ROUNDING = 1e-9
"""Far above the float error of a mean of recalls, far below one neighbour of one query."""

MIN_SAMPLES_P95 = 59
"""Fewest samples from which a p95 can be read: 1 - .95**59 > .95."""

MIN_SAMPLES_P99 = 299
"""Fewest samples from which a p99 can be read: 1 - .99**299 > .95."""


@dataclass(frozen=True)
class Latency:
    """Percentiles of client time in ms, lower is better; None where samples are too few."""

    p50_ms: float
    p95_ms: float | None
    p99_ms: float | None
    samples_ms: NDArray[np.float64] = field(repr=False, compare=False)

    @classmethod
    def of(cls, samples_ms: NDArray[np.float64]) -> Latency:
        """Summarise samples of one setting, shape (n_samples,)."""
        n = len(samples_ms)
        p50, p95, p99 = (float(p) for p in np.percentile(samples_ms, [50, 95, 99]))
        return cls(
            p50,
            p95 if n >= MIN_SAMPLES_P95 else None,
            p99 if n >= MIN_SAMPLES_P99 else None,
            samples_ms,
        )


@dataclass(frozen=True)
class Exact:
    """The exact (sequential) scan that every point is held against."""

    latency: Latency
    server_ms: float
    plan: str


@dataclass(frozen=True)
class Point:
    """One operating point: an index, its query setting, and what PostgreSQL did with them.

    Recall and latency are those of the index (the planner is told to use it). `used_index` and
    `plan` say what the planner does when it is left free; `forced_plan` is the plan measured.
    Recall is a share in [0, 1], higher is better; so is `rows_returned`, of the k rows asked for.
    """

    index: str
    lists: int
    probes: int
    recall: float
    recall_low: float
    recall_high: float
    recall_tie_aware: float
    recall_p5: float
    recall_min: float
    rows_returned: float
    latency: Latency
    server_ms: float
    speedup_vs_exact: float
    used_index: bool
    plan: str
    used_index_forced: bool
    forced_plan: str
    build_s: float
    size_bytes: int

    def meets(self, target_recall: float) -> bool:
        """Say whether the recall reaches the target; a mean of tenths may miss it by rounding."""
        return self.recall >= target_recall - ROUNDING


@dataclass(frozen=True)
class WorkloadInfo:
    """What was measured on. `source` names the data; `distance` is cosine, l2 or ip."""

    rows: int
    dim: int
    n_queries: int
    k: int
    distance: str
    source: str


@dataclass(frozen=True)
class Environment:
    """Where it was measured."""

    date: str
    server_version: str
    pgvector_version: str
    settings: dict[str, str]
    machine: str
    conditions: str


@dataclass(frozen=True)
class Recommendation:
    """The cheapest measured point that meets the target, and what builds and uses it."""

    lists: int
    probes: int
    recall: float
    recall_low: float
    p50_ms: float
    speedup_vs_exact: float
    ddl: str
    query_settings: str
    query: str


@dataclass(frozen=True)
class Timings:
    """Wall time of the stages in seconds. `exact_s` is the exact search in this process."""

    exact_s: float
    build_s: float
    measure_s: float
    total_s: float


@dataclass(frozen=True)
class TuningResult:
    """Everything a run found; `why` is the verdict in a sentence, recommendation or not."""

    workload: WorkloadInfo
    environment: Environment
    target_recall: float
    exact: Exact
    points: tuple[Point, ...]
    recommendation: Recommendation | None
    why: str
    timings: Timings

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; raw samples stay out."""
        return {
            "workload": dataclasses.asdict(self.workload),
            "environment": dataclasses.asdict(self.environment),
            "target_recall": self.target_recall,
            "exact": {
                **_percentiles(self.exact.latency),
                "server_ms": self.exact.server_ms,
                "plan": self.exact.plan,
            },
            "points": [_point_as_dict(point) for point in self.points],
            "recommendation": self.recommendation and dataclasses.asdict(self.recommendation),
            "why": self.why,
            "timings": dataclasses.asdict(self.timings),
        }


def _percentiles(latency: Latency) -> dict[str, float | None]:
    return {"p50_ms": latency.p50_ms, "p95_ms": latency.p95_ms, "p99_ms": latency.p99_ms}


def _point_as_dict(point: Point) -> dict[str, Any]:
    values = {f.name: getattr(point, f.name) for f in dataclasses.fields(point)}
    latency = values.pop("latency")
    return values | _percentiles(latency)


def pareto_frontier(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return the points that no other beats in both recall and p50, by rising p50."""
    frontier: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency.p50_ms, -p.recall)):
        if not frontier or point.recall > frontier[-1].recall:
            frontier.append(point)
    return tuple(frontier)
