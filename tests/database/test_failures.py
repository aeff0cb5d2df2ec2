"""What errors of a server mean: each of these was caused on a real one."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.failures import explained, translated_driver_errors, translated_errors
from resume_lab.database.indexes import raw_connection
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError, SchemaError

# The statements before a semicolon prepare; the last one is what fails.
CAUSES = {
    "statement_timeout": (
        "SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(5)",
        "longer than statement_timeout allows",
        "options=-c%20statement_timeout",
    ),
    "too little memory for an index": (
        "INSERT INTO document_chunks (content, source_file, chunk_index) VALUES ('t', 'f', 0);"
        "INSERT INTO chunk_embeddings (chunk_id, embedding, embedding_model) "
        "SELECT chunk_id, array_fill(1, ARRAY[1536])::vector, 'm' FROM document_chunks;"
        "SET LOCAL maintenance_work_mem = '1MB';"
        "CREATE INDEX ON chunk_embeddings USING ivfflat (embedding vector_cosine_ops) "
        "WITH (lists = 1000)",
        "memory setting is too small for this index: memory required is",
        "SET maintenance_work_mem",
    ),
    "out of shared memory": (
        "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 1000000) n",
        "ran out of memory: out of shared memory",
        "Ask for less at a time",
    ),
    "too many temporary files": (
        "SET LOCAL work_mem = '64kB'; SET LOCAL temp_file_limit = '64kB';"
        "SELECT count(*) FROM (SELECT n::text AS t FROM generate_series(1, 200000) n ORDER BY t) s",
        'no more temporary files: temporary file size exceeds "temp_file_limit"',
        "let a superuser raise temp_file_limit",
    ),
    "read only": (
        "SET TRANSACTION READ ONLY; CREATE TABLE x (n integer)",
        "The server only reads",
        "a role that may write",
    ),
    "wrong dimension": (
        "SELECT embedding <=> '[1,2]' FROM (SELECT '[1]'::vector AS embedding) AS one",
        "does not take this value: different vector dimensions",
        "1536 finite numbers",
    ),
    "no vector": (
        "SELECT '[1,'::vector",
        "does not take this value: invalid input syntax",
        "1536 finite numbers",
    ),
    "NaN": ("SELECT '[NaN]'::vector", "does not take this value: NaN not allowed", "1536 finite"),
    "overflow": ("SELECT '[1e400]'::vector", "does not take this value", "1536 finite numbers"),
}


def run(engine: Engine, statements: str) -> None:
    with translated_errors(engine), engine.begin() as connection:
        for statement in statements.split(";"):
            connection.execute(sa.text(statement))


def meant(engine: Engine, statements: str) -> DatabaseError:
    with pytest.raises(DatabaseError) as raised:
        run(engine, statements)
    return raised.value


@pytest.mark.parametrize("cause", CAUSES)
def test_a_failed_statement_is_a_sentence_and_what_to_do(database: Engine, cause: str) -> None:
    statements, message, hint = CAUSES[cause]
    error = meant(database, statements)
    assert message in error.message
    assert "\n" not in error.message
    assert hint in error.hint


@pytest.fixture
def plain_role(database: Engine) -> Iterator[Engine]:
    """A role that may read and write the chunks, and owns nothing."""
    run(
        database,
        "CREATE ROLE plain_user LOGIN; GRANT SELECT, INSERT ON document_chunks TO plain_user;"
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO plain_user",
    )
    engine = engine_for(database.url.set(username="plain_user"))
    yield engine
    engine.dispose()
    run(database, "DROP OWNED BY plain_user; DROP ROLE plain_user")


def test_what_a_role_may_not_do_is_told_apart(database: Engine, plain_role: Engine) -> None:
    said = {
        "CREATE INDEX ON document_chunks (category)": "must be owner",
        "SELECT * FROM query_logs": "permission denied for table query_logs",
    }
    for statement, part in said.items():
        assert part in meant(plain_role, statement).message
    run(database, "ALTER TABLE document_chunks ENABLE ROW LEVEL SECURITY")
    insert = "INSERT INTO document_chunks (content, source_file, chunk_index) VALUES ('t', 'f', 0)"
    error = meant(plain_role, insert)
    assert isinstance(error, SchemaError)
    assert "Row level security" in error.message


def test_a_statement_that_another_session_cancels_says_so(database: Engine) -> None:
    with database.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))

        def cancel() -> None:
            with database.connect() as other:
                while not other.scalar(
                    sa.text("SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
                            "WHERE pid = :pid AND wait_event = 'PgSleep'"), {"pid": pid},
                ):  # fmt: skip
                    other.rollback()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(DatabaseError, match="Another session") as raised, translated_errors():
            connection.execute(sa.text("SELECT pg_sleep(30)"))
        thread.join()
    assert "Run the same command again" in raised.value.hint


def test_a_lost_connection_says_that_nothing_uncommitted_stays(database: Engine) -> None:
    error = meant(database, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert "lost" in error.message
    assert error.state == "What was not committed is undone."
    assert error.hint == "Run the same command again."


def test_a_connection_lost_in_the_driver_is_told_by_its_cause_not_by_the_rollback(
    database: Engine,
) -> None:
    with (
        pytest.raises(DatabaseError) as raised,
        translated_errors(database),
        database.begin() as connection,
        translated_driver_errors(),
        raw_connection(connection).cursor() as cursor,
    ):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert "server closed the connection unexpectedly" in raised.value.message


def test_two_sessions_in_each_others_way(database: Engine) -> None:
    run(database, "CREATE TABLE a (n integer); CREATE TABLE b (n integer)")
    both = threading.Barrier(2)
    errors: list[DatabaseError] = []

    def lock(first: str, second: str) -> None:
        with contextlib.suppress(DatabaseError):
            try:
                with translated_errors(database), database.begin() as connection:
                    connection.execute(sa.text("SET LOCAL deadlock_timeout = '50ms'"))
                    connection.execute(sa.text(f"LOCK TABLE {first}"))
                    both.wait(timeout=30)
                    connection.execute(sa.text(f"LOCK TABLE {second}"))
            except DatabaseError as error:
                errors.append(error)

    threads = [threading.Thread(target=lock, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    (error,) = errors  # one gave way, the other went on
    assert error.message == "Two sessions were in each other's way: deadlock detected"
    assert error.hint == "Run the same command again."


def test_a_change_that_came_between_is_no_other_error(database: Engine) -> None:
    run(database, "CREATE TABLE a (n integer); INSERT INTO a VALUES (1)")
    repeatable = database.execution_options(isolation_level="REPEATABLE READ")
    with repeatable.connect() as connection:
        connection.execute(sa.text("SELECT n FROM a"))
        run(database, "UPDATE a SET n = 2")
        with pytest.raises(DatabaseError, match="in each other's way"), translated_errors():
            connection.execute(sa.text("UPDATE a SET n = 3"))


def test_a_damaged_file_of_the_server_is_told(database: Engine, server18: EmbeddedServer) -> None:
    run(database, "CREATE TABLE a AS SELECT 1 AS n; CHECKPOINT")
    name = f"{database.url.database}_damaged"
    database.dispose()
    admin = sa.create_engine(server18.url("postgres"), isolation_level="AUTOCOMMIT")
    create = f"CREATE DATABASE {name} TEMPLATE {database.url.database} STRATEGY file_copy"
    damaged = engine_for(database.url.set(database=name))
    try:
        with admin.connect() as connection:
            connection.execute(sa.text(create))  # its pages are in no buffer yet
        with damaged.connect() as connection:
            file = connection.scalar(sa.text("SELECT pg_relation_filepath('a')"))
        Path(server18.data_dir, file).write_bytes(b"x" * 8192)
        error = meant(damaged, "SELECT * FROM a")
        assert "cannot read or write its own files: invalid page" in error.message
        assert "server's log" in error.hint
    finally:
        damaged.dispose()
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
        admin.dispose()


def test_an_error_without_a_meaning_stays_what_it_is(database: Engine) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
        run(database, "SELECT * FROM nothing_of_that_name")
    assert explained(ValueError("no error of a server")) is None
    with (
        database.connect() as connection,
        pytest.raises(DatabaseError, match=r"did not do it: relation .* does not exist") as raised,
        translated_driver_errors(),
        raw_connection(connection).cursor() as cursor,
    ):
        cursor.execute("SELECT * FROM nothing_of_that_name")
    assert isinstance(raised.value.__cause__, psycopg2.errors.UndefinedTable)
