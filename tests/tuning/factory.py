"""Points and workloads small enough to work out by hand."""

from __future__ import annotations

import numpy as np

from resume_lab.tuning import Exact, Latency, Point, Workload


def latency(p50_ms: float, n: int = 400) -> Latency:
    return Latency.of(np.full(n, p50_ms))


def exact(p50_ms: float = 20.0) -> Exact:
    return Exact(latency(p50_ms), p50_ms * 0.9, "Seq Scan on items (cost 1)")


def point(
    lists: int, probes: int, recall: float, p50_ms: float, *,
    low: float | None = None, used: bool = True, forced: bool = True, exact_ms: float = 20.0,
) -> Point:  # fmt: skip
    return Point(
        index="ivfflat", lists=lists, probes=probes, recall=recall,
        recall_low=recall if low is None else low, recall_high=min(1.0, recall + 0.01),
        recall_tie_aware=recall, recall_p5=recall - 0.1, recall_min=recall - 0.2,
        rows_returned=1.0, latency=latency(p50_ms), server_ms=p50_ms * 0.9,
        speedup_vs_exact=exact_ms / p50_ms, used_index=used, plan="free", used_index_forced=forced,
        forced_plan="forced", build_s=1.0, size_bytes=8192,
    )  # fmt: skip


def workload(*, embedding_model: str | None = None, metric: str = "cosine") -> Workload:
    """Four rows and two queries in the plane, k = 2."""
    rows = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    queries = np.array([[2, 1], [-1, -3]], dtype=np.float32)
    return Workload.of(rows, queries, k=2, metric=metric, embedding_model=embedding_model)


def unit_rows(rows: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)
