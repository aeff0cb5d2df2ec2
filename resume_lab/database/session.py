"""Engines and sessions: the address from the settings, or the embedded server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from psycopg2.extensions import connection as RawConnection  # noqa: N812
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.orm import Session, sessionmaker

from resume_lab.config import EmbeddedSettings, Settings
from resume_lab.database.connecting import ConnectionPool, prepare, timeout_option
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.failures import explained, is_lost
from resume_lab.database.no_connection import connection_failed

# Rows are sent as UTF-8, which a database of another encoding converts when it is told so.
_OPTIONS = {"application_name": "resume_lab", "client_encoding": "utf8"}

# A host that falls silent is noticed within a minute, also while a statement is cancelled.
_TCP = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

LOCK_WAIT = "30s"
"""How long any statement waits for a table that another session has locked."""

_LIMIT_WAITING = (
    f"SELECT set_config('lock_timeout', '{LOCK_WAIT}', false) "
    "WHERE current_setting('lock_timeout') = '0'"
)
_REACH_VECTOR = """
SELECT set_config(
    'search_path', concat_ws(', ', current_setting('search_path'), quote_ident(nspname)), false
)
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
WHERE extname = 'vector' AND nspname <> ALL (current_schemas(true))
"""


def server(settings: EmbeddedSettings) -> EmbeddedServer:
    """Return the embedded server that these settings name; nothing is started."""
    return EmbeddedServer(settings.lab_dir, version=settings.lab_postgres)


def open_engine(settings: Settings | None = None) -> Engine:
    """Return an engine on DATABASE_URL or, without one, on the embedded server, started if needed.

    Raises ConfigError, EmbeddedError; connecting raises ConnectionFailed.
    """
    settings = settings or Settings()
    return engine_for(settings.url or server(settings).use())


@contextlib.contextmanager
def lent_engine(engine: Engine | None, settings: Settings | None = None) -> Iterator[Engine]:
    """Lend the engine given; without one open one, and close its connections at the end."""
    if engine is not None:
        yield engine
        return
    opened = open_engine(settings)
    try:
        yield opened
    finally:
        opened.dispose()


def engine_for(url: sa.URL, **options: Any) -> Engine:
    """Return an engine whose errors show neither parameters nor passwords."""
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_reset_on_return=None,  # _reset does it
        connect_args={
            **{name: value for name, value in _TCP.items() if name not in url.query},
            **_OPTIONS,
            **timeout_option(url),
        },
        **{"poolclass": ConnectionPool, **options},
    )
    prepare(engine)
    sa.event.listen(engine, "handle_error", _translate)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "reset", _reset)
    return engine


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Return what makes sessions on this engine; `.begin()` gives one that commits at its end."""
    return sessionmaker(engine)


def lift_statement_timeout(connection: Connection) -> None:
    """Load for as long as it takes, in this transaction.

    Hosts that end statements after two minutes would end every larger load.
    """
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def _prepare(connection: RawConnection, _record: Any) -> None:
    """Wait LOCK_WAIT at most for a lock, and reach pgvector where it is not on the search path.

    A lock_timeout of the role, the database or the URL goes first. Supabase keeps extensions in a
    schema of their own, and a role that is not Supabase's own does not see it. Behind a transaction
    pooler both are lost: there the role needs them.
    """
    before = connection.autocommit
    connection.autocommit = True  # or a rollback would undo it
    with connection.cursor() as cursor:
        cursor.execute(f"{_LIMIT_WAITING}; {_REACH_VECTOR}")
    connection.autocommit = before


def _reset(connection: RawConnection, _record: Any, _state: Any) -> None:
    """Roll back what comes back to the pool, as the pool does; it logs a failure's traceback."""
    if not connection.closed:
        connection.rollback()


def _translate(context: ExceptionContext) -> None:
    """Turn errors without a server behind them into one that says what to do."""
    original = context.original_exception
    # Before it lends a connection, the pool wants to see the error itself, and connects anew.
    # And SQLAlchemy counts an interrupt as a lost connection.
    if context.is_pre_ping or not isinstance(original, Exception) or not is_lost(original):
        return
    if context.connection is None and context.engine is not None:  # lost as it was made
        raise connection_failed(str(original), context.engine.url) from None
    meaning = explained(original)
    if context.is_disconnect and meaning is not None:
        raise meaning from None
