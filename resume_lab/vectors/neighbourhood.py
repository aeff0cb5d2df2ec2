"""How hard nearest-neighbour search is on these vectors, whatever the index.

The figures describe the neighbourhoods, not an index. What an index reads depends on how the rows
cluster, too, and none of them tells that: with contrasts of 2.2 and 2.3 at the 11th neighbour one
data set was predicted to need 2 % of its rows for a recall of .95, another 33 %. The curves of
`ivf_model` tell. Only the bad end is certain: where no row is much nearer than the average, nothing
helps.

One scale serves all metrics. Cosine distance is 1 - cos. Inner product becomes 1 - q.v / (|q| M),
M the largest length of a row, which orders the rows alike and equals the cosine distance for unit
vectors (Neyshabur & Srebro, On symmetric and asymmetric LSHs for inner product search, ICML 2015).
Both are half the square of a Euclidean distance. Euclidean distance (l2) stays as it is, so for the
same unit vectors its contrasts are the square roots of those under cosine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors.difficulty import Difficulty
from resume_lab.vectors.exact import Neighbours, exact_neighbours
from resume_lab.vectors.metric import Metric

HUB_K = 10
HUB_SAMPLE_ROWS = 2048
"""Hubness: Radovanovic's k, and a sample whose self-join takes a fraction of a second."""

_BLOCK_ELEMENTS = 1 << 20  # float64 elements in hand at once: 8 MiB

_Floats = NDArray[np.floating[Any]]
_F64 = NDArray[np.float64]


def difficulty_of(
    vectors: _Floats,
    queries: _Floats,
    neighbours: Neighbours,
    metric: Metric = Metric.COSINE,
    *,
    seed: int = 0,
) -> Difficulty:
    """Describe vectors (n_rows, dim) by the exact neighbours of queries (n_queries, dim) in them.

    The figures that need a rank take the last of the neighbours given: ask for k + 1 of them to
    learn whether the k-th can be told from the next. Queries that are rows themselves find
    themselves; take held-out ones. Values are taken as float32. Peak memory does not depend on
    n_rows, but for about 24 bytes a row. seed chooses the sample for hubness.
    """
    metric = Metric(metric)
    _check(vectors, queries, neighbours)
    survey = _survey(vectors, "vectors")
    asked = _survey(queries, "queries").lengths
    noise = math.sqrt(vectors.shape[1]) * 2.0**-24
    near = _near(neighbours.distances, asked, survey, metric)
    mean = _mean_distances(vectors, queries, asked, survey, metric)
    if metric != Metric.L2:
        near, mean = _without_noise(near, noise), _without_noise(mean, noise)
    known = np.isfinite(near).all(axis=1) & np.isfinite(mean)
    near, mean = near[known], mean[known]
    lengths = survey.lengths
    return Difficulty(
        metric=metric,
        n_rows=len(vectors),
        dim=vectors.shape[1],
        n_queries=len(queries),
        n_neighbours=near.shape[1],
        contrast=_median(_ratio(mean, near[:, 0])),
        mean_contrast=float(_ratio(mean.sum(), near[:, 0].sum())) if known.any() else math.nan,
        last_contrast=_median(_ratio(mean, near[:, -1])),
        random_contrast=_random_contrast(near.shape[1], len(vectors), vectors.shape[1], metric),
        intrinsic_dimension=_intrinsic_dimension(near, metric),
        hubness=_hubness(vectors, lengths, metric, np.random.default_rng(seed)),
        unresolved_share=_unresolved_share(near, metric, noise),
        duplicate_share=1.0 - len(np.unique(survey.digests)) / len(vectors),
        zero_rows=int(np.count_nonzero(lengths == 0.0)),
        min_length=float(lengths.min()),
        median_length=float(np.median(lengths)),
        max_length=float(lengths.max()),
    )


@dataclass(frozen=True, eq=False)
class _Survey:
    """One reading of the rows: lengths and digests (n_rows,), mean row and direction (dim,)."""

    lengths: _F64
    digests: NDArray[np.uint64]
    mean_row: _F64
    mean_direction: _F64


