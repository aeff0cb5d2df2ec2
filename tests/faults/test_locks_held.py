"""Locks that another session holds, and statements that may not take long: who, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from rollout.kept_runs import add_rows, copy_migrations, kept
from sqlalchemy.engine import Connection, Engine

from resume_lab import seeding
from resume_lab.config import Settings
from resume_lab.database import schema, verify
from resume_lab.database.session import engine_for
from resume_lab.errors import LabError
from resume_lab.ingestion import ingest_content, remove_content
from resume_lab.retrieval import search
from resume_lab.rollout import migration as rollout
from resume_lab.tuning import Workload, predict, tune

MODEL = "synthetic/clustered/seed=0"
ROWS = 300
Open = Callable[..., Engine]


@pytest.fixture
def stored(database: Engine, tmp_path: Path) -> Engine:
    """A database with rows of one model, and a file."""
    add_rows(database, MODEL, ROWS)
    ingest(database, tmp_path)
    return database


@pytest.fixture
def impatient(stored: Engine) -> Iterator[Open]:
    """Open the database with settings of the connection, such as lock_timeout=200ms."""
    with contextlib.ExitStack() as opened:

        def start(setting: str, **changes: object) -> Engine:
            url = stored.url.set(**changes)
            engine = engine_for(url.update_query_dict({"options": f"-c {setting}"}))
            opened.callback(engine.dispose)
            return engine

        yield start


@contextlib.contextmanager
def notebook(engine: Engine, *statements: str) -> Iterator[int]:
    """Leave a transaction open in a session of its own; give its pid."""
    other = sa.create_engine(
        engine.url, poolclass=sa.NullPool, connect_args={"application_name": "notebook"}
    )
    with other.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
        yield pid_of(connection)


def pid_of(connection: Connection) -> int:
    return int(connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


def settings_in(folder: Path) -> Settings:
    return Settings(lab_dir=folder / "lab", embedding_model="lexical")


def seed(engine: Engine, _folder: Path) -> None:
    seeding.seed(engine, rows=20)


def ingest(engine: Engine, folder: Path) -> None:
    content = folder / "content"
    content.mkdir(exist_ok=True)
    (content / f"{len(list(content.iterdir()))}.md").write_text("# One\n\nA passage about locks.\n")
    ingest_content(content, engine=engine, name="content", settings=settings_in(folder))


def remove(engine: Engine, folder: Path) -> None:
    remove_content(folder, engine=engine, name="content", settings=settings_in(folder))


def migrate(engine: Engine, _folder: Path) -> None:
    schema.downgrade(engine, "base")
    schema.upgrade(engine)


def ask(engine: Engine, folder: Path) -> None:
    assert search("What about locks?", engine=engine, settings=settings_in(folder)).hits


def measure(engine: Engine, _folder: Path) -> None:
    workload = Workload.stored(engine, embedding_model=MODEL, n_queries=20, k=3)
    prediction = predict(workload.split()[0], [4])
    tune(engine, workload, lists=[4], rebuilds=0, rounds=1, prediction=prediction)


WRITES = [seed, ingest, remove, migrate]
ALL = [*WRITES, ask, measure]


def rows(engine: Engine) -> object:
    with engine.connect() as connection:
        return connection.execute(
            sa.text(
                "SELECT (SELECT count(*) FROM document_chunks), count(*), "
                "(SELECT count(*) FROM pg_indexes WHERE tablename = 'chunk_embeddings'), "
                "(SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lab%') "
                "FROM chunk_embeddings"
            )
        ).one()


def refused(engine: Engine, work: Callable[..., None], folder: Path) -> LabError:
    with pytest.raises(LabError) as raised:
        work(engine, folder)
    return raised.value


@pytest.mark.parametrize("work", ALL, ids=lambda work: work.__name__)
def test_who_holds_the_lock_is_named(
    stored: Engine, impatient: Open, tmp_path: Path, work: Callable[..., None]
) -> None:
    engine = impatient("lock_timeout=200ms")
    before = rows(stored)
    with notebook(stored, "LOCK TABLE document_chunks, chunk_embeddings") as pid:
        error = refused(engine, work, tmp_path)
    assert "Another session holds a lock on the tables" in error.message
    assert f"pid {pid}: user postgres, application notebook, idle in transaction" in error.message
    assert "AccessExclusiveLock" in error.message
    assert f"SELECT pg_terminate_backend({pid})" in error.hint
    assert error.message.count("pid ") == 1  # nobody else is in the way
    assert rows(stored) == before
    work(engine, tmp_path)


@pytest.mark.parametrize("work", [measure, ask], ids=lambda work: work.__name__)
def test_reading_waits_for_no_writer(
    stored: Engine, impatient: Open, tmp_path: Path, work: Callable[..., None]
) -> None:
    with notebook(stored, "UPDATE document_chunks SET category = 'x'", "SELECT 1"):
        work(impatient("lock_timeout=200ms"), tmp_path)


def test_a_role_that_may_not_see_others_gets_the_pid(
    stored: Engine, impatient: Open, tmp_path: Path
) -> None:
    with stored.begin() as connection:
        connection.execute(sa.text("CREATE ROLE writes_only LOGIN"))
        connection.execute(
            sa.text("GRANT ALL ON ALL TABLES IN SCHEMA public TO writes_only"),
        )
        connection.execute(sa.text("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO writes_only"))
    engine = impatient("lock_timeout=200ms", username="writes_only")
    try:
        with notebook(stored, "LOCK TABLE document_chunks") as pid:
            error = refused(engine, ingest, tmp_path)
    finally:
        engine.dispose()
        with stored.begin() as connection:
            connection.execute(sa.text("DROP OWNED BY writes_only"))
            connection.execute(sa.text("DROP ROLE writes_only"))
    assert f"pid {pid}: user postgres, application notebook, AccessExclusiveLock" in error.message


def test_a_concurrent_build_names_who_keeps_it_waiting(
    stored: Engine, impatient: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_migrations(tmp_path / "project", monkeypatch)
    rollout.write(rollout.prepare(stored, kept(), run="20260213-090000-ab12"))
    engine = impatient("lock_timeout=300ms")
    with notebook(stored, "SELECT count(*) FROM chunk_embeddings") as pid:
        with pytest.raises(LabError, match="kept a transaction open") as raised:
            schema.upgrade(engine)
        assert f"pid {pid}: user postgres, application notebook" in raised.value.message
        assert "the indexes in use are as they were" in raised.value.message
    schema.upgrade(engine)
    assert schema.is_current(stored)


def test_who_migrates_for_long_is_named(stored: Engine) -> None:
    with (
        schema.migration_lock(stored),
        pytest.raises(LabError, match="Another process has been migrating") as raised,
        schema.migration_lock(stored, timeout_s=0.2),
    ):
        pass
    assert "application resume_lab" in raised.value.message


@pytest.mark.parametrize("work", [migrate, ask, ingest], ids=lambda work: work.__name__)
def test_a_statement_that_may_not_take_long_ends_in_a_sentence(
    stored: Engine, impatient: Open, tmp_path: Path, work: Callable[..., None]
) -> None:
    engine = impatient("statement_timeout=150ms")
    before = rows(stored)
    with notebook(stored, "LOCK TABLE document_chunks, chunk_embeddings, query_logs"):
        error = refused(engine, work, tmp_path)
    assert error.message == "The statement took longer than statement_timeout allows here."
    assert "options=-c%20statement_timeout" in error.hint
    assert rows(stored) == before
    work(stored, tmp_path)


def test_long_loads_and_builds_may_take_longer(
    stored: Engine, impatient: Open, tmp_path: Path
) -> None:
    engine = impatient("statement_timeout=100ms")
    assert seeding.seed(engine, rows=1500).added == 1500  # the load and the index take longer


def test_a_check_that_may_not_take_long_fails_and_says_so(stored: Engine, impatient: Open) -> None:
    engine = impatient("statement_timeout=150ms")
    with notebook(stored, "LOCK TABLE document_chunks, chunk_embeddings"):
        verification = verify(engine)
    assert not verification.passed
    failed = [check for check in verification.checks if not check.passed]
    assert any(
        "statement timeout" in check.detail and "statement_timeout%3D" in check.hint
        for check in failed
    )
