import numpy as np
import pytest
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors.kmeans import BLOCK_ROWS, assign, centroids_of, kmeans, nearness


def _blobs(sizes: list[int], *, spread: float = 0.05) -> NDArray[np.float32]:
    """Rows around the axes 0, 1, 2, ... at distance 10 from the origin."""
    rng = np.random.default_rng(0)
    rows = [
        10 * np.eye(8)[axis] + spread * rng.standard_normal((size, 8))
        for axis, size in enumerate(sizes)
    ]
    return np.concatenate(rows).astype(np.float32)


@pytest.mark.parametrize("spherical", [True, False])
def test_far_blobs_are_found_whole(spherical: bool) -> None:
    rows = _blobs([40, 25, 60])
    rng = np.random.default_rng(1)
    found = kmeans(rows, 3, spherical=spherical, rng=rng)
    labels = assign(rows, found.centroids, spherical=spherical)
    assert np.array_equal(labels, found.labels)
    for start, stop in [(0, 40), (40, 65), (65, 125)]:
        assert len(set(labels[start:stop])) == 1
    assert len(set(labels)) == 3


def test_a_centroid_is_the_mean_of_its_rows() -> None:
    rows = np.array([[0, 0], [2, 0], [100, 0], [104, 0]], dtype=np.float32)
    found = kmeans(rows, 2, spherical=False, rng=np.random.default_rng(0))
    assert sorted(found.centroids[:, 0].tolist()) == [1.0, 102.0]


def test_spherical_centroids_have_unit_length_and_length_of_rows_does_not_matter() -> None:
    rows = np.array([[1, 0], [50, 1], [0, 1], [1, 60]], dtype=np.float32)
    rng = np.random.default_rng(0)
    centroids = kmeans(rows, 2, spherical=True, rng=rng).centroids
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1)
    labels = assign(rows, centroids, spherical=True)
    assert labels[0] == labels[1] != labels[2] == labels[3]


def test_equal_rows_and_as_many_clusters_as_rows_do_not_break_it() -> None:
    equal = np.ones((20, 4), dtype=np.float32)
    found = kmeans(equal, 5, spherical=False, rng=np.random.default_rng(0))
    assert np.allclose(found.centroids, 1)
    rows = _blobs([1, 1, 1, 1])
    found = kmeans(rows, 4, spherical=False, rng=np.random.default_rng(0))
    assert sorted(assign(rows, found.centroids, spherical=False)) == [0, 1, 2, 3]


@pytest.mark.parametrize("spherical", [True, False])
def test_centroids_are_the_means_of_the_labels_after_any_number_of_passes(spherical: bool) -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((2 * BLOCK_ROWS, 6)).astype(np.float32) + 1
    for passes in (1, 2, 5):
        found = kmeans(rows, 3, spherical=spherical, rng=rng, passes=passes)
        assert found.passes <= passes
        means = np.array([rows[found.labels == label].mean(axis=0) for label in range(3)])
        if spherical:
            means /= np.linalg.norm(means, axis=1, keepdims=True)
        assert np.allclose(found.centroids, means, atol=1e-4)
        again = centroids_of(rows, found.labels, 3, spherical=spherical, rng=rng)
        assert np.allclose(again, means, atol=1e-4)


def test_passes_end_when_no_row_changes_its_cluster() -> None:
    found = kmeans(_blobs([40, 40]), 2, spherical=False, rng=np.random.default_rng(0))
    assert found.passes == 1


def test_an_empty_cluster_gets_a_row() -> None:
    rows = _blobs([3, 3])
    labels = np.array([0, 0, 0, 2, 2, 2], dtype=np.int32)
    rng = np.random.default_rng(0)
    centroids = centroids_of(rows, labels, 3, spherical=False, rng=rng)
    assert (rows == centroids[1]).all(axis=1).any()


@pytest.mark.parametrize("clusters", [0, -1, 11])
def test_clusters_that_rows_cannot_fill_are_refused(clusters: int) -> None:
    with pytest.raises(DataError, match="give 1 to 10"):
        kmeans(
            np.ones((10, 2), np.float32),
            clusters,
            spherical=False,
            rng=np.random.default_rng(0),
        )


def test_assignment_is_to_the_nearest_centroid_over_any_number_of_blocks() -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((BLOCK_ROWS + 7, 5)).astype(np.float32)
    centroids = rng.standard_normal((9, 5)).astype(np.float32) * 3
    distances = np.linalg.norm(rows[:, None, :].astype(float) - centroids[None], axis=2)
    assert np.array_equal(assign(rows, centroids, spherical=False), distances.argmin(axis=1))
    angles = (rows @ centroids.T) / np.linalg.norm(centroids, axis=1)
    unit = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    assert np.array_equal(assign(rows, unit, spherical=True), angles.argmax(axis=1))


def test_nearness_orders_centroids_as_distances_do() -> None:
    row = np.array([[1, 2]], dtype=np.float32)
    centroids = np.array([[0, 0], [1, 1], [4, 2]], dtype=np.float32)  # at distances 2.24, 1, 3
    assert np.argsort(-nearness(row, centroids, spherical=False))[0].tolist() == [1, 0, 2]
