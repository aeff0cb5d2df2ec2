import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.tuning import Point, Workload, measure, scratch_copy
from resume_lab.tuning.predict import Prediction, candidate_lists, expectation, fit_cost, predict
from resume_lab.vectors import Curve

from .factory import point


def _prediction(*curves: Curve) -> Prediction:
    workload = Workload.generated("clustered", 60, n_queries=5, dim=8)
    return Prediction(workload, curves, 0.1)


def _at(lists: int, probes: int, p50_ms: float) -> Point:
    return point(lists, probes, 0.9, p50_ms)


def _even(lists: int, rows: int = 1000) -> Curve:
    """The curve of lists of one size."""
    scanned = np.arange(1, lists + 1) * rows / lists
    return Curve(lists, np.linspace(0.5, 1, lists), scanned, 1.0)


@pytest.mark.parametrize("rows", [20_000, 50_000, 1_000_000])
def test_candidates_hold_what_guidance_names_and_grow_in_equal_ratios(rows: int) -> None:
    lists = candidate_lists(rows, own=[7])
    root = math.isqrt(rows)
    assert {7, rows // 1000, root, 4 * root} <= set(lists)
    grid = candidate_lists(rows)
    ratios = np.array(grid[1:]) / np.array(grid[:-1])
    assert ratios.max() < 2


@given(st.integers(1, 10**9))
def test_candidates_can_be_built_on_any_number_of_rows(rows: int) -> None:
    lists = candidate_lists(rows)
    assert lists == sorted(set(lists))
    assert 1 <= lists[0] <= lists[-1] <= max(1, min(32_768, rows // 5))


def test_a_prediction_has_the_curves_that_were_asked_for() -> None:
    workload = Workload.generated("clustered", 500, n_queries=20, dim=16)
    found = predict(workload, [12, 4, 4])
    assert [curve.lists for curve in found.curves] == [4, 12]
    assert found.curve(12).recall[-1] == 1
    with pytest.raises(ExperimentError, match="there are 4, 12"):
        found.curve(5)


def test_the_cost_model_finds_the_costs_that_made_the_times() -> None:
    prediction = _prediction(_even(10), _even(50))
    points = [
        _at(lists, probes, 0.3 + 0.002 * lists + 0.01 * probes * 1000 / lists)
        for lists in (10, 50)
        for probes in (1, 4, 9)
    ]
    model = fit_cost(points, prediction)
    assert (model.fixed_ms, model.list_ms, model.row_ms) == pytest.approx((0.3, 0.002, 0.01))
    assert model.error == pytest.approx(0, abs=1e-9)
    assert model.p50_ms(_even(20))[3] == pytest.approx(0.3 + 0.04 + 0.01 * 200)


def test_no_part_of_the_time_is_negative() -> None:
    prediction = _prediction(_even(10), _even(50))
    points = [_at(10, 1, 2.0), _at(10, 5, 6.0), _at(50, 1, 0.2), _at(50, 25, 5.0)]
    assert fit_cost(points, prediction).error is None  # four points of three parts
    points.append(_at(50, 9, 2.5))
    model = fit_cost(points, prediction)
    assert min(model.fixed_ms, model.list_ms, model.row_ms) >= 0
    assert model.row_ms > 0
    assert model.error > 0


def test_of_one_index_a_centroid_costs_as_much_as_a_row() -> None:
    points = [_at(10, probes, 0.5 + 0.02 * (10 + 100 * probes)) for probes in (1, 3, 5, 8)]
    model = fit_cost(points, _prediction(_even(10), _even(50)))
    assert (model.fixed_ms, model.list_ms, model.row_ms) == pytest.approx((0.5, 0.02, 0.02))
    assert (model.n_points, model.error) == (4, pytest.approx(0, abs=1e-9))
    assert model.p50_ms(_even(50))[4] == pytest.approx(0.5 + 0.02 * (50 + 100))


def test_the_error_is_the_median_share_by_which_times_differ_from_the_model() -> None:
    points = [_at(10, 5, 1.0), _at(10, 5, 1.0), _at(10, 5, 1.0), _at(10, 5, 1.1)]
    model = fit_cost(points, _prediction(_even(10)))
    fitted = model.p50_ms(_even(10))[4]
    assert 1.0 < fitted < 1.03
    assert model.error == pytest.approx(fitted - 1)


@pytest.mark.parametrize(
    ("points", "count"),
    [
        ([], 0),
        ([_at(10, 1, 1.0)], 1),
        ([_at(10, 1, 1.0), _at(10, 2, 2.0), _at(50, 1, 1.0)], 3),
    ],
)
def test_too_few_points_are_refused(points: list[Point], count: int) -> None:
    with pytest.raises(ExperimentError, match=f"{count} measured points are too few"):
        fit_cost(points, _prediction(_even(10), _even(50)))


def test_points_of_lists_that_nobody_predicted_are_refused() -> None:
    with pytest.raises(ExperimentError, match=r"No curve of lists = 7 .* there are 10\."):
        fit_cost([_at(7, 1, 1.0)] * 2, _prediction(_even(10)))


def test_where_neighbourhoods_are_clear_little_of_the_table_is_promised() -> None:
    workload = Workload.generated("clustered", 60, n_queries=5, dim=8)
    ten = Curve(10, np.linspace(0.5, 1, 10), np.arange(1, 11) * 6.0, 1.0)
    fifty = Curve(50, np.r_[0.4, 0.96, np.ones(48)], np.arange(1, 51) * 1.2, 1.0)
    found = Prediction(workload, (ten, fifty), 0.1)
    # 10 centroids and 60 rows against 50 and 2.4; for .5 10 and 6 against the same.
    assert expectation(found, workload.difficulty) == (
        "Expect recall@10 0.95 from about 4.0% of the rows (lists 50, probes 2)."
    )
    assert expectation(found, workload.difficulty, 0.5) == (
        "Expect recall@10 0.5 from about 10% of the rows (lists 10, probes 1)."
    )


def test_where_most_of_the_table_has_to_be_read_the_reason_is_given() -> None:
    workload = Workload.generated("random", 200, n_queries=20, dim=512)
    found = expectation(predict(workload, [4, 14], seed=1), workload.difficulty)
    assert found.startswith("No IVFFlat setting can gain much over exact search on these vectors")
    assert "recall@10 0.95 takes " in found
    assert found.endswith(workload.difficulty.verdict)


def test_time_predicted_for_an_index_that_was_not_measured_is_near(database: Engine) -> None:
    workload = Workload.generated("clustered", 3000, n_queries=40, dim=512)
    prediction = predict(workload, [10, 25, 60])
    with scratch_copy(database, workload.vectors) as scratch:
        known = [
            point
            for lists in (10, 60)
            for point in measure(scratch, workload, IVFFlat(lists), [1, 3, 8]).points
        ]
        model = fit_cost(known, prediction)
        unknown = measure(scratch, workload, IVFFlat(25), [2, 8]).points
    for found in unknown:
        predicted = model.p50_ms(prediction.curve(25))[found.probes - 1]
        assert 0.4 < predicted / found.latency.p50_ms < 2.5
