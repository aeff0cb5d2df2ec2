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
from resume_lab.vectors.kmeans import (
    assign,
    centroids_of,
    kmeans,
    nearness,
    to_directions,
)
from resume_lab.vectors.metric import Metric

MIN_SAMPLE_ROWS = 10_000
SAMPLE_ROWS_PER_LIST = 50
"""pgvector's k-means sees max(10000, 50 * lists) rows (src/ivfbuild.c)."""

SIZING_ROWS = 3_000
"""Random rows of the table, from which the sizes of the lists are estimated."""

REDUCED_DIM = 128
REDUCTION_ROWS = 5_000
MIN_EXPLAINED = 0.5
"""Share of the variance that the reduced sample keeps, or it is not used.

Only k-means runs on it. The centroids are then the means of all dimensions: they lean to the rows
that made them, in the directions left out too, and recall with few probes shows that.
"""

MAX_STARTS = 4
MAX_STARTS_OF_FEW_ROWS = 8
MAX_PRODUCTS = 4e10
"""k-means starts again with other seeds while the products of all starts stay below this.

pgvector's own seed is not fixed, so one build is a draw; the mean of several starts predicts the
mean of several builds. A pass takes rows * lists * dim products. Samples of fewer than
MIN_SAMPLE_ROWS cost least and vary most.
"""

