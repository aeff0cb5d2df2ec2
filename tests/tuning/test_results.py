import json
from dataclasses import replace

import numpy as np
import pytest

from resume_lab.tuning import Latency, Recommendation, TuningResult, pareto_frontier
from resume_lab.tuning.results import Environment, Timings, WorkloadInfo

from .factory import exact, point


def result() -> TuningResult:
    advice = Recommendation(
        10, 2, 0.96, 0.95, 2.0, 10.0, "CREATE INDEX ...", "SET LOCAL ...", "SELECT"
    )
    return TuningResult(
        workload=WorkloadInfo(1000, 8, 50, 10, "cosine", "given vectors"),
        environment=Environment("2026-02-13", "18.4", "0.8.5", {"jit": "off"}, "here", "warm"),
        target_recall=0.95,
        exact=exact(20.0),
        points=(point(10, 1, 0.7, 1.0), point(10, 2, 0.96, 2.0)),
        recommendation=advice,
        why="It is the cheapest.",
        timings=Timings(0.1, 1.0, 2.0, 3.5),
    )


def test_percentiles_are_those_of_the_samples() -> None:
    found = Latency.of(np.arange(1.0, 302.0)[::-1])  # 301 values, 1 to 301
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (151.0, 286.0, 298.0)


@pytest.mark.parametrize(
    ("samples", "has_p95", "has_p99"),
    [(1, False, False), (58, False, False), (59, True, False), (298, True, False),
     (299, True, True)],
)  # fmt: skip
def test_a_percentile_of_too_few_samples_is_not_given(
    samples: int, has_p95: bool, has_p99: bool
) -> None:
    found = Latency.of(np.ones(samples))
    assert found.p50_ms == 1.0
    assert (found.p95_ms is not None, found.p99_ms is not None) == (has_p95, has_p99)


def test_the_json_has_the_documented_names() -> None:
    found = result().as_dict()
    assert found["workload"] == {
        "rows": 1000, "dim": 8, "n_queries": 50, "k": 10, "distance": "cosine",
        "source": "given vectors",
    }  # fmt: skip
    assert set(found["exact"]) == {"p50_ms", "p95_ms", "p99_ms", "server_ms", "plan"}
    assert set(found["points"][0]) == {
        "index", "lists", "probes", "recall", "recall_low", "recall_high", "recall_tie_aware",
        "recall_p5", "recall_min", "rows_returned", "p50_ms", "p95_ms", "p99_ms", "server_ms",
        "speedup_vs_exact", "used_index", "plan", "used_index_forced", "forced_plan", "build_s",
        "size_bytes",
    }  # fmt: skip
    assert set(found["recommendation"]) == {
        "lists", "probes", "recall", "recall_low", "p50_ms", "speedup_vs_exact", "ddl",
        "query_settings", "query",
    }  # fmt: skip
    assert found["timings"] == {"exact_s": 0.1, "build_s": 1.0, "measure_s": 2.0, "total_s": 3.5}
    assert set(found) == {
        "workload", "environment", "target_recall", "exact", "points", "recommendation", "why",
        "timings",
    }  # fmt: skip


def test_the_json_survives_a_strict_round_trip() -> None:
    found = result().as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["points"][1]["p50_ms"] == 2.0


def test_without_a_recommendation_the_json_has_null_and_says_why() -> None:
    found = replace(result(), recommendation=None, why="None meets it.").as_dict()
    assert found["recommendation"] is None
    assert found["why"] == "None meets it."


def test_a_percentile_that_is_not_given_is_null() -> None:
    few = replace(point(10, 1, 0.7, 1.0), latency=Latency.of(np.ones(20)))
    (found,) = replace(result(), points=(few,)).as_dict()["points"]
    assert (found["p50_ms"], found["p95_ms"], found["p99_ms"]) == (1.0, None, None)


def test_the_frontier_keeps_what_nothing_else_beats_fastest_first() -> None:
    fast, middle, slow = point(1, 1, 0.5, 1.0), point(2, 2, 0.8, 2.0), point(3, 3, 0.9, 3.0)
    worse_and_slower = point(4, 4, 0.7, 2.5)
    assert pareto_frontier((slow, worse_and_slower, fast, middle)) == (fast, middle, slow)


def test_of_equal_recall_the_faster_stays_and_of_equal_time_the_more_exact() -> None:
    fast, slow = point(1, 1, 0.8, 1.0), point(2, 2, 0.8, 2.0)
    assert pareto_frontier((slow, fast)) == (fast,)
    low, high = point(1, 1, 0.5, 1.0), point(2, 2, 0.6, 1.0)
    assert pareto_frontier((low, high)) == (high,)


def test_two_points_alike_in_both_stand_for_each_other() -> None:
    one, other = point(1, 1, 0.8, 1.0), point(2, 2, 0.8, 1.0)
    assert pareto_frontier((one, other)) == (one,)


def test_no_points_have_no_frontier() -> None:
    assert pareto_frontier(()) == ()
