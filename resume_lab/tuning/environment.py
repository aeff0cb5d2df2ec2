"""Where and how something was measured: server, settings, machine, conditions."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil
import sqlalchemy as sa

from resume_lab.tuning.results import Environment
from resume_lab.tuning.scratch import Scratch, Storage

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


def environment(scratch: Scratch, how: str) -> Environment:
    """Return the environment of a run; `how` says how its settings were timed."""
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
            f"Warmed up with three queries at the most probes. {how} One client in a loop, so "
            "times are service times as the client sees them, not latency under load. "
            f"{_STORAGE_TEXT[scratch.storage]}"
        ),
    )


def in_turn(rounds: int) -> str:
    """Say how the settings of a run are timed."""
    count = f"{rounds} round{'s' if rounds > 1 else ''}"
    return f"{count}, the settings in shuffled order with the exact scan among them."


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
