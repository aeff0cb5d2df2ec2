"""Owner, writer and reader: what each may do, shown by doing it, and the way back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.database import role_trial, schema
from resume_lab.database.indexes import execute
from resume_lab.database.role_migration import prepare
from resume_lab.database.role_rights import OWNS, PUBLIC, Rights, find_rights
from resume_lab.database.roles import OWNER, READER, TABLES, WRITER
from resume_lab.errors import DatabaseError, LabError, SchemaError
from resume_lab.generation import ask
from resume_lab.ingestion import ingest_content, remove_content
from resume_lab.retrieval import search
from resume_lab.tuning.scratch import scratch_copy
from resume_lab.vectors import generate
from tests.database.made_roles import (
    FILES,
    count,
    drop_roles,
    ingest,
    logged_in,
    make_roles,
    run,
    settings,
    tuned,
)

QUESTION = "Who wrote the first compiler?"
Snapshot = Callable[[Engine], dict[str, object]]


@pytest.fixture
def roles(database: Engine) -> Iterator[Engine]:
    """A database with the three roles, the engine that of its administrator."""
    make_roles(database)
    yield database
    drop_roles(database)


@pytest.fixture
def reader(roles: Engine, tmp_path: Path) -> Iterator[Engine]:
    """The reader, where content is stored and an index is tuned for it."""
    ingest(roles, tmp_path / "content")
    tuned(roles)
    with logged_in(roles, READER) as engine:
        yield engine


def rights(engine: Engine) -> Rights:
    with engine.connect() as connection:
        return find_rights(connection)


def refused(engine: Engine, statement: str) -> bool:
    """Say whether the server refuses a statement for lack of a right, and for nothing else."""
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), engine.connect() as connection:
        connection.connection.cursor().execute(statement)
    return True


# --- the reader


def test_a_reader_changes_nothing_and_gets_no_further(reader: Engine) -> None:
    for table in TABLES:
        assert refused(reader, f"DELETE FROM {table}")
        assert refused(reader, f"TRUNCATE {table} CASCADE")
        assert refused(reader, f"UPDATE {table} SET created_at = now()")
        assert refused(reader, f"INSERT INTO {table} (created_at) VALUES (now())")
        assert refused(reader, f"DROP TABLE {table} CASCADE")
        assert refused(reader, f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for statement in (
        "SELECT query_text FROM query_logs",
        "INSERT INTO query_logs (query_text) VALUES ('a') RETURNING query_id",
        "SELECT setval('query_logs_query_id_seq', 1)",
        "UPDATE alembic_version SET version_num = 'x'",
        "CREATE TABLE mine (a integer)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "COPY document_chunks (content) FROM PROGRAM 'true'",
        "COPY document_chunks TO '/tmp/a'",
        f"SET ROLE {WRITER}",
        f"SET ROLE {OWNER}",
        f"GRANT {OWNER} TO {READER}",
    ):
        assert refused(reader, statement)


def test_a_reader_searches_through_the_tuned_index(reader: Engine, tmp_path: Path) -> None:
    for by in ("vectors", "words", "hybrid"):
        found = search(
            QUESTION, engine=reader, k=2, by=by, explain=True, settings=settings(tmp_path)
        )
        assert found.hits[0].source_file == "content/compiler.md"
        assert by == "words" or "2 of 2 lists probed" in str(found.explanation)


def test_a_reader_asks_and_the_log_takes_it(roles: Engine, reader: Engine, tmp_path: Path) -> None:
    for log in (True, False):
        answer = ask(
            QUESTION, engine=reader, answer_by="passages", log=log, settings=settings(tmp_path)
        )
        assert (answer.is_known, answer.note) == (True, None)
    assert count(roles, "query_logs") == 1


def test_a_slow_statement_of_a_reader_is_ended_and_search_says_so(
    roles: Engine, reader: Engine, tmp_path: Path
) -> None:
    with reader.connect() as connection:
        limits = [
            connection.scalar(sa.text(f"SHOW {name}"))
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert limits == ["30s", "5s", "1min"]
    run(roles, f"ALTER ROLE {READER} SET statement_timeout = '200ms'")
    reader.dispose()
    with roles.begin() as connection:
        execute(connection, "LOCK TABLE document_chunks")
        with pytest.raises(DatabaseError, match="longer than statement_timeout"):
            search(QUESTION, engine=reader, settings=settings(tmp_path))
    assert search(QUESTION, engine=reader, settings=settings(tmp_path)).hits


def test_what_a_reader_may_not_do_is_one_readable_error(
    roles: Engine, reader: Engine, tmp_path: Path, snapshot: Snapshot
) -> None:
    (tmp_path / "content/new.md").write_text("New.")
    before = snapshot(roles)
    content = {"engine": reader, "name": "content", "settings": settings(tmp_path)}
    for refuse in (
        lambda: ingest_content(tmp_path / "content", **content),
        lambda: remove_content(tmp_path / "content", **content),
        lambda: seeding.seed(reader, rows=5),
        lambda: schema.downgrade(reader, "-1"),
    ):
        with pytest.raises(LabError, match=r"permission denied|must be owner") as raised:
            refuse()
        assert raised.value.hint
        assert "Traceback" not in str(raised.value)
    schema.upgrade(reader)  # there is nothing to do
    assert snapshot(roles) == before


# --- the writer and the owner


@pytest.mark.parametrize("with_row_security", [False, True], ids=["plain", "row security"])
def test_a_writer_ingests_changes_and_removes_but_does_not_seed(
    database: Engine, tmp_path: Path, with_row_security: bool
) -> None:
    make_roles(database, with_row_security=with_row_security)
    try:
        with logged_in(database, WRITER) as writer:
            ingest(writer, tmp_path / "content")
            assert count(database, "chunk_embeddings") == len(FILES)
            (tmp_path / "content/wire.md").write_text("Changed.")
            (tmp_path / "content/navy.md").unlink()
            report = ingest_content(
                tmp_path / "content", engine=writer, name="content", settings=settings(tmp_path)
            )
            assert (report.changed, report.removed) == (1, 1)
            assert count(writer, "chunk_embeddings") == len(FILES) - 1
            with pytest.raises(SchemaError, match="must be owner") as raised:
                seeding.seed(writer, rows=5)
            assert "Only the owner of a table" in raised.value.hint
            assert refused(writer, "TRUNCATE query_logs")
            assert refused(writer, "CREATE TABLE mine (a integer)")
        assert count(database, "document_chunks") == len(FILES) - 1
    finally:
        drop_roles(database)


@pytest.mark.parametrize("with_row_security", [False, True], ids=["plain", "row security"])
def test_an_owner_seeds_tunes_and_migrates(database: Engine, with_row_security: bool) -> None:
    make_roles(database, with_row_security=with_row_security)
    try:
        with logged_in(database, OWNER) as owner:
            seeding.seed(owner, rows=20)
            with scratch_copy(owner, generate("random", 10, dim=3)) as scratch:
                assert count(owner, f'"{scratch.schema}".items') == 10
            schema.downgrade(owner, "-1")
            schema.upgrade(owner)
            assert count(owner, "chunk_embeddings") == 20
    finally:
        drop_roles(database)


# --- there and back


def test_there_and_back_leaves_all_as_it_was(any_empty_database: Engine) -> None:
    engine = any_empty_database
    schema.upgrade(engine)
    run(
        engine,
        "GRANT SELECT, INSERT ON document_chunks TO PUBLIC",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        'CREATE ROLE "trial_o\'w""n;er %s"',
        'GRANT CREATE ON SCHEMA public TO "trial_o\'w""n;er %s"',
        'ALTER TABLE query_logs OWNER TO "trial_o\'w""n;er %s"',
    )
    try:
        before = rights(engine)
        planned = make_roles(engine, with_row_security=True)
        during = {role.name: role for role in rights(engine).roles}
        assert during[OWNER].tables == dict.fromkeys(TABLES, OWNS)
        assert (during[PUBLIC].tables, during[PUBLIC].creates) == ({}, ())
        run(engine, *planned.downgrade)
        assert rights(engine) == before
        make_roles(engine)
    finally:
        drop_roles(engine)


def test_roles_that_another_database_uses_stay_and_are_taken_up(
    roles: Engine, empty_database: Engine
) -> None:
    other = empty_database
    schema.upgrade(other)
    run(roles, f"ALTER ROLE {READER} SET statement_timeout = '7s'")
    planned = make_roles(other, with_row_security=True)
    with logged_in(other, READER) as reader, reader.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "7s"
    with other.begin() as connection:
        for statement in planned.downgrade:
            execute(connection, statement)
        said = "".join(connection.connection.notices)
    assert all(f"{role} stays: " in said for role in (OWNER, WRITER, READER))
    assert rights(roles).roles[2].tables["document_chunks"] == "SELECT"


def test_an_owner_of_the_database_who_may_create_roles_needs_no_superuser(
    any_empty_database: Engine,
) -> None:
    engine = any_empty_database
    run(
        engine,
        "CREATE EXTENSION vector",
        "CREATE ROLE trial_admin LOGIN CREATEROLE",
        f"ALTER DATABASE {engine.url.database} OWNER TO trial_admin",
        "GRANT CREATE ON SCHEMA public TO trial_admin WITH GRANT OPTION",
    )
    try:
        with logged_in(engine, "trial_admin") as admin:
            schema.upgrade(admin)
            planned = make_roles(admin, with_row_security=True)
            seeding.seed(admin, rows=5)
            assert count(admin, "chunk_embeddings") == 5  # through the owner's policy
            schema.downgrade(admin, "-1")
            schema.upgrade(admin)
            run(admin, *planned.downgrade)
            assert rights(admin).roles[0].is_there is False
            seeding.seed(admin, rows=6)
            with role_trial.tried(admin, with_row_security=True) as connection:
                assert role_trial.attempts(connection, READER)["read chunks"] == "done"
    finally:
        drop_roles(engine)


def test_a_reader_sees_pgvector_in_a_schema_of_its_own(
    empty_database: Engine, tmp_path: Path
) -> None:
    run(
        empty_database,
        "CREATE SCHEMA extensions",
        "CREATE EXTENSION vector SCHEMA extensions",
    )
    empty_database.dispose()
    schema.upgrade(empty_database)
    planned = make_roles(empty_database)
    try:
        ingest(empty_database, tmp_path / "content")
        tuned(empty_database)
        with logged_in(empty_database, READER) as reader:
            found = search(QUESTION, engine=reader, explain=True, settings=settings(tmp_path))
        assert "2 of 2 lists probed" in str(found.explanation)
        run(empty_database, *planned.downgrade)
    finally:
        drop_roles(empty_database)


def test_nothing_lacking_and_no_tables_are_said(roles: Engine, empty_database: Engine) -> None:
    with pytest.raises(SchemaError, match="The roles are in this database"):
        prepare(roles)
    assert prepare(roles, with_row_security=True).title == "row level security"
    with pytest.raises(SchemaError, match="tables are not there yet") as raised:
        prepare(empty_database)
    assert "resume-lab migrate" in raised.value.hint


# --- tried out


def test_a_trial_shows_what_each_may_do_and_leaves_nothing(
    database: Engine, snapshot: Snapshot
) -> None:
    before, roles_before = snapshot(database), rights(database)
    with role_trial.tried(database) as connection:
        may = {role: role_trial.attempts(connection, role) for role in (OWNER, WRITER, READER)}
        with database.begin() as other:  # nobody waits for the trial
            execute(other, "SET LOCAL lock_timeout = '200ms'")
            execute(
                other, "LOCK TABLE document_chunks, chunk_embeddings, query_logs, alembic_version"
            )
    done = {
        role: {what for what, how in tried.items() if how == "done"} for role, tried in may.items()
    }
    assert done[READER] == {"read chunks", "log a question"}
    assert done[WRITER] == done[READER] | {
        "add a chunk", "change a chunk", "delete chunks", "read the log",
    }  # fmt: skip
    assert set(role_trial.ATTEMPTS) - done[OWNER] == {"run a program"}
    assert (snapshot(database), rights(database)) == (before, roles_before)
    with database.connect() as connection:
        assert (
            connection.scalar(sa.text("SELECT current_setting('search_path')")) == '"$user", public'
        )


def test_a_trial_without_the_right_to_make_roles_says_so(database: Engine) -> None:
    run(database, "CREATE ROLE trial_nobody LOGIN")
    try:
        for grant in (
            "SELECT 1",
            f"GRANT CREATE ON DATABASE {database.url.database} TO trial_nobody",
        ):
            run(database, grant)
            with (
                logged_in(database, "trial_nobody") as nobody,
                pytest.raises(DatabaseError, match="may not create roles and a schema") as raised,
                role_trial.tried(nobody),
            ):
                pass
            assert "administrator" in raised.value.hint
    finally:
        drop_roles(database)


def test_an_error_inside_a_trial_is_the_one_that_is_seen(database: Engine) -> None:
    with (
        pytest.raises(DatabaseError, match="division by zero"),
        role_trial.tried(database) as connection,
        role_trial.acting_as(connection, READER),
    ):
        execute(connection, "SELECT 1 / 0")
    assert rights(database).roles[0].is_there is False


def test_the_rights_are_said_in_few_words(roles: Engine) -> None:
    run(roles, "CREATE ROLE trial_other", "GRANT SELECT ON query_logs TO trial_other")
    said = str(rights(roles))
    assert "resume_lab_reader  SELECT on document_chunks, chunk_embeddings\n" in said
    assert "INSERT (query_text, retrieved_chunk_ids, response_text) on query_logs\n" in said
    assert "trial_other        SELECT on query_logs\n" in said
    assert said.endswith("Row level security is off: who may read a table reads all of its rows.")
    assert max(map(len, said.splitlines())) <= 100
