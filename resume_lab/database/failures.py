"""What an error of the server means, told by its SQLSTATE: a sentence, and what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.locks import Holder, holders
from resume_lab.errors import DatabaseError, SchemaError

ENDED = ("57P", "08")
"""SQLSTATEs of a connection that the server, or the way to it, has ended."""

AGAIN = "Run the same command again."
NO_PGVECTOR = "pgvector is not installed on this server."
INSTALL_PGVECTOR = (
    "Install it there (Debian: postgresql-<major>-pgvector; Supabase, RDS and others "
    "carry it), or unset DATABASE_URL to use the embedded PostgreSQL."
)
_LOCKED_OUT = "55P03"


@dataclass(frozen=True)
class _Meaning:
    """`message` may name {said}, the server's first line; `of` must stand in what it said."""

    codes: tuple[str, ...]
    message: str
    hint: str
    of: str = ""
    error: type[DatabaseError] = DatabaseError


# The first that fits is taken.
_MEANINGS = (
    _Meaning(
        ("0A000", "58P01", "22023"),
        NO_PGVECTOR,
        INSTALL_PGVECTOR,
        of="extension",
        error=SchemaError,
    ),
    _Meaning(
        ("42P01",),
        "The tables are not there yet: {said}",
        "Run `resume-lab migrate` first.",
        of='"chunk_embeddings"',
        error=SchemaError,
    ),
    *(
        _Meaning(
            ("42501",),
            "This role may not do this: {said}",
            "Only an administrator makes roles and grants them (a superuser, or a role with "
            "CREATEROLE): use one in DATABASE_URL.",
            of=what,
            error=SchemaError,
        )
        for what in ("create role", "grant role", "drop role", "alter role")
    ),
    _Meaning(
        ("42501",),
        "This role may not do this: {said}",
        "Run it as the role that is named, or as an administrator: DATABASE_URL says as whom.",
        of="SET ROLE",
        error=SchemaError,
    ),
    _Meaning(
        ("42501",),
        "This role may not do this: {said}",
        "Only the owner of a table may change it or its indexes: use that role in DATABASE_URL.",
        of="must be owner",
        error=SchemaError,
    ),
    _Meaning(
        ("42501",),
        "This role may not create the extension vector: {said}",
        "Let a superuser or the database's owner run: CREATE EXTENSION vector;",
        of="extension",
        error=SchemaError,
    ),
    _Meaning(
        ("42501",),
        "Row level security keeps this role from writing this row: {said}",
        "Write as a role that a policy lets write; `resume-lab roles` shows who may do what.",
        of="row-level security",
        error=SchemaError,
    ),
    _Meaning(
        ("42501",),
        "This role may not do this: {said}",
        "Grant the role CREATE on the schema, or use its owner.",
        of="schema",
        error=SchemaError,
    ),
    _Meaning(
        ("42501",),
        "This role may not do this: {said}",
        "Use a role in DATABASE_URL that may: `resume-lab roles` shows who may do what.",
        error=SchemaError,
    ),
    _Meaning(
        ("57014",),
        "The statement took longer than statement_timeout allows here.",
        "Give it longer, such as ?options=-c%20statement_timeout%3D10min at the end of "
        "DATABASE_URL.",
        of="statement timeout",
    ),
    _Meaning(("57014",), "Another session, or an administrator, ended the statement.", AGAIN),
    _Meaning(
        ("53100",),
        "The disk of the server is full: {said}",
        "Free space there (for the embedded server, on the disk of LAB_DIR), then run the same "
        "command again.",
    ),
    _Meaning(
        ("53400",),
        "The server allows no more temporary files: {said}",
        "Ask for fewer rows, or let a superuser raise temp_file_limit.",
        of="temp_file_limit",
    ),
    _Meaning(
        ("53200",),
        "The server ran out of memory: {said}",
        "Ask for less at a time (fewer rows, fewer lists), or give the server more memory.",
    ),
    _Meaning(
        ("54000",),
        "The server's memory setting is too small for this index: {said}",
        "SET maintenance_work_mem to that size or more, then run the same command again.",
        of="memory required",
    ),
    _Meaning(
        ("42602",),
        "This pgvector is older than 0.8: {said}",
        "`resume-lab verify` says how to get a newer one.",
        of='"ivfflat.',
        error=SchemaError,
    ),
    _Meaning(
        ("25006",),
        "The server only reads: it is a standby, or default_transaction_read_only is on.",
        "Give DATABASE_URL the address of the primary, or a role that may write.",
    ),
    _Meaning(("40001", "40P01"), "Two sessions were in each other's way: {said}", AGAIN),
    _Meaning(
        ("58030", "XX001", "XX002"),
        "The server cannot read or write its own files: {said}",
        "Look into the server's log (an embedded one's: server.log below LAB_DIR) and at its disk. "
        "Put back from a copy what is damaged.",
    ),
    _Meaning(
        ("22P05", "22021"),
        "The encoding of this database cannot hold this text: {said}",
        "Use a database with the encoding UTF8: CREATE DATABASE name ENCODING 'UTF8' "
        "TEMPLATE template0;",
    ),
    _Meaning(
        ("22000", "22P02", "22003"),
        "PostgreSQL does not take this value: {said}",
        "Vectors have 1536 finite numbers each.",
    ),
)


