"""`resume-lab` as a person types it: processes of their own, on a real server."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.database import schema
from resume_lab.tuning import stored_models

COMMAND = [sys.executable, "-m", "resume_lab.cli"]
HEAD = schema.head()
CANARY = "c4n4ry-Pässword"

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(**values: str) -> dict[str, str]:
    return {**os.environ, "COLUMNS": "100", **values}


def run_with(env: dict[str, str], *arguments: str, **options: object) -> object:
    """Run a command; whatever it is given, it never ends in a traceback."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=120,
        check=False, **({"stdin": subprocess.DEVNULL} | options),
    )  # type: ignore[call-overload] # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def runner_on(engine: Engine, tmp_path: Path) -> Run:
    url = engine.url.render_as_string(hide_password=False)

    def run(*arguments: object, env: dict[str, str] | None = None, **options: object) -> object:
        values = {"DATABASE_URL": url, "LAB_DIR": str(tmp_path / "lab")} | (env or {})
        done = run_with(environment(**values), *arguments, cwd=tmp_path, **options)
        no_server_in(tmp_path / "lab")
        return done

    return run  # type: ignore[return-value]


@pytest.fixture
def lab(database: Engine, tmp_path: Path) -> Run:
    """Run commands on a migrated database, from another folder than the project's."""
    return runner_on(database, tmp_path)


@pytest.fixture
def bare(empty_database: Engine, tmp_path: Path) -> Run:
    """Run commands on a database without tables."""
    return runner_on(empty_database, tmp_path)


@pytest.fixture
def here(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same without a process for each command, which is quicker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))

    def run(*arguments: object, env: dict[str, str] | None = None) -> object:
        done = CliRunner().invoke(app, list(map(str, arguments)), env=env)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        no_server_in(tmp_path / "lab")
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run  # type: ignore[return-value]


def no_server_in(lab_dir: Path) -> None:
    """With DATABASE_URL no server is embedded: there is nothing but the runs of tune."""
    assert not lab_dir.exists() or [path.name for path in lab_dir.iterdir()] == ["runs"]


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    return done.stderr


# --- help


def test_every_command_explains_itself() -> None:
    commands = ["", "verify", "migrate", "seed", "tune", "runs", "rollout", "drift", "lab", "db"]
    commands += ["db start", "db stop", "db status", "db url"]
    said = {}
    for name in commands:
        done = CliRunner().invoke(app, [*name.split(), "--help"], prog_name="resume-lab")
        assert done.exit_code == 0
        said[name] = done.stdout
    for name, text in said.items():
        assert text.startswith(f"Usage: resume-lab {name}".rstrip())
        for written in ("COMMAND [ARGS]...", "[RUN]...", '"base" ...'):
            text = text.replace(written, "")
        assert "..." not in text
        assert max(map(len, text.splitlines())) <= 100
    for command in commands[1:10]:
        assert f"\n  {command} " in said[""]


