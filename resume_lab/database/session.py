"""Engines and sessions: the address from the settings, or the embedded server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import connection as RawConnection  # noqa: N812
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.orm import Session, sessionmaker

from resume_lab.config import EmbeddedSettings, Settings
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.errors import ConnectionFailed, DatabaseError

CONNECT_TIMEOUT_S = 15
LOAD_LOCK_WAIT = "30s"
"""How long a load waits for a table that another session has locked."""

_REACH_VECTOR = """
SELECT set_config(
    'search_path', concat_ws(', ', current_setting('search_path'), quote_ident(nspname)), false
)
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
WHERE extname = 'vector' AND nspname <> ALL (current_schemas(true))
"""

# libpq gives connection errors no SQLSTATE, so they are told apart by their text.
_REASONS = (
    (r"password authentication failed|no password supplied|SASL", "The password or user is wrong."),
    (r'database ".*" does not exist', "Create it, or correct the name at the end of DATABASE_URL."),
    (r'role ".*" does not exist', "Correct the user in DATABASE_URL, or create the role."),
    (
        r"could not translate host name|Name or service not known|nodename nor servname",
        "Check the spelling of the host. Supabase's direct host has IPv6 only: "
        "use the address of its session pooler.",
    ),
    (r"No such file or directory", "No server listens on that socket; check the folder in host=."),
    (r"Connection refused", "No server listens there: is it running, and is the port right?"),
    (r"timeout expired|timed out", "The host did not answer: check address, firewall and VPN."),
    (r"SSL|TLS|certificate", "Check sslmode and sslrootcert at the end of DATABASE_URL."),
    (r"starting up|shutting down|recovery mode", "Wait a moment and try again."),
    (r"too many (connections|clients)|remaining connection slots", "Close other notebooks."),
)


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
    connect_args = {"application_name": "resume_lab"}
    if "connect_timeout" not in url.query:
        connect_args["connect_timeout"] = str(CONNECT_TIMEOUT_S)
    engine = sa.create_engine(
        url, hide_parameters=True, pool_pre_ping=True, connect_args=connect_args, **options
    )
    sa.event.listen(engine, "handle_error", _translate)
    sa.event.listen(engine, "connect", _reach_vector)
    return engine


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Return what makes sessions on this engine; `.begin()` gives one that commits at its end."""
    return sessionmaker(engine)


def set_load_timeouts(connection: Connection) -> None:
    """Wait LOAD_LOCK_WAIT at most for a lock, but load for as long as it takes: one transaction.

    A lock_timeout of the role, the database or the URL goes first. Hosts that end statements after
    two minutes would end every larger load.
    """
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(
        sa.text(
            "SELECT set_config('lock_timeout', :wait, true) "
            "WHERE current_setting('lock_timeout') = '0'"
        ),
        {"wait": LOAD_LOCK_WAIT},
    )


def _reach_vector(connection: RawConnection, _record: Any) -> None:
    """Add the schema of pgvector to the end of the search path where it is not on it.

    Supabase keeps extensions in a schema of their own, and a role that is not Supabase's own does
    not see it. Behind a transaction pooler the addition is lost: there the role needs the path.
    """
    connection.autocommit = True  # or a rollback would undo it
    with connection.cursor() as cursor:
        cursor.execute(_REACH_VECTOR)
    connection.autocommit = False


def _translate(context: ExceptionContext) -> None:
    """Turn errors without a server behind them into one that says what to do."""
    original = context.original_exception
    # Before it lends a connection, the pool wants to see the error itself, and connects anew.
    if context.is_pre_ping or getattr(original, "pgcode", None):
        return
    if not isinstance(original, Exception):
        return  # SQLAlchemy counts an interrupt as a lost connection
    said = " ".join(str(original).split())
    if context.connection is None and isinstance(original, psycopg2.OperationalError):
        raise ConnectionFailed(
            f"No connection to {_place(context)}: {said}", hint=_hint(said)
        ) from None
    if context.connection is not None and context.is_disconnect:
        raise DatabaseError(
            f"The connection to the server was lost: {said}",
            hint="What was not committed is undone. Run the same command again.",
        ) from None


def _place(context: ExceptionContext) -> str:
    return str(context.engine.url) if context.engine is not None else "the database"


def _hint(said: str) -> str:
    for pattern, hint in _REASONS:
        if re.search(pattern, said):
            return hint
    return "Check DATABASE_URL; without it the embedded PostgreSQL is used."
