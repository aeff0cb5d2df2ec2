import json
import math
import tracemalloc
from dataclasses import replace
from importlib import import_module
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors import Difficulty, Kind, Metric, Neighbours, difficulty_of, exact_neighbours
from resume_lab.vectors.synthetic import generate

F32 = NDArray[np.float32]
METRICS = pytest.mark.parametrize("metric", list(Metric))

CROSS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)


def of(
    vectors: Any, queries: Any, k: int, metric: Metric = Metric.COSINE, *, seed: int = 0
) -> Difficulty:
    rows, asked = np.asarray(vectors, dtype=np.float32), np.asarray(queries, dtype=np.float32)
    return difficulty_of(rows, asked, exact_neighbours(rows, asked, k, metric), metric, seed=seed)


def normal(n_rows: int, dim: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((n_rows, dim), dtype=np.float32)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.IP])
def test_contrast_and_dimension_worked_out_by_hand(metric: Metric) -> None:
    # cosines .6 .8 -.6 -.8, distances .4 .2 1.6 1.8, mean 1
    found = of(CROSS, [[0.6, 0.8]], 2, metric)
    assert found.contrast == pytest.approx(1.0 / 0.2, rel=1e-6)
    assert found.last_contrast == pytest.approx(1.0 / 0.4, rel=1e-6)
    # chords sqrt(.8) and sqrt(.4): 1 / m = log(sqrt(2))
    assert found.intrinsic_dimension == pytest.approx(2.0 / math.log(2.0), rel=1e-6)
    assert (found.n_rows, found.dim, found.n_queries, found.n_neighbours) == (4, 2, 1, 2)


def test_the_query_s_length_is_no_matter_to_cosine_and_inner_product() -> None:
    for metric in (Metric.COSINE, Metric.IP):
        assert of(CROSS, [[6.0, 8.0]], 2, metric).contrast == pytest.approx(5.0, rel=1e-6)


def test_l2_contrast_worked_out_by_hand() -> None:
    # distances 1, 2, 4, 5 from the origin: mean 3
    found = of([[1, 0], [0, 2], [0, 4], [3, 4]], [[0, 0]], 3, Metric.L2)
    assert found.contrast == pytest.approx(3.0, rel=1e-6)
    assert found.last_contrast == pytest.approx(0.75, rel=1e-6)
    # 1 / m = (log(4 / 1) + log(4 / 2)) / 2
    assert found.intrinsic_dimension == pytest.approx(2.0 / math.log(8.0))


def test_inner_product_is_measured_against_the_longest_row() -> None:
    # q.v / (|q| 4): .5, 0, 1, so distances .5, 1, 0 and with the negative row 1.25
    found = of([[2, 0], [0, 1], [4, 3e-9], [-1, 0]], [[3, 0]], 2, Metric.IP)
    assert found.last_contrast == pytest.approx((0.5 + 1.0 + 0.0 + 1.25) / 4 / 0.5)
    assert math.isinf(found.contrast)


def test_the_mean_contrast_is_the_ratio_of_the_means_over_queries() -> None:
    # nearest .2 and 0, both means 1
    found = of(CROSS, [[0.6, 0.8], [1.0, 0.0]], 2)
    assert found.mean_contrast == pytest.approx(2.0 / 0.2, rel=1e-6)
    assert math.isinf(found.contrast)


def test_neighbours_at_distance_0_tell_nothing_about_the_dimension() -> None:
    rows = [[0, 0], [0, 0], [1, 0], [2, 0]]
    assert of(rows, [[0, 0]], 4, Metric.L2).intrinsic_dimension == pytest.approx(1 / math.log(2))
    assert math.isnan(of(rows, [[0, 0]], 2, Metric.L2).intrinsic_dimension)
    assert math.isnan(of(rows, [[3, 0]], 1, Metric.L2).intrinsic_dimension)


