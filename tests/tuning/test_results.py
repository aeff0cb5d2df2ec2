import json
from dataclasses import replace

import numpy as np
import pytest

from resume_lab.tuning import Latency, Recommendation, TuningResult, pareto_frontier
from resume_lab.tuning.results import CostModel, Environment, Rebuild, Timings

from .factory import curve, exact, point, workload


def result() -> TuningResult:
    """What a run of the tuner returns, recommendation, predictions and all."""
    advice = Recommendation(
        10, 2, 0.96, 0.95, 2.0, 10.0, "CREATE INDEX ...", "SET LOCAL ...", "SELECT",
        predicted_recall=0.95, confirmed_recall=0.96, confirmed_queries=50,
        rebuilds=(Rebuild(2, 0.97, 0.95, 1.0), Rebuild(None, 0.9, 0.8, 1.0)),
    )  # fmt: skip
    return TuningResult(
        workload=replace(workload(embedding_model="ada").info, n_confirming=50),
        environment=Environment("2026-02-13", "18.4", "0.8.5", {"jit": "off"}, "here", "warm"),
        target_recall=0.95,
        exact=exact(20.0),
        points=(point(10, 1, 0.7, 1.0), point(10, 2, 0.96, 2.0)),
        recommendation=advice,
        why="It is the cheapest.",
        timings=Timings(0.1, 1.0, 2.0, 3.5, 0.4),
        curves=(curve([0.7, 1.0], rows=4), curve([0.5, 0.6, 1.0], rows=3)),
        cost=CostModel(0.1, 0.0, 0.01, 0.02, 6),
        difficulty=workload().difficulty,
        expectation="Expect much.",
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
    assert set(found) == {
        "workload", "environment", "target_recall", "max_ms", "difficulty", "expectation",
        "predictions", "cost", "exact", "points", "recommendation", "why", "timings",
    }  # fmt: skip
    assert set(found["workload"]) == {
        "rows", "dim", "n_queries", "k", "distance", "source", "n_confirming", "table",
        "sampled_from",
    }  # fmt: skip
    assert set(found["exact"]) == {"p50_ms", "p95_ms", "p99_ms", "server_ms", "plan"}
    assert set(found["points"][0]) == {
        "index", "lists", "probes", "recall", "recall_low", "recall_high", "recall_tie_aware",
        "recall_p5", "recall_min", "rows_returned", "p50_ms", "p95_ms", "p99_ms", "server_ms",
        "speedup_vs_exact", "used_index", "plan", "used_index_forced", "forced_plan", "build_s",
        "size_bytes", "predicted_recall", "n_queries", "shuffled",
    }  # fmt: skip
    assert set(found["recommendation"]) == {
        "lists", "probes", "recall", "recall_low", "recall_high", "n_queries", "p50_ms",
        "speedup_vs_exact", "ddl", "query_settings", "query", "used_index", "predicted_recall",
        "confirmed_recall", "confirmed_low", "confirmed_high", "confirmed_queries", "rebuilds",
    }  # fmt: skip
    assert found["timings"] == {
        "exact_s": 0.1, "build_s": 1.0, "measure_s": 2.0, "total_s": 3.5, "predict_s": 0.4,
    }  # fmt: skip
    assert {"contrast", "intrinsic_dimension", "hubness", "verdict"} <= set(found["difficulty"])


def test_the_json_holds_the_prediction_of_every_probes_of_every_lists() -> None:
    assert result().as_dict()["predictions"] == [
        {"lists": 2, "probes": 1, "recall": 0.7, "rows_scanned": 2.0},
        {"lists": 2, "probes": 2, "recall": 1.0, "rows_scanned": 4.0},
        {"lists": 3, "probes": 1, "recall": 0.5, "rows_scanned": 1.0},
        {"lists": 3, "probes": 2, "recall": 0.6, "rows_scanned": 2.0},
        {"lists": 3, "probes": 3, "recall": 1.0, "rows_scanned": 3.0},
    ]


def test_the_json_is_strict_and_holds_every_rebuild() -> None:
    found = json.loads(json.dumps(result().as_dict(), allow_nan=False))
    assert found["points"][1]["p50_ms"] == 2.0
    assert [built["probes"] for built in found["recommendation"]["rebuilds"]] == [2, None]
    assert found["workload"]["table"]["table"] == ["chunk_embeddings"]


def test_a_grid_has_no_predictions_and_says_so_in_its_json() -> None:
    found = replace(result(), curves=(), cost=None, difficulty=None, expectation="").as_dict()
    assert (found["predictions"], found["cost"], found["difficulty"]) == ([], None, None)


def test_the_cost_of_a_query_is_its_fixed_part_its_centroids_and_its_rows() -> None:
    cost = CostModel(fixed_ms=1.0, list_ms=0.5, row_ms=0.01, error=0.0, n_points=4)
    assert cost.p50_ms(curve([0.5, 1.0], rows=100)).tolist() == [2.5, 3.0]  # 50 rows, 100


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
