"""Points, curves, indexes and workloads small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resume_lab.database.indexes import IVFFlat, literal
from resume_lab.tuning import Exact, Latency, Point, Prediction, Workload
from resume_lab.tuning.results import TableInfo
from resume_lab.tuning.trial import BuiltIndex
from resume_lab.vectors import Curve


def latency(p50_ms: float, n: int = 400) -> Latency:
    return Latency.of(np.full(n, p50_ms))


def exact(p50_ms: float = 20.0) -> Exact:
    return Exact(latency(p50_ms), p50_ms * 0.9, "Seq Scan on items (cost 1)")


def point(
    lists: int, probes: int, recall: float, p50_ms: float, *,
    low: float | None = None, used: bool = True, forced: bool = True, exact_ms: float = 20.0,
    n_queries: int = 0, shuffled: bool = True,
) -> Point:  # fmt: skip
    return Point(
        index="ivfflat", lists=lists, probes=probes, recall=recall,
        recall_low=recall if low is None else low, recall_high=min(1.0, recall + 0.01),
        recall_tie_aware=recall, recall_p5=recall - 0.1, recall_min=recall - 0.2,
        rows_returned=1.0, latency=latency(p50_ms), server_ms=p50_ms * 0.9,
        speedup_vs_exact=exact_ms / p50_ms, used_index=used, plan="free", used_index_forced=forced,
        forced_plan="forced", build_s=1.0, size_bytes=8192, n_queries=n_queries, shuffled=shuffled,
    )  # fmt: skip


def built(lists: int) -> BuiltIndex:
    """An index that is nowhere."""
    return BuiltIndex(IVFFlat(lists), f"lab_ivfflat_{lists}", 1.0, 8192)


def curve(recall: Sequence[float], rows: int = 1000) -> Curve:
    """The curve of lists of one size, with the recall at probes 1, 2, ..."""
    lists = len(recall)
    return Curve(lists, np.array(recall, float), np.arange(1, lists + 1) * rows / lists, 1.0)


def prediction(*curves: Curve) -> Prediction:
    """Curves that somebody predicted for four rows in the plane."""
    return Prediction(workload(), curves, 0.1)


def workload(*, embedding_model: str | None = None, metric: str = "cosine") -> Workload:
    """Four rows and two queries in the plane, k = 2."""
    rows = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    queries = np.array([[2, 1], [-1, -3]], dtype=np.float32)
    table = embedding_model and stored_table(embedding_model)
    return Workload.of(rows, queries, k=2, metric=metric, table=table or None)


def two_far_groups(k: int) -> Workload:
    """Rows at 99 to 102 and at -99 to -102; a query just right of the middle and one at 100."""
    places = [99, 100, 101, 102, -99, -100, -101, -102]
    rows = np.array([[x, 0] for x in places], dtype=np.float32)
    queries = np.array([[0.1, 0], [100.2, 0]], dtype=np.float32)
    return Workload.of(rows, queries, k=k, metric="l2")


def stored_table(model: str, *, partial: bool = False) -> TableInfo:
    return TableInfo(
        ("chunk_embeddings",), "embedding", "chunk_id",
        where=f"embedding_model = {literal(model)}", partial=partial, embedding_model=model,
    )  # fmt: skip


def unit_rows(rows: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)
