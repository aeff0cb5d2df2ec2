"""Whatever goes wrong with a connection, no part of the password is in what is said about it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.config import parse_database_url
from resume_lab.database import schema, verify
from resume_lab.database.session import engine_for
from resume_lab.errors import ConnectionFailed, LabError
from resume_lab.retrieval import log_question, search

from .canary import SECRETS, everything_said, leaks
from .conftest import Address


def failure_of(url: sa.URL, password: str) -> str:
    engine = engine_for(url.set(password=password))
    with pytest.raises(ConnectionFailed) as raised:
        engine.connect()
    engine.dispose()
    return everything_said(raised.value)


@contextlib.contextmanager
def listener(answer: bytes | None) -> Iterator[sa.URL]:
    """A server that is no PostgreSQL: it answers the first bytes so, or never."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(8)
                        if answer is None:
                            connection.recv(8)  # until the client gives up
                        else:
                            connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        options = "sslmode=require&gssencmode=disable&connect_timeout=2"
        port = server.getsockname()[1]
        yield parse_database_url(f"postgresql://me@127.0.0.1:{port}/lab?{options}")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "address",
    [
        "me@127.0.0.1:1/lab",
        "me@[::1]:1/lab",
        "me@nowhere.invalid/lab",
        "me@/lab?host=/nowhere",
        "me@/lab?host=127.0.0.1:1&host=127.0.0.1:2",
    ],
)
def test_an_address_where_nobody_answers(address: str, canary: str) -> None:
    url = parse_database_url(f"postgresql://{address}")
    assert not leaks(failure_of(url, SECRETS[canary]), SECRETS[canary])


@pytest.mark.parametrize("answer", [b"N", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_without_tls(answer: bytes, canary: str) -> None:
    with listener(answer) as url:
        assert not leaks(failure_of(url, SECRETS[canary]), SECRETS[canary])


def test_a_server_that_never_answers() -> None:
    with listener(None) as url:
        secret = SECRETS["reserved"]
        said = failure_of(url, secret)
    assert "timeout" in said
    assert not leaks(said, secret)


def test_the_server_refuses_the_password_the_role_or_the_database(
    address: Address, canary: str
) -> None:
    secret = SECRETS[canary]
    wrong = next(name for name in SECRETS if name != canary)
    for url in (address(wrong), address(canary).set(database="not_there")):
        assert not leaks(failure_of(url, secret), secret)
    stranger = address(canary).set(username="stranger")
    assert not leaks(failure_of(stranger, secret), secret)


def end_of(admin: Engine, connection: sa.Connection) -> None:
    """End the session of a connection, as a server that goes down does."""
    pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    with admin.connect() as other:
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def test_the_connection_is_lost(engine: Engine, admin: Engine, canary: str) -> None:
    with engine.connect() as connection:
        end_of(admin, connection)
        with pytest.raises(LabError) as raised:
            connection.execute(sa.text("SELECT 1"))
    assert not leaks(everything_said(raised.value), SECRETS[canary])


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "SELECT 1/0", "SELEKT"])
def test_a_statement_fails(engine: Engine, canary: str, statement: str) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as raised:
        connection.execute(sa.text(statement))
    assert not leaks(everything_said(raised.value), SECRETS[canary])


def test_the_role_has_no_rights(address: Address, admin: Engine, canary: str) -> None:
    url, secret = address(canary).set(username="canary_powerless"), SECRETS[canary]
    password = secret.replace("'", "''").replace("%", "%%")
    with admin.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE ROLE canary_powerless LOGIN IN ROLE canaries PASSWORD '{password}'"
        )
    engine = engine_for(url)
    try:
        said = [str(verify(engine))]
        for action in (schema.downgrade, log_a_question, look_for_a_passage):
            with pytest.raises((LabError, sa.exc.SQLAlchemyError)) as raised:
                action(engine, "base")
            said.append(everything_said(raised.value))
    finally:
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(sa.text("DROP ROLE canary_powerless"))
    assert "permission denied" in said[-1]
    assert not leaks("\n".join(said), secret)


def log_a_question(engine: Engine, text: str) -> None:
    log_question(engine, text, [], None)


def look_for_a_passage(engine: Engine, text: str) -> None:
    search(text, engine=engine)


def test_what_the_driver_and_the_server_show_of_a_session(
    engine: Engine, admin: Engine, canary: str
) -> None:
    with engine.connect() as connection, admin.connect() as other:
        raw = connection.connection.dbapi_connection
        shown = [repr(engine), repr(engine.url), repr(connection), repr(raw), raw.dsn]
        shown += [repr(engine.pool), engine.pool.status()]
        seen = other.execute(
            sa.text("SELECT * FROM pg_stat_activity WHERE usename = :role"),
            {"role": f"canary_{canary}"},
        )
        rows = [dict(row) for row in seen.mappings()]
    assert {row["application_name"] for row in rows} == {"resume_lab"}
    assert not leaks("\n".join([*shown, str(rows)]), SECRETS[canary])
