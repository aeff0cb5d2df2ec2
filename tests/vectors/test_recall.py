import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resume_lab.errors import DataError
from resume_lab.vectors import paired_difference, recall_at_k, recall_tie_aware, summarise

SHARES = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0.0, 1.0))


def test_recall_is_the_share_of_true_ids_found() -> None:
    found = np.array([[1, 2, 3, 9], [5, 6, 7, 8], [-1, -1, -1, -1]])
    truth = np.array([[1, 2, 3, 4], [8, 7, 6, 5], [1, 2, 3, 4]])
    assert recall_at_k(found, truth).tolist() == [0.75, 1.0, 0.0]


def test_an_id_found_twice_counts_once() -> None:
    assert recall_at_k(np.array([[1, 1]]), np.array([[1, 2]])).tolist() == [0.5]


def test_a_missing_row_never_counts() -> None:
    assert recall_at_k(np.array([[-1, 2]]), np.array([[-1, 2]])).tolist() == [0.5]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 8), k=st.integers(1, 12))
def test_recall_lies_in_0_1_ignores_order_and_is_1_for_truth(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permuted(np.tile(np.arange(2 * k), (n, 1)), axis=1)[:, :k]
    found = rng.integers(-1, 2 * k, (n, k))
    recall = recall_at_k(found, truth)
    assert ((recall >= 0) & (recall <= 1)).all()
    np.testing.assert_array_equal(recall, recall_at_k(rng.permuted(found, axis=1), truth))
    assert (recall_at_k(rng.permuted(truth, axis=1), truth) == 1.0).all()


def test_a_tie_with_the_kth_distance_counts() -> None:
    found = np.array([[0.5, 1.0, 1.0000005, 1.00001], [0.0, 0.1, np.nan, np.inf]])
    assert recall_tie_aware(found, np.array([1.0, 0.1])).tolist() == [0.75, 0.5]


def test_the_margin_is_relative_for_negative_distances_too() -> None:
    assert recall_tie_aware(np.array([[-9.999995, -9.9]]), np.array([-10.0])).tolist() == [0.5]


def test_a_kth_distance_of_zero_allows_for_float64_rounding() -> None:
    assert recall_tie_aware(np.array([[2.2e-16, 1e-9]]), np.array([0.0])).tolist() == [0.5]


@given(SHARES)
@settings(deadline=None, max_examples=50)
def test_the_interval_contains_the_mean(per_query: np.ndarray) -> None:
    s = summarise(per_query, resamples=100)
    assert 0.0 <= s.low <= s.mean <= s.high <= 1.0 + 1e-12
    assert s.n_queries == len(per_query)


def test_perfect_recall_has_the_rule_of_three() -> None:
    s = summarise(np.ones(300))
    assert (s.mean, s.low, s.high, s.p5, s.min) == (1.0, pytest.approx(0.99), 1.0, 1.0, 1.0)
    assert summarise(np.ones(2)).low == 0.0


def test_equal_recall_below_1_has_room_on_both_sides() -> None:
    s = summarise(np.full(100, 0.5))
    assert (s.low, s.high) == (pytest.approx(0.485), pytest.approx(0.515))


def test_the_interval_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).uniform(size=400)
    s = summarise(values)
    half = 1.96 * values.std() / 20
    assert s.low == pytest.approx(values.mean() - half, abs=0.003)
    assert s.high == pytest.approx(values.mean() + half, abs=0.003)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).uniform(size=50)
    assert summarise(values, seed=3) == summarise(values, seed=3)
    assert summarise(values, seed=3) != summarise(values, seed=4)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0.3, 1.0, 200)
    b = a - rng.uniform(0.0, 0.2, 200)
    d = paired_difference(a, b)
    assert d.low < d.mean < d.high
    assert d.mean == pytest.approx((a - b).mean())
    assert d.high - d.low < 0.03


def test_no_difference_at_all_still_leaves_room() -> None:
    d = paired_difference(np.ones(300), np.ones(300))
    assert (d.mean, d.low, d.high) == (0.0, pytest.approx(-0.01), pytest.approx(0.01))


def test_wrong_input_is_refused() -> None:
    ids = np.zeros((2, 3), dtype=np.int64)
    with pytest.raises(DataError, match="permitted: the same"):
        recall_at_k(ids, ids[:, :2])
    with pytest.raises(DataError, match="permitted:"):
        recall_tie_aware(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(DataError, match="not empty"):
        summarise(np.zeros(0))
    with pytest.raises(DataError, match=r"query 1 .* recall nan; permitted: 0 to 1"):
        summarise(np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="confidence is 95"):
        summarise(np.ones(3), confidence=95)
    with pytest.raises(DataError, match="same queries"):
        paired_difference(np.ones(3), np.ones(2))


def test_one_imperfect_query_does_not_give_a_better_lower_bound_than_none() -> None:
    perfect = np.ones(200)
    nearly = np.where(np.arange(200) == 0, 0.9, 1.0)
    assert summarise(nearly).low < summarise(perfect).low
