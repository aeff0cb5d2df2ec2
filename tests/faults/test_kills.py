"""Faults at chosen moments: nothing is lost, the same command again does it all, nothing is left.

The benchmark of faults causes all of them in every operation, at random moments.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from jupyter_client.manager import KernelManager
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.config import project_root
from resume_lab.database.indexes import execute
from resume_lab.errors import ExperimentError
from resume_lab.files import new_draft, replace_file
from resume_lab.tuning import runs, scratch_copy
from resume_lab.tuning.scratch import drop_abandoned

from .harness import Fault, cause
from .lab import Lab
from .operations import ASK, BUILD, INGEST, MIGRATE, SEED, TUNE, Operation


@pytest.mark.parametrize(
    ("operation", "fault", "moment", "in_the_way"),
    [
        (SEED, Fault.SERVER, "CREATE INDEX", None),
        (INGEST, Fault.CUT, "DELETE FROM", "LOCK TABLE chunk_embeddings IN SHARE MODE"),
        (MIGRATE, Fault.STOP, "CREATE TRIGGER", "LOCK TABLE pg_trigger IN SHARE MODE"),
        (BUILD, Fault.KILL, "CONCURRENTLY", "LOCK TABLE chunk_embeddings IN ROW EXCLUSIVE MODE"),
        (TUNE, Fault.KILL, "CREATE INDEX lab_", None),
        (ASK, Fault.CRASH, "INSERT INTO query_logs", "LOCK TABLE query_logs IN SHARE MODE"),
    ],
    ids=["seed", "ingest", "migrate", "migrate a rollout", "tune", "ask"],
)
def test_a_fault_in_the_middle_loses_nothing_and_a_rerun_does_it_all(
    lab: Lab, operation: Operation, fault: Fault, moment: str, in_the_way: str | None
) -> None:
    seen = cause(lab, fault, operation, moment, in_the_way=in_the_way)
    assert seen.caused
    assert seen.is_clean, seen


# --- files


FULL_FILE = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel then kills whoever writes too much
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
"""
REPLACE = (
    FULL_FILE
    + """
from resume_lab.files import replace_file
replace_file(Path(sys.argv[1]), "new" * 1000)
"""
)
MIGRATION = (
    FULL_FILE
    + """
from resume_lab.database import schema
schema.project_root = lambda: Path(sys.argv[1])
schema.write_revision("abc", "a title", upgrade="x" * 1000, downgrade="pass")
"""
)


def killed(code: str, *arguments: object) -> None:
    """Run Python code that is killed in the middle of writing a file."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGXFSZ, done.stderr


def test_a_file_that_is_being_replaced_stands_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    target.write_text("old")
    killed(REPLACE, target)
    assert target.read_text() == "old"
    (left,) = set(tmp_path.iterdir()) - {target}
    replace_file(target, "new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target], left


def test_a_file_keeps_the_mode_that_it_had(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.touch(mode=0o600)
    replace_file(target, "new")
    assert target.stat().st_mode & 0o777 == 0o600


def test_the_draft_of_a_process_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    draft = new_draft(tmp_path)
    draft.write_text("not whole yet")
    replace_file(tmp_path / "other", "text")
    assert draft.exists()


def test_what_a_link_names_is_replaced_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_text("old")
    link.symlink_to(file)
    replace_file(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    replace_file(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_migration_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    shutil.copytree(project_root() / "migrations", tmp_path / "migrations")
    shutil.copy(project_root() / "alembic.ini", tmp_path)
    versions = tmp_path / "migrations" / "versions"
    before = set(versions.glob("*.py"))
    killed(MIGRATION, tmp_path)
    assert set(versions.glob("*.py")) == before


# --- runs


HOLD = """
import sys
from pathlib import Path
from resume_lab.tuning import runs
run = runs.start(Path(sys.argv[1]), label="x", options={})
run.keep("a step", 1)
print(run.name, flush=True)
sys.stdin.read()
"""


def test_a_run_is_resumed_once_its_process_was_killed_and_not_before(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert runs.load(tmp_path, name).status == "running"
        with pytest.raises(ExperimentError, match="going on in another process"):
            runs.resume(tmp_path, name)
        process.kill()
    assert runs.load(tmp_path, name).status == "interrupted"
    assert runs.resume(tmp_path, name).kept("a step") == 1
    assert runs.load(tmp_path, name).status == "running"


# --- the copy of an experiment


AT_WORK = """
import sys
import numpy as np
import sqlalchemy as sa
from resume_lab.database.session import engine_for
from resume_lab.tuning import scratch_copy
engine = engine_for(sa.make_url(sys.argv[1]))
with scratch_copy(engine, np.ones((9, 3), np.float32)) as scratch, engine.connect() as connection:
    print(scratch.schema, flush=True)
    connection.execute(sa.text(f"SELECT pg_sleep(60) FROM {scratch.schema}.items LIMIT 1"))
