"""Commands as a person types them, and what a database holds."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.session import engine_for
from tests.rollout.kept_runs import run

Run = Callable[..., subprocess.CompletedProcess[str]]
Held = Callable[[], dict[str, object]]

_HELD = {
    "relations": "SELECT n.nspname, c.relname, c.relkind FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_' ORDER BY 1, 2",
    "schemas": "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
    "invalid": "SELECT count(*) FROM pg_index WHERE NOT indisvalid",
    "sequences": "SELECT sequencename, last_value FROM pg_sequences ORDER BY 1",
    **{
        name: f"SELECT count(*) FROM {name}"
        for name in ("document_chunks", "chunk_embeddings", "query_logs")
    },
}


@pytest.fixture(scope="session")
def shared_database(server18: EmbeddedServer) -> Iterator[Engine]:
    """An engine on a database with pgvector alone, where every test undoes what it does."""
    admin, engine = engine_for(server18.url("postgres")), engine_for(server18.url("shared"))
    run(admin, "CREATE DATABASE shared")
    admin.dispose()
    run(engine, "CREATE EXTENSION vector")
    yield engine
    engine.dispose()


@pytest.fixture
def typed(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of `resume-lab` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return call


@pytest.fixture
def held(database: Engine) -> Held:
    """Return all that the database holds: relations, schemas, and the rows of the three tables."""

    def look() -> dict[str, object]:
        with database.connect() as connection:
            return {
                what: [tuple(row) for row in connection.execute(sa.text(query))]
                for what, query in _HELD.items()
            }

    return look


def refused(done: subprocess.CompletedProcess[str], saying: str) -> None:
    """The command ended with a sentence, and with nothing else."""
    assert (done.returncode, done.stdout) in ((1, ""), (2, "")), done
    assert saying in done.stderr
    assert "Traceback" not in done.stderr
