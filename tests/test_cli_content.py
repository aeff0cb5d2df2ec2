"""`resume-lab ingest`, `search` and `ask` as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.retrieval import log_question

Run = Callable[..., subprocess.CompletedProcess[str]]

FILES = {
    "about.md": "---\ntitle: Ada Example\ntags: [people]\n---\nA mathematician and writer.\n",
    "work/engine.md": "# The engine\n\nWrote notes on the Analytical Engine and its cards.\n",
    "work/tables.md": "# Tables\n\nComputed tables of Bernoulli numbers by hand.\n",
}


@pytest.fixture
def content(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "my content" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "my content"


@pytest.fixture
def run(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run commands without a process for each, from another folder than the project's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))

    def call(*arguments: object) -> object:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return call  # type: ignore[return-value]


def failed(done: subprocess.CompletedProcess[str], saying: str, code: int = 1) -> None:
    assert (done.returncode, done.stdout) == (code, "")
    assert saying in done.stderr


def test_in_asked_about_changed_asked_again_and_removed(run: Run, content: Path) -> None:
    assert "3 new" in run("ingest", "my content").stdout
    assert "3 unchanged" in run("ingest", content).stdout
    found = run("search", "Bernoulli numbers", "-k", 1).stdout
    assert "work/tables.md" in found
    assert "Bernoulli numbers by hand" in found
    (content / "work/tables.md").write_text("# Tables\n\nPlayed chess at the Royal Society.\n")
    assert "1 changed, 2 unchanged" in " ".join(run("ingest", content).stdout.split()).replace(
        "2 unchanged, 1 changed", "1 changed, 2 unchanged"
    )
    answer = run("ask", "Who played chess?").stdout
    assert "Royal Society" in answer
    assert "work/tables.md" in answer
    assert run("ingest", content, "--remove").stdout == "3 files removed.\n"
    failed(run("search", "Bernoulli numbers"), "resume-lab ingest")


def test_json_and_nothing_else(run: Run, content: Path) -> None:
    report = json.loads(run("ingest", content, "--json").stdout)
    assert (report["added"], report["passed"]) == (3, True)
    found = json.loads(run("search", "Analytical Engine", "--json", "--explain").stdout)
    assert found["hits"][0]["source_file"].endswith("my content/work/engine.md")
    assert -1 <= found["hits"][0]["score"] <= 1
    assert "xact" in found["explanation"]
    answer = json.loads(run("ask", "Analytical Engine", "--json").stdout)
    assert answer["by"] == "passages"
    assert json.loads(run("ingest", content, "--remove", "--json").stdout) == {"removed": 3}


def test_filters_and_words(run: Run, content: Path) -> None:
    run("ingest", content, "--name", "mine")
    for options, file in (
        (("--category", "work"), "mine/work/"),
        (("--tag", "people"), "mine/about.md"),
        (("--by", "hybrid"), "mine/work/engine.md"),
    ):
        hits = json.loads(run("search", "engine", "--json", *options).stdout)["hits"]
        assert hits[0]["source_file"].startswith(file)


def test_a_bad_file_ends_with_exit_code_1_and_the_others_are_in(run: Run, content: Path) -> None:
    (content / "bad.md").write_text("---\na: [1\n---\n")
    done = run("ingest", content)
    assert done.returncode == 1
    assert "3 new, 1 failed" in done.stdout
    assert "bad.md" in done.stdout


def test_what_is_typed_wrongly_gets_a_sentence(run: Run, content: Path, tmp_path: Path) -> None:
    failed(run("ingest", "nowhere"), "nowhere")
    (tmp_path / "bare").mkdir()
    failed(run("ingest", "bare"), "Markdown")
    failed(run("ingest", content / "about.md"), "folder")
    failed(run("ingest", content, "--overlap", 500), "overlap")
    failed(run("ingest", content, "--chunk-size", 0), "chunk")
    failed(run("ingest", content, "--model", "text-embedding-3-small"), "OPENAI_API_KEY")
    failed(run("ingest", content, "--remove", "--keep-missing"), "exclude")
    failed(run("ingest", content, "--remove"), "Nothing is stored")
    failed(run("search", "anything"), "resume-lab ingest")
    run("ingest", content)
    failed(run("search", " "), "question")
    failed(run("search", "x" * 100_000), "100,000")
    failed(run("search", "engine", "-k", 0), "k is 0")
    failed(run("ask", ""), "question")
    failed(run("search", "engine", "--model", "nobody/knows"), "OPENAI")
    failed(run("search", "engine", "--model", "synthetic/random/seed=0"), "no text can be embedded")


def test_a_question_can_be_kept_out_of_the_log(run: Run, content: Path, database: Engine) -> None:
    run("ingest", content)
    run("ask", "one", "--no-log")
    run("ask", "two")
    with database.connect() as connection:
        logged = connection.scalars(sa.text("SELECT query_text FROM query_logs")).all()
    assert logged == ["two"]


def test_tune_asks_what_people_asked(run: Run, content: Path, database: Engine) -> None:
    for number in range(40):
        (content / f"{number}.md").write_text(f"Paper number {number} on topic {number % 7}.")
    run("ingest", content)
    logged = ("tune", "--queries-from", "query_logs", "--json", "-", "--grid", "--k", 3)
    options = ("--lists", 2, "--probes", "1,2")
    failed(run(*logged, *options), "No questions are logged yet")
    for number in range(30):
        log_question(database, f"What is topic {number % 10}?", [], "")
    result = json.loads(run(*logged, *options).stdout)
    assert result["workload"]["n_queries"] == 10
    assert "10 logged questions" in result["workload"]["source"]
    failed(run("tune", "--queries-from", "query_logs", "--rows", 500), "exclude")
    failed(run("tune", "--queries-from", "elsewhere"), "query_logs")


def test_ingestion_interrupted_at_a_terminal_says_so(content: Path, database: Engine) -> None:
    """A command of its own, ended from outside while another session keeps the table."""
    env = os.environ | {"DATABASE_URL": database.url.render_as_string(hide_password=False)}
    with database.begin() as connection:
        connection.execute(sa.text("LOCK TABLE document_chunks IN SHARE MODE"))
        command = [sys.executable, "-m", "resume_lab.cli", "ingest", str(content)]
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
            waiting = sa.text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            with database.connect() as watcher:
                while not watcher.scalar(waiting):
                    watcher.rollback()
                    assert process.poll() is None
            process.terminate()
            said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
