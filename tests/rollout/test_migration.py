"""The migration of a recommendation: it runs as written, up and down, and again when cut short."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from pytest_alembic.tests import test_model_definitions_match_ddl, test_up_down_consistency
from sqlalchemy.engine import Engine

from resume_lab.config import project_root
from resume_lab.database import schema
from resume_lab.database.models import EMBEDDING_INDEX
from resume_lab.database.session import engine_for
from resume_lab.errors import ExperimentError, SchemaError
from resume_lab.rollout import migration as rollout
from resume_lab.rollout.finding import Finding
from resume_lab.tuning.results import TableInfo

from .kept_runs import MODEL, add_rows, copy_migrations, kept, run, tuned, vector_indexes

__all__ = ["test_model_definitions_match_ddl", "test_up_down_consistency"]

NEWEST = schema.head()  # of the project: each test adds to a copy
ODD = TableInfo(
    ("Odd; schema", "o's"), "v 1", "id", where="name LIKE ':a%' OR name = E'\\\\:b'", partial=True
)


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copy_migrations(tmp_path / "project", monkeypatch)


@pytest.fixture
def patient(database: Engine) -> Iterator[Engine]:
    """An engine whose statements wait for a lock only briefly."""
    engine = engine_for(database.url.update_query_dict({"options": "-c lock_timeout=300ms"}))
    yield engine
    engine.dispose()


def written(engine: Engine, **options: object) -> tuple[rollout.Rollout, Path]:
    planned = rollout.prepare(engine, kept(), run="20260213-090000-ab12", **options)
    return planned, rollout.write(planned)


# --- up, down, and up again


@pytest.mark.parametrize("others", [False, True], ids=["one model", "two models"])
def test_it_goes_up_and_down_and_up_and_check_is_clean(
    any_empty_database: Engine, versions: Path, others: bool
) -> None:
    engine = any_empty_database
    schema.upgrade(engine)
    add_rows(engine, MODEL, 60)
    if others:
        add_rows(engine, "another", 20)
    before = vector_indexes(engine)
    planned, file = written(engine)
    assert re.fullmatch(r"\d{8}_[0-9a-f]{12}_ivfflat_index_with_4_lists\.py", file.name)
    assert vector_indexes(engine) == before
    for _ in range(2):
        schema.upgrade(engine)
        ((name, (definition, comment, valid)),) = vector_indexes(engine).items()
        assert name.startswith("lab_ivfflat_")  # for this model alone, whatever comes later
        assert "vector_cosine_ops) WITH (lists='4')" in definition
        assert f"= '{MODEL}'::text" in definition
        assert Finding.of_text(comment) == planned.finding
        assert valid
        schema.check(engine)
        schema.downgrade(engine, "-1")
        assert vector_indexes(engine) == before


def test_the_finding_says_what_the_run_found(database: Engine, versions: Path) -> None:
    add_rows(database, MODEL, 30)
    result = tuned(needs=" SET LOCAL enable_sort = off;")
    found = rollout.prepare(database, kept(result)).finding
    assert (found.lists, found.probes, found.k, found.distance) == (4, 2, 10, "cosine")
    assert (found.target_recall, found.recall, found.recall_low) == (0.9, 0.95, 0.93)
    assert (found.confirmed_recall, found.rows, found.pgvector_version) == (0.94, 30, "0.8.5")
    assert found.where == f"embedding_model = '{MODEL}'"
    assert found.needs == {"enable_sort": "off"}


def test_a_second_rollout_goes_back_to_the_first(database: Engine, versions: Path) -> None:
    written(database)
    schema.upgrade(database)
    first = vector_indexes(database)
    second = rollout.prepare(database, kept(tuned(lists=6)))
    rollout.write(second)
    schema.upgrade(database)
    assert "lists='6'" in vector_indexes(database)[second.index][0]
    schema.downgrade(database, "-1")
    assert vector_indexes(database) == first
    assert second.consequences == [f"{second.index} gives way; going back restores it."]


def odd_table(engine: Engine) -> None:
    run(
        engine,
        'CREATE SCHEMA "Odd; schema"',
        'CREATE TABLE "Odd; schema"."o\'s" (id int, name text, "v 1" vector(3))',
        'INSERT INTO "Odd; schema"."o\'s" SELECT n, \':a%\', ARRAY[n, 1, 2] '
        "FROM generate_series(1, 40) n",
        'CREATE INDEX "Old; one" ON "Odd; schema"."o\'s" '
        'USING ivfflat ("v 1" vector_cosine_ops) WITH (lists = 3)',
        "COMMENT ON INDEX \"Odd; schema\".\"Old; one\" IS 'it''s :x 100 %'",
        'CREATE INDEX graph ON "Odd; schema"."o\'s" USING hnsw ("v 1" vector_cosine_ops)',
        'CREATE INDEX l2 ON "Odd; schema"."o\'s" USING hnsw ("v 1" vector_l2_ops)',
    )


def test_the_table_of_a_user_with_odd_names_and_conditions(
    database: Engine, versions: Path
) -> None:
    odd_table(database)
    name = '"Odd; schema"."o\'s"'
    before = vector_indexes(database, name)
    planned = rollout.prepare(database, kept(tuned(ODD, dim=3)))
    assert [index.name for index in planned.gives_way] == ["Old; one", "graph"]
    assert "read all of these" in planned.consequences[-1]
    rollout.write(planned)
    schema.upgrade(database)
    after = vector_indexes(database, name)
    assert set(after) == {"l2", planned.index}
    assert Finding.of_text(after[planned.index][1]).where == ODD.where
    assert planned.finding.rows == 40
    schema.check(database)
    schema.downgrade(database, "-1")
    assert vector_indexes(database, name) == before


def test_competitors_stay_when_asked_to(database: Engine, versions: Path) -> None:
    add_rows(database, MODEL, 10)
    add_rows(database, "another", 10)
    planned, _ = written(database, keep=True)
    assert planned.consequences == []
    schema.upgrade(database)
    assert set(vector_indexes(database)) == {EMBEDDING_INDEX, planned.index}
    schema.check(database)
    schema.downgrade(database, "-1")
    assert set(vector_indexes(database)) == {EMBEDDING_INDEX}


# --- cut short


def test_it_ends_well_after_an_interruption_at_any_statement(
    database: Engine, versions: Path
) -> None:
    planned, _ = written(database)
    before = vector_indexes(database)
    schema.upgrade(database)
    after = vector_indexes(database)
    schema.downgrade(database, "-1")
    for done in range(1, len(planned.upgrade.alone) + 1):
        run(database, *planned.upgrade.alone[:done])
        assert any(valid for *_, valid in vector_indexes(database).values())
        schema.upgrade(database)
        assert vector_indexes(database) == after
        run(database, *planned.downgrade.alone[:done])
        assert any(valid for *_, valid in vector_indexes(database).values())
        schema.downgrade(database, "-1")
        assert vector_indexes(database) == before


def test_an_open_transaction_ends_the_wait_and_the_next_run_clears_up(
    database: Engine, patient: Engine, versions: Path
) -> None:
    add_rows(database, MODEL, 20)
    planned, _ = written(database)
    with database.begin() as other:
        other.execute(sa.text("INSERT INTO query_logs (query_text) VALUES ('open')"))
        other.execute(sa.text("UPDATE chunk_embeddings SET created_at = now()"))
        with pytest.raises(SchemaError, match="kept a transaction open") as raised:
            schema.upgrade(patient)
    assert "open transaction in a notebook" in raised.value.hint
    left = vector_indexes(database)
    assert left.pop(f"lab_{planned.revision}")[2] is False
    assert left[EMBEDDING_INDEX][2] is True
    schema.upgrade(database)
    assert list(vector_indexes(database)) == [planned.index]
    assert vector_indexes(database)[planned.index][1:] == (planned.finding.as_text(), True)


def test_ctrl_c_stops_a_build_that_waits(database: Engine, versions: Path) -> None:
    planned, _ = written(database)
    with database.begin() as other:
        other.execute(sa.text("LOCK TABLE chunk_embeddings IN ROW EXCLUSIVE MODE"))
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            schema.upgrade(database)
        timer.join()
    schema.upgrade(database)
    assert list(vector_indexes(database)) == [planned.index]


def test_settings_of_the_session_are_as_before(database: Engine, versions: Path) -> None:
    planned, _ = written(database)
    names = ("maintenance_work_mem", "statement_timeout")
    autocommit = database.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.exec_driver_sql("SET maintenance_work_mem = '64MB'")
        connection.exec_driver_sql("RESET maintenance_work_mem")
        before = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]
        for statement in planned.upgrade.alone:
            connection.exec_driver_sql(statement)
        assert [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names] == before


# --- as SQL, as text


def test_the_offline_sql_does_the_same(database: Engine, versions: Path) -> None:
    odd_table(database)
    rollout.write(rollout.prepare(database, kept(tuned(ODD, dim=3))))
    script = schema.preview_sql(f"{NEWEST}:head")
    assert script.index("COMMIT") < script.index("CONCURRENTLY")
    run(database, *(part for part in script.split(";\n") if part.strip()))
    assert schema.is_current(database)
    (index,) = set(vector_indexes(database, '"Odd; schema"."o\'s"')) - {"l2"}
    assert index.startswith("lab_ivfflat_")


@pytest.mark.parametrize("table", [None, ODD], ids=["stored", "odd"])
def test_the_file_is_formatted_and_linted_as_the_others(
    database: Engine, versions: Path, table: TableInfo | None
) -> None:
    odd_table(database)
    file = rollout.write(rollout.prepare(database, kept(tuned(table)), run="20260213-090000-ab12"))
    text = file.read_text()
    ruff = Path(sys.executable).with_name("ruff")
    name = f"--stdin-filename=migrations/versions/{file.name}"
    for arguments in (["format", name, "-"], ["check", "--no-cache", name, "-"]):
        done = subprocess.run(
            [ruff, *arguments], cwd=project_root(), input=text, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert done.stdout in (text, "All checks passed!\n")
    assert len(text.splitlines()) < 130


@pytest.fixture
def alembic_config(database: Engine, versions: Path) -> Config:
    """For pytest-alembic's own tests: an index for one of several models replaced the general."""
    add_rows(database, MODEL, 10)
    add_rows(database, "another", 10)
    written(database)
    return Config(versions.parent.parent / "alembic.ini")