def test_the_installed_script_is_the_same_command() -> None:
    script = Path(sys.executable).with_name("resume-lab")
    done = subprocess.run([script, "db", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: resume-lab db ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("sede", "Did you mean 'seed'?"),
        ("db strat", "Did you mean 'start'"),
        ("verify now", "unexpected extra argument"),
        ("seed --rows many", "Invalid value for '--rows'"),
        ("seed --rows 0", "Invalid value for '--rows'"),
        ("seed --seed -1", "Invalid value for '--seed'"),
        ("seed --kind square", "'random', 'clustered', 'spectrum'"),
        ("seed --from x.npy --rows 5", "--from excludes --rows"),
        ("migrate --sql --to base", "--sql prints the way up"),
        ("migrate --sql --to nowhere", "'nowhere'"),
        ("migrate --sql --json", "exclude each other"),
        ("tune --rows 5", "Invalid value for '--rows'"),
        ("tune --target-recall 1.5", "Invalid value for '--target-recall'"),
        ("tune --lists ten", "--lists is 'ten'"),
        ("tune --lists 10,,20", "Write whole numbers"),
        ("tune --lists 40000", "pgvector takes 1 to 32768"),
        ("tune --probes 0", "--probes is '0'"),
        ("tune --probes 1,4", "--probes needs --grid"),
        ("tune --grid --max-ms 5", "--grid excludes --max-ms and --rebuilds"),
        ("tune --grid --rebuilds 1", "--grid excludes --max-ms and --rebuilds"),
        ("tune --rebuilds -1", "Invalid value for '--rebuilds'"),
        ("tune --rows 100 --model m", "exclude each other"),
        ("tune --table t --column c --vectors x.npy", "--vectors and --table exclude each other"),
        ("tune --table t", "--table needs --column"),
        ("tune --column c", "--column needs --table"),
        ("tune --id x --model m", "--id needs --table"),
        ("tune --where true", "--where needs --table"),
        ("tune --queries-from a.b", "--queries-from needs --table"),
        ("tune --max-rows 50 --rows 100", "--max-rows needs --table"),
        ("tune --metric l2", "--metric needs --vectors or --table"),
        ("tune --rows 100 --metric ip", "--metric needs --vectors or --table"),
        ("tune --resume 20260213-120000-abcd --k 5", "--resume takes its options from the run"),
        ("tune --resume 20260213-120000-abcd --grid", "--resume takes its options from the run"),
        ("tune --resume 20260213-120000-abcd", "There is no run '20260213-120000-abcd'"),
        ("runs 20260213-120000-abcd", "Give two runs to compare"),
        ("runs ../x 20260213-120000-abcd", "There is no run '../x'"),
        ("tune --kind random --vectors x.npy", "exclude each other"),
        ("tune --json /nowhere/x.json", "/nowhere/x.json cannot be written"),
        ("tune --html .", ". cannot be written"),
        ("tune --html -", "--html - is not possible"),
        ("tune --json same --html ./same", "name the same file"),
        ("lab --port 99999", "Invalid value for '--port'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence_and_touches_no_server(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))
    done = CliRunner().invoke(app, arguments.split())
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code in (1, 2)
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 4
    assert list(tmp_path.iterdir()) == []


def test_no_command_at_all_shows_the_help() -> None:
    done = run_with(environment())
    assert done.returncode == 2
    assert "Usage: resume-lab" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", " ", "DATABASE_URL is set but blank"),
        ("DATABASE_URL", "mysql://me:secret@here/db", "MySQL"),
        ("APP_ENV", "production", "APP_ENV"),
        ("LAB_POSTGRES", "12", "LAB_POSTGRES"),
    ],
)
def test_a_bad_setting_is_named(
    name: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))
    monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["verify"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert "secret" not in done.stderr


# --- verify and migrate


def test_verify_passes_on_a_migrated_database(lab: Run) -> None:
    done = lab("verify")
    assert done.returncode == 0
    assert done.stdout.endswith("All checks passed.\n")
    assert done.stderr == ""
    found = json.loads(lab("verify", "--json").stdout)
    assert found["passed"] is True
    assert len(found["checks"]) == 10
    assert set(found["checks"][0]) == {"name", "passed", "ms", "detail", "hint"}


def test_verify_fails_on_an_empty_database_and_says_what_to_run(bare: Run) -> None:
    done = bare("verify")
    assert done.returncode == 1
    assert "FAILED  tables" in done.stdout
    assert "-> Run `resume-lab migrate`." in done.stdout
    done = bare("verify", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["passed"] is False


def test_migrate_goes_up_stays_and_comes_back(bare: Run, empty_database: Engine) -> None:
    assert bare("migrate").stdout == f"The database went from base to {HEAD}.\n"
    assert bare("migrate").stdout == f"The database is at {HEAD} already.\n"
    assert json.loads(bare("migrate", "--json").stdout) == {"before": HEAD, "after": HEAD}
    before = schema.history()[1][0]
    assert bare("migrate", "--to", "-1").stdout == f"The database went from {HEAD} to {before}.\n"
    assert bare("migrate", "--to", "base").stdout == f"The database went from {before} to base.\n"
    assert schema.current(empty_database) is None
    assert "'nowhere'" in error_of(bare("migrate", "--to", "nowhere"))


def test_migrate_prints_sql_without_any_database() -> None:
    env = environment(DATABASE_URL="postgresql://me:pw@127.0.0.1:1/none")
    done = run_with(env, "migrate", "--sql")
    assert done.returncode == 0
    assert "CREATE EXTENSION IF NOT EXISTS vector" in done.stdout
    assert done.stdout.rstrip().endswith("COMMIT;")


def test_in_prod_going_back_needs_a_yes(here: Run, database: Engine) -> None:
    prod = {"APP_ENV": "prod"}
    assert "Add --yes" in error_of(here("migrate", "--to", "base", env=prod))
    assert schema.current(database) == HEAD
    assert here("migrate", env=prod).returncode == 0  # the way up does not ask
    assert here("migrate", "--to", "base", "--yes", env=prod).returncode == 0
    assert schema.current(database) is None


@pytest.mark.parametrize(("answer", "code", "revision"), [("n", 1, HEAD), ("y", 0, None)])
def test_in_prod_a_terminal_is_asked(
    lab: Run, database: Engine, answer: str, code: int, revision: str | None
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    try:
        done = lab("migrate", "--to", "base", env={"APP_ENV": "prod"}, stdin=terminal)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.returncode == code
    assert (
        "Going back to base undoes migrations, and may drop tables with their rows."
        in done.stdout + done.stderr
    )
    assert schema.current(database) == revision


# --- seed


def test_seed_reports_adds_once_and_adds_what_is_missing(lab: Run, database: Engine) -> None:
    done = lab("seed", "--rows", 50, "--kind", "clustered", "--seed", 7)
    assert done.returncode == 0
    assert done.stdout.startswith("synthetic/clustered/seed=7: 50 rows added in ")
    done = lab("seed", "--rows", 50, "--kind", "clustered", "--seed", 7)
    assert done.stdout.endswith("50 rows are there already, nothing added.\n")
    found = json.loads(
        lab("seed", "--rows", 60, "--kind", "clustered", "--seed", 7, "--json").stdout
    )
    assert (found["added"], found["present"]) == (10, 50)
    assert stored_models(database) == {"synthetic/clustered/seed=7": 60}


def test_seed_loads_a_file_or_says_what_is_wrong_with_it(
    here: Run, database: Engine, tmp_path: Path
) -> None:
    rows = np.ones((5, 1536), np.float32)
    np.save(tmp_path / "good 100%.npy", rows)
    assert ": 5 rows added" in here("seed", "--from", "good 100%.npy").stdout
    rows[3, 2] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    assert "row 3 (counted from 0) has NaN" in error_of(here("seed", "--from", "nan.npy"))
    np.save(tmp_path / "narrow.npy", rows[:, :8])
    assert "8 dimensions; permitted: 1536" in error_of(here("seed", "--from", "narrow.npy"))
    (tmp_path / "text.npy").write_text("not an array")
    assert "cannot be read" in error_of(here("seed", "--from", "text.npy"))
    assert "does not exist" in error_of(here("seed", "--from", "missing.npy"))
    assert list(stored_models(database).values()) == [5]


def test_in_prod_seeding_needs_a_yes(here: Run, database: Engine) -> None:
    assert "Add --yes" in error_of(here("seed", "--rows", 5, env={"APP_ENV": "prod"}))
    assert stored_models(database) == {}
    assert here("seed", "--rows", 5, "-y", env={"APP_ENV": "prod"}).returncode == 0


def test_seeding_an_unmigrated_database_says_what_to_run_first(bare: Run) -> None:
    assert "Run `resume-lab migrate` first." in error_of(bare("seed", "--rows", 5))


# --- tune


QUICK = ("--queries", 20, "--grid", "--lists", "4", "--probes", "1,4")


def test_tune_measures_generated_vectors_and_prints_a_verdict(
    bare: Run, empty_database: Engine
) -> None:
    done = bare("tune", "--rows", 300, *QUICK)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "IVFFlat settings for clustered vectors, generated (seed 0)\n300 rows" in done.stdout
    assert "lists  probes  recall" in done.stdout
    assert "recall@10" in done.stdout
    assert max(map(len, done.stdout.partition("Build the index")[0].splitlines())) <= 100
    assert schema.current(empty_database) is None  # only the extension was needed


def test_tune_writes_json_and_a_report(lab: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).standard_normal((400, 24)))
    done = lab("tune", "--vectors", "mine.npy", *QUICK, "--json", "out.json", "--html", "r.html")
    assert done.returncode == 0
    assert f"Report: {tmp_path / 'r.html'}" in done.stdout
    assert f"JSON: {tmp_path / 'out.json'}" in done.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["workload"]["source"] == "file mine.npy"
    assert (found["workload"]["rows"], found["workload"]["dim"]) == (380, 24)
    assert [point["probes"] for point in found["points"]] == [1, 4]
    assert found["points"][1]["recall"] == 1.0
    assert (tmp_path / "r.html").read_text().lstrip().startswith("<!DOCTYPE html>")


def test_json_to_the_terminal_is_nothing_but_json(lab: Run, tmp_path: Path) -> None:
    lab("seed", "--rows", 200, "--kind", "clustered")
    done = lab("tune", *QUICK, "--json", "-", "--html", "r.html")
    found = json.loads(done.stdout)
    assert found["workload"]["source"] == "stored embeddings of synthetic/clustered/seed=0"
    said = done.stderr.splitlines()
    assert said[0] == f"Report: {tmp_path / 'r.html'}"
    assert [line.partition(" ")[0] for line in said[1:]] == ["Run:"]
    assert found["recommendation"] is not None or found["why"]


def test_with_nothing_stored_a_default_set_is_seeded(
    here: Run, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resume_lab.cli.sources.DEFAULT_ROWS", 250)
    done = here("tune", *QUICK, "--json", "-")
    assert json.loads(done.stdout)["workload"]["rows"] == 230
    assert "No embeddings are stored yet; seeding a default set." in done.stderr
    assert stored_models(database) == {"synthetic/clustered/seed=0": 250}


def test_a_model_asked_for_by_name_is_never_replaced_by_a_default_set(
    here: Run, database: Engine
) -> None:
    assert "'ada-002'" in error_of(here("tune", "--model", "ada-002"))
    assert stored_models(database) == {}


def test_in_prod_nothing_is_made_up(here: Run, database: Engine) -> None:
    assert "none are made up" in error_of(here("tune", *QUICK, env={"APP_ENV": "prod"}))
    assert stored_models(database) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--vectors missing.npy", "missing.npy does not exist"),
        ("--rows 100 --lists 101", "lists is 101, but there are only 100 rows"),
        ("--rows 20 --k 30", "30"),
    ],
)
def test_what_cannot_be_tuned_is_told(here: Run, arguments: str, said: str) -> None:
    assert said in error_of(here("tune", *arguments.split()))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_tune_cleans_up_and_says_so(
    database: Engine, sent: signal.Signals, tmp_path: Path
) -> None:
    env = environment(
        DATABASE_URL=database.url.render_as_string(hide_password=False),
        LAB_DIR=str(tmp_path / "lab"),
    )
    command = [*COMMAND, "tune", "--rows", "8000", "--grid", "--lists", "2000", "--probes", "1"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: one(database, BUILDING) == 1)
            process.send_signal(sent)
            start = time.perf_counter()
            said = process.communicate(timeout=20)
            took_s = time.perf_counter() - start
        finally:
            process.kill()
    assert process.returncode == 130
    (run,) = (tmp_path / "lab" / "runs").iterdir()
    assert said == (
        "",
        f"\nTo go on: resume-lab tune --resume {run.name}\n"
        "\nInterrupted: what was not finished is undone.\n",
    )
    assert took_s < 2.0
    assert one(database, BUILDING) == 0
    scratch = "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'lab_scratch_')"
    assert one(database, scratch) == 0


BUILDING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'active' AND starts_with(query, 'CREATE INDEX lab_')"
)


