"""A connection of psycopg2 on which the statements of one `execute` are one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as RawConnection  # noqa: N812
from sqlalchemy.engine import Connection, Engine

from resume_lab.database.failures import translated_driver_errors, translated_errors
from resume_lab.database.indexes import raw_connection
from resume_lab.errors import DatabaseError, SchemaError

_UNKNOWN = ("42P01", "42703")
"""SQLSTATEs of a table and of a column that is not there."""


@contextlib.contextmanager
def borrowed(bind: Engine | Connection) -> Iterator[RawConnection]:
    """Lend the connection under `bind`; its errors become DatabaseError, or SchemaError.

    PostgreSQL runs several statements of one message as one transaction, so a setting and its
    search take one round trip, no setting stays, and a transaction pooler keeps them together. In
    a transaction under way all is undone to a savepoint instead. AUTOCOMMIT makes no difference.
    """
    if isinstance(bind, Engine):
        with translated_errors(bind), bind.connect() as connection, borrowed(connection) as raw:
            yield raw
        return
    raw = raw_connection(bind)
    with _explained_errors(), _undone(bind, raw), _given_up_if_lost(bind, raw):
        yield raw


@contextlib.contextmanager
def _undone(connection: Connection, raw: RawConnection) -> Iterator[None]:
    """Leave the transaction under way as it was, or none where there is none."""
    if raw.info.transaction_status == TRANSACTION_STATUS_IDLE:
        with _autocommit(raw):
            yield
        return
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        savepoint.rollback()


@contextlib.contextmanager
def _given_up_if_lost(connection: Connection, raw: RawConnection) -> Iterator[None]:
    """Tell the pool of a lost connection, which it would roll back, and log a traceback."""
    try:
        yield
    finally:
        if raw.closed:
            connection.invalidate()


@contextlib.contextmanager
def _autocommit(raw: RawConnection) -> Iterator[None]:
    before = raw.autocommit
    raw.autocommit = True
    try:
        yield
    finally:
        if not raw.closed:
            raw.autocommit = before


@contextlib.contextmanager
def _explained_errors() -> Iterator[None]:
    try:
        with translated_driver_errors():
            yield
    except DatabaseError as error:
        if getattr(error.__cause__, "pgcode", None) not in _UNKNOWN:
            raise
        raise SchemaError(
            "The tables are not there yet, or are older than this package.",
            hint="`resume-lab ingest FOLDER` makes and fills them, `resume-lab migrate` renews "
            "older ones.",
        ) from None
