"""The three distances of pgvector, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.given import Choice


class Metric(Choice):
    """A distance pgvector can order by; lower is nearer."""

    COSINE = "cosine"
    L2 = "l2"
    IP = "ip"


def distances(
    queries: NDArray[np.floating[Any]], rows: NDArray[np.floating[Any]], metric: Metric
) -> NDArray[np.float64]:
    """Distance of each query to its own rows, as pgvector defines it.

    queries (n_queries, dim) and rows (n_queries, m, dim) give (n_queries, m). Equal rows get
    bit-equal distances wherever they stand. A zero vector has the cosine distance nan.
    """
    q = np.asarray(queries, dtype=np.float64)[:, None, :]
    r = np.ascontiguousarray(rows, dtype=np.float64)
    if metric == Metric.IP:
        return _dot(q, r) * -1.0
    if metric == Metric.L2:
        r = r - q
        return np.sqrt(_dot(r, r))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = _dot(q, r) / np.sqrt(_dot(q, q) * _dot(r, r))
    return 1.0 - np.clip(cosine, -1.0, 1.0)


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products along the last axis, each summed in the same order."""
    return np.asarray(np.vecdot(a, b), dtype=np.float64)
