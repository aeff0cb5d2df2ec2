"""Whether the disk under a database has room for what comes next, and how much that takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resume_lab.database_url import is_local
from resume_lab.errors import DatabaseError

PAGE_BYTES = 8192
SORTED_IN_MEMORY_BYTES = 64 * 1024**2
"""The default maintenance_work_mem: the build of an index of more may sort on the disk."""

_MEASURED_ROW_BYTES = 25_000
"""A seeded row on PostgreSQL 18: tables 8,700, the vector index 8,400, the log 7,800."""

_TABLE_PER_VECTOR = 1.4
_LOG_PER_VECTOR = 1.1
"""Of a scratch copy, measured at 384, 1000 and 1536 dimensions: 1.1 to 1.4, and 1.1."""


def seed_bytes(rows: int, dim: int, *, present: int = 0, indexes: int = 1) -> int:
    """Return what seeding `rows` more vectors takes at most while it goes on.

    The `indexes` are built anew on these rows and those `present`; the old ones go at the end.
    """
    again = indexes * index_bytes(present, dim) + max(0, indexes - 1) * index_bytes(rows, dim)
    return rows * _MEASURED_ROW_BYTES + again + _sort_bytes(present + rows, dim)


def scratch_bytes(rows: int, dim: int, indexes: int) -> int:
    """Return what a scratch copy takes with so many indexes on it at a time."""
    vectors = rows * _vector_bytes(dim)
    copied = int(vectors * (_TABLE_PER_VECTOR + _LOG_PER_VECTOR))
    return copied + indexes * index_bytes(rows, dim) + _sort_bytes(rows, dim)


def index_bytes(rows: int, dim: int) -> int:
    """Return the size of an IVFFlat index: a page holds whole vectors only."""
    return rows * PAGE_BYTES // max(1, (PAGE_BYTES - 32) // (_vector_bytes(dim) + 12))


def check_space(connection: Connection, needed_bytes: int, what: str) -> None:
    """Raise DatabaseError if `what` needs more than is free on the disk of the database.

    Nothing is known, or said, of the disk of another machine.
    """
    folder = data_folder(connection)
    if folder is None:
        return
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise DatabaseError(
            f"{what} needs about {_size(needed_bytes)}; {_size(free)} are free on the disk of "
            f"{folder}.",
            state="Nothing was changed.",
            hint="Free space there, or ask for fewer rows.",
        )


def data_folder(connection: Connection) -> Path | None:
    """Return the server's data directory if it is on this machine and this role may know it."""
    row = connection.execute(
        sa.text(
            "SELECT setting, extract(epoch FROM pg_postmaster_start_time())::bigint AS started "
            "FROM pg_settings WHERE name = 'data_directory'"
        )
    ).first()  # a role that may not know it gets no row
    if row is None or not is_here(connection.engine.url, Path(row.setting), row.started):
        return None
    return Path(row.setting)


def is_here(url: sa.URL, folder: Path, started: int) -> bool:
    """Say whether a server that was started then, in seconds, has its data in this `folder`.

    A loopback address may be a tunnel to another machine or a container, where the folder of this
    name is another one: there postmaster.pid has to name the server.
    """
    host = (
        *(url.query.get("hostaddr"), os.environ.get("PGHOSTADDR")),
        *(url.host, url.query.get("host"), os.environ.get("PGHOST"), "/"),
    )
    try:
        by_socket = str(next(filter(None, host))).startswith("/") and folder.is_dir()
        return by_socket or (is_local(url) and _runs_in(folder, started))
    except OSError:
        return False


def _runs_in(folder: Path, started: int) -> bool:
    lines = (folder / "postmaster.pid").read_text().splitlines()
    return len(lines) > 2 and lines[2].strip().isdecimal() and abs(int(lines[2]) - started) <= 2


def _vector_bytes(dim: int) -> int:
    return 4 * dim + 8


def _sort_bytes(rows: int, dim: int) -> int:
    vectors = rows * _vector_bytes(dim)
    return vectors if vectors > SORTED_IN_MEMORY_BYTES else 0


def _size(size_bytes: int) -> str:
    gb = size_bytes / 1e9
    return f"{gb:,.1f} GB" if gb >= 1 else f"{size_bytes / 1e6:,.0f} MB"
