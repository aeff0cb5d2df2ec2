"""Migrations, from Python and from a terminal, on good servers and on those that refuse."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.config import project_root
from resume_lab.database import schema
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.failures import translated_errors
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError, SchemaError

INITIAL = "5a003342d559"
HEAD = schema.head()
TABLES = ["alembic_version", "chunk_embeddings", "document_chunks", "query_logs"]
NOWHERE = "postgresql://me@127.0.0.1:9/nowhere"

Alembic = Callable[..., subprocess.CompletedProcess[str]]


def tables(engine: Engine) -> list[str]:
    return sorted(sa.inspect(engine).get_table_names())


def has_extension(engine: Engine) -> bool:
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
        return connection.scalar(sa.text(query)) == 1


def address(engine: Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def run(*arguments: str, url: str | None = None, lab_dir: Path | None = None, cwd: Path):
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    if url is not None:
        environment["DATABASE_URL"] = url
    if lab_dir is not None:
        environment["LAB_DIR"] = str(lab_dir)
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def alembic(empty_database: Engine) -> Alembic:
    """Run `alembic` in the project's folder on a database of its own."""

    def on_database(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        keywords = {"url": address(empty_database), "cwd": project_root()} | options
        done = run(*arguments, **keywords)
        assert done.returncode == 0, done.stderr
        return done

    return on_database


# --- from Python


def test_up_and_down_and_where_it_stands(any_empty_database: Engine) -> None:
    engine = any_empty_database
    assert schema.current(engine) is None
    assert not schema.is_current(engine)
    schema.upgrade(engine)
    assert schema.current(engine) == HEAD
    assert schema.is_current(engine)
    assert tables(engine) == TABLES
    schema.upgrade(engine)  # again is nothing
    schema.downgrade(engine, INITIAL)
    assert schema.current(engine) == INITIAL
    assert not schema.is_current(engine)
    schema.downgrade(engine, "-1")
    assert schema.current(engine) is None
    assert tables(engine) == ["alembic_version"]
    assert has_extension(engine)
    schema.upgrade(engine, INITIAL)
    schema.downgrade(engine, "base")
    assert tables(engine) == ["alembic_version"]
    with engine.connect() as connection:
        functions = sa.text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'document_chunks%'")
        assert connection.scalar(functions) == 0


def test_the_vector_index_is_cosine_ivfflat_with_100_lists(database: Engine) -> None:
    with database.connect() as connection:
        ddl = connection.scalar(
            sa.text("SELECT pg_get_indexdef('ix_chunk_embeddings_embedding'::regclass)")
        )
    assert ddl.endswith("USING ivfflat (embedding vector_cosine_ops) WITH (lists='100')")


def test_history_names_every_migration() -> None:
    history = schema.history()
    assert history[0][0] == HEAD
    assert history[-1] == (INITIAL, "initial schema with pgvector")
    assert all(title for _, title in history)
    assert len(history) == len(list(schema.versions_folder().glob("*.py")))


def test_an_unknown_revision_is_an_error_that_says_where_to_look(database: Engine) -> None:
    for attempt in (
        lambda: schema.upgrade(database, "nonsense"),
        lambda: schema.downgrade(database, "-7"),
        lambda: schema.preview_sql("nonsense"),
    ):
        with pytest.raises(SchemaError, match="alembic history"):
            attempt()


def test_the_preview_is_sql_that_does_the_migration(empty_database: Engine) -> None:
    script = schema.preview_sql()
    assert "CREATE EXTENSION IF NOT EXISTS vector" in script
    raw = empty_database.raw_connection()
    raw.cursor().execute(script)
    raw.close()
    assert schema.is_current(empty_database)
    schema.check(empty_database)


def test_check_finds_a_missing_column_and_an_index_that_is_not_ours(database: Engine) -> None:
    schema.check(database)
    with database.begin() as connection:
        connection.execute(sa.text("CREATE INDEX extra ON query_logs (response_text)"))
    with pytest.raises(SchemaError, match="extra") as raised:
        schema.check(database)
    assert "alembic revision --autogenerate" in raised.value.hint
    with database.begin() as connection:
        connection.execute(sa.text("DROP INDEX extra"))
        connection.execute(sa.text("ALTER TABLE query_logs DROP COLUMN response_text"))
    with pytest.raises(SchemaError, match="response_text"):
        schema.check(database)


def test_check_is_clean_with_rows_lab_indexes_and_tables_of_others(database: Engine) -> None:
    statements = """
        INSERT INTO document_chunks (content, source_file, chunk_index)
            SELECT 'text', 'a.md', n FROM generate_series(1, 50) n;
        INSERT INTO chunk_embeddings (chunk_id, embedding, embedding_model)
            SELECT chunk_id, array_fill(chunk_id, ARRAY[1536])::vector, 'm' FROM document_chunks;
        CREATE INDEX lab_tuned ON chunk_embeddings USING ivfflat (embedding vector_cosine_ops)
            WITH (lists = 3) WHERE embedding_model = 'm';
        CREATE TABLE theirs (n integer PRIMARY KEY);
        CREATE INDEX theirs_n ON theirs (n);
        CREATE SCHEMA lab_scratch;
        CREATE TABLE lab_scratch.copy AS SELECT * FROM chunk_embeddings
    """
    with database.begin() as connection:
        for statement in statements.split(";"):
            connection.execute(sa.text(statement))
    schema.check(database)


def test_check_misses_the_general_index_unless_a_tuned_one_took_its_place(
    database: Engine,
) -> None:
    def run(*statements: str) -> None:
        with database.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    run(
        "DROP INDEX ix_chunk_embeddings_embedding",
        "CREATE INDEX lab_tuned ON chunk_embeddings USING ivfflat (embedding vector_cosine_ops) "
        "WITH (lists = 3) WHERE embedding_model = 'm'",
    )
    with pytest.raises(SchemaError, match="ix_chunk_embeddings_embedding"):
        schema.check(database)
    run("""COMMENT ON INDEX lab_tuned IS '{"resume_lab_finding": 1}'""")
    schema.check(database)
    run("DROP INDEX lab_tuned")
    with pytest.raises(SchemaError, match="ix_chunk_embeddings_embedding"):
        schema.check(database)


def test_the_migration_fits_into_the_servers_default_memory(empty_database: Engine) -> None:
    small = {"options": "-c maintenance_work_mem=64MB"}
    engine = engine_for(empty_database.url.update_query_dict(small))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW maintenance_work_mem")) == "64MB"
    schema.upgrade(engine)
    assert schema.is_current(engine)
    engine.dispose()


def test_migrating_changes_no_setting_of_the_engines_connections(database: Engine) -> None:
    with database.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    schema.check(database)
    with database.connect() as connection:
        assert connection.scalar(sa.text("SHOW lock_timeout")) == "30s"


# --- several at once


def test_four_migrators_at_once_all_succeed(empty_database: Engine, start_python) -> None:
    code = (
        "import sys\n"
        "from resume_lab.config import parse_database_url\n"
        "from resume_lab.database import schema\n"
        "from resume_lab.database.session import engine_for\n"
        "engine = engine_for(parse_database_url(sys.argv[1]))\n"
        "sys.stdin.readline()\n"
        "schema.upgrade(engine)\n"
        "print(schema.current(engine))\n"
    )
    migrators = [start_python(code, address(empty_database)) for _ in range(4)]
    for migrator in migrators:
        migrator.stdin.write("go\n")
        migrator.stdin.flush()
    for migrator in migrators:
        said, errors = migrator.communicate(timeout=60)
        assert (migrator.returncode, said.strip()) == (0, HEAD), errors
    schema.check(empty_database)


def test_a_migrator_that_waits_too_long_says_so(database: Engine) -> None:
    with (
        schema.migration_lock(database),
        pytest.raises(SchemaError, match="Another process has been migrating"),
        schema.migration_lock(database, timeout_s=0.2),
    ):
        pass
    with schema.migration_lock(database, timeout_s=0.2):
        pass


def test_a_table_locked_by_another_session_is_an_error_and_no_wait_for_ever(
    database: Engine,
) -> None:
    impatient = engine_for(database.url.update_query_dict({"options": "-c lock_timeout=200ms"}))
    with database.begin() as connection:
        connection.execute(sa.text("SELECT count(*) FROM query_logs"))
        with pytest.raises(SchemaError, match="Another session holds a lock") as raised:
            schema.downgrade(impatient, "base")
    assert "open transaction in a notebook" in raised.value.hint
    assert tables(database) == TABLES
    assert schema.current(database) == INITIAL  # what went back before it had no lock to wait for
    impatient.dispose()


def test_a_statement_waits_for_half_a_minute_where_nothing_else_is_set(database: Engine) -> None:
    with database.connect() as connection:
        assert connection.scalar(sa.text("SHOW lock_timeout")) == "30s"
    told = engine_for(database.url.update_query_dict({"options": "-c lock_timeout=7s"}))
    with told.connect() as connection:
        assert connection.scalar(sa.text("SHOW lock_timeout")) == "7s"
    told.dispose()


# --- servers that refuse


@pytest.fixture
def plain_role(empty_database: Engine) -> Iterator[Engine]:
    """An engine of a role that owns nothing and may create nothing."""
    with empty_database.begin() as connection:
        connection.execute(sa.text("CREATE ROLE plain LOGIN"))
    engine = engine_for(empty_database.url.set(username="plain"))
    yield engine
    engine.dispose()
    with empty_database.begin() as connection:
        connection.execute(sa.text("DROP OWNED BY plain"))
        connection.execute(sa.text("DROP ROLE plain"))


def test_a_role_that_may_not_use_the_schema_is_told(plain_role: Engine) -> None:
    with pytest.raises(SchemaError, match="permission denied for schema public") as raised:
        schema.upgrade(plain_role)
    assert "Grant the role CREATE on the schema" in raised.value.hint


def allow_tables(superuser: Engine) -> None:
    with superuser.begin() as connection:
        connection.execute(sa.text("GRANT CREATE ON SCHEMA public TO plain"))


def test_a_role_that_may_not_create_the_extension_is_told(
    plain_role: Engine, empty_database: Engine
) -> None:
    allow_tables(empty_database)
    with pytest.raises(SchemaError, match="may not create the extension vector") as raised:
        schema.upgrade(plain_role)
    assert "CREATE EXTENSION vector;" in raised.value.hint
    with empty_database.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION vector"))
    schema.upgrade(plain_role)  # as the hint says
    assert schema.is_current(plain_role)


def test_a_terminal_tells_it_without_a_traceback(
    plain_role: Engine, empty_database: Engine
) -> None:
    allow_tables(empty_database)
    done = run("upgrade", "head", url=address(plain_role), cwd=project_root())
    assert done.returncode != 0
    assert "FAILED: This role may not create the extension vector" in done.stdout
    assert "CREATE EXTENSION vector;" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def without_pgvector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    nothing = tmp_path_factory.mktemp("nothing")
    nothing.chmod(0o755)  # the server may run as another user
    server = EmbeddedServer(
        tmp_path_factory.mktemp("bare"),
        extra_settings={"fsync": "off", "extension_control_path": str(nothing)},
    )
    server.use()
    yield server
    server.leave()


def test_a_server_without_pgvector_is_told(without_pgvector: EmbeddedServer) -> None:
    engine = engine_for(without_pgvector.url())
    with pytest.raises(SchemaError, match="pgvector is not installed on this server") as raised:
        schema.upgrade(engine)
    assert "postgresql-<major>-pgvector" in raised.value.hint
    assert schema.current(engine) is None
    done = run("upgrade", "head", url=address(engine), cwd=project_root())
    assert done.returncode != 0
    assert "FAILED: pgvector is not installed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    engine.dispose()


def test_a_server_that_is_not_there_is_told() -> None:
    done = run("current", url=NOWHERE, cwd=project_root())
    assert done.returncode != 0
    assert "FAILED: No connection to" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    done = run("current", url=" ", cwd=project_root())
    assert done.returncode != 0
    assert "FAILED: DATABASE_URL is set but blank" in done.stdout


def test_a_lost_connection_is_no_schema_error(database: Engine) -> None:
    with database.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with database.connect() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(DatabaseError, match="lost"), translated_errors():
            connection.execute(sa.text("SELECT 1"))


# --- from a terminal


def test_the_commands_of_a_terminal(alembic: Alembic, empty_database: Engine) -> None:
    alembic("upgrade", "head")
    assert tables(empty_database) == TABLES
    assert f"{HEAD} (head)" in alembic("current").stdout
    assert "initial schema with pgvector" in alembic("history").stdout
    assert "No new upgrade operations detected" in alembic("check").stdout
    alembic("downgrade", INITIAL)
    alembic("downgrade", "-1")
    assert tables(empty_database) == ["alembic_version"]
    alembic("upgrade", "head")
    alembic("downgrade", "base")
    assert tables(empty_database) == ["alembic_version"]
    assert has_extension(empty_database)


def test_a_terminal_goes_back_in_prod_only_when_told_twice(
    alembic: Alembic, empty_database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ENV", "prod")
    alembic("upgrade", "head")
    for arguments in ((), ("-x", "yes=false")):
        refused = run(
            *arguments, "downgrade", "base", url=address(empty_database), cwd=project_root()
        )
        assert refused.returncode != 0
        assert "FAILED: APP_ENV is prod" in refused.stdout
        assert "-x yes=true" in refused.stdout
        assert "Traceback" not in refused.stdout + refused.stderr
    assert tables(empty_database) == TABLES
    assert "DROP TABLE" in alembic("downgrade", f"{HEAD}:base", "--sql").stdout
    alembic("-x", "yes=true", "downgrade", "base")
    assert tables(empty_database) == ["alembic_version"]


def test_the_config_is_found_from_another_folder(
    alembic: Alembic, empty_database: Engine, tmp_path: Path
) -> None:
    alembic("-c", str(project_root() / "alembic.ini"), "upgrade", "head", cwd=tmp_path)
    assert schema.is_current(empty_database)
    assert list(tmp_path.iterdir()) == []


def test_sql_needs_no_database() -> None:
    done = run("upgrade", "head", "--sql", url=NOWHERE, cwd=project_root())
    assert done.returncode == 0, done.stderr
    for part in ("CREATE EXTENSION", "CREATE TABLE document_chunks", "VECTOR(1536)", "COMMIT;"):
        assert part in done.stdout
    assert done.stdout == schema.preview_sql()


def test_the_embedded_server_is_the_default(tmp_path: Path) -> None:
    lab_dir = tmp_path / "lab"
    upgraded = run("upgrade", "head", lab_dir=lab_dir, cwd=project_root())
    assert upgraded.returncode == 0, upgraded.stderr
    shown = run("current", lab_dir=lab_dir, cwd=project_root())
    assert f"{HEAD} (head)" in shown.stdout
    assert not EmbeddedServer(lab_dir).status().running


@pytest.fixture
def project_copy(tmp_path: Path) -> SimpleNamespace:
    """The project's migrations elsewhere, so that new files stay out of the project."""
    folder = tmp_path / "copy"
    shutil.copytree(
        project_root() / "migrations",
        folder / "migrations",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(project_root() / "alembic.ini", folder)
    return SimpleNamespace(folder=folder, versions=folder / "migrations" / "versions")


def test_a_migration_written_by_autogenerate_runs_as_it_is(
    project_copy: SimpleNamespace, database: Engine, alembic: Alembic
) -> None:
    """The database loses a vector column, a JSON column and what depends on them."""
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE chunk_embeddings DROP COLUMN embedding"))
        connection.execute(sa.text("ALTER TABLE document_chunks DROP COLUMN metadata_json CASCADE"))
    here = {"url": address(database), "cwd": project_copy.folder}
    before = set(project_copy.versions.glob("*.py"))
    alembic("revision", "--autogenerate", "-m", "put it back", **here)
    (written,) = set(project_copy.versions.glob("*.py")) - before
    assert re.fullmatch(r"\d{8}_[0-9a-f]{12}_put_it_back\.py", written.name)
    assert "VECTOR(dim=1536)" in written.read_text()
    alembic("upgrade", "head", **here)
    schema_now = {column["name"] for column in sa.inspect(database).get_columns("chunk_embeddings")}
    assert "embedding" in schema_now
    assert "No new upgrade operations" in alembic("check", **here).stdout
    alembic("downgrade", "-1", **here)
    alembic("upgrade", "head", **here)
    (index,) = [
        found
        for found in sa.inspect(database).get_indexes("chunk_embeddings")
        if found["name"] == "ix_chunk_embeddings_embedding"
    ]
    assert index["dialect_options"]["postgresql_using"] == "ivfflat"


def test_an_empty_new_migration_runs_too(
    project_copy: SimpleNamespace, database: Engine, alembic: Alembic
) -> None:
    here = {"url": address(database), "cwd": project_copy.folder}
    alembic("revision", "-m", "nothing yet", **here)
    alembic("upgrade", "head", **here)
    assert "nothing yet" in alembic("history", **here).stdout
    assert HEAD not in alembic("current", **here).stdout


def test_tables_are_made_where_there_are_none_and_what_waits_is_left_to_its_owner(
    empty_database: Engine,
) -> None:
    schema.make_current(empty_database)
    assert schema.is_current(empty_database)
    schema.make_current(empty_database)
    with empty_database.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'older'"))
    with pytest.raises(SchemaError, match="newer ones wait") as raised:
        schema.make_current(empty_database)
    assert "resume-lab migrate" in str(raised.value)