def test_neighbours_all_as_near_have_no_finite_dimension() -> None:
    assert math.isinf(of(np.eye(3), [[1, 1, 1]], 3).intrinsic_dimension)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_dimension_of_a_subspace_is_found(dim: int) -> None:
    rows = normal(6000, dim) @ normal(dim, 32, seed=1)
    found = of(rows[300:], rows[:300], 10, Metric.L2)
    assert found.intrinsic_dimension == pytest.approx(dim, rel=0.1)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(8, 20), k=st.integers(2, 8))
def test_unit_vectors_are_as_difficult_under_every_metric(seed: int, dim: int, k: int) -> None:
    rows = normal(60, dim, seed).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    cosine, l2, ip = (of(rows[20:], rows[:20], k, m) for m in Metric)
    for name in ("contrast", "mean_contrast", "last_contrast", "intrinsic_dimension"):
        assert getattr(ip, name) == pytest.approx(getattr(cosine, name), rel=1e-3)
    assert l2.intrinsic_dimension == pytest.approx(cosine.intrinsic_dimension, rel=1e-3)
    assert l2.random_contrast**2 == pytest.approx(cosine.random_contrast)


def test_random_rows_have_the_contrast_foretold_for_them() -> None:
    for metric in (Metric.COSINE, Metric.L2):
        rows = generate(Kind.RANDOM, 4100, dim=256)
        found = of(rows[100:], rows[:100], 10, metric)
        assert found.last_contrast == pytest.approx(found.random_contrast, rel=0.01)
        assert "there is no neighbourhood for an index to find" in found.verdict


def test_clustered_rows_have_clear_neighbourhoods() -> None:
    rows = generate(Kind.CLUSTERED, 4050, dim=256)
    found = of(rows[50:], rows[:50], 10)
    assert found.verdict.startswith("Clear neighbourhoods: contrast 2.")


def test_hubness_worked_out_by_hand() -> None:
    # On a line of 12, each row leaves out one end, the far one: both ends are neighbours of 5, the
    # others of 11. Mean 10, variance (2 25 + 10 1) / 12 = 5, third moment (-250 + 10) / 12 = -20.
    line = np.arange(12.0)[:, None]
    assert of(line, [[20.0]], 1, Metric.L2).hubness == pytest.approx(-20 / 5**1.5)


def test_rows_that_are_all_neighbours_of_all_are_no_hubs() -> None:
    assert of(CROSS, [[0.6, 0.8]], 2).hubness == 0.0


def test_hubness_comes_from_a_sample_that_the_seed_chooses() -> None:
    rows = normal(2500, 6)
    assert of(rows, rows[:3], 2, seed=1).hubness == of(rows, rows[:3], 2, seed=1).hubness
    assert of(rows, rows[:3], 2, seed=1).hubness != of(rows, rows[:3], 2, seed=2).hubness


def test_a_long_row_is_the_hub_of_inner_products() -> None:
    rows = np.abs(normal(200, 8))
    rows[7] *= 100.0
    assert of(rows, rows[:2], 2, Metric.IP).hubness > 2.0


def test_hubness_needs_three_rows_with_a_direction() -> None:
    assert math.isnan(of([[1, 0], [0, 1], [0, 0]], [[1, 1]], 1).hubness)


def test_gaps_below_float32_rounding_are_counted() -> None:
    # Rounding in 2 dimensions is sqrt(2) 2^-24 = 8.4e-8. The first query is as far from both rows
    # to the last bit but few, the second is not.
    found = of([[1, 0], [0, 1]], [[1, 1 + 2.0**-23], [1, 1.001]], 2)
    assert found.unresolved_share == 0.5
    assert math.isnan(of(CROSS, [[0.6, 0.8]], 1).unresolved_share)


def test_under_l2_the_rounding_is_relative_to_the_distance() -> None:
    for scale in (1e-9, 1.0, 1e9):
        near, far = scale * np.array([[1.0], [1.0 + 1e-4]]), scale * np.array([[1.0], [1.0 + 1e-8]])
        assert of(near, [[0.0]], 2, Metric.L2).unresolved_share == 0.0
        assert of(far, [[0.0]], 2, Metric.L2).unresolved_share == 1.0