@pytest.fixture
def alembic_engine(any_empty_database: Engine) -> Engine:
    return any_empty_database


# --- where it is written


def test_a_run_is_rolled_out_once(database: Engine, versions: Path, tmp_path: Path) -> None:
    _, file = written(database)
    schema.upgrade(database)
    with pytest.raises(SchemaError, match=re.escape(file.name)) as raised:
        written(database)
    assert "Delete the file" in raised.value.hint
    schema.downgrade(database, "-1")
    file.unlink()
    written(database)


def test_another_place_and_another_project(
    database: Engine, versions: Path, tmp_path: Path
) -> None:
    before = set(versions.iterdir())
    run(database, "UPDATE alembic_version SET version_num = 'theirs'")
    planned = rollout.prepare(database, kept(), after="theirs")
    file = rollout.write(planned, tmp_path, after="theirs")
    assert file.parent == tmp_path
    assert 'down_revision: str | Sequence[str] | None = "theirs"' in file.read_text()
    assert set(versions.iterdir()) == before
    (tmp_path / "here.py").write_text("mine")
    with pytest.raises(SchemaError, match="is there already"):
        rollout.write(rollout.prepare(database, kept(why="x"), after="x"), tmp_path / "here.py")
    with pytest.raises(SchemaError, match="cannot be written"):
        rollout.write(planned, tmp_path / "no" / "folder.py")


