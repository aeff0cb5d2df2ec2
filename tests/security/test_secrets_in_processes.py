"""Commands as processes: no part of the password in their output, nor where `ps` shows it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import nbformat
import psutil
import pytest
import sqlalchemy as sa
from nbclient import NotebookClient

from resume_lab.config import project_root
from resume_lab.database.embedded import EmbeddedServer

from .canary import SECRETS, leaks
from .conftest import Address

LAB = (sys.executable, "-m", "resume_lab.cli")
ALEMBIC = (sys.executable, "-m", "alembic")


def written(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def started(
    command: tuple[str, ...], url: sa.URL, folder: Path, output: int | IO[str] = subprocess.PIPE
) -> subprocess.Popen[str]:
    folders = ("LAB_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    values = {name: str(folder / name) for name in (*folders, "IPYTHONDIR")}
    return subprocess.Popen(
        command, env=os.environ | values | {"DATABASE_URL": written(url)}, cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture
def talkative(tmp_path: Path) -> Path:
    """The settings of Alembic, with every logger at its lowest level."""
    settings = (project_root() / "alembic.ini").read_text()
    for level in ("WARNING", "INFO"):
        settings = settings.replace(f"level = {level}", "level = DEBUG")
    file = tmp_path / "alembic.ini"
    file.write_text(settings.replace("%(here)s", str(project_root())))
    return file


def test_alembic_from_the_terminal(address: Address, talkative: Path, tmp_path: Path) -> None:
    secret = SECRETS["reserved"]
    right, wrong = address("reserved"), address("plain").set(password=secret)
    runs = [
        (0, right, "current -v"),
        (0, right, "check"),
        (0, right, "upgrade head"),
        (0, right, "-x yes=true upgrade head --sql"),
        (255, right, "upgrade nowhere"),
        (255, wrong, "current"),
    ]
    processes = [
        started((*ALEMBIC, "-c", str(talkative), *arguments.split()), url, tmp_path)
        for _, url, arguments in runs
    ]
    for (code, _, arguments), process in zip(runs, processes, strict=True):
        said, _ = process.communicate(timeout=60)
        assert process.returncode == code, said
        assert "Traceback" not in said, said
        assert not leaks(said, secret), arguments
        if code == 0 and "--sql" not in arguments:
            assert "DEBUG" in said


def seen_by_ps(process: subprocess.Popen[str], until: Callable[[], bool]) -> set[str]:
    """Return the command lines of a process and of all that it starts, from now on."""
    lines = set()
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        family = [psutil.Process(process.pid)]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += family[0].children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                lines.add(" ".join(member.cmdline()))
        time.sleep(0.005)
    return lines


def test_ps_while_the_embedded_server_starts(address: Address, tmp_path: Path) -> None:
    secret = SECRETS["quoted"]
    server = EmbeddedServer(tmp_path / "LAB_DIR")
    process = started((*LAB, "db", "start"), address("quoted"), tmp_path)
    try:
        lines = seen_by_ps(process, lambda: process.poll() is not None)
        said, _ = process.communicate()
        lines.add(" ".join(psutil.Process(server.status().pid).cmdline()))
    finally:
        server.stop()
    assert "DATABASE_URL is set" in said
    for program in ("db start", "initdb", "pg_ctl", "postgres -D"):
        assert any(program in line for line in lines), program
    assert not leaks("\n".join([said, *lines]), secret)


def test_ps_while_jupyterlab_runs(address: Address, tmp_path: Path) -> None:
    secret, said = SECRETS["reserved"], tmp_path / "said"
    command = (*LAB, "lab", "--no-browser", "--port", "18888")
    with said.open("w") as output:
        process = started(command, address("reserved"), tmp_path, output)
        try:
            lines = seen_by_ps(process, lambda: "?token=" in said.read_text())
        finally:
            process.terminate()
            process.wait(30)
    assert any("jupyterlab" in line for line in lines)
    assert "Database: postgresql://canary_reserved:***@" in said.read_text()
    assert not leaks("\n".join([said.read_text(), *lines]), secret)


FAILING = """
with engine.connect() as connection:
    connection.execute(sa.text("SELECT 1/0"))
---
import os
open_engine(Settings(database_url=os.environ["DATABASE_URL"] + "nowhere")).connect()
---
import logging
try:
    open_engine(Settings(database_url=os.environ["DATABASE_URL"] + "nowhere")).connect()
except Exception:
    logging.exception("with %r and %r", settings, engine)
---
[settings, engine, engine.url, connection][4]
"""


def test_a_notebook_and_its_failing_cells(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = SECRETS["foreign"]
    monkeypatch.setenv("DATABASE_URL", written(address("foreign")))
    monkeypatch.setenv("LAB_DIR", str(tmp_path))
    notebook = nbformat.read(project_root() / "notebooks" / "01_connect.ipynb", as_version=4)
    n_cells = len(notebook.cells)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in FAILING.split("---\n")]
    NotebookClient(notebook, timeout=60, allow_errors=True).execute()
    outputs = [cell.get("outputs", []) for cell in notebook.cells]
    failed = [at for at, shown in enumerate(outputs) if any("ename" in output for output in shown)]
    assert failed == [n_cells, n_cells + 1, n_cells + 3]
    assert "canary_foreign:***@" in str(outputs[:n_cells])
    assert "Traceback" in str(outputs[n_cells + 2])
    assert not leaks("\n".join(flat(outputs)), secret)
    assert not leaks(nbformat.writes(notebook), secret)


def flat(value: object) -> list[str]:
    """Return every text inside lists and dictionaries."""
    if isinstance(value, dict):
        return flat(list(value.values()))
    if isinstance(value, list):
        return [text for inner in value for text in flat(inner)]
    return [str(value)]
