import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors import Kind, Metric, exact_neighbours, generate, ivf_model
from resume_lab.vectors.exact import Neighbours
from resume_lab.vectors.ivf_model import SIZING_ROWS, Curve, predict_curves
from resume_lab.vectors.kmeans import kmeans, nearness


def _blobs(sizes: list[int]) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    parts = [
        10 * np.eye(8)[axis] + 0.05 * rng.standard_normal((size, 8))
        for axis, size in enumerate(sizes)
    ]
    return np.concatenate(parts).astype(np.float32)


def _curves(
    rows: NDArray[np.float32],
    queries: NDArray[np.float32],
    lists: list[int],
    *,
    k: int = 5,
    metric: Metric = Metric.COSINE,
    seed: int = 0,
) -> list[Curve]:
    truth = exact_neighbours(rows, queries, k, metric)
    return predict_curves(rows, queries, truth, lists, metric=metric, seed=seed)


@pytest.mark.parametrize("metric", list(Metric))
def test_one_list_a_blob_finds_every_neighbour_with_one_probe(metric: Metric) -> None:
    rows = _blobs([30, 30, 30, 30])
    (curve,) = _curves(rows, rows[[3, 33, 63, 93]], [4], metric=metric)
    assert curve.recall.tolist() == [1, 1, 1, 1]
    assert np.allclose(curve.rows_scanned, [30, 60, 90, 120])
    assert curve.imbalance == pytest.approx(1)


def test_imbalance_is_the_factor_by_which_uneven_lists_raise_the_rows_read() -> None:
    rows = _blobs([10, 30])
    (curve,) = _curves(rows, rows[[1, 20]], [2], k=3)
    assert curve.imbalance == pytest.approx(2 * (0.25**2 + 0.75**2))
    assert curve.rows_scanned[0] == pytest.approx((10 + 30) / 2)


def test_imbalance_and_rows_read_of_a_large_table_come_from_some_of_its_rows() -> None:
    rows = _blobs([SIZING_ROWS, 2 * SIZING_ROWS, SIZING_ROWS])
    near = np.array([0, 1, 3]) * SIZING_ROWS
    (curve,) = _curves(rows, rows[near], [3], k=3)
    assert curve.imbalance == pytest.approx(3 * (0.25**2 + 0.5**2 + 0.25**2), rel=0.05)
    assert curve.rows_scanned[0] == pytest.approx(len(rows) / 3, rel=0.05)
    assert curve.rows_scanned[-1] == pytest.approx(len(rows))


def test_a_neighbour_in_the_second_nearest_list_is_found_with_two_probes() -> None:
    rows = np.array([[0, 0], [0.1, 0], [10, 0], [10.1, 0]], dtype=np.float32)
    query = np.array([[4.9, 0]], dtype=np.float32)  # nearest: 0.1, 0, 10; half of the lists has two
    (curve,) = _curves(rows, query, [2], k=3, metric=Metric.L2)
    assert curve.recall.tolist() == pytest.approx([2 / 3, 1])


@pytest.mark.parametrize("kind", list(Kind))
def test_curves_rise_to_recall_one_where_every_row_is_read(kind: Kind) -> None:
    rows = generate(kind, 1500, dim=32)
    queries = generate(kind, 20, dim=32, start=1500)
    for curve in _curves(rows, queries, [1, 7, 40]):
        assert curve.recall.shape == curve.rows_scanned.shape == (curve.lists,)
        assert (np.diff(curve.recall) >= 0).all()
        assert (np.diff(curve.rows_scanned) >= 0).all()
        assert curve.recall[-1] == 1
        assert curve.rows_scanned[-1] == pytest.approx(1500)
        assert curve.imbalance >= 1


def test_structure_needs_fewer_probes_than_none() -> None:
    needed = {}
    for kind in (Kind.CLUSTERED, Kind.RANDOM):
        rows, queries = generate(kind, 3000), generate(kind, 50, start=3000)
        (curve,) = _curves(rows, queries, [50], k=10)
        needed[kind] = curve.probes_for(0.9)
    assert needed[Kind.CLUSTERED] is not None
    assert needed[Kind.RANDOM] is not None
    assert 3 * needed[Kind.CLUSTERED] < needed[Kind.RANDOM]


def test_probes_for_a_recall_are_the_fewest_that_reach_it() -> None:
    curve = Curve(4, np.array([0.5, 0.8, 0.95, 1.0]), np.array([1.0, 2.0, 3.0, 4.0]), 1.0)
    assert [curve.probes_for(recall) for recall in (0.4, 0.8, 0.81, 0.96, 1.0)] == [1, 2, 3, 4, 4]


def test_the_same_seed_gives_the_same_curves() -> None:
    rows, queries = generate("clustered", 800, dim=16), generate("clustered", 9, dim=16, start=800)
    first, again = (_curves(rows, queries, [20], seed=5)[0] for _ in range(2))
    other = _curves(rows, queries, [20], seed=6)[0]
    assert np.array_equal(first.recall, again.recall)
    assert not np.array_equal(first.rows_scanned, other.rows_scanned)


@pytest.mark.parametrize("lists", [0, -3, 801])
def test_lists_that_the_rows_cannot_fill_are_refused(lists: int) -> None:
    rows = generate("random", 800, dim=8)
    with pytest.raises(DataError, match="it can be 1 to 800"):
        _curves(rows, rows[:3], [lists])


def _recall_in_all_dimensions(
    rows: NDArray[np.float32], queries: NDArray[np.float32], truth: Neighbours, lists: int
) -> NDArray[np.float64]:
    """Return recall at every probes by the definition, the mean of a few builds."""
    recall = np.zeros(lists)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for seed in range(4):
        built = kmeans(rows, lists, spherical=True, rng=np.random.default_rng(seed))
        order = np.argsort(-nearness(queries, built.centroids, spherical=True), axis=1)
        found = order[:, :, None] == built.labels[truth.ids][:, None, :]
        recall += found.sum(axis=(0, 2)).cumsum() / (4 * truth.ids.size)
    return recall


@pytest.mark.parametrize("rank", [16, 1024])
def test_fewer_dimensions_are_used_only_where_they_predict_the_same(rank: int) -> None:
    """Rows around a strong mean, which explains most of their length and no difference."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3100, rank)) @ np.eye(rank, 1024) / np.sqrt(rank)
    rows += 1.7 / np.sqrt(1024) + 0.1 * rng.standard_normal((3100, 1024)) / np.sqrt(1024)
    table, queries = np.split(rows.astype(np.float32), [3000])
    truth = exact_neighbours(table, queries, 10, Metric.COSINE)
    (curve,) = predict_curves(table, queries, truth, [60])
    expected = _recall_in_all_dimensions(table, queries, truth, 60)
    assert np.abs(curve.recall - expected).max() < 0.1
    assert expected[9] - expected[0] > 0.2  # a flat curve would prove nothing


@pytest.mark.parametrize("rank", [16, 1024])
def test_memory_beyond_the_vectors_is_the_sample_once_and_blocks(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf_model, "MAX_STARTS", 1)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((25_000, rank), dtype=np.float32)
    rows = rows @ rng.standard_normal((rank, 1024), dtype=np.float32)
    truth = Neighbours(rng.integers(len(rows), size=(20, 5)), np.zeros((20, 5)))
    tracemalloc.start()
    try:
        predict_curves(rows, rows[:20], truth, [1, 500])  # a sample of 25,000 rows
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows.nbytes < peak < 1.7 * rows.nbytes