def one(engine: Engine, query: str) -> object:
    with engine.connect() as connection:
        return connection.scalar(sa.text(query))


def wait_until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Say whether a process has ended, if only its parent has not noticed yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- no server, and no password in what is said about it


def test_a_server_out_of_reach_is_told_without_the_password(tmp_path: Path) -> None:
    password = f"{CANARY}@with:more/signs%"
    quoted = quote(password, safe="")
    env = environment(LAB_DIR=str(tmp_path / "lab"))
    started = [
        subprocess.Popen(
            [*COMMAND, *arguments.split()], text=True, stdin=subprocess.DEVNULL,
            env=env | {"DATABASE_URL": f"postgresql://me:{written}@127.0.0.1:1/db"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for written, arguments in (
            (quoted, "verify"), (quoted, "verify --json"), (quoted, "migrate"),
            (quoted, "seed --rows 5"), (quoted, "tune --rows 100"), (password, "verify"),
        )
    ]  # fmt: skip
    for process in started:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "DATABASE_URL" in said or "Connection refused" in said
        assert "Traceback" not in said
        for secret in (password, quoted, CANARY[:6], "more/signs"):
            assert secret not in said
    assert list(tmp_path.iterdir()) == []


# --- the embedded server


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run commands without DATABASE_URL, with a lab folder of their own."""
    env = environment(LAB_DIR=str(tmp_path_factory.mktemp("cli") / "lab"))

    def run(*arguments: object, more: dict[str, str] | None = None) -> object:
        return run_with(env | (more or {}), *arguments)

    run.env = env  # type: ignore[attr-defined]
    yield run  # type: ignore[misc]
    run("db", "stop")


def test_without_a_database_url_a_server_starts_for_a_command_and_stops_with_it(
    embedded: Run,
) -> None:
    done = embedded("db", "status")
    assert (done.returncode, done.stdout) == (
        3, "PostgreSQL 18 is not running; it starts when needed.\n",
    )  # fmt: skip
    assert embedded("db", "stop").stdout == "It was not running.\n"
    assert embedded("migrate").stdout == f"The database went from base to {HEAD}.\n"
    assert embedded("verify").returncode == 0
    assert embedded("db", "status").returncode == 3


def test_a_started_server_stays_until_it_is_stopped(embedded: Run) -> None:
    address = embedded("db", "url").stdout.strip()
    assert embedded("db", "start").stdout == f"Running at {address}\n"
    assert embedded("db", "start").stdout == f"Running at {address}\n"
    done = embedded("verify")
    assert "passed  connection" in done.stdout
    found = json.loads(embedded("db", "status", "--json").stdout)
    assert (found["running"], found["kept"], found["version"]) == (True, True, 18)
    assert psutil.pid_exists(found["pid"])
    assert "until `resume-lab db stop`" in embedded("db", "status").stdout
    assert "DATABASE_URL is set" in embedded("db", "url", more={"DATABASE_URL": address}).stderr
    assert embedded("db", "stop").stdout == "Stopped.\n"
    wait_until(lambda: gone(found["pid"]))
    assert embedded("db", "stop").stdout == "It was not running.\n"


def test_with_a_database_url_the_db_commands_say_that_it_is_the_other_server(
    embedded: Run,
) -> None:
    done = embedded("db", "url", more={"DATABASE_URL": f"postgresql://me:{CANARY}@127.0.0.1:1/x"})
    assert done.returncode == 0
    assert "DATABASE_URL is set" in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_lab_serves_the_notebooks_and_ends_with_everything_it_started(
    embedded: Run, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folders = {
        name: str(tmp_path / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    log = tmp_path / "log"
    with log.open("w") as output, subprocess.Popen(
        [*COMMAND, "lab", "--no-browser", "--port", str(port)],
        env=embedded.env | folders, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
    ) as process:  # type: ignore[attr-defined] # fmt: skip
        try:
            wait_until(lambda: "?token=" in log.read_text(), timeout_s=60)
            token = log.read_text().partition("?token=")[2].split()[0]
            address = f"http://127.0.0.1:{port}"
            with urllib.request.urlopen(f"{address}/lab?token={token}") as page:  # noqa: S310 - http, this machine
                assert page.status == 200
                assert b"JupyterLab" in page.read()
            kernel = urllib.request.Request(  # noqa: S310 - http, this machine
                f"{address}/api/kernels", method="POST", data=b"{}",
                headers={"Authorization": f"token {token}"},
            )  # fmt: skip
            with urllib.request.urlopen(kernel) as answer:  # noqa: S310 - http, this machine
                assert answer.status == 201
            assert embedded("db", "status").returncode == 0
            family = psutil.Process(process.pid).children(recursive=True)
            assert len(family) >= 2  # JupyterLab and the kernel
            process.terminate()
            assert process.wait(timeout=30) == 0
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
    wait_until(lambda: all(gone(member.pid) for member in family), timeout_s=5)
    assert embedded("db", "status").returncode == 3
    assert "Traceback" not in log.read_text()
