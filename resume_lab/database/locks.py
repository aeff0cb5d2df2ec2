"""Who is in the way: the sessions that hold locks on the tables, or a transaction open."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from resume_lab.errors import LabError
from resume_lab.printable import printable

SHOWN = 3

# A role that may not see the activity of others still sees their locks, pids and names. Each open
# transaction holds a lock on its own number.
_SESSIONS = """
SELECT a.pid, a.usename, a.application_name, a.state,
    round(extract(epoch FROM clock_timestamp() - a.xact_start)) AS open_s, held.modes
FROM pg_stat_activity a LEFT JOIN (
    SELECT l.pid, string_agg(DISTINCT l.mode, ', ' ORDER BY l.mode) AS modes
    FROM pg_locks l LEFT JOIN pg_index i ON i.indexrelid = l.relation
    WHERE l.locktype = 'relation' AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND coalesce(i.indrelid, l.relation) IN (
            SELECT to_regclass(name) FROM unnest(ARRAY[
                'document_chunks', 'chunk_embeddings', 'query_logs', 'alembic_version'
            ]) AS name
        )
    GROUP BY l.pid
) AS held USING (pid)
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND coalesce(a.backend_type, 'client backend') = 'client backend'
    AND a.pid IN (SELECT pid FROM pg_locks WHERE granted AND {lock})
ORDER BY held.modes IS NULL, a.pid IN (SELECT pid FROM pg_locks WHERE NOT granted),
    held.modes = 'AccessShareLock', a.xact_start LIMIT :shown
"""
_HOLDERS = sa.text(_SESSIONS.format(lock="locktype = 'virtualxid'"))
_ADVISORY_HOLDERS = sa.text(
    _SESSIONS.format(
        lock="locktype = 'advisory' AND objsubid = 1 "
        "AND (classid::bigint << 32 | objid::bigint) = :key"
    )
)


@dataclass(frozen=True)
class Holder:
    """A session in the way: `open_s` is the age of its transaction, `modes` its locks on tables.

    Only the tables of this project are looked at; None is a session without a lock on them.
    """

    pid: int
    user: str
    application: str
    state: str | None
    open_s: float | None
    modes: str | None

    def __str__(self) -> str:
        """Name the session as pg_stat_activity does."""
        parts = [f"user {printable(self.user)}"]
        if self.application:
            parts.append(f"application {printable(self.application)}")
        if self.state is not None:
            parts.append(self.state)
        if self.open_s is not None:
            parts.append(f"transaction open for {self.open_s:.0f} s")
        if self.modes is not None:
            parts.append(self.modes)
        return f"pid {self.pid}: {', '.join(parts)}"


def holders(engine: Engine) -> list[Holder]:
    """Return the sessions in this database that hold locks or a transaction, at most three.

    Those with a lock on a table come first, then the oldest. Asking must not hide why it was asked:
    where it fails the list is empty.
    """
    with contextlib.suppress(sa.exc.SQLAlchemyError, LabError), engine.connect() as connection:
        return _asked(connection, _HOLDERS)
    return []


def advisory_holders(connection: Connection, key: int) -> list[Holder]:
    """Return the session in this database that holds the advisory lock `key`, if there is one."""
    return _asked(connection, _ADVISORY_HOLDERS, key=key)


def _asked(connection: Connection, query: sa.TextClause, **values: int) -> list[Holder]:
    return [
        Holder(
            row.pid,
            row.usename or "?",
            row.application_name or "",
            row.state,
            None if row.open_s is None else float(row.open_s),
            row.modes,
        )
        for row in connection.execute(query, {"shown": SHOWN, **values})
    ]