def test_a_row_that_equals_an_earlier_one_is_a_duplicate() -> None:
    rows = [[1, 2], [3, 4], [1, 2], [1, 2], [0.0, 5], [-0.0, 5], [2, 1], [1, 3]]
    assert of(rows, [[1, 1]], 1).duplicate_share == 3 / 8


def test_lengths_and_zero_vectors_are_reported() -> None:
    found = of([[0, 0], [3, 4], [0, 1], [0, 2]], [[1, 1]], 1)
    assert (found.min_length, found.median_length, found.max_length) == (0.0, 1.5, 5.0)
    assert found.zero_rows == 1
    assert not found.unit_length


def test_unit_length_allows_for_rounding() -> None:
    rows = generate(Kind.RANDOM, 50, dim=1536)
    assert of(rows, rows[:2], 1).unit_length
    rows[3] *= np.float32(1.001)
    assert not of(rows, rows[:2], 1).unit_length


def test_zero_rows_have_no_part_in_the_mean_under_cosine() -> None:
    assert of([*CROSS, [0, 0]], [[0.6, 0.8]], 2).contrast == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.IP])
def test_a_zero_query_is_left_out(metric: Metric) -> None:
    found = of(CROSS, [[0, 0], [0.6, 0.8]], 2, metric)
    assert found.contrast == pytest.approx(5.0, rel=1e-6)
    assert found.n_queries == 2


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.IP])
def test_zero_vectors_alone_have_no_distances(metric: Metric) -> None:
    found = of(np.zeros((5, 3)), np.ones((2, 3)), 2, metric)
    assert math.isnan(found.contrast)
    assert found.verdict.startswith("No query has a distance to a row")
    assert "not defined" in str(found)


@METRICS
def test_equal_rows_are_said_to_be_equal(metric: Metric) -> None:
    found = of(np.full((40, 5), 0.3), normal(3, 5), 4, metric)
    assert found.verdict == "All rows are equal: none is nearer than another."


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(300, 7)
    for metric in Metric:
        expected = of(rows[20:], rows[:20], 5, metric).as_dict()
        with monkeypatch.context() as patch:
            patch.setattr(import_module("resume_lab.vectors.neighbourhood"), "_BLOCK_ELEMENTS", 64)
            assert of(rows[20:], rows[:20], 5, metric).as_dict() == pytest.approx(expected)


def test_rows_far_from_the_origin_keep_their_contrast_under_l2() -> None:
    rows = normal(400, 6)
    here = of(rows[50:], rows[:50], 5, Metric.L2)
    there = of(rows[50:] + 1024.0, rows[:50] + 1024.0, 5, Metric.L2)
    assert there.contrast == pytest.approx(here.contrast, rel=1e-3)


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(n_rows: int) -> int:
        rows = normal(n_rows, 128)
        found = exact_neighbours(rows, rows[:20], 5)
        tracemalloc.start()
        difficulty_of(rows, rows[:20], found)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(60_000) - peak(20_000) < 40_000 * 64  # a row of vectors is 512 bytes