def _survey(vectors: _Floats, what: str) -> _Survey:
    n_rows, dim = vectors.shape
    lengths, digests = np.empty(n_rows), np.empty(n_rows, dtype=np.uint64)
    rows, directions = np.zeros(dim), np.zeros(dim)
    for part, block in _blocks(vectors, dim):
        wide = block.astype(np.float64)
        squares = np.vecdot(wide, wide)
        if not np.isfinite(squares).all():
            row = part.start + int(np.argmin(np.isfinite(squares)))
            raise DataError(
                f"{what}: row {row} (counted from 0) has NaN or an infinity; "
                "permitted: finite float32 values."
            )
        lengths[part] = np.sqrt(squares)
        digests[part] = _digests(block)
        rows += wide.sum(axis=0)
        directions += _inverse(lengths[part]) @ wide
    count = max(1, int(np.count_nonzero(lengths)))
    return _Survey(lengths, digests, rows / n_rows, directions / count)


def _digests(block: NDArray[np.float32]) -> NDArray[np.uint64]:
    """64 bits of each row's bytes: among a million rows two collide once in 10 million times."""
    block += np.float32(0.0)  # -0 equals 0, but its bytes differ
    return np.frombuffer(
        b"".join(blake2b(row, digest_size=8).digest() for row in block), dtype=np.uint64
    )


def _near(distances: _F64, asked: _F64, survey: _Survey, metric: Metric) -> _F64:
    """The neighbours' distances (n_queries, n_neighbours) on the module's scale."""
    if metric != Metric.IP:
        return distances
    scaled = 1.0 + distances * (_inverse(asked) * _inverse_longest(survey))[:, None]
    scaled[asked == 0.0] = math.nan
    return scaled


def _without_noise(far: _F64, noise: float) -> _F64:
    """Distances that float32 cannot tell from 0 as 0: their logarithm would measure rounding."""
    return np.where(far <= noise, 0.0, far)


def _mean_distances(
    vectors: _Floats, queries: _Floats, asked: _F64, survey: _Survey, metric: Metric
) -> _F64:
    """Mean distance of each query to all rows, zero rows apart under cosine, (n_queries,)."""
    if metric == Metric.L2:
        return _mean_l2(vectors, queries, survey.mean_row)
    mean = (
        survey.mean_row * _inverse_longest(survey) if metric == Metric.IP else survey.mean_direction
    )
    dots = np.concatenate([block.astype(np.float64) @ mean for _, block in _blocks(queries, 1)])
    return np.where(asked > 0.0, np.maximum(1.0 - dots * _inverse(asked), 0.0), math.nan)


def _mean_l2(vectors: _Floats, queries: _Floats, centre: _F64) -> _F64:
    """By float32 products around the centre of the rows, where squares cancel least."""
    asked = np.asarray(queries.astype(np.float64) - centre, dtype=np.float32)
    total, asked_squares = np.zeros(len(queries)), np.vecdot(asked, asked)[:, None]
    for _, block in _blocks(vectors, max(vectors.shape[1], len(queries))):
        rows = np.asarray(block - centre, dtype=np.float32)
        squares = asked @ (rows.T * np.float32(-2.0))
        squares += asked_squares
        squares += np.vecdot(rows, rows)
        np.maximum(squares, 0.0, out=squares)
        total += np.sqrt(squares, out=squares).sum(axis=1, dtype=np.float64)
    return total / len(vectors)


def _random_contrast(rank: int, n_rows: int, dim: int, metric: Metric) -> float:
    """Contrast at this rank among independent random directions.

    Their cosines are close to normal with variance 1 / dim; the median of the rank-th largest of
    n_rows is near the quantile (rank - 1/3) / n_rows.
    """
    quantile = -NormalDist().inv_cdf((rank - 1 / 3) / n_rows) / math.sqrt(dim)
    contrast = 1.0 / (1.0 - quantile) if quantile < 1.0 else math.inf
    return math.sqrt(contrast) if metric == Metric.L2 else contrast


def _intrinsic_dimension(near: _F64, metric: Metric) -> float:
    """Maximum likelihood from the distances T_1 <= ... <= T_k of each query's neighbours.

    Levina & Bickel, Maximum likelihood estimation of intrinsic dimension, NIPS 2004: 1 / m is the
    mean of log(T_k / T_j) over j < k; over all queries at once, as MacKay & Ghahramani's comment on
    it (2005) corrects. T is Euclidean: for cosine the chord between unit vectors, whose length is
    sqrt(2 (1 - cos)). Neighbours at distance 0 are left out. The rows must be dense within T_k, so
    high dimensions are underestimated: 20,000 random directions in 1536 dimensions give 265. A
    query planted beside a row makes T_1 small, and the figure too low.
    """
    inner, last = near[:, :-1], np.broadcast_to(near[:, -1:], near[:, :-1].shape)
    usable = inner > 0.0
    if not usable.any():
        return math.nan
    logs = np.log(last[usable] / inner[usable])
    if metric != Metric.L2:
        logs *= 0.5
    return float(_ratio(float(logs.size), logs.sum()))


