"""`resume-lab tune` as the tuner, and `resume-lab runs`: kept, gone on with, compared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.vectors import generate

COMMAND = [sys.executable, "-m", "resume_lab.cli"]
QUICK = ("--vectors", "mine.npy", "--queries", 100, "--target-recall", 0.9, "--lists", "10,38")
RUN = re.compile(r"^Run: (\d{8}-\d{6}-[0-9a-f]{4})$", re.M)

Command = Callable[..., Any]


@pytest.fixture
def lab(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run commands on a real server, in a folder with a file of 1,500 vectors."""
    np.save(tmp_path / "mine.npy", generate("spectrum", 1500, dim=512))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))

    def run(*arguments: object) -> Any:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done

    return run


def kept(lab: Command) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab("runs", "--json").stdout)
    return found


def test_tune_predicts_proves_and_decides_and_the_run_is_listed_and_compared(
    lab: Command, tmp_path: Path
) -> None:
    done = lab("tune", *QUICK, "--rebuilds", 1, "--json", "out.json")
    assert (done.exit_code, done.stderr) == (0, "")
    order = [done.stdout.index(part) for part in ("PREDICTED", "MEASURED", "DECIDED")]
    assert order == sorted(order)
    assert max(map(len, done.stdout.partition("Build the index")[0].splitlines())) <= 100
    found = json.loads((tmp_path / "out.json").read_text())
    advice = found["recommendation"]
    assert advice is not None, found["why"]
    assert advice["recall_low"] >= 0.9
    assert f"WITH (lists = {advice['lists']})" in done.stdout
    assert f"SET LOCAL ivfflat.probes = {advice['probes']};" in done.stdout
    assert len(found["predictions"]) > 48
    assert {"lists", "probes", "recall", "rows_scanned"} == set(found["predictions"][0])
    assert {point["lists"] for point in found["points"]} <= {10, 38}
    assert "predicted_recall" in found["points"][0]
    assert advice["confirmed_queries"] == 50
    assert len(advice["rebuilds"]) == 1
    assert found["difficulty"]["verdict"] in done.stdout.replace("\n", " ")
    first = RUN.findall(done.stdout)

    terminal = lab("tune", *QUICK, "--rebuilds", 0, "--json", "-")
    assert json.loads(terminal.stdout)["target_recall"] == 0.9
    second = RUN.findall(terminal.stderr)
    names = [run["name"] for run in kept(lab)]
    assert sorted(names, reverse=True) == names
    assert set(names) == {*first, *second}

    listed = lab("runs").stdout.splitlines()
    assert listed[0].split() == [
        "run", "status", "measured", "on", "lists", "probes", "recall", "low", "p50", "ms",
    ]  # fmt: skip
    assert all("finished  file mine.npy" in line for line in listed[1:])
    assert len(listed) == 3
    compared = lab("runs", *first, *second)
    assert compared.exit_code == 0
    lines = compared.stdout.splitlines()
    assert lines[0].split() == [*first, *second]
    assert any(line.startswith("recommended probes ") for line in lines)
    as_json = json.loads(lab("runs", *first, *second, "--json").stdout)
    assert {"what", "first", "second"} == set(as_json[0])
    (recall,) = (line["first"] for line in as_json if line["what"] == "recommended recall")
    assert recall == advice["recall"]


def test_a_grid_is_a_run_too(lab: Command) -> None:
    done = lab("tune", "--vectors", "mine.npy", "--queries", 40, "--grid", "--lists", 10,
               "--probes", "1,10", "--json", "-")  # fmt: skip
    found = json.loads(done.stdout)
    assert [(point["lists"], point["probes"]) for point in found["points"]] == [(10, 1), (10, 10)]
    assert (found["predictions"], found["difficulty"] is not None) == ([], True)
    (run,) = kept(lab)
    assert (run["status"], run["label"]) == ("finished", "file mine.npy")


def test_a_latency_budget_is_aimed_at_instead_of_a_recall(lab: Command) -> None:
    done = lab("tune", "--vectors", "mine.npy", "--queries", 60, "--lists", 38, "--max-ms", 0.0001,
               "--json", "-")  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["target_recall"], found["max_ms"]) == (None, 0.0001)
    assert found["recommendation"] is None
    assert "a p50 of 0.0001 ms" in found["why"]
    (run,) = kept(lab)
    assert (run["status"], run["lists"]) == ("finished", None)


