"""The recall of an IVFFlat index at every probes at once, before any index exists.

IVFFlat finds a true neighbour exactly when the list that holds it is among the `probes` lists
nearest to the query. So with centroids as a build would place them, recall@k at all probes is the
distribution of one number: the rank, for its query, of the list that holds a true neighbour. The
exact neighbours, their lists and one (n_queries, lists) matrix of scores are all it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors.exact import Neighbours
from resume_lab.vectors.kmeans import assign, kmeans, nearness
from resume_lab.vectors.metric import Metric

MIN_SAMPLE_ROWS = 10_000
SAMPLE_ROWS_PER_LIST = 50
"""pgvector's k-means sees max(10000, 50 * lists) rows (src/ivfbuild.c)."""

REDUCED_DIM = 256
MIN_EXPLAINED = 0.7
"""Share of the sum of squares that the reduced vectors keep, or they are not used."""

ITERATIONS = 10
ITERATIONS_WITHOUT_STRUCTURE = 4
"""Enough where no few directions explain the rows: there is nothing for centroids to find."""

RESTART_ROWS_LISTS = 8_000_000
MAX_RESTARTS = 8
"""k-means starts again with other seeds while rows * lists of all starts stay below this.

pgvector's own seed is not fixed, so one build is a draw; the mean of several starts predicts the
mean of several builds. Few lists vary most and cost least.
"""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Curve:
    """What an index of `lists` lists is predicted to do, for probes 1 to lists.

    `recall` and `rows_scanned` have shape (lists,): recall@k as a share, and the mean number of
    rows a query reads. `imbalance` is lists * sum(size^2) / rows^2: 1 for lists of one size, and
    the factor by which uneven lists raise the rows read (as in FAISS's `imbalance_factor`).
    """

    lists: int
    recall: NDArray[np.float64] = field(repr=False)
    rows_scanned: NDArray[np.float64] = field(repr=False)
    imbalance: float

    def probes_for(self, recall: float) -> int | None:
        """Return the fewest probes with at least this recall, None if even all of them fall short.

        With every list read recall is 1, so None can only come from rounding.
        """
        reaching = np.flatnonzero(self.recall >= recall)
        return int(reaching[0]) + 1 if len(reaching) else None


def predict_curves(
    vectors: Vectors,
    queries: Vectors,
    truth: Neighbours,
    lists: Sequence[int],
    *,
    metric: Metric = Metric.COSINE,
    seed: int = 0,
) -> list[Curve]:
    """Predict the curve of each of `lists` from one pass over queries and exact neighbours.

    `vectors` has shape (n_rows, dim), `queries` (n_queries, dim), `truth.ids` (n_queries, k). Each
    vector is read once for the sample; memory beyond the vectors is the largest sample.
    """
    rows = len(vectors)
    for value in lists:
        if not 1 <= value <= rows:
            raise DataError(f"lists is {value}; with {rows:,} rows it can be 1 to {rows:,}.")
    rng = np.random.default_rng(seed)
    spherical = metric is not Metric.L2
    largest = min(rows, max(MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_LIST * max(lists, default=1)))
    sample = _prepared(vectors[rng.choice(rows, largest, replace=False)], spherical)
    neighbours = _prepared(vectors[truth.ids.ravel()], spherical)
    asked = _prepared(queries, spherical)
    basis = _reduction(sample[:MIN_SAMPLE_ROWS], rng)
    if basis is not None:
        sample, neighbours, asked = sample @ basis, neighbours @ basis, asked @ basis
    structure = basis is not None or sample.shape[1] < 2 * REDUCED_DIM
    parts = _Parts(
        sample,
        neighbours.reshape(*truth.ids.shape, -1),
        asked,
        rows,
        spherical,
        ITERATIONS if structure else ITERATIONS_WITHOUT_STRUCTURE,
    )
    return [_curve(parts, value, rng) for value in lists]


@dataclass(frozen=True, eq=False)
class _Parts:
    """What every curve is computed from, reduced to fewer dimensions where that is safe."""

    sample: Vectors
    neighbours: Vectors
    queries: Vectors
    rows: int
    spherical: bool
    iterations: int


def _curve(parts: _Parts, lists: int, rng: np.random.Generator) -> Curve:
    size = min(len(parts.sample), max(MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_LIST * lists))
    restarts = max(1, min(MAX_RESTARTS, RESTART_ROWS_LISTS // (size * lists)))
    starts = [_one_start(parts, lists, size, rng) for _ in range(restarts)]
    recall, rows_scanned, imbalance = (np.mean(part, axis=0) for part in zip(*starts, strict=True))
    return Curve(lists, recall, rows_scanned, float(imbalance))


def _one_start(
    parts: _Parts, lists: int, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    sample = parts.sample[rng.permutation(len(parts.sample))[:size]]
    spherical = parts.spherical
    centroids = kmeans(sample, lists, spherical=spherical, rng=rng, iterations=parts.iterations)
    n_queries, k, dim = parts.neighbours.shape
    held_by = assign(parts.neighbours.reshape(-1, dim), centroids, spherical=spherical)
    scores = nearness(parts.queries, centroids, spherical=spherical)
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(lists)[None, :], axis=1)
    found_at = np.take_along_axis(ranks, held_by.reshape(n_queries, k), axis=1)
    recall = np.bincount(found_at.ravel(), minlength=lists).cumsum() / found_at.size
    sizes = np.bincount(assign(sample, centroids, spherical=spherical), minlength=lists)
    share = sizes / sizes.sum()
    rows_scanned = share[order].cumsum(axis=1).mean(axis=0) * parts.rows
    return recall, rows_scanned, float(lists * (share**2).sum())


def _prepared(rows: Vectors, spherical: bool) -> Vectors:
    """Return rows as k-means sees them: directions for cosine and inner product."""
    if not spherical:
        return np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def _reduction(sample: Vectors, rng: np.random.Generator) -> Vectors | None:
    """Return the first principal directions, (dim, REDUCED_DIM), or None where they lose too much.

    Not centred: the mean is a direction like any other. Found by subspace iteration, Halko,
    Martinsson & Tropp 2011.
    """
    dim = sample.shape[1]
    if dim < 2 * REDUCED_DIM or len(sample) < 2 * REDUCED_DIM:
        return None
    directions = rng.standard_normal((dim, REDUCED_DIM + 32), dtype=np.float32)
    for _ in range(3):
        directions = np.linalg.qr(sample.T @ (sample @ directions))[0]
    _, values, rotation = np.linalg.svd(sample @ directions, full_matrices=False)
    kept = float((values[:REDUCED_DIM] ** 2).sum() / np.einsum("ij,ij->", sample, sample))
    if kept < MIN_EXPLAINED:
        return None
    return np.asarray(directions @ rotation.T[:, :REDUCED_DIM], dtype=np.float32)