def _hubness(vectors: _Floats, lengths: _F64, metric: Metric, rng: np.random.Generator) -> float:
    """Skewness of N_k, how often a row is among the k nearest of others.

    Radovanovic, Nanopoulos & Ivanovic, Hubs in space, JMLR 2010, k = 10. From a self-join of a
    sample: the neighbours of a few hundred queries among many rows are so sparse that chance alone
    would give a skewness of sqrt(rows / (queries k)). A sample shows less than the whole table, as
    neighbourhoods in it are thinner: the spectrum vectors give 2.6 at 2048 rows and 3.1 at 8192.
    Another sample differs by about 0.3, and chance alone gives about 0.3.
    """
    usable = np.flatnonzero(lengths) if metric == Metric.COSINE else np.arange(len(lengths))
    if len(usable) < 3:
        return math.nan
    rows = np.sort(rng.choice(usable, min(HUB_SAMPLE_ROWS, len(usable)), replace=False))
    sample = np.asarray(vectors[rows], dtype=np.float32)
    k = min(HUB_K, len(rows) - 1)
    ids = exact_neighbours(sample, sample, k + 1, metric).ids
    own = ids == np.arange(len(ids))[:, None]
    own[~own.any(axis=1), -1] = True  # too many copies, or a longer row wins: drop the last instead
    return _skewness(np.bincount(ids[~own], minlength=len(ids)).astype(np.float64))


def _skewness(values: _F64) -> float:
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return float((centred**3).mean()) / variance**1.5 if variance else 0.0


def _unresolved_share(near: _F64, metric: Metric, noise: float) -> float:
    """Share of queries whose last two neighbours lie closer than float32 rounding moves them.

    The rounding of a dim-long sum of products is taken as sqrt(dim) 2^-24, which it rarely exceeds:
    Higham & Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput.
    2019. It is absolute under cosine and inner product, relative to the distance under l2.
    """
    if near.shape[1] < 2 or not len(near):
        return math.nan
    scale = near[:, -1] if metric == Metric.L2 else 1.0
    return float(np.mean(near[:, -1] - near[:, -2] <= noise * scale))


def _blocks(vectors: _Floats, width: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield (rows, a copy of them as float32), each block flat in memory for this width."""
    size = max(1, _BLOCK_ELEMENTS // max(width, vectors.shape[1]))
    for start in range(0, len(vectors), size):
        part = slice(start, min(start + size, len(vectors)))
        with np.errstate(over="ignore", under="ignore"):
            yield part, np.array(vectors[part], dtype=np.float32, order="C")


def _inverse_longest(survey: _Survey) -> float:
    """Return 1 / M, M the largest length; nan when every row is zero."""
    longest = float(survey.lengths.max())
    return 1.0 / longest if longest else math.nan


def _inverse(lengths: _F64) -> _F64:
    """1 / length, and 0 for 0."""
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0.0)


def _ratio(a: Any, b: Any) -> _F64:
    """A / b for values of 0 or more: inf when only b is 0, 1 when both are."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    found: _F64 = np.where(a == 0.0, 1.0, math.inf)
    np.divide(a, b, out=found, where=b > 0.0)
    return found


def _median(values: _F64) -> float:
    return float(np.median(values)) if values.size else math.nan


def _check(vectors: _Floats, queries: _Floats, neighbours: Neighbours) -> None:
    for array, what in ((vectors, "vectors"), (queries, "queries")):
        if array.ndim != 2 or not array.size or array.dtype.kind != "f":
            raise DataError(
                f"{what}: shape {array.shape}, dtype {array.dtype}; permitted: floating point, "
                "(n_rows, dim), neither of them 0."
            )
    if vectors.shape[1] != queries.shape[1]:
        raise DataError(
            f"queries have {queries.shape[1]} dimensions; permitted: {vectors.shape[1]}, "
            "as the vectors."
        )
    shape = neighbours.distances.shape
    if len(shape) != 2 or shape[0] != len(queries) or not 1 <= shape[1] <= len(vectors):
        raise DataError(
            f"neighbours have shape {shape}; permitted: ({len(queries)}, 1 to {len(vectors)}), a "
            "line for each query."
        )
