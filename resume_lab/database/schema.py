"""Migrations from Python: upgrade, downgrade, where the database stands, what would run.

The only module of the package that knows Alembic.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection, Engine

from resume_lab.config import project_root
from resume_lab.errors import SchemaError

LAB_PREFIX = "lab_"
"""Indexes and schemas of experiments start with this; migrations leave them alone."""

LOCK_TIMEOUT_S = 60.0
LOCK_WAIT = "30s"
"""How long a migration waits for a table that another session has locked."""

_LOCK_KEY = 0x7265_6C61_62  # "relab"; any constant that every migrating process shares


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database to `revision`; raises SchemaError."""
    _run(engine, command.upgrade, revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the database back to `revision`, such as "-1" or "base"; raises SchemaError."""
    _run(engine, command.downgrade, revision)


def current(engine: Engine) -> str | None:
    """Return the revision the database is at, None before the first migration."""
    with engine.connect() as connection:
        return revision_of(connection)


def revision_of(connection: Connection) -> str | None:
    """Return the revision the database of an open connection is at."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """Return the newest revision there is."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def is_current(engine: Engine) -> bool:
    """Say whether every migration has run."""
    return current(engine) == head()


def check(engine: Engine) -> None:
    """Raise SchemaError if the tables differ from the models."""
    _run(engine, command.check)


def history() -> list[tuple[str, str]]:
    """Return revision and title of every migration, newest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return [(script.revision, script.doc) for script in scripts]


def preview_sql(revision: str = "head") -> str:
    """Return the SQL of all migrations up to `revision`; no database is needed."""
    buffer = io.StringIO()
    config = _config()
    config.output_buffer = buffer
    with _command_errors():
        command.upgrade(config, revision, sql=True)
    return buffer.getvalue()


def include_object(
    _object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any
) -> bool:
    """Keep indexes of experiments, and tables that are not ours, out of autogenerate and check."""
    if type_ == "table" and reflected and compare_to is None:
        return False  # or it would be dropped
    return not (type_ == "index" and name is not None and name.startswith(LAB_PREFIX))


@contextlib.contextmanager
def migration_lock(engine: Engine, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Let one process migrate at a time; raises SchemaError after `timeout_s`.

    Polled on a connection of its own: a blocking lock would deadlock with CREATE INDEX
    CONCURRENTLY, which waits for every open transaction.
    """
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    key = {"key": _LOCK_KEY}
    with autocommit.connect() as connection:
        deadline = time.monotonic() + timeout_s
        while not connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), key):
            if time.monotonic() > deadline:
                raise SchemaError(
                    f"Another process has been migrating this database for {timeout_s:.0f} s.",
                    hint="Wait for it to end, then run the same command again.",
                )
            time.sleep(0.1)
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), key)


@contextlib.contextmanager
def limited_waiting(connection: Connection) -> Iterator[None]:
    """Let statements of this connection wait for a lock LOCK_WAIT at most.

    A lock_timeout of the role, the database or the URL (`?options=-c lock_timeout=5s`) goes first.
    The connection is closed afterwards instead of going back to the pool with this setting.
    """
    connection.execute(
        sa.text(
            "SELECT set_config('lock_timeout', :wait, false) "
            "WHERE current_setting('lock_timeout') = '0'"
        ),
        {"wait": LOCK_WAIT},
    )
    connection.commit()
    try:
        yield
    finally:
        connection.invalidate()


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Say what to do about the errors that a migration meets on other people's servers."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        explained = _explain(error)
        if explained is None:
            raise
        raise explained from None


def _explain(error: sa.exc.DBAPIError) -> SchemaError | None:
    code = getattr(error.orig, "pgcode", None)
    said = str(error.orig).strip()
    if code in ("0A000", "58P01", "22023") and "extension" in said:
        return SchemaError(
            "pgvector is not installed on this server.",
            hint="Install it there (Debian: postgresql-<major>-pgvector; Supabase, RDS and others "
            "carry it), or unset DATABASE_URL to use the embedded PostgreSQL.",
        )
    if code == "42501":
        what = "create the extension vector" if "extension" in said else "do this"
        return SchemaError(
            f"This role may not {what}: {said.splitlines()[0]}",
            hint="Let a superuser or the database's owner run: CREATE EXTENSION vector;"
            if "extension" in said
            else "Grant the role CREATE on the schema, or use its owner.",
        )
    if code == "55P03":
        return SchemaError(
            "Another session holds a lock on the tables; nothing was changed.",
            hint="Commit or close it (an open transaction in a notebook?), then try again.",
        )
    return None


def _config() -> Config:
    return Config(project_root() / "alembic.ini", stdout=io.StringIO())


def _run(engine: Engine, action: Any, *arguments: str) -> None:
    config = _config()
    config.attributes["connection"] = engine
    with _command_errors():
        action(config, *arguments)


@contextlib.contextmanager
def _command_errors() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise SchemaError(str(error), hint="See `alembic history` and `alembic current`.") from None
