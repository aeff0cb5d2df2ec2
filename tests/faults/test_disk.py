"""Full disks of server and client: one sentence, nothing half done, and with room it succeeds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from rollout.kept_runs import add_rows, copy_migrations, kept, tuned
from small_disk import filled, small_disk
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.config import Settings
from resume_lab.database import schema
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.session import engine_for
from resume_lab.embedding.embedder import DIM
from resume_lab.errors import DatabaseError, DataError, LabError
from resume_lab.ingestion import ingest_content
from resume_lab.ingestion.journal import Journal
from resume_lab.report import write_html
from resume_lab.rollout import migration as rollout
from resume_lab.tuning import Workload, predict, runs, tune
from resume_lab.vectors import generate

QUICK = {"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}
MODEL = "synthetic/clustered/seed=0"
OWNER = "owner_of_all"  # no superuser: it does not know the disk, and only meets its end


@pytest.fixture(scope="module")
def cramped() -> Iterator[SimpleNamespace]:
    """A server with its data on one small disk and its log on another."""
    with small_disk("150m") as data, small_disk("100m") as log:
        server = EmbeddedServer(data / "lab", extra_settings=QUICK)
        server.start()
        server.stop()
        shutil.copytree(server.data_dir / "pg_wal", log / "pg_wal")
        for path in (log / "pg_wal", *(log / "pg_wal").rglob("*")):
            shutil.chown(path, server.data_dir.owner(), server.data_dir.group())
        (log / "pg_wal").chmod(0o700)
        shutil.rmtree(server.data_dir / "pg_wal")
        (server.data_dir / "pg_wal").symlink_to(log / "pg_wal")
        server.start()
        yield SimpleNamespace(server=server, data=data, log=log)
        server.stop()


@pytest.fixture
def engine(cramped: SimpleNamespace) -> Iterator[Engine]:
    """An empty database of its owner on this server."""
    admin = sa.create_engine(cramped.server.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE ROLE {OWNER} LOGIN"))
        connection.execute(sa.text(f"CREATE DATABASE cramped OWNER {OWNER}"))
    admin.dispose()  # the server may be another one at the end
    superuser = sa.create_engine(cramped.server.url("cramped"))
    with superuser.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION vector"))
    superuser.dispose()
    engine = engine_for(cramped.server.url("cramped").set(username=OWNER))
    yield engine
    engine.dispose()
    cramped.server.start()
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE cramped WITH (FORCE)"))
        connection.execute(sa.text(f"DROP ROLE {OWNER}"))
    admin.dispose()


def holdings(engine: Engine) -> dict[str, object]:
    """Return what there is: schemas, tables, indexes that are whole, rows."""
    with engine.connect() as connection:
        found: dict[str, object] = {"schemas": sa.inspect(connection).get_schema_names()}
        indexes = sa.text(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index JOIN pg_class "
            "ON oid = indrelid WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        found["indexes"] = connection.execute(indexes).all()
        for table in set(sa.inspect(connection).get_table_names()) - {"alembic_version"}:
            found[table] = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
        return found


def fails_and_then_succeeds(
    engine: Engine, disk: Path, work: Callable[[], object], *, leaving: int
) -> LabError:
    """Do it on a full disk, where it must change nothing, and again with room."""
    before = holdings(engine)
    with filled(disk, leaving=leaving), pytest.raises(LabError) as raised:
        work()
    assert holdings(engine) == before
    work()
    assert raised.value.message.startswith("The disk of the server is full: could not ")
    assert "Free space there" in raised.value.hint
    return raised.value


def test_migrating(cramped: SimpleNamespace, engine: Engine) -> None:
    def migrate() -> None:
        schema.upgrade(engine)

    error = fails_and_then_succeeds(engine, cramped.data, migrate, leaving=200_000)
    assert error.state == "No migration has been run."
    schema.check(engine)


@pytest.mark.parametrize("leaving", [3_000_000, 12_000_000], ids=["rows", "index"])
def test_seeding(cramped: SimpleNamespace, engine: Engine, leaving: int) -> None:
    schema.upgrade(engine)

    def seed() -> None:
        assert seeding.seed(engine, rows=1000).added == 1000

    error = fails_and_then_succeeds(engine, cramped.data, seed, leaving=leaving)
    assert "Nothing was added" in error.state
    assert holdings(engine)["chunk_embeddings"] == 1000


def test_ingesting(cramped: SimpleNamespace, engine: Engine, tmp_path: Path) -> None:
    schema.upgrade(engine)
    content = tmp_path / "content"
    content.mkdir()
    for number in range(20):
        words = " ".join(f"word{number}{n}" for n in range(400))
        (content / f"{number}.md").write_text(f"# File {number}\n\n{words}\n")
    settings = Settings(lab_dir=tmp_path / "lab", embedding_model="lexical")

    def ingest() -> None:
        report = ingest_content(content, engine=engine, name="content", settings=settings)
        assert report.added == 20

    error = fails_and_then_succeeds(engine, cramped.data, ingest, leaving=200_000)
    assert error.state == "0 of 20 files are stored."


def test_tuning_drops_its_copy(cramped: SimpleNamespace, engine: Engine) -> None:
    schema.upgrade(engine)
    workload = Workload.generated("clustered", 1500, n_queries=20, dim=64)

    prediction = predict(workload.split()[0], [4])

    def measure() -> None:
        tune(engine, workload, lists=[4], rebuilds=0, rounds=1, prediction=prediction)

    fails_and_then_succeeds(engine, cramped.data, measure, leaving=200_000)


def test_an_index_in_use_stays_until_the_new_one_is_whole(
    cramped: SimpleNamespace, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_migrations(tmp_path / "project", monkeypatch)
    schema.upgrade(engine)
    add_rows(engine, MODEL, 1500)
    rollout.write(rollout.prepare(engine, kept(), run="20260213-090000-ab12"))

    def usable() -> list[object]:
        return [row for row in holdings(engine)["indexes"] if row.indisvalid]

    before = usable()
    with (
        filled(cramped.data, leaving=2_000_000),
        pytest.raises(DatabaseError, match="The disk of the server is full"),
    ):
        schema.upgrade(engine)
    assert usable() == before
    schema.upgrade(engine)
    after = holdings(engine)["indexes"]
    assert all(row.indisvalid for row in after)
    assert after != before
    assert schema.is_current(engine)


def test_a_full_log_stops_the_server_and_loses_nothing(
    cramped: SimpleNamespace, engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    schema.upgrade(engine)
    seeding.seed(engine, rows=100)
    before = holdings(engine)
    with filled(cramped.log, leaving=0), pytest.raises(DatabaseError) as raised:
        seeding.seed(engine, rows=8000)
    assert raised.value.hint is not None
    assert raised.value.state is not None
    assert capfd.readouterr().err == ""
    cramped.server.start()
    assert holdings(engine) == before
    assert seeding.seed(engine, rows=200).added == 100


# --- the disk of the client


@pytest.fixture
def full() -> Iterator[Path]:
    """A small disk; `filled` is up to the test."""
    with small_disk("4m") as disk:
        yield disk


def test_a_report_that_does_not_fit_leaves_the_earlier_one(full: Path) -> None:
    report = full / "report.html"
    report.write_text("the earlier one")
    with filled(full, leaving=0), pytest.raises(DataError, match="No space left") as raised:
        write_html(tuned(), report)
    assert raised.value.hint is not None
    assert report.read_text() == "the earlier one"
    assert [path.name for path in full.iterdir()] == ["report.html"]
    write_html(tuned(), report)
    assert report.read_text() != "the earlier one"


def test_a_run_that_cannot_be_kept_is_told_and_stays_as_it_was(full: Path) -> None:
    folder = full / "runs"
    with filled(full, leaving=0), pytest.raises(DataError, match="Runs cannot be kept"):
        runs.start(folder, label="test", options={})
    run = runs.start(folder, label="test", options={})
    run.keep("first", {"n": 1})
    with filled(full, leaving=8192), pytest.raises(DataError, match="No space left"):
        run.keep("second", "x" * 100_000)
    run.end(runs.FAILED)
    again = runs.resume(folder, run.name)
    assert again.kept("first") == {"n": 1}
    assert again.step("second", lambda: 2) == 2
    again.finish(tuned())
    assert runs.load(folder).steps == 2


def test_vectors_that_do_not_fit_are_told_and_the_earlier_ones_kept(full: Path) -> None:
    vectors = generate("random", 4, dim=DIM, seed=0)
    names = [f"{number:064x}" for number in range(4)]
    journal = Journal(full, "model")
    journal.keep(names[:2], vectors[:2])
    with filled(full, leaving=4096), pytest.raises(DataError, match="No space left") as raised:
        journal.keep(names[2:], vectors[2:])
    assert "Make room" in raised.value.hint
    again = Journal(full, "model")
    assert again.get(names[1]).tobytes() == vectors[1].tobytes()
    assert again.get(names[3]) is None
    again.keep(names[2:], vectors[2:])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_ends_in_a_sentence(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", "resume_lab.cli", "runs"],
            stdout=nowhere,
            stderr=subprocess.PIPE,
            env={**os.environ, "LAB_DIR": str(tmp_path)},
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
