"""A copy of the vectors in a schema of its own, where indexes can be built and dropped.

The schema is dropped at the end. If the process dies first, the next experiment drops it: whoever
works on a scratch schema holds an advisory lock, which dies with the connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql
from psycopg2.errors import InsufficientPrivilege, LockNotAvailable, UndefinedObject
from sqlalchemy.engine import Connection, Engine

from resume_lab.database import copy
from resume_lab.database.disk import check_space, scratch_bytes
from resume_lab.database.indexes import execute, quoted, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.roles import OWNER, READER, WRITER
from resume_lab.database.schema import LAB_PREFIX
from resume_lab.errors import DatabaseError
from resume_lab.given import Choice

SCHEMA_PREFIX = f"{LAB_PREFIX}scratch_"
TABLE = "items"
COLUMN = "embedding"
INDEXES = 3
"""Indexes that the tuner has on the copy at a time, at most."""

_BATCH_ROWS = 1024

# The server goes on with the statement of a killed client, such as a build, and the drop would
# wait for it. Others only read there, as a backup does: they are waited for, and not for long.
_END_SESSIONS = sa.text("""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND application_name = 'resume_lab'
AND pg_has_role(usesysid, 'USAGE') AND pid IN (
    SELECT pid FROM pg_locks JOIN pg_class c ON c.oid = relation
    WHERE c.relnamespace = to_regnamespace(:schema) AND database = (
        SELECT oid FROM pg_database WHERE datname = current_database()
    )
)
""")


class Storage(Choice):
    """Where the table keeps vectors: beside it, in TOAST (pgvector's default), or in its rows."""

    EXTERNAL = "external"
    PLAIN = "plain"


@dataclass(frozen=True)
class Scratch:
    """The scratch table: `id` is the row's number in the array, `embedding` its vector."""

    engine: Engine
    schema: str
    rows: int
    dim: int
    storage: Storage = Storage.EXTERNAL

    @property
    def table(self) -> tuple[str, str]:
        """Return schema and name."""
        return self.schema, TABLE


@contextlib.contextmanager
def scratch_copy(
    engine: Engine,
    vectors: NDArray[np.float32],
    *,
    storage: Storage = Storage.EXTERNAL,
    indexes: int = INDEXES,
) -> Iterator[Scratch]:
    """Copy `vectors`, shape (n_rows, dim), to a scratch table; drop it at the end.

    Raises DatabaseError where the disk has no room for that and so many `indexes` at a time.
    """
    rows, dim = vectors.shape
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as owner:
        drop_abandoned(owner)
        needed = scratch_bytes(rows, dim, indexes)
        check_space(owner, needed, f"A copy of {rows:,} vectors, with the indexes on it,")
        schema = f"{SCHEMA_PREFIX}{uuid4().hex[:12]}"
        _try_lock(owner, schema)
        try:
            _fill(engine, schema, vectors, storage)
            _vacuum(owner, schema)
            yield Scratch(engine, schema, rows, dim, storage)
        finally:
            # A lost connection leaves the schema to the next experiment.
            with contextlib.suppress(sa.exc.SQLAlchemyError, DatabaseError):
                _drop(engine, schema)
                _unlock(owner, schema)


def drop_abandoned(connection: Connection) -> list[str]:
    """Drop the scratch schemas whose owners are gone; return their names."""
    names = connection.scalars(
        sa.text(
            "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, :prefix) "
            "AND pg_has_role(nspowner, 'USAGE')"  # nobody else may drop it
        ),
        {"prefix": SCHEMA_PREFIX},
    ).all()
    dropped = []
    for name in names:
        if _try_lock(connection, name):
            connection.execute(_END_SESSIONS, {"schema": name})
            if _drop_unless_in_use(connection, name):
                dropped.append(name)
            _unlock(connection, name)
    return dropped


def _drop_unless_in_use(connection: Connection, schema: str) -> bool:
    """Drop a schema, or leave it to the next experiment if somebody goes on reading it."""
    limit = sql.SQL("SELECT set_config('lock_timeout', '5s', true); ")  # for these statements only
    try:
        execute(connection, limit + _drop_statement(schema))
    except DatabaseError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        return False
    return True


def append(scratch: Scratch, vectors: NDArray[np.float32], *, first_id: int) -> None:
    """Add rows to the table, and to the indexes that are there; ids go on from `first_id`."""
    with scratch.engine.begin() as connection:
        _load(connection, scratch.schema, vectors, first_id)
    autocommit = scratch.engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        _vacuum(connection, scratch.schema)


def _fill(engine: Engine, schema: str, vectors: NDArray[np.float32], storage: Storage) -> None:
    """Create and load in one transaction: with wal_level minimal the load then skips the log.

    Autovacuum stays away: it would hold locks, and work, while something is measured.
    """
    create = sql.SQL(
        "CREATE SCHEMA {schema}; "
        "CREATE TABLE {table} (id integer NOT NULL, {column} vector({dim})) "
        "WITH (autovacuum_enabled = off); "
        "ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE {storage}"
    ).format(
        schema=sql.Identifier(schema),
        table=sql.Identifier(schema, TABLE),
        column=sql.Identifier(COLUMN),
        dim=sql.Literal(vectors.shape[1]),
        storage=sql.SQL(storage.upper()),
    )
    with engine.begin() as connection:
        _create(connection, create)
        _load(connection, schema, vectors, 0)


def _load(connection: Connection, schema: str, vectors: NDArray[np.float32], first_id: int) -> None:
    def batches() -> Iterator[bytes]:
        for first in range(0, len(vectors), _BATCH_ROWS):
            block = vectors[first : first + _BATCH_ROWS]
            ids = np.arange(first, first + len(block), dtype=np.int32) + np.int32(first_id)
            yield copy.encode_batch(ids, block)

    raw = raw_connection(connection)
    execute(connection, "SET LOCAL statement_timeout = 0")  # some hosts allow two minutes
    with copy.ahead(batches()) as encoded:
        interruptible(raw, lambda: copy.copy_rows(raw, (schema, TABLE), ("id", COLUMN), encoded))


def _vacuum(connection: Connection, schema: str) -> None:
    statement = sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(schema, TABLE))
    interruptible(raw_connection(connection), lambda: execute(connection, statement))