"""


def test_a_statement_that_outlives_its_killed_client_does_not_stop_the_next_experiment(
    database: Engine,
) -> None:
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", AT_WORK, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        schema = process.stdout.readline().strip()
        wait_until(database, "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sl'")
        process.kill()
    wait_until(
        database,
        "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    start = time.monotonic()
    with scratch_copy(database, np.ones((9, 3), np.float32)) as scratch:
        assert scratch.schema != schema
    assert time.monotonic() - start < 30
    found = sa.text("SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'lab_scratch_')")
    with database.connect() as connection:
        assert connection.scalar(found) == 0


def test_a_backup_that_reads_an_abandoned_copy_is_not_ended(database: Engine) -> None:
    with database.begin() as connection:
        execute(
            connection, "CREATE SCHEMA lab_scratch_dead; CREATE TABLE lab_scratch_dead.items ()"
        )
    backup = sa.create_engine(database.url, connect_args={"application_name": "pg_dump"})
    with backup.connect() as reading:
        reading.execute(sa.text("SELECT * FROM lab_scratch_dead.items"))
        impatient = database.execution_options(isolation_level="AUTOCOMMIT")
        with impatient.connect() as connection:
            assert drop_abandoned(connection) == []
        assert reading.scalar(sa.text("SELECT 1")) == 1
    backup.dispose()
    with impatient.connect() as connection:
        assert drop_abandoned(connection) == ["lab_scratch_dead"]


# --- the kernel of a notebook


def test_a_kernel_interrupted_and_one_killed_leave_nothing_half_done(database: Engine) -> None:
    url = database.url.render_as_string(hide_password=False)
    manager = KernelManager(transport="ipc")  # a port might be taken by another test
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        assert reply(client, client.execute(CELL.format(url=url)))["status"] == "ok"
        cell = client.execute("seeding.seed(engine, rows=150_000)")
        wait_until(database, COPYING)
        manager.interrupt_kernel()
        assert reply(client, cell)["ename"] == "KeyboardInterrupt"
        assert rows(database) == 0
        assert reply(client, client.execute("seeding.seed(engine, rows=20)"))["status"] == "ok"
        client.execute("seeding.seed(engine, rows=150_000)")
        wait_until(database, COPYING)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert seeding.seed(database, rows=50).added == 30
    assert rows(database) == 50


CELL = """
import sqlalchemy as sa
from resume_lab import seeding
from resume_lab.database.session import engine_for
engine = engine_for(sa.make_url("{url}"))
"""


def reply(client: Any, cell: str) -> dict[str, Any]:
    """Wait for the end of a cell; return how it ended."""
    while (message := client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != cell:
        pass
    return message["content"]


COPYING = (
    "SELECT tuples_processed > 1000 FROM pg_stat_progress_copy "
    "WHERE datname = current_database() AND relid = 'chunk_embeddings'::regclass"
)


def wait_until(engine: Engine, query: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if connection.scalar(sa.text(query)):
                return
        time.sleep(0.01)
    raise AssertionError(f"it did not come to pass: {query}")


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM chunk_embeddings")))
