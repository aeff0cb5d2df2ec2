"""Recall of each query, and what it says about the queries not asked.

The query is the unit: neighbours of one query are found or missed together, so an interval over
single neighbours would be too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError

RELATIVE_TIE = 1e-6
"""Two distances this close are equal: float32 arithmetic does not tell them apart."""

ABSOLUTE_TIE = 1e-12
"""For a k-th distance of 0, where a relative margin is 0: float64 rounding of 1 - cos is 1e-16."""

_CHUNK_ELEMENTS = 1 << 22

_F64 = NDArray[np.float64]


@dataclass(frozen=True)
class RecallSummary:
    """Recall over queries, shares in [0, 1], higher is better; low and high bound the mean."""

    mean: float
    low: float
    high: float
    p5: float
    min: float
    n_queries: int


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over the same queries, and the interval of that mean."""

    mean: float
    low: float
    high: float
    n_queries: int


def recall_at_k(
    found_ids: NDArray[np.integer[Any]], truth_ids: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Share of the true ids found, (n_queries,). Both are (n_queries, k); -1 is a missing row.

    An id found twice counts once.
    """
    found, truth = np.asarray(found_ids), np.asarray(truth_ids)
    if found.ndim != 2 or found.shape != truth.shape or not found.size:
        raise DataError(
            f"found_ids has shape {found.shape} and truth_ids {truth.shape}; "
            "permitted: the same (n_queries, k), not empty."
        )
    step = max(1, _CHUNK_ELEMENTS // found.shape[1] ** 2)
    return np.concatenate(
        [
            _share_found(found[at : at + step], truth[at : at + step])
            for at in range(0, len(found), step)
        ]
    )


def _share_found(found: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]]) -> _F64:
    hit = (truth[:, :, None] == found[:, None, :]).any(axis=2) & (truth >= 0)
    return np.asarray(hit.mean(axis=1), dtype=np.float64)


def recall_tie_aware(found_distances: _F64, kth_distances: _F64) -> NDArray[np.float64]:
    """Share of returned rows no farther than the k-th exact neighbour, (n_queries,).

    found_distances (n_queries, k), nan or inf for a missing row; kth_distances (n_queries,). The
    margin is relative, RELATIVE_TIE: an absolute one counts wrong rows where distances are small.
    """
    found = np.asarray(found_distances, dtype=np.float64)
    kth = np.asarray(kth_distances, dtype=np.float64)
    if found.ndim != 2 or kth.shape != found.shape[:1] or not found.size:
        raise DataError(
            f"found_distances has shape {found.shape} and kth_distances {kth.shape}; "
            "permitted: (n_queries, k) and (n_queries,), not empty."
        )
    limit = kth + RELATIVE_TIE * np.abs(kth) + ABSOLUTE_TIE
    counted = np.isfinite(found) & (found <= limit[:, None])
    return np.asarray(counted.mean(axis=1), dtype=np.float64)


def summarise(
    per_query: _F64, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> RecallSummary:
    """Mean recall with its percentile bootstrap interval over queries.

    A bootstrap knows only the spread it has seen: none when all queries have the same recall,
    hardly any when one differs. A share of up to 3/n of the queries (at 95 %) may still differ
    unseen: the rule of three, Hanley & Lippman-Hand, JAMA 1983. Each such query may be as far off
    as 0 or 1, so the interval reaches at least 3/n of that distance to either side.
    """
    values = _per_query(per_query, "per_query")
    mean = float(values.mean())
    low, high = _interval(values, 0.0, 1.0, confidence, resamples, seed)
    lowest, highest = _rule_of_three(mean, 0.0, 1.0, confidence, len(values))
    low, high = min(low, lowest), max(high, highest)
    return RecallSummary(
        mean, low, high, float(np.percentile(values, 5)), float(values.min()), len(values)
    )


def paired_difference(
    a: _F64, b: _F64, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Mean of a - b with its paired bootstrap interval: both (n_queries,), on the same queries.

    Equal differences throughout are treated as in `summarise`, between -1 and 1.
    """
    first, second = _per_query(a, "a"), _per_query(b, "b")
    if len(first) != len(second):
        raise DataError(
            f"a has {len(first)} queries and b {len(second)}; permitted: the same queries in both."
        )
    values = first - second
    low, high = _interval(values, -1.0, 1.0, confidence, resamples, seed)
    return Difference(float(values.mean()), low, high, len(values))


def _per_query(values: _F64, what: str) -> _F64:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise DataError(f"{what} has shape {array.shape}; permitted: (n_queries,), not empty.")
    wrong = ~((array >= 0.0) & (array <= 1.0))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(
            f"{what}: query {i} (counted from 0) has recall {array[i]}; permitted: 0 to 1."
        )
    return array


def _interval(
    values: _F64, least: float, most: float, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Bounds of the mean of values, each of which lies in [least, most]."""
    if not 0.0 < confidence < 1.0:
        raise DataError(f"confidence is {confidence!r}; permitted: between 0 and 1, as 0.95.")
    if resamples < 1:
        raise DataError(f"resamples is {resamples!r}; permitted: 1 or more.")
    mean = float(values.mean())
    if np.ptp(values) == 0.0:
        return _rule_of_three(mean, least, most, confidence, len(values))
    tail = 50.0 * (1.0 - confidence)
    means = np.concatenate(list(_resampled_means(values, resamples, seed)))
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return min(float(low), mean), max(float(high), mean)


def _rule_of_three(
    mean: float, least: float, most: float, confidence: float, n: int
) -> tuple[float, float]:
    # -log(.05) = 2.996, the three of the rule
    unseen = min(1.0, _three(confidence) / n)
    return mean - unseen * (mean - least), mean + unseen * (most - mean)


def _three(confidence: float) -> float:
    """3 at 95 %, as the rule rounds it; -log(1 - confidence) elsewhere."""
    return float(np.round(-np.log(1.0 - confidence), 2))


def _resampled_means(values: _F64, resamples: int, seed: int) -> Iterator[_F64]:
    """Means of resamples with replacement, by blocks of flat memory."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_ELEMENTS // len(values))
    for at in range(0, resamples, step):
        shape = (min(step, resamples - at), len(values))
        yield values[rng.integers(0, len(values), shape)].mean(axis=1)
