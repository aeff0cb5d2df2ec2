"""What a tuning run found: frozen records, and their form as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.vectors import Curve, Difficulty

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
    `n_queries` is how many distinct queries the recall stands on. `shuffled` says whether latency
    was taken in turn with other settings; a point on the way to a decision is timed alone.
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
    predicted_recall: float | None = None
    n_queries: int = 0
    shuffled: bool = True

    def meets(self, target_recall: float) -> bool:
        """Say whether the recall reaches the target; a mean of tenths may miss it by rounding."""
        return self.recall >= target_recall - ROUNDING


@dataclass(frozen=True)
class TableInfo:
    """The table the rows were read from; statements of the advice name it.

    `table` is its name, or schema and name. `where` is SQL that selects the rows meant, None for
    all; `partial` says that the table holds other rows too, so an index is for these alone.
    """

    table: tuple[str, ...]
    column: str
    id_column: str
    where: str | None = None
    partial: bool = False
    embedding_model: str | None = None


@dataclass(frozen=True)
class WorkloadInfo:
    """What was measured on. `source` names the data; `distance` is cosine, l2 or ip.

    `n_queries` choose the setting, `n_confirming` others confirm it. `sampled_from` is the number
    of rows in the table where only a sample of them, `rows`, was measured.
    """

    rows: int
    dim: int
    n_queries: int
    k: int
    distance: str
    source: str
    n_confirming: int = 0
    table: TableInfo | None = None
    sampled_from: int | None = None


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
class Rebuild:
    """The same index built again: the fewest probes that hold for it, and its recall there.

    pgvector's k-means draws its seed, so every build is another index. `probes` is None where no
    number of them held.
    """

    probes: int | None
    recall: float
    recall_low: float
    build_s: float


@dataclass(frozen=True)
class Recommendation:
    """The cheapest proven setting that meets the target, and what builds and uses it.

    `recall` and its bounds are those of the queries that chose it; `confirmed_recall` and its
    bounds those of `confirmed_queries` others, None where there were none. `used_index` says
    whether the planner takes the index by its own choice; if not, `query_settings` make it.
    """

    lists: int
    probes: int
    recall: float
    recall_low: float
    p50_ms: float
    speedup_vs_exact: float
    ddl: str
    query_settings: str
    query: str
    recall_high: float | None = None
    n_queries: int = 0
    used_index: bool = True
    predicted_recall: float | None = None
    confirmed_recall: float | None = None
    confirmed_low: float | None = None
    confirmed_high: float | None = None
    confirmed_queries: int = 0
    rebuilds: tuple[Rebuild, ...] = ()


@dataclass(frozen=True)
class CostModel:
    """Client time of a query in ms: fixed_ms + list_ms * lists + row_ms * rows scanned.

    A query compares itself with every centroid, then with every row of the lists it probes; the
    rest does not depend on the setting. `error` is the median share by which the points it was
    fitted to differ from it, None where they are too few to say.
    """

    fixed_ms: float
    list_ms: float
    row_ms: float
    error: float | None
    n_points: int

    def p50_ms(self, curve: Curve) -> NDArray[np.float64]:
        """Return the predicted median time at probes 1 to lists, shape (lists,)."""
        return self.fixed_ms + self.list_ms * curve.lists + self.row_ms * curve.rows_scanned


@dataclass(frozen=True)
class Timings:
    """Wall time of the stages in seconds. `exact_s` is the exact search in this process."""

    exact_s: float
    build_s: float
    measure_s: float
    total_s: float
    predict_s: float = 0.0


@dataclass(frozen=True)
class TuningResult:
    """Everything a run found; `why` is the verdict in a sentence, recommendation or not.

    The aim is a recall, `target_recall`, or a p50 latency, `max_ms`; the other is None. `curves`
    are the predictions, empty where a grid was measured without any; `expectation` says in a
    sentence what they promise.
    """

    workload: WorkloadInfo
    environment: Environment
    target_recall: float | None
    exact: Exact
    points: tuple[Point, ...]
    recommendation: Recommendation | None
    why: str
    timings: Timings
    max_ms: float | None = None
    curves: tuple[Curve, ...] = ()
    cost: CostModel | None = None
    difficulty: Difficulty | None = None
    expectation: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; raw samples stay out."""
        return {
            "workload": dataclasses.asdict(self.workload),
            "environment": dataclasses.asdict(self.environment),
            "target_recall": self.target_recall,
            "max_ms": self.max_ms,
            "difficulty": self.difficulty and self.difficulty.as_dict(),
            "expectation": self.expectation,
            "predictions": [row for curve in self.curves for row in _curve_as_dicts(curve)],
            "cost": self.cost and dataclasses.asdict(self.cost),
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


def _curve_as_dicts(curve: Curve) -> list[dict[str, Any]]:
    return [
        {
            "lists": curve.lists,
            "probes": probes,
            "recall": float(recall),
            "rows_scanned": float(rows),
        }
        for probes, (recall, rows) in enumerate(
            zip(curve.recall, curve.rows_scanned, strict=True), start=1
        )
    ]


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
