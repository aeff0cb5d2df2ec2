"""Exact k nearest neighbours: blocked matrix products in float32, the answer in float64.

A float32 pass keeps a few more candidates than k for each query and ranks them by float64
distance. A rounding bound then tells whether a row left out could still belong among the k. For
the queries where it could (duplicates, near ties), a second pass takes the float64 distance of
every row within the bound. So the answer is that of a float64 scan, equal distances by lower id.

Limits: two distances are equal when their float64 values are, so rows whose distances agree only
in exact arithmetic may come in either order. Where most rows tie, or lie far from the origin
compared with their distances (l2), the second pass costs up to one float64 distance for each pair
of query and row: slow, though memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError
from resume_lab.vectors.files import check_is_array
from resume_lab.vectors.metric import Metric, distances

_FIRST_BLOCK_ROWS = 1024
_MIN_MARGIN = 16
_CHUNK_ELEMENTS = 1 << 17  # float64 elements ranked at once: 1 MiB stays in cache
_MERGE_ELEMENTS = 1 << 21  # float64 elements gathered before a merge: 16 MiB
_SHORTEST, _LONGEST = 1e-15, 1e15  # squares stay within float32

_Floats = NDArray[np.floating[Any]]
_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]
_Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Row ids int64 (n_queries, k), nearest first, and their float64 distances (n_queries, k)."""

    ids: NDArray[np.int64]
    distances: NDArray[np.float64]


def exact_neighbours(
    vectors: _Floats,
    queries: _Floats,
    k: int,
    metric: Metric = Metric.COSINE,
    *,
    block_rows: int = 8192,
    block_queries: int = 1024,
) -> Neighbours:
    """Find the k nearest rows of vectors (n_rows, dim) for each of queries (n_queries, dim).

    Values are taken as float32, as pgvector stores them. Under cosine a zero row comes only when
    nothing else is left, with distance nan; a zero query gets ids 0..k-1, all nan. Peak memory
    does not depend on n_rows, but for 5 bytes a row.
    """
    metric = Metric(metric)
    _check(vectors, queries, k, block_rows, block_queries)
    search = _Search(vectors, _lengths(vectors, "vectors", block_rows), metric, k, block_rows)
    query_lengths = _lengths(queries, "queries", block_rows)
    parts = [
        search.neighbours(_float32(queries[at : at + block_queries]), lengths)
        for at, lengths in _split(query_lengths, block_queries)
    ]
    return Neighbours(
        np.concatenate([p.ids for p in parts]), np.concatenate([p.distances for p in parts])
    )


def row_blocks(n_rows: int, block_rows: int) -> Iterator[slice]:
    """Cut n_rows into slices that double up to block_rows: an early threshold spares later work."""
    start, size = 0, min(block_rows, _FIRST_BLOCK_ROWS)
    while start < n_rows:
        yield slice(start, min(start + size, n_rows))
        start, size = start + size, min(size * 2, block_rows)


