"""k-means as an IVFFlat build runs it, fast enough to try many numbers of clusters.

pgvector seeds with k-means++ and iterates to convergence on a sample (src/ivfkmeans.c). A few of
Lloyd's iterations, all of them on the whole sample, give the same recall; on parts of the sample
they do not, because centroids fit the rows that they see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError

BLOCK_ROWS = 4096
SEED_DIM = 64
SEED_ROWS_PER_CLUSTER = 8
"""k-means++ runs on so few rows, projected to so few dimensions: it is there for the spread."""

Vectors = NDArray[np.float32]


def kmeans(
    sample: Vectors,
    clusters: int,
    *,
    spherical: bool,
    rng: np.random.Generator,
    iterations: int,
) -> Vectors:
    """Return centroids, shape (clusters, dim), of a sample of shape (n_rows, dim).

    With `spherical` rows and centroids are taken as directions, as pgvector does for cosine and
    inner product. Lloyd's iterations; an empty cluster starts again at a random row.
    """
    if not 1 <= clusters <= len(sample):
        raise DataError(f"{clusters} clusters of {len(sample)} rows; give 1 to {len(sample)}.")
    centroids = _spread(sample, clusters, rng)
    if spherical:
        centroids = _directions(centroids)
    for _ in range(iterations):
        labels = assign(sample, centroids, spherical=spherical)
        centroids = _means(sample, labels, clusters, rng)
        if spherical:
            centroids = _directions(centroids)
    return centroids


def assign(rows: Vectors, centroids: Vectors, *, spherical: bool) -> NDArray[np.int32]:
    """Return the nearest centroid of each row, shape (n_rows,), a block of rows at a time."""
    labels = np.empty(len(rows), dtype=np.int32)
    for first in range(0, len(rows), BLOCK_ROWS):
        block = rows[first : first + BLOCK_ROWS]
        scores = nearness(block, centroids, spherical=spherical)
        labels[first : first + len(block)] = scores.argmax(axis=1)
    return labels


def nearness(rows: Vectors, centroids: Vectors, *, spherical: bool) -> Vectors:
    """Return a score, higher is nearer, of each row for each centroid, (n_rows, clusters).

    The inner product for directions; otherwise x.c - |c|^2 / 2, which orders the centroids of a
    row as their Euclidean distances do.
    """
    scores = rows @ centroids.T
    if not spherical:
        scores -= np.einsum("ij,ij->i", centroids, centroids) / np.float32(2)
    return scores


def _spread(sample: Vectors, clusters: int, rng: np.random.Generator) -> Vectors:
    """Choose rows far from each other: k-means++, Arthur & Vassilvitskii 2007."""
    rows = min(len(sample), max(SEED_ROWS_PER_CLUSTER * clusters, 1024))
    chosen_from = rng.choice(len(sample), rows, replace=False)
    points = sample[chosen_from]
    if points.shape[1] > SEED_DIM:
        points = points @ rng.standard_normal((points.shape[1], SEED_DIM), dtype=np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    chosen = np.empty(clusters, dtype=np.intp)
    nearest = np.full(rows, np.inf, dtype=np.float32)
    chosen[0] = rng.integers(rows)
    for number in range(1, clusters):
        last = chosen[number - 1]
        to_last = squares + squares[last] - 2 * (points @ points[last])
        np.minimum(nearest, np.maximum(to_last, 0), out=nearest)
        nearest[last] = 0
        chosen[number] = _drawn(nearest, rng)
    return sample[chosen_from[chosen]]


def _drawn(weights: Vectors, rng: np.random.Generator) -> int:
    cumulative = np.cumsum(weights, dtype=np.float64)
    if cumulative[-1] <= 0:  # every row equals a chosen one
        return int(rng.integers(len(weights)))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _means(
    rows: Vectors, labels: NDArray[np.int32], clusters: int, rng: np.random.Generator
) -> Vectors:
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=clusters))
    means = np.empty((clusters, rows.shape[1]), dtype=np.float32)
    first = 0
    for number, end in enumerate(ends):
        members = order[first:end] if end > first else rng.integers(len(rows), size=1)
        means[number] = rows[members].mean(axis=0)
        first = end
    return means


def _directions(centroids: Vectors) -> Vectors:
    lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
    return np.asarray(centroids / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
