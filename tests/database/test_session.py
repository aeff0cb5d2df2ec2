"""Engines and sessions: lost connections are told or replaced, errors hide what was sent."""

import time

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, sessionmaker

from resume_lab.config import Settings
from resume_lab.database.models import QueryLog
from resume_lab.database.session import engine_for, open_engine, session_factory
from resume_lab.errors import DatabaseError

CANARY = "c4n4ry"


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


def test_a_connection_that_the_server_gave_up_is_told(empty_database: Engine) -> None:
    impatient = {"options": "-c idle_in_transaction_session_timeout=50ms"}
    engine = engine_for(empty_database.url.update_query_dict(impatient))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        time.sleep(0.3)
        with pytest.raises(DatabaseError, match="connection to the server was lost"):
            connection.execute(sa.text("SELECT 1"))
    engine.dispose()


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