BLOCK_ROWS = 512
BLOCK_QUERIES = 256

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

    `vectors` has shape (n_rows, dim), `queries` (n_queries, dim), `truth.ids` (n_queries, k).
    Memory beyond them: the sample, max(10000, 50 * most lists) rows, and a tenth of it for the
    reduced one; n_queries * k neighbours; blocks. At 1,000,000 x 1536 with up to 4,000 lists, and
    200 queries, that is 1.5 GB.
    """
    rows = len(vectors)
    for value in lists:
        if not 1 <= value <= rows:
            raise DataError(f"lists is {value}; with {rows:,} rows it can be 1 to {rows:,}.")
    rng = np.random.default_rng(seed)
    parts = _parts(vectors, queries, truth, max(lists, default=1), metric, rng)
    return [_curve(parts, value, rng) for value in lists]


@dataclass(frozen=True, eq=False)
class _Parts:
    """What every curve is computed from, all of it in random order.

    `reduced` is the sample in as few dimensions as k-means needs, `sizing` other random rows.
    """

    sample: Vectors
    reduced: Vectors
    sizing: Vectors
    neighbours: Vectors
    queries: Vectors
    rows: int
    spherical: bool


def _parts(
    vectors: Vectors,
    queries: Vectors,
    truth: Neighbours,
    most_lists: int,
    metric: Metric,
    rng: np.random.Generator,
) -> _Parts:
    rows = len(vectors)
    spherical = metric is not Metric.L2
    chosen = rng.choice(rows, _sample_rows(rows, most_lists), replace=False)
    sizing = rng.choice(rows, min(rows, SIZING_ROWS), replace=False)
    sample = _taken(vectors, chosen, spherical)
    basis = _reduction(sample[:REDUCTION_ROWS], rng)
    return _Parts(
        sample,
        sample if basis is None else sample @ basis,
        _taken(vectors, sizing, spherical),
        _taken(vectors, truth.ids.ravel(), spherical).reshape(*truth.ids.shape, -1),
        _taken(queries, np.arange(len(queries)), spherical),
        rows,
        spherical,
    )


def _sample_rows(rows: int, lists: int) -> int:
    return min(rows, max(MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_LIST * lists))


def _curve(parts: _Parts, lists: int, rng: np.random.Generator) -> Curve:
    few = len(parts.sample) < MIN_SAMPLE_ROWS
    most_starts = MAX_STARTS_OF_FEW_ROWS if few else MAX_STARTS
    curves: list[Curve] = []
    left = MAX_PRODUCTS
    while len(curves) < most_starts:
        centroids, products = _centroids(parts, lists, rng)
        curves.append(_curve_of(parts, centroids))
        left -= products
        if products > left:
            break
    return Curve(
        lists,
        np.mean([curve.recall for curve in curves], axis=0),
        np.mean([curve.rows_scanned for curve in curves], axis=0),
        float(np.mean([curve.imbalance for curve in curves])),
    )


def _centroids(parts: _Parts, lists: int, rng: np.random.Generator) -> tuple[Vectors, int]:
    """Return what one build may find, (lists, dim), and the products that it took."""
    size = _sample_rows(len(parts.sample), lists)
    first = int(rng.integers(len(parts.sample) - size + 1))
    part = slice(first, first + size)
    sample, reduced = parts.sample[part], parts.reduced[part]
    spherical = parts.spherical
    found = kmeans(reduced, lists, spherical=spherical, rng=rng)
    products = found.passes * reduced.size * lists
    if parts.reduced is parts.sample:
        return found.centroids, products
    return centroids_of(sample, found.labels, lists, spherical=spherical, rng=rng), products


def _curve_of(parts: _Parts, centroids: Vectors) -> Curve:
    """Return the curve of one set of centroids, (lists, dim)."""
    lists, spherical = len(centroids), parts.spherical
    sizes = np.bincount(assign(parts.sizing, centroids, spherical=spherical), minlength=lists)
    n_queries, k, dim = parts.neighbours.shape
    found, scanned = np.zeros(lists), np.zeros(lists)
    for first in range(0, n_queries, BLOCK_QUERIES):
        block = slice(first, first + BLOCK_QUERIES)
        neighbours = parts.neighbours[block].reshape(-1, dim)
        held_by = assign(neighbours, centroids, spherical=spherical).reshape(-1, k)
        scores = nearness(parts.queries[block], centroids, spherical=spherical)
        order = np.argsort(-scores, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(lists)[None, :], axis=1)
        found_at = np.take_along_axis(ranks, held_by, axis=1)
        found += np.bincount(found_at.ravel(), minlength=lists)
        scanned += sizes[order].sum(axis=0)
    return Curve(
        lists,
        found.cumsum() / (n_queries * k),
        scanned.cumsum() * parts.rows / (n_queries * len(parts.sizing)),
        _imbalance(sizes, parts.rows),
    )


def _imbalance(sizes: NDArray[np.intp], rows: int) -> float:
    """Return the imbalance of all rows from the sizes of the lists among some of them.

    Two different rows fall into one list as often among some as among all; chance alone makes
    the squares of small sizes too large.
    """
    n = int(sizes.sum())
    together = float((sizes * (sizes - 1)).sum()) / max(1, n * (n - 1))
    return max(1.0, len(sizes) * (together * (rows - 1) + 1) / rows)


def _taken(rows: Vectors, chosen: NDArray[np.intp], spherical: bool) -> Vectors:
    """Return the chosen rows as k-means sees them: directions for cosine and inner product."""
    taken = np.empty((len(chosen), rows.shape[1]), dtype=np.float32)
    for first in range(0, len(chosen), BLOCK_ROWS):
        block = taken[first : first + BLOCK_ROWS]
        block[:] = rows[chosen[first : first + BLOCK_ROWS]]
        if spherical:
            to_directions(block)
    return taken


def _reduction(sample: Vectors, rng: np.random.Generator) -> Vectors | None:
    """Return the first principal directions, (dim, REDUCED_DIM), or None where they lose too much.

    Not centred: the mean is a direction like any other, but it explains no variance. Found by
    subspace iteration, Halko, Martinsson & Tropp 2011.
    """
    rows, dim = sample.shape
    if min(rows, dim) < 2 * REDUCED_DIM:
        return None
    directions = rng.standard_normal((dim, REDUCED_DIM + 32), dtype=np.float32)
    for _ in range(3):
        directions = np.linalg.qr(sample.T @ (sample @ directions))[0]
    inside = sample @ directions
    _, rotation = np.linalg.eigh(inside.T @ inside)  # in ascending order
    basis = directions @ rotation[:, -REDUCED_DIM:]
    if _variance(sample @ basis) < MIN_EXPLAINED * _variance(sample):
        return None
    return np.asarray(basis, dtype=np.float32)


def _variance(rows: Vectors) -> float:
    mean = rows.mean(axis=0)
    return float(np.einsum("ij,ij->", rows, rows) / len(rows) - mean @ mean)
