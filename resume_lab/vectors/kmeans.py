"""k-means as an IVFFlat build runs it, fast enough to try many numbers of clusters.

pgvector seeds with k-means++ and iterates to convergence on a sample (src/ivfkmeans.c). Lloyd's
iterations until hardly a row changes its cluster give the same recall, if all of them see the
whole sample: centroids fit the rows that they see. Few clusters of structured rows need most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError

BLOCK_ROWS = 4096
SEED_DIM = 64
SEED_ROWS_PER_CLUSTER = 8
"""k-means++ runs on so few rows, projected to so few dimensions: it is there for the spread."""

MAX_PASSES = 40
SETTLED = 0.01
CHECKED_ROWS = 1024
"""Passes end when at most this share of so many rows would still change its cluster.

Few clusters of structured rows need 20 passes and more, rows without structure one or two.
"""

Vectors = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Clusters:
    """The cluster of each row, shape (n_rows,), and the means of these clusters.

    `centroids` has shape (clusters, dim); `passes` is how often all rows were assigned.
    """

    centroids: Vectors
    labels: Labels
    passes: int


def kmeans(
    sample: Vectors,
    clusters: int,
    *,
    spherical: bool,
    rng: np.random.Generator,
    passes: int = MAX_PASSES,
) -> Clusters:
    """Cluster a sample of shape (n_rows, dim), whose rows are in random order.

    With `spherical` rows and centroids are taken as directions, as pgvector does for cosine and
    inner product. Lloyd's iterations, at most `passes`; an empty cluster starts again at a random
    row. Memory beyond the sample: arrays of (clusters, dim), and blocks of BLOCK_ROWS.
    """
    if not 1 <= clusters <= len(sample):
        raise DataError(f"{clusters} clusters of {len(sample)} rows; give 1 to {len(sample)}.")
    centroids = _spread(sample, clusters, rng)
    if spherical:
        to_directions(centroids)
    labels = assign(sample, centroids, spherical=spherical)
    sums = _sums(sample, np.arange(len(sample)), labels, clusters)
    centroids = _centroids(sums, sample, labels, spherical=spherical, rng=rng)
    done = 1
    while done < passes and not _settled(sample, labels, centroids, spherical=spherical):
        before, labels = labels, assign(sample, centroids, spherical=spherical)
        moved = np.flatnonzero(labels != before)
        sums += _sums(sample, moved, labels, clusters)
        sums -= _sums(sample, moved, before, clusters)
        centroids = _centroids(sums, sample, labels, spherical=spherical, rng=rng)
        done += 1
    return Clusters(centroids, labels, done)


def centroids_of(
    rows: Vectors, labels: Labels, clusters: int, *, spherical: bool, rng: np.random.Generator
) -> Vectors:
    """Return the mean, or mean direction, of the rows of each cluster, (clusters, dim)."""
    sums = _sums(rows, np.arange(len(rows)), labels, clusters)
    return _centroids(sums, rows, labels, spherical=spherical, rng=rng)


def assign(rows: Vectors, centroids: Vectors, *, spherical: bool) -> Labels:
    """Return the nearest centroid of each row, shape (n_rows,), a block of rows at a time."""
    labels = np.empty(len(rows), dtype=np.int32)
    scores = np.empty((min(BLOCK_ROWS, len(rows)), len(centroids)), dtype=np.float32)
    for first in range(0, len(rows), BLOCK_ROWS):
        block = rows[first : first + BLOCK_ROWS]
        nearest = nearness(block, centroids, spherical=spherical, out=scores[: len(block)])
        labels[first : first + len(block)] = nearest.argmax(axis=1)
    return labels


def nearness(
    rows: Vectors, centroids: Vectors, *, spherical: bool, out: Vectors | None = None
) -> Vectors:
    """Return a score, higher is nearer, of each row for each centroid, (n_rows, clusters).

    The inner product for directions; otherwise x.c - |c|^2 / 2, which orders the centroids of a
    row as their Euclidean distances do.
    """
    scores = np.matmul(rows, centroids.T, out=out)
    if not spherical:
        scores -= np.einsum("ij,ij->i", centroids, centroids) / np.float32(2)
    return scores


def to_directions(rows: Vectors) -> None:
    """Divide each row by its length, in place; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]


def _spread(sample: Vectors, clusters: int, rng: np.random.Generator) -> Vectors:
    """Choose rows far from each other: k-means++, Arthur & Vassilvitskii 2007."""
    rows = min(len(sample), max(SEED_ROWS_PER_CLUSTER * clusters, 1024))
    start = rng.integers(len(sample) - rows + 1)
    candidates = points = sample[start : start + rows]
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
    return candidates[chosen]


def _drawn(weights: Vectors, rng: np.random.Generator) -> int:
    cumulative = np.cumsum(weights, dtype=np.float64)
    if cumulative[-1] <= 0:  # every row equals a chosen one
        return int(rng.integers(len(weights)))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _settled(sample: Vectors, labels: Labels, centroids: Vectors, *, spherical: bool) -> bool:
    now = assign(sample[:CHECKED_ROWS], centroids, spherical=spherical)
    return bool(np.mean(now != labels[: len(now)]) <= SETTLED)


def _sums(rows: Vectors, chosen: NDArray[np.intp], labels: Labels, clusters: int) -> Vectors:
    """Return the sum of the chosen rows of each cluster, gathering at most a block at a time."""
    of_chosen = labels[chosen]
    order = chosen[np.argsort(of_chosen, kind="stable")]
    sizes = np.bincount(of_chosen, minlength=clusters)
    ends = np.cumsum(sizes)
    sums = np.zeros((clusters, rows.shape[1]), dtype=np.float32)
    for number in np.flatnonzero(sizes):
        end = ends[number]
        for first in range(end - sizes[number], end, BLOCK_ROWS):
            members = order[first : min(end, first + BLOCK_ROWS)]
            sums[number] += rows[members].sum(axis=0)
    return sums


def _centroids(
    sums: Vectors, rows: Vectors, labels: Labels, *, spherical: bool, rng: np.random.Generator
) -> Vectors:
    """Return the means, or their directions; for an empty cluster a random row."""
    sizes = np.bincount(labels, minlength=len(sums))
    centroids = sums / np.maximum(sizes, 1).astype(np.float32)[:, None]
    empty = np.flatnonzero(sizes == 0)
    centroids[empty] = rows[rng.integers(len(rows), size=len(empty))]
    if spherical:
        to_directions(centroids)
    return centroids
