"""The commands: connect, migrate, seed, tune, ingest and ask, open the notebooks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from resume_lab import seeding
from resume_lab.cli.console import (
    Group,
    Json,
    Yes,
    confirm,
    print_json,
    progress,
    say,
    show_warnings,
)
from resume_lab.cli.content import ask_command, ingest_command, search_command
from resume_lab.cli.db import db
from resume_lab.cli.roles import roles_command
from resume_lab.cli.rollout import drift_command, rollout_command
from resume_lab.cli.runs import runs_command
from resume_lab.cli.sources import DEFAULT_ROWS
from resume_lab.cli.tuning import tune_command
from resume_lab.config import Settings, project_root
from resume_lab.database import open_engine, schema, verify
from resume_lab.errors import ConfigError
from resume_lab.vectors import Kind

FIRST_NOTEBOOK = "notebooks/00_start.ipynb"

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find and prove pgvector index settings on your own vectors. Uses DATABASE_URL, or starts "
    "an embedded PostgreSQL by itself when there is none.",
)


def main() -> None:
    """Run the command line; what ends it from outside does so like Ctrl-C, all cleaned up."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP; nohup ignores it
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    show_warnings()
    app(prog_name="resume-lab")


@app.command("verify", short_help="Check all that the workbench needs; change nothing.")
def verify_command(as_json: Json = False) -> None:
    """Check that this database can do everything the workbench needs; leaves nothing behind.

    Exit code 1 if any check failed.
    """
    verification = verify(open_engine())
    print_json(verification.as_dict()) if as_json else say(str(verification))
    raise typer.Exit(0 if verification.passed else 1)


@app.command()
def migrate(
    to: Annotated[
        str, typer.Option(metavar="REVISION", help='Where to go: "head", "-1", "base" ...')
    ] = "head",
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL up to the revision; touch nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring the tables to the newest revision, or to another one.

    Going back undoes what a migration did, below the first one tables with their rows; in prod it
    asks first.
    """
    if not to.strip():
        raise ConfigError("--to is blank.", hint="Give a revision, or head, base, -1.")
    if sql:
        _print_sql(to, back=schema.lies_behind(to, None), as_json=as_json)
        return
    settings = Settings()
    engine = open_engine(settings)
    before = schema.current(engine)
    if schema.lies_behind(to, before):
        confirm(
            settings,
            f"Going back to {to} undoes migrations, and may drop tables with their rows.",
            yes,
        )
        schema.downgrade(engine, to)
    else:
        schema.upgrade(engine, to)
    after = schema.current(engine)
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        say(f"The database is at {after or 'base'} already.")
    else:
        say(f"The database went from {before or 'base'} to {after or 'base'}.")


def _print_sql(to: str, *, back: bool, as_json: bool) -> None:
    if as_json:
        raise ConfigError("--sql and --json exclude each other.", hint="Leave out one of them.")
    if back:
        raise ConfigError(
            "--sql prints the way up, not the way back.",
            hint="alembic downgrade <from>:<to> --sql prints the way back.",
        )
    typer.echo(schema.preview_sql(to))  # to be run as it stands


@app.command(short_help="Fill the tables with generated vectors or those of a file.")
def seed(
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help=f"Rows to have from this generator ({DEFAULT_ROWS:,})."
        ),
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help=f"How the vectors are distributed ({Kind.RANDOM}).")
    ] = None,
    seed_: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of the generator (0).")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Load a .npy, .npz or .parquet file instead."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Fill the tables with 1536-d unit vectors and rebuild the vector index.

    Of the kinds, random has no structure to find: independent Gaussian directions. The other two,
    clustered and spectrum, are distributed like real embeddings. Everything is loaded or nothing;
    the same set is never loaded twice, a larger one adds what is missing.
    """
    if file is not None and (rows, kind, seed_) != (None, None, None):
        raise ConfigError(
            "--from excludes --rows, --kind and --seed.", hint="All vectors of a file are loaded."
        )
    settings = Settings()
    confirm(settings, "This adds rows and rebuilds the vector index.", yes)
    engine = open_engine(settings)
    if file is not None:
        report = seeding.seed_file(engine, file, progress=progress(), allow_prod=True)
    else:
        report = seeding.seed(
            engine,
            rows=rows or DEFAULT_ROWS,
            kind=kind or Kind.RANDOM,
            seed=seed_ or 0,
            progress=progress(),
            allow_prod=True,
        )
    if as_json:
        print_json(report.as_dict())
    else:
        say(str(report))


app.command("tune", short_help="Find index settings that reach a recall, and prove them.")(
    tune_command
)
app.command("runs", short_help="List the runs of tune, or show the difference of two.")(
    runs_command
)
app.command("rollout", short_help="Write a run's recommendation as a migration.")(rollout_command)
app.command("drift", short_help="Measure what the index in use is worth today.")(drift_command)
app.command("roles", short_help="Show who may do what; write owner, writer and reader.")(
    roles_command
)
app.command("ingest", short_help="Read a folder of Markdown into the tables.")(ingest_command)
app.command("search", short_help="Find the passages nearest to a question.")(search_command)
app.command("ask", short_help="Answer a question from the passages, with sources.")(ask_command)


@app.command(short_help="Open JupyterLab on the first notebook.")
def lab(
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="First port to try.")
    ] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open JupyterLab on the first notebook, with the database running for as long."""
    engine = open_engine()
    say(f"Database: {engine.url.set(drivername='postgresql')}", err=True)
    command = [sys.executable, "-m", "jupyterlab", f"--port={port}"]
    command += [f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}", "--ServerApp.log_level=WARN"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    if not browser or (sys.platform == "linux" and not os.environ.get("DISPLAY")):
        command.append("--no-browser")
    with subprocess.Popen(command, cwd=project_root()) as jupyter:  # noqa: S603 - our own words, no shell
        # Ctrl-C goes to JupyterLab, which asks; this process waits for its answer.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: jupyter.terminate())
        raise typer.Exit(jupyter.wait())


app.add_typer(db, name="db")
