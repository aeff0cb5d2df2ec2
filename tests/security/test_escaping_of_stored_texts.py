"""Hostile names and texts on their way through a real database to a terminal and a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from model_server import serve_chat
from pytest_httpserver import HTTPServer
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.config import Settings
from resume_lab.database.indexes import execute, quoted
from resume_lab.generation import ask
from resume_lab.ingestion import ingest_content
from resume_lab.retrieval import search

from .adversarial import TEXTS, elements, obeyed

HOSTILE = (
    "wire <script>alert(1)</script>\"'><img src=x>\x1b[2J\x9b1m\u202e{{7*7}}$x$ [a](javascript:b)"
)
Run = Callable[..., str]


@pytest.fixture
def run(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the database; what it shows holds nothing that a terminal obeys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments, color=True)  # as a terminal: strips nothing
        assert done.exit_code == code, done.output
        assert not obeyed(done.output), arguments
        return done.output

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one Markdown file whose name, front matter, headings and text are hostile."""
    folder = tmp_path / "content" / HOSTILE.replace("/", "-")
    folder.mkdir(parents=True)
    values = dict.fromkeys(("title", "category", "role"), HOSTILE)
    front = yaml.safe_dump(values | {"tags": [HOSTILE], HOSTILE: HOSTILE})
    text = "".join(f"# {HOSTILE}\n\nwire {text[:200]}\n\n" for text in TEXTS.values())
    file = folder / f"{HOSTILE.replace('/', '-')}.md"
    file.write_text(f"---\n{front}---\n{text}", encoding="utf-8")
    (folder / f"bad {HOSTILE.replace('/', '-')}.md").write_bytes(b"\xff\xfe\x00")
    return tmp_path / "content"


def test_passages_and_sources_on_the_terminal(folder: Path, run: Run) -> None:
    assert "1 failed" in run("ingest", str(folder), code=1)
    for arguments in (
        ("search", "wire", "--by", "hybrid", "--explain"),
        ("search", "wire", "--category", HOSTILE),
        ("search", "wire", "--tag", HOSTILE),
        ("search", "wire", "--category", "none"),
        ("ask", "wire"),
    ):
        assert "alert(1)" in run(*arguments)
        assert "alert(1)" in json.dumps(json.loads(run(*arguments, "--json")))


def test_passages_and_answers_in_a_notebook(
    database: Engine, folder: Path, httpserver: HTTPServer
) -> None:
    texts = [*TEXTS.values(), HOSTILE]
    serve_chat(httpserver, [f"{text} [1] [99 {text}]\n" for text in texts])
    server = Settings(openai_base_url=httpserver.url_for("/v1"), chat_model=HOSTILE)
    report = ingest_content(str(folder), engine=database)
    by_passages = ask("wire", engine=database, answer_by="passages")
    by_model = ask("wire", engine=database, settings=server)
    assert by_passages.is_known
    assert by_model.cited == (1,)
    cells = ["table", "/table", "caption", "/caption", "thead", "/thead", "tbody", "/tbody"]
    cells += ["tr", "/tr", "th", "/th", "td", "/td", "b", "/b", "p", "/p"]
    for shown in (report, search("wire", engine=database, explain=True)):
        assert {tag for tag, *_ in elements(shown._repr_html_())} <= set(cells)
    for answer in (by_passages, by_model):
        page = answer._repr_html_()
        assert {tag for tag, *_ in elements(page)} <= {
            *("pre", "/pre", "small", "/small", "i", "/i")
        }
        assert "alert(1)" in page
        assert not obeyed(page)
        assert not obeyed(str(answer))


TUNE = ("--queries", "40", "--rebuilds", "0", "--lists", "2", "--target-recall", "0.2")
NAME = "\x1b[2J\x9b1m\u202e<b>'%s%%{{7*7}}$x$;--"


def test_a_table_with_hostile_names(run: Run, database: Engine) -> None:
    table, column = quoted(f"t{NAME}"), quoted(f"c{NAME}")
    rows = np.random.default_rng(0).normal(size=(200, 8)).round(2).tolist()
    with database.begin() as connection:
        execute(connection, f"CREATE TABLE {table} (id int PRIMARY KEY, {column} vector(8))")
        for number, row in enumerate(rows):
            execute(connection, f"INSERT INTO {table} VALUES ({number}, '{row}')")
    of = ("--table", table, "--column", column)
    for arguments in (
        ("tune", *of, *TUNE, "--html", "r.html", "--json", "r.json"),
        ("runs",),
        ("rollout", "--dry-run"),
        ("drift", *of),
    ):
        assert "{7*7}" in run(*arguments)
    assert "{7*7}" in run("tune", "--table", table, "--column", "none", code=1)
    page = Path("r.html").read_text(encoding="utf-8")
    assert not obeyed(page)
    assert "<b>'" not in page


def test_a_file_with_a_hostile_name(run: Run) -> None:
    name = f"v{NAME}.npy"
    np.save(name, np.random.default_rng(0).normal(size=(200, 1536)).astype(np.float32))
    for arguments in (("tune", "--vectors", name, *TUNE), ("seed", "--from", name), ("runs",)):
        assert "{7*7}" in run(*arguments)
    assert "{7*7}" in run("seed", "--from", f"nothing {name}", code=1)
