"""The roles tried out: real ones, on empty tables of their own, and nothing of it stays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import uuid4

import sqlalchemy as sa
from psycopg2.errors import InsufficientPrivilege
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS
from sqlalchemy.engine import Connection, Engine

from resume_lab.database.base import Base
from resume_lab.database.failures import translated_errors
from resume_lab.database.indexes import execute, quoted, raw_connection
from resume_lab.database.role_migration import lacking
from resume_lab.database.roles import ROLES
from resume_lab.database.schema import LAB_PREFIX
from resume_lab.errors import DatabaseError

DONE, REFUSED = "done", "refused"

ATTEMPTS = {
    "read chunks": "SELECT FROM document_chunks LIMIT 1",
    "add a chunk": "INSERT INTO document_chunks (content, source_file, chunk_index) "
    "VALUES ('a', 'a/a.md', 0)",
    "change a chunk": "UPDATE document_chunks SET content = 'b'",
    "delete chunks": "DELETE FROM document_chunks",
    "empty the chunks": "TRUNCATE document_chunks CASCADE",
    "log a question": "INSERT INTO query_logs (query_text) VALUES ('a')",
    "read the log": "SELECT query_text FROM query_logs LIMIT 1",
    "drop an index": "DROP INDEX ix_document_chunks_category",
    "create a table": "CREATE TABLE mine (a integer)",
    "create a schema": "CREATE SCHEMA mine",
    "run a program": "COPY document_chunks (content) FROM PROGRAM 'true'",
}
"""What a role may want to do, and the statement that does it."""

# A superuser may act as any role; who created one, since PostgreSQL 16, only after this.
_BECOME_ANY = f"GRANT {', '.join(ROLES)} TO CURRENT_USER"


@contextlib.contextmanager
def tried(engine: Engine, *, with_row_security: bool = False) -> Iterator[Connection]:
    """Lend a connection in a transaction where the roles exist; all is undone at the end.

    The three tables it sees are empty ones in a schema of their own, so nobody waits for it.
    Raises DatabaseError where this role may not create roles and a schema.
    """
    schema = f"{LAB_PREFIX}roles_{uuid4().hex[:12]}"
    with engine.connect() as connection, connection.begin() as transaction:
        try:
            with _explained():
                _make_tables(connection, schema)
                for statement in lacking(connection, with_row_security=with_row_security).upgrade:
                    execute(connection, statement)
                execute(connection, _BECOME_ANY)
            yield connection
        finally:
            transaction.rollback()


def _make_tables(connection: Connection, schema: str) -> None:
    execute(connection, f"CREATE SCHEMA {quoted(schema)}")
    # pgvector before 0.8.5 asks for 65 MB to build its index on an empty table.
    connection.execute(
        sa.text(
            "SELECT set_config('maintenance_work_mem', '128MB', true), set_config("
            "'search_path', concat_ws(', ', :schema, current_setting('search_path')), true)"
        ),
        {"schema": quoted(schema)},
    )
    Base.metadata.create_all(connection, checkfirst=False)


@contextlib.contextmanager
def acting_as(connection: Connection, role: str) -> Iterator[Connection]:
    """Let the statements inside be those of a role, with its rights and no others."""
    execute(connection, f"SET LOCAL ROLE {quoted(role)}")
    try:
        yield connection
    finally:
        if raw_connection(connection).info.transaction_status == TRANSACTION_STATUS_INTRANS:
            execute(connection, "RESET ROLE")  # a failed transaction is rolled back, role and all


def attempts(connection: Connection, role: str) -> dict[str, str]:
    """Try all ATTEMPTS as a role; return of each whether it was DONE or REFUSED.

    Nothing of it stays. Raises DatabaseError where a statement fails for another reason.
    """
    found = {}
    with acting_as(connection, role):
        for what, statement in ATTEMPTS.items():
            savepoint = connection.begin_nested()
            try:
                execute(connection, statement)
                found[what] = DONE
            except DatabaseError as error:
                if not isinstance(error.__cause__, InsufficientPrivilege):
                    raise
                found[what] = REFUSED
            finally:
                savepoint.rollback()
    return found


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        with translated_errors():
            yield
    except DatabaseError as error:
        if not isinstance(error.__cause__, InsufficientPrivilege):
            raise
        raise DatabaseError(
            f"This role may not create roles and a schema: {error.message}",
            hint="Use an administrator in DATABASE_URL, or none: the embedded server lets you.",
        ) from None