class _Search:
    """What stays the same for all queries: the rows, their lengths, the metric and k."""

    def __init__(
        self, vectors: _Floats, lengths: _F32, metric: Metric, k: int, block_rows: int
    ) -> None:
        self.vectors, self.lengths, self.metric, self.k = vectors, lengths, metric, k
        self.n_rows, self.dim = vectors.shape
        self.block_rows = block_rows
        self.n_candidates = min(k + max(_MIN_MARGIN, k // 2), self.n_rows)
        self.zero_rows = np.flatnonzero(lengths == 0.0)
        self.cosine = metric == Metric.COSINE

    def neighbours(self, queries: _F32, lengths: _F32) -> Neighbours:
        """Neighbours of one block of queries (n, dim)."""
        n = len(queries)
        found = Neighbours(
            np.tile(np.arange(self.k, dtype=np.int64), (n, 1)), np.full((n, self.k), np.nan)
        )
        live = np.flatnonzero(lengths > 0.0) if self.cosine else np.arange(n)
        if live.size:
            part = self._neighbours(queries[live], lengths[live])
            found.ids[live], found.distances[live] = part.ids, part.distances
        return found

    def _neighbours(self, queries: _F32, lengths: _F32) -> Neighbours:
        scaled = self._scaled(queries, lengths)
        scores, ids = self._candidates(scaled)
        best = self._rank(queries, ids)
        slack = self._slack(lengths)
        kth = self._kth_score(best, lengths)
        left_out = scores.min(axis=1)  # no row left out scores higher; -inf: none was left out
        doubt = (left_out > -np.inf) & (kth <= left_out + slack)
        unsure = np.flatnonzero(doubt & (self.n_candidates < self.n_rows))
        if unsure.size:
            cut = (kth - slack)[unsure]
            again = self._within(queries[unsure], scaled[unsure], cut)
            best.ids[unsure], best.distances[unsure] = again.ids, again.distances
        return self._fill(best)

    def _scaled(self, queries: _F32, lengths: _F32) -> _F32:
        """Fold what the metric does to a query into the query: one pass less for each block."""
        if self.cosine:
            return queries / lengths[:, None]
        return queries * np.float32(2.0) if self.metric == Metric.L2 else queries

    def _scores(self, scaled: _F32, rows: slice, out: _F32) -> _F32:
        """Score one block of rows, higher is nearer: cos, 2 q.v - v.v, or q.v."""
        scores = out[: len(scaled) * (rows.stop - rows.start)].reshape(len(scaled), -1)
        np.matmul(scaled, _float32(self.vectors[rows]).T, out=scores)
        lengths = self.lengths[rows]
        if self.metric == Metric.L2:
            scores -= lengths * lengths
        elif self.cosine:
            zero = lengths == 0.0
            scores *= np.float32(1.0) / np.where(zero, np.float32(1.0), lengths)
            if zero.any():
                scores[:, zero] = -np.inf
        return scores

    def _blocks(self, scaled: _F32) -> Iterator[tuple[int, _F32]]:
        """Yield (first row id, scores) over all rows; the scores live until the next block."""
        out = np.empty(len(scaled) * min(self.block_rows, self.n_rows), dtype=np.float32)
        for rows in row_blocks(self.n_rows, self.block_rows):
            yield rows.start, self._scores(scaled, rows, out)

    def _candidates(self, scaled: _F32) -> tuple[_F32, _Ids]:
        """The best n_candidates by float32 score, unordered; -inf and id -1 where none is left."""
        n = len(scaled)
        best = np.full((n, self.n_candidates), -np.inf, dtype=np.float32)
        ids = np.full((n, self.n_candidates), -1, dtype=np.int64)
        for start, scores in self._blocks(scaled):
            best, ids = _merge(best, ids, *_better(scores, best.min(axis=1), start))
        return best, ids

    def _rank(self, queries: _F32, ids: _Ids) -> Neighbours:
        """Order candidates (n, m) by float64 distance, then id, and keep k."""
        found = np.full(ids.shape, np.inf)
        step = max(1, _CHUNK_ELEMENTS // (ids.shape[1] * self.dim))
        for at in range(0, len(queries), step):
            part = slice(at, at + step)
            rows = _float32(self.vectors[ids[part]])
            found[part] = distances(queries[part], rows, self.metric)
        found[ids < 0] = np.inf
        order = np.lexsort((ids, found), axis=1)[:, : self.k]
        return Neighbours(
            np.take_along_axis(ids, order, axis=1), np.take_along_axis(found, order, axis=1)
        )

    def _slack(self, lengths: _F32) -> _F64:
        """Bound the rounding of a float32 score, twice over.

        |fl(x.y) - x.y| <= n u |x| |y|, u = 2^-24: Higham, Accuracy and Stability of Numerical
        Algorithms, 2nd ed., section 3.1.
        """
        unit = 2.0 * (self.dim + 16) * 2.0**-24
        if self.cosine:
            return np.full(len(lengths), unit)
        q: _F64 = lengths.astype(np.float64)
        v = float(self.lengths.max())
        bound: _F64 = unit * q * v
        return 2.0 * bound + unit * v * v if self.metric == Metric.L2 else bound

    def _kth_score(self, best: Neighbours, lengths: _F32) -> _F64:
        """The k-th distance as a score; -inf where fewer than k rows are left."""
        kth: _F64 = best.distances[:, -1]
        if self.metric == Metric.IP:
            return -kth
        score = np.square(lengths.astype(np.float64)) - np.square(kth)
        return 1.0 - kth if self.cosine else score

    def _within(self, queries: _F32, scaled: _F32, cut: _F64) -> Neighbours:
        """The k best by float64 distance among the rows that score no lower than cut."""
        n = len(queries)
        best = Neighbours(
            np.full((n, self.k), self.n_rows, dtype=np.int64), np.full((n, self.k), np.inf)
        )
        chunk = max(1, _MERGE_ELEMENTS // self.dim)
        for start, scores in self._blocks(scaled):
            hits = np.flatnonzero(scores >= cut[:, None])
            for at in range(0, len(hits), chunk):
                which, row = np.divmod(hits[at : at + chunk], scores.shape[1])
                best = self._add(best, queries, which, row + start)
        return best

    def _add(self, best: Neighbours, queries: _F32, which: _Ids, ids: _Ids) -> Neighbours:
        """Merge pairs (query number, row id) into the k best, distance first, then id."""
        rows = _float32(self.vectors[ids])
        far = distances(queries[which], rows[:, None, :], self.metric)[:, 0]
        n = len(queries)
        which = np.concatenate([np.repeat(np.arange(n), self.k), which])
        ids = np.concatenate([best.ids.ravel(), ids])
        far = np.concatenate([best.distances.ravel(), far])
        order = np.lexsort((ids, far, which))
        first = np.searchsorted(which[order], np.arange(n))
        take = order[first[:, None] + np.arange(self.k)]
        return Neighbours(ids[take], far[take])

    def _fill(self, best: Neighbours) -> Neighbours:
        """Put zero rows, lowest id first and with distance nan, where nothing else is left."""
        missing = best.distances == np.inf
        if missing.any():
            place = np.cumsum(missing, axis=1) - 1
            best.ids[missing] = self.zero_rows[place[missing]]
            best.distances[missing] = np.nan
        return best


def _better(scores: _F32, threshold: _F32, start: int) -> tuple[_F32, _Ids]:
    """The scores above each query's threshold and their row ids, padded to (n, most hits).

    When hits are many (the first block, or rows sorted by nearness) the whole block is returned:
    padding would cost more memory than it saves.
    """
    n, width = scores.shape
    mask = scores > threshold[:, None]
    counts = np.count_nonzero(mask, axis=1)
    most = int(counts.max())
    if most * 8 > width:
        return scores, np.broadcast_to(np.arange(start, start + width), scores.shape)
    which, row = np.divmod(np.flatnonzero(mask), width)
    place = np.arange(len(which)) - (np.cumsum(counts) - counts)[which]
    padded = np.full((n, most), -np.inf, dtype=np.float32)
    ids = np.full((n, most), -1, dtype=np.int64)
    padded[which, place] = scores[which, row]
    ids[which, place] = row + start
    return padded, ids


def _merge(best: _F32, ids: _Ids, more: _F32, more_ids: _Ids) -> tuple[_F32, _Ids]:
    """Keep as many of the highest scores as best (n, m) holds; -inf keeps no id."""
    if not more.shape[1]:
        return best, ids
    keep = best.shape[1]
    scores = np.concatenate([best, more], axis=1)
    top = np.argpartition(scores, scores.shape[1] - keep, axis=1)[:, -keep:]
    kept = np.take_along_axis(scores, top, axis=1)
    old = np.take_along_axis(ids, np.minimum(top, keep - 1), axis=1)
    new = np.take_along_axis(more_ids, np.maximum(top - keep, 0), axis=1)
    return kept, np.where(kept == -np.inf, -1, np.where(top < keep, old, new))


def _float32(rows: _Floats) -> _F32:
    """The rows as contiguous float32; no copy when they are that already."""
    return np.ascontiguousarray(rows, dtype=np.float32)


def _split(values: _F32, size: int) -> Iterator[tuple[int, _F32]]:
    return ((at, values[at : at + size]) for at in range(0, len(values), size))


def _lengths(vectors: _Floats, what: str, block_rows: int) -> _F32:
    """Length of each row, (n_rows,), by blocks; refuses what float32 products cannot carry."""
    lengths = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), block_rows):
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            rows = _float32(vectors[start : start + block_rows])
            squares = np.vecdot(rows, rows)
        odd = ~((squares >= _SHORTEST**2) & (squares <= _LONGEST**2))
        for i in np.flatnonzero(odd):
            if np.any(rows[i] != 0.0):
                raise _bad_row(what, start + int(i), rows[i])
            squares[i] = 0.0
        lengths[start : start + len(rows)] = np.sqrt(squares)
    return lengths


def _bad_row(what: str, number: int, row: _F32) -> DataError:
    length = float(np.linalg.norm(row.astype(np.float64)))
    return DataError(
        f"{what}: row {number} (counted from 0) has length {length:g}; permitted: finite values, "
        f"length 0 or {_SHORTEST:g} to {_LONGEST:g}."
    )


def _check(vectors: _Floats, queries: _Floats, k: int, block_rows: int, block_queries: int) -> None:
    _check_array(vectors, "vectors")
    _check_array(queries, "queries")
    if vectors.shape[1] != queries.shape[1]:
        raise DataError(
            f"queries have {queries.shape[1]} dimensions; permitted: {vectors.shape[1]}, "
            "as the vectors."
        )
    _check_int(k, "k", len(vectors))
    _check_int(block_rows, "block_rows")
    _check_int(block_queries, "block_queries")


def _check_array(array: _Floats, what: str) -> None:
    check_is_array(array, what)
    if array.ndim != 2 or not array.size:
        raise DataError(
            f"{what} has shape {array.shape}; permitted: two dimensions (rows, dim), neither empty."
        )
    if array.dtype.kind != "f":
        raise DataError(f"{what} has dtype {array.dtype}; permitted: float32.")


def _check_int(value: Any, what: str, most: int | None = None) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1 or (most is not None and value > most):
        permitted = "1 or more" if most is None else f"1 to {most} (the number of rows)"
        raise DataError(f"{what} is {value!r}; permitted: whole numbers, {permitted}.")