def test_before_the_first_run_the_list_says_how_to_make_one(lab: Command) -> None:
    assert lab("runs").stdout == "There are no runs yet; `resume-lab tune` makes one.\n"
    assert kept(lab) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target-recall", 0.9, "--max-ms", 5), "exclude each other"),
        (("--lists", 1401), "lists is 1401, but there are only 1,400 rows"),
        (("--max-ms", 0), "latency budget is 0"),
    ],
)
def test_what_is_refused_is_not_kept_as_a_run_that_goes_on(
    lab: Command, options: tuple[object, ...], said: str
) -> None:
    done = lab("tune", "--vectors", "mine.npy", "--queries", 100, *options)
    assert done.exit_code == 1
    assert said in done.stderr
    assert [run["status"] for run in kept(lab) if run["status"] == "running"] == []


def test_an_interrupted_tune_is_gone_on_with(
    lab: Command, database: Engine, tmp_path: Path
) -> None:
    command = [*COMMAND, "tune", *map(str, QUICK), "--rebuilds", "10"]
    with started(command) as process:
        wait_until(lambda: '"comparison"' in steps(tmp_path))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)
    (run,) = kept(lab)
    assert process.returncode == 130, said
    assert said == (
        "",
        f"\nTo go on: resume-lab tune --resume {run['name']}\n"
        "\nInterrupted: what was not finished is undone.\n",
    )
    assert scratch_schemas(database) == 0
    assert run["status"] == "interrupted"
    hint = f"To go on with one: resume-lab tune --resume {run['name']}"
    assert lab("runs").stdout.splitlines()[-1] == hint
    before = steps(tmp_path)
    assert "rebuild 10" not in before

    mine = np.load("mine.npy")
    np.save("mine.npy", mine[::-1])
    refused = lab("tune", "--resume", run["name"])
    assert refused.exit_code == 1
    assert "was made on other vectors or with other options" in refused.stderr
    np.save("mine.npy", mine)
    done = lab("tune", "--resume", run["name"], "--json", "-")
    assert done.exit_code == 0, done.stderr
    assert steps(tmp_path).startswith(before)  # none of them was done again
    assert len(json.loads(done.stdout)["recommendation"]["rebuilds"]) == 10
    (run,) = kept(lab)
    assert run["status"] == "finished"
    again = lab("tune", "--resume", run["name"])
    assert again.exit_code == 1
    assert f"Run {run['name']} has finished; there is nothing to resume." in again.stderr


def test_a_server_lost_in_the_middle_is_told_in_a_sentence(
    lab: Command, database: Engine, tmp_path: Path
) -> None:
    np.save(tmp_path / "more.npy", generate("random", 6000, dim=384))
    command = [*COMMAND, "tune", "--vectors", "more.npy", "--grid", "--lists", "3000",
               "--probes", "1"]  # fmt: skip
    with started(command) as process:
        wait_until(lambda: one(database, BUILDING) == 1)
        with database.connect() as connection:
            connection.execute(sa.text(END_ALL))
        out, said = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert "\nError: The connection to the server was lost" in said
    assert "To go on: resume-lab tune --resume " in said
    assert "Traceback" not in said
    (run,) = kept(lab)
    assert run["status"] == "failed"
    lab("tune", "--vectors", "mine.npy", "--queries", 20, "--grid", "--lists", 4, "--probes", 1)
    assert scratch_schemas(database) == 0


BUILDING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'active' AND starts_with(query, 'CREATE INDEX lab_')"
)
END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def started(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def steps(tmp_path: Path) -> str:
    """Return the steps kept so far by the one run there is."""
    files = list(tmp_path.glob("lab/runs/*/steps.jsonl"))
    return files[0].read_text() if files else ""


def scratch_schemas(engine: Engine) -> object:
    return one(
        engine, "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'lab_scratch_')"
    )


def one(engine: Engine, query: str) -> object:
    with engine.connect() as connection:
        return connection.scalar(sa.text(query))


def wait_until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
