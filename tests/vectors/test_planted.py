import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors import exact_neighbours, plant


def directions(n_rows: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n_rows, dim), dtype=np.float32)


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray(np.vecdot(a, b) / np.sqrt(np.vecdot(a, a) * np.vecdot(b, b)))


@settings(deadline=None)
@given(
    strength=st.floats(0.0, 1.0),
    dim=st.integers(2, 40),
    length=st.floats(1e-30, 1e30),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_cosine_distance_to_the_row_is_the_strength(
    strength: float, dim: int, length: float, seed: int
) -> None:
    vectors = directions(8, dim, seed) * np.float32(length)
    planted = plant(vectors, 5, strength, seed=seed)
    assert planted.queries.dtype == np.float32
    assert planted.rows.dtype == np.int64
    found = 1.0 - cosines(planted.queries, vectors[planted.rows])
    np.testing.assert_allclose(found, strength, atol=2e-7)
    np.testing.assert_allclose(np.linalg.norm(planted.queries, axis=1), 1.0, atol=3e-7)


def test_in_the_plane_there_are_two_places_for_a_query() -> None:
    planted = plant(np.array([[5.0, 0.0]] * 40, dtype=np.float32), 40, 0.4)
    np.testing.assert_allclose(planted.queries[:, 0], 0.6, atol=1e-7)
    np.testing.assert_allclose(np.abs(planted.queries[:, 1]), 0.8, atol=1e-7)
    assert set(np.sign(planted.queries[:, 1])) == {-1.0, 1.0}


def test_strength_0_is_the_direction_of_the_row() -> None:
    planted = plant(np.array([[3.0, 4.0]], dtype=np.float32), 1, 0)
    np.testing.assert_allclose(planted.queries, [[0.6, 0.8]], rtol=1e-7)
    assert planted.rows.tolist() == [0]


def test_a_weak_query_finds_its_row_and_a_strong_one_does_not() -> None:
    vectors = directions(2000, 256)

    def found(strength: float) -> float:
        planted = plant(vectors, 100, strength)
        nearest = exact_neighbours(vectors, planted.queries, 1).ids[:, 0]
        return float(np.mean(nearest == planted.rows))

    assert found(0.3) == 1.0
    assert found(1.0) == 0.0


def test_a_seed_moves_the_same_queries_along_the_same_way() -> None:
    vectors = directions(30, 8)
    near, far = plant(vectors, 9, 0.1, seed=4), plant(vectors, 9, 1.0, seed=4)
    np.testing.assert_array_equal(near.rows, far.rows)
    own = vectors[near.rows] / np.linalg.norm(vectors[near.rows], axis=1)[:, None]
    expected = 0.9 * own + np.sqrt(1.0 - 0.81) * far.queries
    np.testing.assert_allclose(near.queries, expected, atol=1e-6)
    assert not np.array_equal(near.rows, plant(vectors, 9, 0.1, seed=5).rows)


def test_no_row_is_taken_twice_and_no_zero_vector() -> None:
    vectors = directions(20, 3)
    vectors[::2] = 0.0
    assert sorted(plant(vectors, 10, 0.5).rows.tolist()) == list(range(1, 20, 2))


def test_one_dimension_has_no_other_direction() -> None:
    vectors = np.array([[2.0], [-3.0]], dtype=np.float32)
    planted = plant(vectors, 2, 0)
    np.testing.assert_array_equal(planted.queries[:, 0], np.sign(vectors[planted.rows, 0]))
    with pytest.raises(DataError, match=r"strength is 0.5; permitted with 1 dimension: 0"):
        plant(vectors, 1, 0.5)


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(n_rows: int) -> int:
        vectors = directions(n_rows, 128)
        tracemalloc.start()
        plant(vectors, 50, 0.2)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(60_000) - peak(20_000) < 40_000 * 32  # ids and flags; a row of vectors is 512 bytes


OK = directions(4, 3)
ONE_BAD = OK.copy()
ONE_BAD[2, 1] = np.nan


@pytest.mark.parametrize(
    ("vectors", "n_queries", "strength", "says"),
    [
        (OK, 0, 0.5, r"n_queries is 0; permitted: whole numbers, 1 to 4 \(the rows"),
        (OK, 5, 0.5, "n_queries is 5; permitted: whole numbers, 1 to 4"),
        (OK, 1.0, 0.5, "n_queries is 1.0; permitted: whole numbers"),
        (OK, 1, -0.1, "strength is -0.1; permitted: 0"),
        (OK, 1, 1.1, "strength is 1.1; permitted: 0"),
        (OK, 1, np.nan, "strength is nan; permitted: 0"),
        (OK[0], 1, 0.5, r"vectors: shape \(3,\), dtype float32; permitted: real numbers"),
        (OK[:0], 1, 0.5, r"vectors: shape \(0, 3\)"),
        (OK * 0, 1, 0.5, "every row is a zero vector"),
        (ONE_BAD, 1, 0.5, r"row 2 \(counted from 0\) has NaN or an infinity"),
    ],
)
def test_what_cannot_be_planted_is_refused(
    vectors: Any, n_queries: Any, strength: float, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        plant(vectors, n_queries, strength)
