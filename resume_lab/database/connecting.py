"""Making connections: waiting where that can help, and looking at what was reached."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import connection as RawConnection  # noqa: N812
from sqlalchemy.engine import Engine

from resume_lab.database.no_connection import connection_failed, failure_of
from resume_lab.database_url import is_this_machine
from resume_lab.errors import DatabaseError, SchemaError

CONNECT_TIMEOUT_S = 15
"""For each address of a host; `connect_timeout` in the URL and PGCONNECT_TIMEOUT go first."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0

TRANSACTION_PORT, SESSION_PORT = 6543, 5432
"""Ports of Supabase's pooler, by what keeps one connection of the server."""

log = logging.getLogger(__name__)


class UnverifiedServer(UserWarning):
    """Nobody has verified that the server is the one that was meant."""


class ConnectionPool(sa.pool.QueuePool):
    """SQLAlchemy's pool, which says in a sentence that all its connections are in use."""

    def connect(self) -> sa.pool.PoolProxiedConnection:
        """Lend a connection; raises DatabaseError if none is given back in time."""
        try:
            return super().connect()
        except sa.exc.TimeoutError:
            raise DatabaseError(
                f"All {self.checkedout()} connections that this process may have open were in use "
                f"for {self.timeout():g} s.",
                hint="Close what is not needed, such as a session or a result left open in a "
                "notebook, or use fewer threads.",
            ) from None


def prepare(engine: Engine) -> None:
    """Let every new connection of the engine be made by `connect`, and say if it is unverified."""

    def do_connect(dialect: Any, _record: Any, arguments: Any, keywords: Any) -> RawConnection:
        return connect(lambda: dialect.connect(*arguments, **keywords), engine.url)

    sa.event.listen(engine, "do_connect", do_connect)
    sa.event.listen(engine, "connect", _warn_if_unverified)


def timeout_option(url: sa.URL) -> dict[str, str]:
    """Return the time-out to connect with, where nobody has set another."""
    if "connect_timeout" in url.query or "PGCONNECT_TIMEOUT" in os.environ:
        return {}
    return {"connect_timeout": str(CONNECT_TIMEOUT_S)}


def connect(attempt: Callable[[], RawConnection], url: sa.URL) -> RawConnection:
    """Connect by `attempt`, again and again while the server is about to be ready.

    Raises ConnectionFailed, which says for how long it was tried.
    """
    start = time.monotonic()
    tries, pause = 1, FIRST_PAUSE_S
    while True:
        try:
            return _noticing_interrupts(attempt)
        except (psycopg2.OperationalError, UnicodeDecodeError) as error:
            said = _said(error)
        failure, waited = failure_of(said), time.monotonic() - start
        if waited >= failure.wait_s:
            tried = f"It was tried {tries} times in {waited:.0f} s. " if tries > 1 else ""
            raise connection_failed(said, url, tried=tried)
        if tries == 1:
            log.warning("Waiting for up to %g s: %s.", failure.wait_s, failure.what)
        time.sleep(min(pause, failure.wait_s - waited))
        tries, pause = tries + 1, min(2 * pause, LONGEST_PAUSE_S)


def _noticing_interrupts(attempt: Callable[[], RawConnection]) -> RawConnection:
    """Connect on a thread: psycopg2 itself notices Ctrl-C only when the host answers."""
    if threading.current_thread() is not threading.main_thread():
        return attempt()
    outcome: Future[RawConnection] = Future()

    def run() -> None:
        try:
            outcome.set_result(attempt())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result()


def _said(error: psycopg2.OperationalError | UnicodeDecodeError) -> str:
    """Return the text of an error, also where the server speaks in another encoding than ours."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode(errors="replace")
    return str(error)


def _warn_if_unverified(connection: RawConnection, _record: Any) -> None:
    """Warn once of each host on another machine that need not be the one it says it is."""
    in_force = connection.info.dsn_parameters  # what came from the environment too
    host = connection.info.host
    if is_this_machine(in_force.get("hostaddr") or host):
        return
    encrypted = connection.info.ssl_in_use
    if (encrypted and in_force.get("sslmode") == "verify-full") or host in _warned:
        return
    _warned.add(host)
    how = (
        "encrypted, but nobody has verified that it leads to the right server"
        if encrypted
        else "not encrypted: everybody on the way can read and change what passes"
    )
    # Explicit, for then it is shown in one line, without a line of SQLAlchemy's source.
    warnings.warn_explicit(
        f"The connection to {host} is {how}. Add sslmode=verify-full&sslrootcert=FILE to the "
        "options of DATABASE_URL, with the certificate of the host's CA (Supabase: Database > "
        "Settings > SSL), or sslrootcert=system if a public CA has signed it.",
        UnverifiedServer,
        "resume_lab",
        0,
    )


_warned: set[str] = set()


def refuse_transaction_pooler(engine: Engine) -> None:
    """Raise SchemaError on Supabase's pooler in transaction mode, where no lock outlives it."""
    url = engine.url
    if url.port == TRANSACTION_PORT and (url.host or "").endswith(
        (".supabase.com", ".supabase.co")
    ):
        raise SchemaError(
            f"{url.host}:{TRANSACTION_PORT} is Supabase's pooler in transaction mode, through "
            "which nothing can be migrated.",
            state="Nothing was changed.",
            hint=f"Write port {SESSION_PORT}, its session mode, into DATABASE_URL.",
        )
