"""Planted queries: stored vectors, turned away from themselves by a known amount.

The dial makes queries whose answer is known from easy to hopeless. Turned by less than the rows
lie apart, a query still has its own row as the nearest; what comes after that row is what any
other direction would find. Held-out queries say how an index serves; planted ones say how far off
a question may be and still find its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError

_BLOCK_ELEMENTS = 1 << 18  # float64 elements in hand at once: 2 MiB

_Numbers = NDArray[np.number[Any]]
_F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Planted:
    """Queries (n_queries, dim) of unit length and the id of the row each grew from (n_queries,)."""

    queries: NDArray[np.float32]
    rows: NDArray[np.int64]


def plant(vectors: _Numbers, n_queries: int, strength: float, *, seed: int = 0) -> Planted:
    """Turn n_queries of the rows of vectors (n_rows, dim) away, each in a random direction.

    strength is the cosine distance between a query and its row: 0 is the row's own direction, 1 a
    random direction at a right angle to it. It is exact but for rounding to float32, because the
    noise is orthogonal to the row. No row is taken twice, and no zero vector. The same seed takes
    the same rows and turns them the same way, so queries of two strengths can be compared in pairs.
    """
    usable = _usable_rows(vectors)
    _check(vectors.shape[1], n_queries, strength, len(usable))
    rng = np.random.default_rng(seed)
    rows = rng.choice(usable, n_queries, replace=False)
    step = max(1, _BLOCK_ELEMENTS // vectors.shape[1])
    queries = np.empty((n_queries, vectors.shape[1]), dtype=np.float32)
    for at in range(0, n_queries, step):
        own = _unit(_float64(vectors[rows[at : at + step]]))
        queries[at : at + step] = _turned(own, 1.0 - strength, rng)
    return Planted(queries, rows)


def _turned(own: _F64, cosine: float, rng: np.random.Generator) -> _F64:
    """Unit vectors at this cosine to their own (n, dim)."""
    noise = rng.standard_normal(own.shape)
    for _ in range(2):  # twice: one projection leaves a rounding error where dim is small
        noise -= np.vecdot(noise, own)[:, None] * own
        noise = _unit(noise)
    return _unit(cosine * own + np.sqrt(1.0 - cosine**2) * noise)


def _unit(rows: _F64) -> _F64:
    """Rows of length 1; a zero row, the noise when dim is 1, stays zero."""
    lengths = np.sqrt(np.vecdot(rows, rows))[:, None]
    return np.asarray(rows / np.where(lengths == 0.0, 1.0, lengths), dtype=np.float64)


def _float64(rows: _Numbers) -> _F64:
    """The float32 values, as pgvector stores them, wide enough that no square overflows."""
    with np.errstate(over="ignore", under="ignore"):
        return rows.astype(np.float32).astype(np.float64)


def _usable_rows(vectors: _Numbers) -> NDArray[np.int64]:
    """Ids of the rows that are no zero vectors; refuses NaN and infinity."""
    if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
        raise DataError(
            f"vectors: shape {vectors.shape}, dtype {vectors.dtype}; "
            "permitted: real numbers, (n_rows, dim), neither of them 0."
        )
    usable = np.empty(len(vectors), dtype=np.bool_)
    step = max(1, _BLOCK_ELEMENTS // vectors.shape[1])
    for at in range(0, len(vectors), step):
        block = _float64(vectors[at : at + step])
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise DataError(
                f"vectors: row {at + int(np.argmin(finite))} (counted from 0) has NaN or an "
                "infinity; permitted: finite float32 values."
            )
        usable[at : at + step] = block.any(axis=1)
    return np.flatnonzero(usable).astype(np.int64)


def _check(dim: int, n_queries: Any, strength: Any, usable: int) -> None:
    if not usable:
        raise DataError("vectors: every row is a zero vector; permitted: at least one that is not.")
    whole = isinstance(n_queries, (int, np.integer)) and not isinstance(n_queries, bool)
    if not whole or not 1 <= n_queries <= usable:
        raise DataError(
            f"n_queries is {n_queries!r}; permitted: whole numbers, 1 to {usable} (the rows that "
            "are no zero vectors)."
        )
    if not 0.0 <= strength <= 1.0:
        raise DataError(f"strength is {strength!r}; permitted: 0 (the row itself) to 1.")
    if dim == 1 and strength:
        raise DataError(
            f"strength is {strength!r}; permitted with 1 dimension: 0, for there is no direction "
            "to turn to."
        )
