"""The key of a server of models is shown, logged and stored nowhere, whatever that server says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from model_server import refuse, serve_chat, serve_embeddings
from pytest_httpserver import HTTPServer
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.config import project_root
from resume_lab.embedding import service

from .canary import leaks

KEY = "sk-proj-Zk7QxW9vLm2TqbH4sR8yUe3N"
SAID = f"Incorrect API key provided: {KEY[:8]}************{KEY[-4:]}. You can find your API key at"
TALKS, HONOURS = (str(project_root() / "content" / name) for name in ("talks", "honours"))
QUESTION = "What is the wire for?"
LOGGERS = ("", "sqlalchemy", "openai", "httpx2", "httpcore2")

Run = Callable[..., str]


@pytest.fixture
def run(
    database: Engine, httpserver: HTTPServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> Run:  # fmt: skip
    """Run a command; nothing of what it shows, logs, stores or writes holds a part of the key."""
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setattr(service, "MAX_RETRIES", 1)
    values = {
        "DATABASE_URL": database.url.render_as_string(hide_password=False),
        "LAB_DIR": str(tmp_path),
        "OPENAI_API_KEY": KEY,
        "EMBEDDING_MODEL": "small",
        "OPENAI_BASE_URL": httpserver.url_for("/v1"),
    }

    def run(*arguments: str, code: int = 0, **other: str) -> str:
        done = CliRunner().invoke(app, arguments, env=values | other)
        assert done.exit_code == code, done.output
        with database.connect() as connection:
            kept = connection.execute(sa.text("SELECT * FROM query_logs")).all()
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        files = [path.read_bytes().decode(errors="replace") for path in written]
        assert not leaks("\n".join([done.output, caplog.text, str(kept), *files]), KEY)
        return done.output + str(kept)

    return run


def stored(httpserver: HTTPServer, run: Run) -> None:
    """Let there be passages to find; then the server answers nothing more."""
    serve_embeddings(httpserver)
    run("ingest", TALKS)
    httpserver.clear()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, SAID),
        (403, KEY),
        (400, SAID),
        (404, f"no key {KEY[9:]}"),
        (422, f"{KEY.upper()}?"),
        (429, f"[{KEY[:-6]}]"),
        (500, f"config={{'api_key':'{KEY}'}}"),
        (503, f"...{KEY[12:18]}..."),
    ],
)
def test_a_server_that_refuses_repeats_the_key(
    httpserver: HTTPServer, run: Run, status: int, words: str
) -> None:
    stored(httpserver, run)
    refuse(httpserver, status, words)
    for arguments in (("ingest", HONOURS), ("search", "wire"), ("ask", QUESTION)):
        assert f"({status})" in run(*arguments, code=1)
    assert all(KEY in request.headers["Authorization"] for request, _ in httpserver.log)


def test_a_server_fails_in_the_middle_of_an_answer(httpserver: HTTPServer, run: Run) -> None:
    stored(httpserver, run)
    serve_embeddings(httpserver)
    serve_chat(httpserver, ["It was ", "a nano"], error=f"overloaded: {SAID}")
    said = run("ask", QUESTION, "--json", code=1)
    assert said.count("broke off: overloaded: Incorrect API key provided: [key]") == 2  # and logged


def test_a_server_answers(httpserver: HTTPServer, run: Run) -> None:
    serve_embeddings(httpserver)
    serve_chat(httpserver, ["It was a nanosecond [1]."])
    run("ingest", TALKS)
    run("search", "wire", "--explain")
    assert "a nanosecond [1]" in run("ask", QUESTION)


def test_a_server_that_is_not_there(run: Run, httpserver: HTTPServer) -> None:
    stored(httpserver, run)
    for arguments in (("ingest", HONOURS), ("search", "wire"), ("ask", QUESTION)):
        said = run(*arguments, code=1, OPENAI_BASE_URL="http://127.0.0.1:1/v1")
        assert "could not be reached" in said
