"""What an index costs that was built before its rows came.

IVFFlat places its centroids when it is built, and rows that come later go to the nearest of them,
however far that is. Measured here: an index built on the first share of the rows, then given the
rest, against one built on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy.engine import Engine
from tqdm.auto import tqdm

from resume_lab.database.indexes import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.tuning import trial
from resume_lab.tuning.measure import against, measure_in_turn
from resume_lab.tuning.predict import predict
from resume_lab.tuning.prove import Target, prove_recall
from resume_lab.tuning.results import Point
from resume_lab.tuning.run import DEFAULT_TARGET_RECALL
from resume_lab.tuning.scratch import append, scratch_copy
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import Metric, Neighbours
from resume_lab.vectors.kmeans import assign, kmeans, to_directions

SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
TOPICS = 8
TOPIC_SAMPLE = 5000


@dataclass(frozen=True)
class GrownIndex:
    """An index built on `rows_at_build` rows and then given the rest.

    `fresh` is its point at the probes that an index built on all rows needs for the target;
    `needed` the one at the probes that it needs itself, None where no number of them reaches it.
    """

    rows_at_build: int
    fresh: Point
    needed: Point | None


def measure_growth(
    engine: Engine,
    workload: Workload,
    lists: int,
    *,
    shares: Sequence[float] = SHARES,
    target_recall: float = DEFAULT_TARGET_RECALL,
    seed: int = 0,
    progress: bool = False,
) -> list[GrownIndex]:
    """Build one index on each share of the rows, add the rest, and measure it; the last is on all.

    Rows come in the order of the workload. Raises ExperimentError for a share outside 0 to 1.
    """
    if not all(0 <= share <= 1 for share in shares):
        raise ExperimentError("The shares of the rows at build are 0 to 1.")
    target = Target.of(target_recall, len(workload.queries))
    curve = predict(workload, [lists], seed=seed).curves[0]
    rows = len(workload.vectors)
    grown: list[GrownIndex] = []
    fresh_probes = None
    for share in tqdm(sorted({*shares, 1.0}, reverse=True), unit="index", disable=not progress):
        first = round(share * rows)
        with scratch_copy(engine, workload.vectors[:first]) as scratch:
            built = trial.build(scratch, workload, IVFFlat(lists))
            append(scratch, workload.vectors[first:], first_id=first)
            proof = prove_recall(scratch, workload, built, target, curve)
            fresh_probes = fresh_probes or proof.probes or lists
            wanted = sorted({fresh_probes, proof.probes or fresh_probes})
            settings = [(built, probes) for probes in wanted]
            points, exact = measure_in_turn(scratch, workload, settings, rounds=1, seed=seed)
        by_probes = {point.probes: against(exact, point) for point in points}
        needed = by_probes[proof.probes] if proof.probes else None
        grown.append(GrownIndex(first, by_probes[fresh_probes], needed))
    return grown[::-1]


def queries_until_rebuild_pays(stale: GrownIndex, fresh: GrownIndex) -> float:
    """Return after how many queries the time saved by a rebuild has made up for building.

    Infinite where the stale index is as fast, or cannot reach the target at all: then it is not
    time that a rebuild buys.
    """
    if stale.needed is None or fresh.needed is None:
        return float("inf")
    saved_ms = stale.needed.latency.p50_ms - fresh.needed.latency.p50_ms
    return fresh.needed.build_s * 1000 / saved_ms if saved_ms > 0 else float("inf")


def by_topic(workload: Workload, *, topics: int = TOPICS, seed: int = 0) -> Workload:
    """Return the workload with its rows in the order of their topics, as new subjects would come.

    A topic is a cluster of k-means; rows of one stand together, in random order of topics.
    """
    rng = np.random.default_rng(seed)
    spherical = workload.metric is not Metric.L2
    rows = np.array(workload.vectors)
    if spherical:
        to_directions(rows)
    sample = rows[rng.choice(len(rows), min(len(rows), TOPIC_SAMPLE), replace=False)]
    found = kmeans(sample, min(topics, len(sample)), spherical=spherical, rng=rng)
    topic = assign(rows, found.centroids, spherical=spherical)
    order = np.argsort(topic, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    true = workload.neighbours
    return replace(
        workload,
        vectors=np.ascontiguousarray(workload.vectors[order]),
        neighbours=Neighbours(place[true.ids], true.distances),
        source=f"{workload.source}, topic by topic",
    )
