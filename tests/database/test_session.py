"""Engines and sessions: a failed connection says what failed and what to do, and no password."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, sessionmaker

from resume_lab.config import Settings, parse_database_url
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.models import QueryLog
from resume_lab.database.session import engine_for, open_engine, session_factory
from resume_lab.errors import ConnectionFailed, DatabaseError

CANARY = "c4n4ry"


def failure(url: sa.URL) -> ConnectionFailed:
    engine = engine_for(url.set(password=CANARY))
    with pytest.raises(ConnectionFailed) as raised:
        engine.connect()
    engine.dispose()
    assert CANARY not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r}"
    return raised.value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nobody_listening_on_a_port_is_told() -> None:
    error = failure(parse_database_url(f"postgresql://me@127.0.0.1:{free_port()}/lab"))
    assert "is it running, and is the port right?" in error.hint


def test_a_socket_folder_without_a_server_is_told(tmp_path: Path) -> None:
    error = failure(parse_database_url(f"postgresql://me@/lab?host={tmp_path}"))
    assert "No server listens on that socket" in error.hint


def test_a_host_that_does_not_resolve_is_told() -> None:
    error = failure(parse_database_url("postgresql://me@nowhere.invalid/lab"))
    assert "Check the spelling of the host" in error.hint
    assert "session pooler" in error.hint
    assert "nowhere.invalid" in error.message


def test_a_missing_database_is_told(server18: EmbeddedServer) -> None:
    error = failure(server18.url("not_there"))
    assert "correct the name at the end of DATABASE_URL" in error.hint
    assert "not_there" in error.message


def test_a_missing_role_is_told(server18: EmbeddedServer) -> None:
    error = failure(server18.url("postgres").set(username="stranger"))
    assert "Correct the user" in error.hint


@pytest.fixture
def role_with_password(server18: EmbeddedServer, empty_database: Engine) -> Iterator[str]:
    """A role that the server asks for its password; the others need none."""
    access = server18.data_dir / "pg_hba.conf"
    before = access.read_text()
    access.write_text("local all locked scram-sha-256\n" + before)
    with empty_database.begin() as connection:
        connection.execute(sa.text("CREATE ROLE locked LOGIN PASSWORD 'right'"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    yield "locked"
    access.write_text(before)
    with empty_database.begin() as connection:
        connection.execute(sa.text("DROP ROLE locked"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


def test_a_wrong_and_a_missing_password_are_told(
    server18: EmbeddedServer, role_with_password: str
) -> None:
    url = server18.url("postgres").set(username=role_with_password)
    assert "password or user is wrong" in failure(url).hint
    with pytest.raises(ConnectionFailed, match="password or user is wrong"):
        engine_for(url).connect()
    right = engine_for(url.set(password="right"))  # noqa: S106
    with right.connect() as connection:
        assert connection.scalar(sa.text("SELECT current_user")) == "locked"
    right.dispose()


def test_an_unencrypted_server_where_tls_is_asked_for_is_told() -> None:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()
        port = plain.getsockname()[1]

        def refuse_tls() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"N")

        thread = threading.Thread(target=refuse_tls)
        thread.start()
        error = failure(
            parse_database_url(
                f"postgresql://me@127.0.0.1:{port}/lab?sslmode=require&gssencmode=disable"
            )
        )
        thread.join()
    assert "sslmode" in error.hint


def end_session(server_of: Engine, pid: int) -> None:
    admin = sa.create_engine(server_of.url)
    with admin.connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    admin.dispose()


def test_a_lost_connection_is_told(empty_database: Engine) -> None:
    with empty_database.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        end_session(empty_database, pid)
        with pytest.raises(DatabaseError, match="connection to the server was lost") as raised:
            connection.execute(sa.text("SELECT 1"))
        assert "Run the same command again" in raised.value.hint


def test_a_connection_lost_between_uses_is_replaced_unnoticed(empty_database: Engine) -> None:
    with empty_database.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    end_session(empty_database, pid)
    with empty_database.connect() as connection:
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) != pid


def test_an_error_of_the_server_keeps_its_class_and_hides_the_parameters(
    empty_database: Engine,
) -> None:
    with (
        empty_database.connect() as connection,
        pytest.raises(sa.exc.ProgrammingError) as raised,
    ):
        connection.execute(sa.text("SELECT :text FROM nowhere"), {"text": CANARY})
    assert "hide_parameters=True" in str(raised.value)
    assert raised.value.params is not None
    assert CANARY not in str(raised.value).partition("[SQL")[2]


def add_and_fail(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.add(QueryLog(query_text="undone"))
        session.flush()
        raise ZeroDivisionError


def test_a_session_commits_at_the_end_and_undoes_on_an_error(database: Engine) -> None:
    sessions = session_factory(database)
    with sessions.begin() as session:
        session.add(QueryLog(query_text="kept"))
    with pytest.raises(ZeroDivisionError):
        add_and_fail(sessions)
    with sessions() as session:
        assert session.scalars(sa.select(QueryLog.query_text)).all() == ["kept"]


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "AUTOCOMMIT"])
@pytest.mark.parametrize("path", ["", 'public, "$user"'])
def test_pgvector_is_reached_in_any_schema(
    empty_database: Engine, path: str, isolation_level: str
) -> None:
    with empty_database.begin() as connection:
        connection.execute(sa.text("""CREATE SCHEMA "it's, new" """))
        connection.execute(sa.text("""CREATE EXTENSION vector SCHEMA "it's, new" """))
        name, value = empty_database.url.database, path or "''"
        connection.execute(sa.text(f"ALTER DATABASE {name} SET search_path = {value}"))
    engine = engine_for(empty_database.url, isolation_level=isolation_level)
    with engine.connect() as connection:
        for _ in range(2):
            assert connection.scalar(sa.text("SELECT '[1,2]'::vector <=> '[1,2]'")) == 0
            connection.rollback()
        found = connection.scalar(sa.text("SHOW search_path"))
        assert found == (path or '""') + """, "it's, new\""""
    engine.dispose()


def test_a_search_path_that_reaches_pgvector_is_left_alone(database: Engine) -> None:
    with database.connect() as connection:
        assert connection.scalar(sa.text("SHOW search_path")) == '"$user", public'


def test_open_engine_takes_the_address_given(empty_database: Engine) -> None:
    address = empty_database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    engine = open_engine(Settings(database_url=address))
    with engine.connect() as connection:
        assert (
            connection.scalar(sa.text("SELECT current_database()")) == empty_database.url.database
        )
        assert connection.scalar(sa.text("SHOW application_name")) == "resume_lab"
    engine.dispose()
