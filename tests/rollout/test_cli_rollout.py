"""`resume-lab rollout` and `drift`: what they show, what they write, how they end."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.console import Group
from resume_lab.cli.rollout import drift_command, rollout_command
from resume_lab.database import schema
from resume_lab.tuning import TuningResult, runs

from .kept_runs import MODEL, add_rows, copy_migrations, finding, run, tuned, vector_indexes

Run = Callable[..., tuple[int, str, str]]

app = typer.Typer(cls=Group, rich_markup_mode=None)
app.command("rollout")(rollout_command)
app.command("drift")(drift_command)


@pytest.fixture
def lab(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a migrated database; return exit code, output and errors."""
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))

    def invoke(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return invoke


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copy_migrations(tmp_path / "project", monkeypatch)


def finished(tmp_path: Path, result: TuningResult | None = None) -> str:
    saved = runs.start(tmp_path / "lab" / "runs", label="stored", options={})
    saved.finish(result or tuned())
    assert saved.name is not None
    return saved.name


# --- rollout


def test_it_shows_the_sql_and_writes_a_migration_that_migrate_runs(
    lab: Run, database: Engine, versions: Path, tmp_path: Path
) -> None:
    name = finished(tmp_path)
    before = set(versions.glob("*.py"))
    code, said, _ = lab("rollout", name)
    (file,) = set(versions.glob("*.py")) - before
    assert code == 0
    assert said.startswith(f"-- Run {name}: ivfflat index with 4 lists\n")
    assert "-- ix_chunk_embeddings_embedding gives way; going back restores it.\n" in said
    assert said.index("CREATE INDEX CONCURRENTLY") < said.index("-- The way back:")
    assert said.endswith(f"Written: {file}\nRead it, then resume-lab migrate\n")
    assert "lists='100'" in str(vector_indexes(database))
    schema.upgrade(database)
    assert "lists='4'" in str(vector_indexes(database))
    code, _, errors = lab("rollout")
    assert code == 1
    assert errors.startswith("Error: This run was rolled out already")


def test_a_dry_run_and_json_and_another_place(lab: Run, versions: Path, tmp_path: Path) -> None:
    finished(tmp_path)
    before = set(versions.glob("*.py"))
    code, said, _ = lab("rollout", "--dry-run", "--json")
    planned = json.loads(said)
    assert (code, planned["file"]) == (0, None)
    assert "CREATE INDEX CONCURRENTLY" in planned["upgrade"]
    code, said, _ = lab("rollout", "--output", tmp_path / "mine.py", "--json")
    assert (code, json.loads(said)["file"]) == (0, str(tmp_path / "mine.py"))
    assert (tmp_path / "mine.py").read_text().startswith('"""ivfflat index with 4 lists')
    assert set(versions.glob("*.py")) == before


def test_what_it_cannot_roll_out_ends_in_a_sentence(lab: Run, tmp_path: Path) -> None:
    code, said, errors = lab("rollout")
    assert (code, said) == (1, "")
    assert "There is no finished run" in errors
    cut_short = runs.start(tmp_path / "lab" / "runs", label="stored", options={})
    assert f"Run {cut_short.name} is running" in lab("rollout", cut_short.name)[2]
    finished(tmp_path, dataclasses.replace(tuned(), recommendation=None, why="Too hard."))
    assert "recommends no index. Too hard." in lab("rollout")[2]
    assert "--after needs --output" in lab("rollout", "--after", "x")[2]


# --- drift


@pytest.fixture
def tuned_rows(database: Engine) -> Engine:
    add_rows(database, MODEL, 120)
    needs = {"enable_sort": "off", "enable_seqscan": "off"}
    text = finding(lists=100, probes=100, needs=needs).as_text().replace("'", "''")
    run(
        database,
        "REINDEX INDEX ix_chunk_embeddings_embedding",
        f"COMMENT ON INDEX ix_chunk_embeddings_embedding IS '{text}'",
    )
    return database


def test_drift_ends_with_0_at_the_target_and_1_below(lab: Run, tuned_rows: Engine) -> None:
    code, said, _ = lab("drift", "--queries", 40)
    assert code == 0
    assert said.startswith(f"{MODEL}: 120 rows, pgvector ")
    assert said.endswith("Fine: recall reaches the target of 0.9.\n")
    text = finding(lists=100, probes=1, needs={"enable_sort": "off"}).as_text()
    text = text.replace("'", "''")
    run(tuned_rows, f"COMMENT ON INDEX ix_chunk_embeddings_embedding IS '{text}'")
    code, said, _ = lab("drift", "--queries", 40, "--target", 0.99, "--json", "--model", MODEL)
    found = json.loads(said)
    assert (code, found["is_below_target"], found["target_recall"]) == (1, True, 0.99)
    assert found["recall"]["mean"] < 0.5


def test_drift_of_any_table(lab: Run, database: Engine) -> None:
    run(database, "CREATE TABLE items (v vector(2))", "INSERT INTO items VALUES ('[1,2]')")
    code, _, errors = lab("drift", "--table", "items", "--column", "v")
    assert code == 1
    assert "1 rows are too few" in errors
    run(database, "INSERT INTO items SELECT ARRAY[n, 1]::vector FROM generate_series(1, 20) n")
    code, said, _ = lab("drift", "--table", "items", "--column", "v")
    assert code == 0
    assert said.endswith("No vector index is used: every answer is exact.\n")


def test_drift_says_what_is_wrong(lab: Run) -> None:
    assert "No embeddings are stored." in lab("drift")[2]
    assert "--table and --column need each other" in lab("drift", "--table", "x")[2]
    assert "exclude each other" in lab("drift", "--table", "x", "--model", "y")[2]
    assert "no table" in lab("drift", "--table", "x", "--column", "y")[2].lower()


def test_the_help_shows_the_line_for_ci(lab: Run) -> None:
    code, said, _ = lab("drift", "--help")
    assert code == 0
    assert "resume-lab drift --target 0.95" in said
    assert "Exit code 1" in said
