"""A whole tuning run: copy the vectors, measure a grid of settings, decide."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from tqdm.auto import tqdm

from resume_lab.database.indexes import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.tuning.decide import decide
from resume_lab.tuning.grid import default_lists, default_probes, probes_within
from resume_lab.tuning.measure import ROUNDS, Sweep, checked, measure
from resume_lab.tuning.results import Environment, Exact, Latency, Timings, TuningResult
from resume_lab.tuning.scratch import Scratch, Storage, scratch_copy
from resume_lab.tuning.workload import Workload

DEFAULT_TARGET_RECALL = 0.95
_SETTINGS = (
    "shared_buffers",
    "effective_cache_size",
    "maintenance_work_mem",
    "work_mem",
    "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers",
    "random_page_cost",
    "jit",
)
_STORAGE_TEXT = {
    Storage.EXTERNAL: "The table keeps vectors in TOAST (storage EXTERNAL, pgvector's default).",
    Storage.PLAIN: "The table keeps vectors in its rows (storage PLAIN).",
}


def tune(
    engine: Engine,
    workload: Workload,
    *,
    lists: Sequence[int] | None = None,
    probes: Sequence[int] | None = None,
    target_recall: float = DEFAULT_TARGET_RECALL,
    rounds: int = ROUNDS,
    seed: int = 0,
    storage: Storage | str = Storage.EXTERNAL,
    progress: bool = False,
) -> TuningResult:
    """Measure every `lists` with every `probes` on a scratch copy, and decide.

    Without `lists` and `probes` the usual guidance is tried. Of given probes, those greater than an
    index's lists are left out. An interrupt drops the copy.
    """
    if not 0 < target_recall <= 1:
        raise ExperimentError(f"The target recall is {target_recall}; it is above 0, at most 1.")
    if rounds < 1:
        raise ExperimentError(f"rounds is {rounds}; it must be at least 1.")
    start = time.perf_counter()
    grid = _grid(workload, lists, probes)
    sweeps = []
    with scratch_copy(engine, workload.vectors, storage=Storage(storage)) as scratch:
        for index, wanted in tqdm(grid, desc="indexes", unit="index", disable=not progress):
            sweeps.append(measure(scratch, workload, index, wanted, rounds=rounds, seed=seed))
        environment = _environment(scratch, rounds)
    exact = _pooled([sweep.exact for sweep in sweeps])
    points = tuple(point for sweep in sweeps for point in sweep.points)
    recommendation, why = decide(points, exact, target_recall, workload)
    timings = _timings(workload, sweeps, time.perf_counter() - start)
    return TuningResult(
        workload.info, environment, target_recall, exact, points, recommendation, why, timings
    )


def _grid(
    workload: Workload, lists: Sequence[int] | None, probes: Sequence[int] | None
) -> list[tuple[IVFFlat, list[int]]]:
    """Return each index with its probes, all of it checked before the first is built."""
    grid = []
    for value in sorted(set(lists or default_lists(len(workload.vectors)))):
        index = IVFFlat(value)
        wanted = probes_within(probes, value) if probes else default_probes(value)
        grid.append((index, checked(index, wanted, workload)))
    return grid


def _pooled(exacts: Sequence[Exact]) -> Exact:
    samples = np.concatenate([exact.latency.samples_ms for exact in exacts])
    server_ms = float(np.median([exact.server_ms for exact in exacts]))
    return Exact(Latency.of(samples), server_ms, exacts[0].plan)


def _timings(workload: Workload, sweeps: Sequence[Sweep], run_s: float) -> Timings:
    return Timings(
        exact_s=workload.exact_s,
        build_s=sum(sweep.build.build_s for sweep in sweeps),
        measure_s=sum(sweep.measure_s for sweep in sweeps),
        total_s=workload.exact_s + run_s,
    )


def _environment(scratch: Scratch, rounds: int) -> Environment:
    with scratch.engine.connect() as connection:
        server = connection.scalar(sa.text("SHOW server_version"))
        pgvector = connection.scalar(
            sa.text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        )
        rows = connection.execute(
            sa.text(
                "SELECT name, current_setting(name) AS value FROM pg_settings WHERE name IN :n"
            ).bindparams(sa.bindparam("n", expanding=True)),
            {"n": list(_SETTINGS)},
        )
        settings = {row.name: row.value for row in rows}
    return Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        server_version=str(server),
        pgvector_version=str(pgvector),
        settings=settings,
        machine=machine(),
        conditions=(
            f"Warmed up with three queries at the most probes. {rounds} rounds, the settings of an "
            "index in shuffled order with the exact scan among them. One client in a loop, so "
            "times are service times as the client sees them, not latency under load. "
            f"{_STORAGE_TEXT[scratch.storage]} Queries were held out of the table."
        ),
    )


def machine() -> str:
    """Return processor, cores and memory of this machine in a line."""
    memory_gib = psutil.virtual_memory().total / 1024**3
    return f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
