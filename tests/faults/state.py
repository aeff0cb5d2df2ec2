"""What a database and its folders hold, and what a fault has left there."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2.errors import LockNotAvailable

from resume_lab.tuning import runs

APPLICATION = "resume_lab"
SETTLE_S = 15.0
"""How long the server may take to notice that a client is gone."""

Rows = dict[str, Counter[tuple[Any, ...]]]
"""The rows of each source, with their embeddings."""

Schema = frozenset[tuple[Any, ...]]
"""Columns, indexes with their comments and whether they are valid, the revision."""

_ROWS = """
SELECT source_file, chunk_index, md5(content), md5(metadata_json::text), embedding_model,
    md5(vector_send(embedding))
FROM document_chunks LEFT JOIN chunk_embeddings USING (chunk_id)
"""
_SCHEMA = """
SELECT c.relname, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull::text
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
    AND NOT a.attisdropped AND c.relname <> 'alembic_version'
UNION ALL
SELECT i.relname, pg_get_indexdef(i.oid), obj_description(i.oid), x.indisvalid::text
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
UNION ALL
SELECT proname, 'function', NULL, NULL FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
"""
_LEFT = """
SELECT 'schema ' || nspname FROM pg_namespace WHERE starts_with(nspname, 'lab_scratch_')
UNION ALL SELECT 'invalid index ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid
UNION ALL SELECT 'draft of an index ' || relname FROM pg_class
    WHERE relkind = 'i' AND relname ~ '^lab_[0-9a-f]{12}'
UNION ALL SELECT 'advisory lock of ' || pid FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL SELECT 'session, ' || state || ', at ' || left(query, 60) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s
UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts
"""


@dataclass(frozen=True)
class Holdings:
    """What is committed."""

    rows: Rows
    schema: Schema

    @property
    def count(self) -> int:
        """Return the number of rows."""
        return sum(map(Counter.total, self.rows.values()))

    @property
    def has_vector_index(self) -> bool:
        """Say whether a vector index answers."""
        return any(" USING ivfflat " in str(row[1]) and row[-1] == "true" for row in self.schema)


def holdings(cursor: Any) -> Holdings:
    """Look at everything that is committed."""
    cursor.execute(_SCHEMA)
    schema = set(cursor.fetchall())
    tables = {row[0] for row in schema}
    if _is_there(cursor, "alembic_version"):
        cursor.execute("SELECT 'revision', version_num FROM alembic_version")
        schema |= set(cursor.fetchall())
    rows: Rows = {}
    if {"document_chunks", "chunk_embeddings"} <= tables:
        cursor.execute(_ROWS)
        for source, *row in cursor.fetchall():
            rows.setdefault(source, Counter())[tuple(row)] += 1
    return Holdings(rows, frozenset(schema))


def counted(cursor: Any) -> dict[str, int]:
    """Return the committed rows of each source, quickly; none while the table is being altered."""
    if not _is_there(cursor, "document_chunks"):
        return {}
    cursor.execute("SET lock_timeout = '10ms'")
    with contextlib.suppress(LockNotAvailable):
        cursor.execute("SELECT source_file, count(*) FROM document_chunks GROUP BY 1")
        return dict(cursor.fetchall())
    return {}


def _is_there(cursor: Any, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
    return bool(cursor.fetchone()[0])


def rows_lost(before: Rows, done: Rows, seen: dict[str, int], after: Rows) -> int:
    """Count the committed rows that are gone.

    A source stands as it did `before` the operation or as the operation leaves it when `done`;
    once it was `seen` done it may not go back.
    """
    lost = 0
    for source in before.keys() | done.keys():
        there = after.get(source, Counter())
        old, new = before.get(source, Counter()), done.get(source, Counter())
        was_done = old.total() != new.total() and seen.get(source) == new.total()
        wanted = [new] if was_done else [old, new]
        lost += min((rows - there).total() for rows in wanted)
    return lost


def parts(before: Rows, done: Rows, after: Rows) -> Iterator[str]:
    """Name the sources of which a part is there, or more than there should be."""
    for source in before.keys() | done.keys() | after.keys():
        if after.get(source) not in (before.get(source), done.get(source)):
            yield f"part of {source}"


def left_in_database(cursor: Any) -> list[str]:
    """Name what nobody needs any more, once the server has noticed who is gone."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        cursor.execute(_LEFT, [APPLICATION])
        left = [row[0] for row in cursor.fetchall()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def left_in(*places: Path) -> list[str]:
    """Name the files, given or anywhere below folders given, that are drafts or not whole."""
    return [
        f"{'draft' if _is_draft(path) else 'broken'} {path.name}"
        for place in places
        for path in (place.rglob("*") if place.is_dir() else [place])
        if _is_draft(path) or not _is_whole(path)
    ]


def left_of_runs(folder: Path) -> list[str]:
    """Name what lies among the runs and is none, or goes on without anybody."""
    if not folder.is_dir():
        return []
    known = {run.name: run.status for run in runs.saved(folder)}
    strange = [f"no run {path.name}" for path in folder.iterdir() if path.name not in known]
    return strange + [
        f"run {name} goes on" for name, status in known.items() if status == "running"
    ]


def _is_draft(path: Path) -> bool:
    return re.search(r"\.tmp$|\.new-|\.vectors$", path.name) is not None


def _is_whole(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".py":
            compile(path.read_text(), path, "exec")
    except (ValueError, SyntaxError):
        return False
    return True
