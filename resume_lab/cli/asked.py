"""What a tuning run was asked for, as it is kept with the run so that it can be resumed."""

from __future__ import annotations

from dataclasses import dataclass

from resume_lab.tuning import Storage
from resume_lab.tuning.run import REBUILDS
from resume_lab.tuning.workload import DEFAULT_K, DEFAULT_QUERIES


@dataclass(frozen=True)
class Asked:
    """The options of `resume-lab tune`, but for where its output goes. Plain values throughout."""

    rows: int | None = None
    kind: str | None = None
    vectors: str | None = None
    model: str | None = None
    table: str | None = None
    column: str | None = None
    id_column: str | None = None
    where: str | None = None
    metric: str | None = None
    queries_from: str | None = None
    max_rows: int | None = None
    queries: int = DEFAULT_QUERIES
    planted: float | None = None
    k: int = DEFAULT_K
    lists: list[int] | None = None
    probes: list[int] | None = None
    grid: bool = False
    target_recall: float | None = None
    max_ms: float | None = None
    rebuilds: int = REBUILDS
    storage: str = Storage.EXTERNAL.value
    seed: int = 0
