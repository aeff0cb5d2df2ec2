"""No command shows, logs or writes down any part of the password that it logs in with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.config import project_root
from resume_lab.database.embedded import EmbeddedServer

from .canary import SECRETS, leaks
from .conftest import Address

MODEL = "synthetic/clustered/seed=0"
TUNE = ("tune", "--model", MODEL, "--queries", "40", "--rebuilds", "0", "--lists", "2,4")
GRID = (*TUNE[:5], "--grid", "--lists", "2", "--probes", "1,2")

SUCCEED = [
    ("verify",),
    ("verify", "--json"),
    ("migrate", "--sql"),
    ("migrate", "--to", "-1"),
    ("migrate", "--json"),
    ("migrate",),
    ("seed", "--rows", "300", "--kind", "clustered"),
    ("seed", "--rows", "300", "--kind", "clustered", "--json"),
    ("ingest", str(project_root() / "content" / "talks")),
    ("ingest", str(project_root() / "content" / "talks"), "--json"),
    ("search", "wire", "--by", "hybrid", "--explain"),
    ("search", "wire", "--json"),
    ("ask", "Why did she hand out pieces of wire?"),
    ("ask", "Why did she hand out pieces of wire?", "--json"),
    (*TUNE, "--target-recall", "0.5", "--html", "tuned.html", "--json", "tuned.json"),
    (*GRID, "--json", "-"),
    ("runs",),
    ("runs", "--json"),
    ("rollout", "--output", "."),
    ("rollout", "--dry-run", "--json"),
    ("drift", "--model", MODEL),
    ("drift", "--model", MODEL, "--json"),
    ("db", "url"),
]
FAIL = [
    ("migrate", "--to", "nowhere"),
    ("seed", "--rows", "none"),
    ("seed", "--from", "nowhere.npy"),
    ("ingest", "nowhere"),
    ("search", "wire", "--k", "0"),
    ("search", "wire", "--model", "nothing"),
    ("ask", ""),
    ("tune", "--table", "nowhere", "--column", "v"),
    ("tune", "--table", "document_chunks", "--column", "content"),
    (
        "tune",
        "--table",
        "chunk_embeddings",
        "--column",
        "embedding",
        "--where",
        "(((",
    ),
    ("tune", "--resume", "nothing"),
    ("runs", "one", "two"),
    ("rollout", "nothing"),
    ("drift", "--table", "nowhere", "--column", "v"),
    ("db", "status"),
    ("verfy",),
]
OF_A_DATABASE = [one for one in SUCCEED if one[0] not in ("runs", "db") and "--sql" not in one]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary")


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LAB_DIR", str(folder / "lab"))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that is logged at the lowest level, with the rows that SQLAlchemy reads."""
    for name in ("", "sqlalchemy", "alembic"):
        caplog.set_level(logging.DEBUG, name)
    caplog.set_level(logging.INFO, "matplotlib")
    return caplog


def run(url: sa.URL, arguments: tuple[str, ...]) -> tuple[int, str]:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    done = CliRunner().invoke(app, arguments, env={"DATABASE_URL": address})
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def test_commands_that_succeed_and_what_they_leave(
    address: Address, server18: EmbeddedServer, folder: Path, log: pytest.LogCaptureFixture
) -> None:
    secret = SECRETS["reserved"]
    for arguments in SUCCEED:
        code, said = run(address("reserved"), arguments)
        assert code == 0, (arguments, said)
        assert said.strip(), arguments
        assert not leaks(said, secret), arguments
    assert "SELECT" in log.text
    assert not leaks(log.text, secret)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {"tuned.html", "tuned.json", "result.json"} <= {path.name for path in written}
    assert any(path.suffix == ".py" for path in written)
    for path in (*written, server18.log_file):
        assert not leaks(path.read_text(errors="replace"), secret), path


@pytest.mark.parametrize("arguments", FAIL, ids=" ".join)
def test_a_command_with_a_mistake_in_it(
    address: Address, log: pytest.LogCaptureFixture, arguments: tuple[str, ...]
) -> None:
    code, said = run(address("quoted"), arguments)
    assert code != 0
    assert said
    assert not leaks(said + log.text, SECRETS["quoted"])


@pytest.mark.parametrize("arguments", OF_A_DATABASE, ids=" ".join)
def test_a_command_whose_password_is_wrong(
    address: Address, log: pytest.LogCaptureFixture, arguments: tuple[str, ...]
) -> None:
    secret = SECRETS["foreign"]
    code, said = run(address("plain").set(password=secret), arguments)
    assert code == 1
    assert "password" in said
    assert not leaks(said + log.text, secret)
