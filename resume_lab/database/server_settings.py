"""What the embedded PostgreSQL is told about the machine that it runs on."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import psutil

MIB = 1024**2
GIB = 1024**3


def settings_for_this_machine(data_folder: Path) -> dict[str, str]:
    """Return the settings for this machine's memory and cores, and the disk under the folder."""
    free_disk_bytes = shutil.disk_usage(data_folder).free
    return server_settings(_memory_bytes(), os.cpu_count() or 1, free_disk_bytes)


def server_settings(memory_bytes: int, cores: int, free_disk_bytes: int) -> dict[str, str]:
    """Return settings for one person's vectors on a machine of this size.

    The stock configuration is for a tiny machine; large buffers keep vectors in memory, and minimal
    WAL lets a COPY into a new table skip the log.
    """
    return {
        "shared_buffers": f"{_clamp(memory_bytes // 4, 128 * MIB, 4 * GIB) // MIB}MB",
        "effective_cache_size": f"{max(memory_bytes * 6 // 10, 256 * MIB) // MIB}MB",
        "maintenance_work_mem": f"{_clamp(memory_bytes // 10, 64 * MIB, 2 * GIB) // MIB}MB",
        "work_mem": f"{_clamp(memory_bytes // 256, 4 * MIB, 64 * MIB) // MIB}MB",
        "max_wal_size": f"{_clamp(free_disk_bytes // 10, GIB, 8 * GIB) // MIB}MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_worker_processes": str(cores + 8),
        "max_parallel_workers": str(cores),
        "max_parallel_maintenance_workers": str(cores),
        "max_parallel_workers_per_gather": str(max(1, cores // 2)),
        "jit": "off",
        "client_connection_check_interval": "1s",  # or it works on for a killed client
        "log_min_error_statement": "panic",  # statements hold people's texts
    }


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _memory_bytes() -> int:
    """Return the machine's memory, or a container's share of it."""
    limit = Path("/sys/fs/cgroup/memory.max")
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        return min(total, int(limit.read_text()))
    return total