def explained(error: BaseException, holding: list[Holder] | None = None) -> DatabaseError | None:
    """Return what an error of psycopg2, or SQLAlchemy's around it, means; None if unknown.

    `holding` are the sessions in the way, where the error is a wait for a lock that was too long.
    """
    statement = getattr(error, "statement", None) or ""
    error = getattr(error, "orig", None) or error
    code = getattr(error, "pgcode", None) or ""
    said = str(error).strip() or "nothing"
    if is_lost(error):
        return DatabaseError(
            f"The connection to the server was lost: {_first_line(said)}",
            state="What was not committed is undone.",
            hint=AGAIN,
        )
    if code == _LOCKED_OUT:
        return _locked_out(holding or [], concurrently="CONCURRENTLY" in statement)
    for meaning in _MEANINGS:
        if code in meaning.codes and meaning.of in said:
            return meaning.error(meaning.message.format(said=_first_line(said)), hint=meaning.hint)
    return None


def is_lost(error: BaseException | None) -> bool:
    """Say whether the connection is gone."""
    code = getattr(error, "pgcode", None) or ""
    operational = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    return operational and (not code or code.startswith(ENDED))


@contextlib.contextmanager
def translated_driver_errors() -> Iterator[None]:
    """Turn the errors of psycopg2 used directly, past SQLAlchemy, into DatabaseError."""
    try:
        yield
    except psycopg2.Error as error:
        said = _first_line(str(error)) or "nothing"
        raise explained(error) or DatabaseError(f"The server did not do it: {said}") from error


@contextlib.contextmanager
def translated_errors(engine: Engine | None = None) -> Iterator[None]:
    """Say what to do about the errors that people meet on servers of others, or shared ones.

    With `engine`, a wait for a lock that was too long names the sessions in the way.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        meant = explained(error, _holding(engine, error.orig))
        if meant is None:
            raise
        raise meant from None
    except DatabaseError as error:  # of translated_driver_errors, which knows no holders
        error = _before_rollback(error)
        cause = error.__cause__
        holding = _holding(engine, cause)
        raise ((cause and holding and explained(cause, holding)) or error) from cause


def _before_rollback(error: DatabaseError) -> DatabaseError:
    """Return why there was a rollback, where that failed in its turn on a lost connection."""
    cause = error.__cause__
    first = cause.__context__ if cause is not None and is_lost(cause) else None
    return first if isinstance(first, DatabaseError) else error


def _holding(engine: Engine | None, error: BaseException | None) -> list[Holder]:
    locked_out = getattr(error, "pgcode", None) == _LOCKED_OUT
    return holders(engine) if engine is not None and locked_out else []


def _locked_out(holding: list[Holder], *, concurrently: bool) -> DatabaseError:
    held_by = "".join(f"\n  {holder}" for holder in holding)
    first = holding[0] if holding and (concurrently or holding[0].modes) else None
    end = f", or end it: SELECT pg_terminate_backend({first.pid});" if first else "."
    close = f"Commit or close it (an open transaction in a notebook?){end}"
    if concurrently:
        return SchemaError(
            "Another session kept a transaction open for longer than an index may wait for it; "
            f"the indexes in use are as they were.{held_by}",
            hint=f"{close} Then run the same command again: it drops what was left half built.",
        )
    return SchemaError(
        f"Another session holds a lock on the tables.{held_by}",
        state="Nothing was changed.",
        hint=f"{close} Then run the same command again.",
    )


def _first_line(said: str) -> str:
    return said.strip().partition("\n")[0]
