import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors import Metric, Neighbours, distances, exact_neighbours

F32 = NDArray[np.float32]


def brute_force(vectors: F32, queries: F32, k: int, metric: Metric) -> Neighbours:
    rows = np.broadcast_to(vectors, (len(queries), *vectors.shape))
    far = distances(queries, rows, metric)
    order = np.argsort(far, axis=1, kind="stable")[:, :k]  # nan last, equal by id
    return Neighbours(order.astype(np.int64), np.take_along_axis(far, order, axis=1))


def assert_same(found: Neighbours, expected: Neighbours) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize(
    ("metric", "ids", "far"),
    [
        (Metric.COSINE, [1, 0, 3], [0.0, 1.0, 1.0]),
        (Metric.L2, [2, 0, 1], [1.0, np.sqrt(2.0), 2.0]),
        (Metric.IP, [1, 0, 2], [-3.0, 0.0, 0.0]),
    ],
)
def test_three_neighbours_worked_out_by_hand(
    metric: Metric, ids: list[int], far: list[float]
) -> None:
    vectors = np.array([[0, 1], [3, 0], [0, 0], [0, -2]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    found = exact_neighbours(vectors, query, 3, metric)
    assert found.ids.tolist() == [ids]
    np.testing.assert_allclose(found.distances, [far], atol=1e-15)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), metric=st.sampled_from(Metric), seed=st.integers(0, 2**32 - 1))
def test_agrees_with_a_float64_sort_on_small_integers(
    data: st.DataObject, metric: Metric, seed: int
) -> None:
    n_rows, n_queries = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 6))
    dim, high = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-high, high, (n_rows, dim)).astype(np.float32)
    queries = rng.integers(-high, high, (n_queries, dim)).astype(np.float32)
    k = data.draw(st.integers(1, n_rows))
    found = exact_neighbours(
        vectors,
        queries,
        k,
        metric,
        block_rows=data.draw(st.integers(1, 50)),
        block_queries=data.draw(st.integers(1, 7)),
    )
    assert_same(found, brute_force(vectors, queries, k, metric))


@pytest.mark.parametrize("metric", list(Metric))
def test_block_sizes_do_not_change_the_answer(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((700, 33), dtype=np.float32)
    queries = rng.standard_normal((9, 33), dtype=np.float32)
    expected = brute_force(vectors, queries, 10, metric)
    for block_rows, block_queries in ((1, 1), (64, 4), (699, 9), (8192, 1024)):
        found = exact_neighbours(
            vectors, queries, 10, metric, block_rows=block_rows, block_queries=block_queries
        )
        assert_same(found, expected)


@pytest.mark.parametrize("metric", list(Metric))
def test_equal_rows_come_lowest_id_first(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    row, *queries = rng.standard_normal((6, 257), dtype=np.float32)
    found = exact_neighbours(np.tile(row, (500, 1)), np.array(queries), 7, metric, block_rows=64)
    np.testing.assert_array_equal(found.ids, np.tile(np.arange(7), (5, 1)))


@pytest.mark.parametrize("metric", list(Metric))
def test_near_ties_within_float32_noise_are_ordered_by_float64(metric: Metric) -> None:
    rng = np.random.default_rng(2)
    base = rng.standard_normal(64)
    vectors = (base + 1e-6 * rng.standard_normal((400, 64))).astype(np.float32)
    queries = rng.standard_normal((4, 64), dtype=np.float32)
    found = exact_neighbours(vectors, queries, 10, metric, block_rows=128)
    assert_same(found, brute_force(vectors, queries, 10, metric))


def test_rows_sorted_from_far_to_near_are_found() -> None:
    angles = np.linspace(3.0, 0.0, 3000)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    queries = np.array([[1.0, 0.0]], dtype=np.float32)
    found = exact_neighbours(vectors, queries, 5, block_rows=256)
    assert found.ids.tolist() == [[2999, 2998, 2997, 2996, 2995]]


def test_zero_rows_come_last_under_cosine_with_nan() -> None:
    vectors = np.array([[0, 0], [0, 1], [0, 0], [1, 0]], dtype=np.float32)
    found = exact_neighbours(vectors, np.array([[2, 0]], dtype=np.float32), 4)
    assert found.ids.tolist() == [[3, 1, 0, 2]]
    np.testing.assert_array_equal(found.distances, [[0.0, 1.0, np.nan, np.nan]])


def test_a_zero_query_has_no_cosine_distance() -> None:
    vectors = np.eye(3, dtype=np.float32)
    found = exact_neighbours(vectors, np.zeros((1, 3), dtype=np.float32), 2)
    assert found.ids.tolist() == [[0, 1]]
    assert np.isnan(found.distances).all()


def peak_bytes(n_rows: int) -> int:
    vectors = np.random.default_rng(0).standard_normal((n_rows, 32), dtype=np.float32)
    tracemalloc.start()
    exact_neighbours(vectors, vectors[:64], 10, block_rows=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_rows() -> None:
    small, large = peak_bytes(10_000), peak_bytes(80_000)
    assert large - small < 70_000 * 8  # a length and a flag a row; one row of vectors is 128 bytes


def test_duplicates_do_not_blow_memory() -> None:
    vectors = np.ones((20_000, 32), dtype=np.float32)
    tracemalloc.start()
    found = exact_neighbours(vectors, vectors[:16], 5, block_rows=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.ids.tolist() == [[0, 1, 2, 3, 4]] * 16
    assert peak < 80 << 20


OK = np.ones((4, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("vectors", "queries", "k", "says"),
    [
        (OK, OK, 0, "k is 0; permitted: whole numbers, 1 to 4"),
        (OK, OK, 5, "k is 5; permitted: whole numbers, 1 to 4"),
        (OK, OK[:, :2], 1, "queries have 2 dimensions; permitted: 3"),
        (OK, OK[0], 1, r"queries has shape \(3,\); permitted: two"),
        (OK[:0], OK, 1, r"vectors has shape \(0, 3\); permitted: two"),
        (OK.astype(int), OK, 1, "dtype int64; permitted: float32"),
        (OK * np.float32(np.nan), OK, 1, "vectors: row 0 .* length nan; permitted: finite"),
        (OK, OK * np.float32(np.inf), 1, "queries: row 0 .* length inf; permitted: finite"),
        (OK * np.float32(1e20), OK, 1, "permitted: finite values, length 0 or 1e-15 to 1e"),
    ],
)
def test_what_cannot_be_searched_is_refused(vectors: Any, queries: Any, k: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        exact_neighbours(vectors, queries, k)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(DataError, match="permitted: cosine, l2, ip"):
        exact_neighbours(OK, OK, 1, "l1")  # type: ignore[arg-type]


def test_block_sizes_below_one_are_refused() -> None:
    with pytest.raises(DataError, match="block_rows is 0; permitted: whole numbers, 1 or more"):
        exact_neighbours(OK, OK, 1, block_rows=0)