def _create(connection: Connection, statement: sql.Composed) -> None:
    try:
        execute(connection, statement)
    except DatabaseError as error:
        if isinstance(error.__cause__, UndefinedObject):
            raise DatabaseError(
                "This role does not see pgvector's type vector. Nothing was changed.",
                hint="Let the owner run CREATE EXTENSION vector; or, where it is there, grant this "
                "role USAGE on the schema that holds it.",
            ) from None
        if not isinstance(error.__cause__, InsufficientPrivilege):
            raise
        url = connection.engine.url
        database, role = (quoted(n) if n else "..." for n in (url.database, url.username))
        raise DatabaseError(
            "This role may not create a schema, which experiments need for their copy.",
            hint=f"Use {OWNER} in DATABASE_URL."
            if url.username in (READER, WRITER)
            else f"Let the owner run: GRANT CREATE ON DATABASE {database} TO {role};",
        ) from None


def _drop(engine: Engine, schema: str) -> None:
    with engine.begin() as connection:
        execute(connection, _drop_statement(schema))


def _drop_statement(schema: str) -> sql.Composed:
    return sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))


def _try_lock(connection: Connection, schema: str) -> bool:
    statement = sa.text("SELECT pg_try_advisory_lock(hashtext(:schema))")
    return bool(connection.scalar(statement, {"schema": schema}))


def _unlock(connection: Connection, schema: str) -> None:
    connection.execute(sa.text("SELECT pg_advisory_unlock(hashtext(:schema))"), {"schema": schema})