def test_a_database_that_is_behind_is_told_to_migrate(database: Engine, versions: Path) -> None:
    written(database)
    with pytest.raises(SchemaError, match=f"at migration {NEWEST}") as raised:
        rollout.prepare(database, kept(tuned(lists=9)))
    assert "resume-lab migrate" in raised.value.hint


def test_without_a_folder_of_migrations_it_says_so(
    database: Engine, versions: Path, tmp_path: Path
) -> None:
    planned = rollout.prepare(database, kept())
    versions.parent.rename(tmp_path / "gone")
    with pytest.raises(SchemaError, match="migrations"):
        rollout.write(planned)


# --- what cannot be rolled out


def test_what_has_no_index_or_no_table_is_refused(database: Engine) -> None:
    nothing = kept(recommendation=None, why="No setting reaches 0.99.")
    with pytest.raises(ExperimentError, match=r"no index\. No setting reaches") as raised:
        rollout.prepare(database, nothing)
    assert "--target-recall" in raised.value.hint
    generated = kept()
    generated["workload"] |= {"table": None, "source": "random vectors"}
    with pytest.raises(ExperimentError, match="measured random vectors, so there is no table"):
        rollout.prepare(database, generated)
    gone = TableInfo(("gone",), "v", "id")
    with pytest.raises(SchemaError, match="There is no table gone"):
        rollout.prepare(database, kept(tuned(gone)))


def test_a_partitioned_table_is_refused(database: Engine) -> None:
    run(database, "CREATE TABLE parts (id int, v vector(3)) PARTITION BY LIST (id)")
    with pytest.raises(ExperimentError, match="parts is partitioned") as raised:
        rollout.prepare(database, kept(tuned(TableInfo(("parts",), "v", "id"))))
    assert "single partition" in raised.value.hint


def test_a_role_that_does_not_own_the_table_is_told(database: Engine, versions: Path) -> None:
    written(database)
    role = "reader_" + database.url.database
    run(
        database, f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
    )
    engine = engine_for(database.url.set(username=role))
    try:
        with pytest.raises(SchemaError, match="must be owner") as raised:
            schema.upgrade(engine)
        assert "Only the owner of a table" in raised.value.hint
    finally:
        engine.dispose()
        run(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