CLEAR = Difficulty(
    metric=Metric.COSINE,
    n_rows=20_000,
    dim=1536,
    n_queries=200,
    n_neighbours=11,
    contrast=2.454,
    mean_contrast=2.5,
    last_contrast=2.2,
    random_contrast=1.091,
    intrinsic_dimension=51.6,
    hubness=1.1,
    unresolved_share=0.005,
    duplicate_share=0.0,
    zero_rows=0,
    min_length=1.0,
    median_length=1.0,
    max_length=1.0,
)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "Clear neighbourhoods: contrast 2.45, intrinsic dimension 52."),
        ({"intrinsic_dimension": math.nan}, "Clear neighbourhoods: contrast 2.45."),
        (
            {"contrast": 1.37, "last_contrast": 1.31, "intrinsic_dimension": 116},
            "Faint neighbourhoods: contrast 1.37, intrinsic dimension 116.",
        ),
        (
            {"metric": Metric.L2, "contrast": 1.31, "last_contrast": 1.26, "random_contrast": 1.05},
            "Clear neighbourhoods: contrast 1.31, intrinsic dimension 52.",
        ),
        (
            {"contrast": 1.09, "last_contrast": 1.08},
            "The nearest row is only 1.09 times nearer than the average one: there is no "
            "neighbourhood for an index to find.",
        ),
        (
            {"contrast": 20.0, "last_contrast": 1.09},
            "The nearest row is 20 times nearer than the average one, row 11 only 1.09 times: "
            "beyond the nearest there is no neighbourhood for an index to find.",
        ),
        (
            {"contrast": 1.16, "last_contrast": 1.126},  # more than chance: faint, not flat
            "Faint neighbourhoods: contrast 1.16, intrinsic dimension 52.",
        ),
        (
            {"contrast": math.inf},
            "Most queries equal a stored row and find themselves: they say little about questions "
            "not yet asked.",
        ),
        (
            {"unresolved_share": 0.97},
            "For 97 % of the queries rows 10 and 11 by distance are equally near within float32 "
            "rounding: which of them is found is chance.",
        ),
    ],
)
def test_the_verdict_is_one_plain_sentence(change: dict[str, Any], verdict: str) -> None:
    assert replace(CLEAR, **change).verdict == verdict


def test_the_dictionary_is_plain_json_even_where_figures_are_missing() -> None:
    found = replace(CLEAR, contrast=math.inf, hubness=math.nan).as_dict()
    read = json.loads(json.dumps(found, allow_nan=False))
    assert read["contrast"] is None
    assert read["hubness"] is None
    assert read["metric"] == "cosine"
    assert read["unit_length"] is True
    assert read["verdict"].startswith("Most queries")
    measured = of(CROSS, CROSS, 2).as_dict()
    assert {type(value) for value in measured.values()} <= {int, float, str, bool, type(None)}


def test_the_text_has_a_line_for_each_figure_and_ends_with_the_verdict() -> None:
    lines = str(CLEAR).splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == [trait.name for trait in CLEAR.rows()]
    assert lines[-1] == CLEAR.verdict


def test_the_table_is_well_formed_and_shows_what_the_text_shows() -> None:
    table = ElementTree.fromstring(CLEAR._repr_html_())  # noqa: S314 - our own table
    cells = [[cell.text for cell in row] for row in table.findall("tbody/tr")]
    assert cells == [[trait.name, trait.value, trait.meaning] for trait in CLEAR.rows()]
    assert table.findtext("caption") == CLEAR.verdict


OK = normal(4, 3)
NEAR = exact_neighbours(OK, OK, 2)
BAD = OK.copy()
BAD[2, 1] = np.inf


@pytest.mark.parametrize(
    ("vectors", "queries", "neighbours", "says"),
    [
        (OK[0], OK, NEAR, r"vectors: shape \(3,\), dtype float32; permitted: floating point"),
        (OK, OK[:0], NEAR, r"queries: shape \(0, 3\)"),
        (OK.astype(int), OK, NEAR, "vectors: .* dtype int64; permitted: floating point"),
        (OK, OK[:, :2], NEAR, "queries have 2 dimensions; permitted: 3"),
        (OK, OK[:3], NEAR, r"neighbours have shape \(4, 2\); permitted: \(3, 1 to 4\)"),
        (OK[:1], OK, NEAR, r"neighbours have shape \(4, 2\); permitted: \(4, 1 to 1\)"),
        (BAD, OK, NEAR, r"vectors: row 2 \(counted from 0\) has NaN or an infinity"),
        (OK, BAD, NEAR, r"queries: row 2 \(counted from 0\) has NaN or an infinity"),
    ],
)
def test_what_cannot_be_described_is_refused(
    vectors: Any, queries: Any, neighbours: Neighbours, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        difficulty_of(vectors, queries, neighbours)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(DataError, match="metric is 'l1'; permitted: cosine, l2, ip"):
        difficulty_of(OK, OK, NEAR, "l1")  # type: ignore[arg-type]
