"""`resume-lab`: the notebooks' steps as commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy.engine import Engine
from typer.core import TyperGroup

from resume_lab import seeding
from resume_lab.config import AppEnv, Settings, project_root
from resume_lab.database import EmbeddedServer, open_engine, schema, verify
from resume_lab.database.session import server
from resume_lab.errors import ConfigError, DataError, LabError
from resume_lab.report import text_table, write_html
from resume_lab.tuning import TuningResult, Workload, stored_models, tune
from resume_lab.tuning.run import DEFAULT_TARGET_RECALL
from resume_lab.tuning.workload import DEFAULT_K, DEFAULT_QUERIES
from resume_lab.vectors import Kind

DEFAULT_ROWS = 20_000
EXIT_INTERRUPTED = 130
EXIT_NOT_RUNNING = 3
FIRST_NOTEBOOK = "notebooks/00_start.ipynb"


class _Group(TyperGroup):
    """Ends every command with one readable sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None
        except sa.exc.SQLAlchemyError as error:
            typer.echo(f"Error: {_first_line(error)}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("\nInterrupted: what was not finished is undone.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find and prove pgvector index settings on your own vectors. Uses DATABASE_URL, or starts "
    "an embedded PostgreSQL by itself when there is none.",
)
db = typer.Typer(no_args_is_help=True, help="The embedded PostgreSQL: start, stop, look.")
app.add_typer(db, name="db")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask when APP_ENV is prod.")]


def main() -> None:
    """Run the command line; SIGTERM ends it like Ctrl-C, with everything cleaned up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


@app.command("verify")
def verify_command(as_json: Json = False) -> None:
    """Check that this database can do everything the workbench needs; leaves nothing behind.

    Exit code 1 if any check failed.
    """
    verification = verify(open_engine())
    _print_json(verification.as_dict()) if as_json else typer.echo(str(verification))
    raise typer.Exit(0 if verification.passed else 1)


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help='Revision to go to: "head", "-1", "base" ...')] = "head",
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL up to the revision; touch nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring the tables to the newest revision, or to another one.

    Going back drops tables with their rows; in prod it asks first.
    """
    if sql:
        typer.echo(schema.preview_sql(to))
        return
    settings = Settings()
    engine = open_engine(settings)
    before = schema.current(engine)
    if to == "base" or to.startswith("-"):
        _confirm(settings, f"Going back to {to} drops tables with their rows.", yes)
        schema.downgrade(engine, to)
    else:
        schema.upgrade(engine, to)
    after = schema.current(engine)
    if as_json:
        _print_json({"before": before, "after": after})
    elif before == after:
        typer.echo(f"The database is at {after or 'base'} already.")
    else:
        typer.echo(f"The database went from {before or 'base'} to {after or 'base'}.")


@app.command()
def seed(
    rows: Annotated[int, typer.Option(min=1, help="Rows to have from this generator.")] = (
        DEFAULT_ROWS
    ),
    kind: Annotated[Kind, typer.Option(help="How the vectors are distributed.")] = Kind.RANDOM,
    seed_: Annotated[int, typer.Option("--seed", min=0, help="Seed of the generator.")] = 0,
    file: Annotated[
        Path | None, typer.Option("--from", help="Load a .npy, .npz or .parquet file instead.")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Fill the tables with 1536-d unit vectors and rebuild the vector index.

    random: independent Gaussian directions, without any structure to find. clustered and spectrum:
    distributed like real embeddings. Everything is loaded or nothing; the same set is never loaded
    twice, a larger one adds what is missing.
    """
    settings = Settings()
    _confirm(settings, "This adds rows and rebuilds the vector index.", yes)
    engine = open_engine(settings)
    progress = _progress()
    if file is not None:
        report = seeding.seed_file(engine, file, progress=progress)
    else:
        report = seeding.seed(engine, rows=rows, kind=kind, seed=seed_, progress=progress)
    if as_json:
        _print_json(report.as_dict())
    else:
        typer.echo(str(report))


@app.command("tune")
def tune_command(
    rows: Annotated[int | None, typer.Option(min=20, help="Generate this many rows.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Of this kind.")] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="Measure the vectors of a .npy, .npz or .parquet file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Measure the stored embeddings of this model.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Held-out queries.")] = DEFAULT_QUERIES,
    k: Annotated[int, typer.Option(min=1, help="Neighbours a query asks for.")] = DEFAULT_K,
    lists: Annotated[
        str | None, typer.Option(help="IVFFlat lists to build, such as 50,100,200.")
    ] = None,
    probes: Annotated[
        str | None, typer.Option(help="Probes to measure with each, such as 1,4,16.")
    ] = None,
    target_recall: Annotated[
        float, typer.Option(min=0.01, max=1, help="The recall that is needed.")
    ] = DEFAULT_TARGET_RECALL,
    seed_: Annotated[int, typer.Option("--seed", min=0, help="Seed of all random choices.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON; - for the terminal.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a report with figures.")
    ] = None,
) -> None:
    """Measure IVFFlat lists and probes against exact search, and recommend the cheapest that do.

    Works on the vectors of a file, on generated ones, or on those stored (a default set is seeded
    if there are none). All of it happens on a scratch copy that is dropped at the end.
    """
    if sum([vectors is not None, rows is not None or kind is not None, model is not None]) > 1:
        raise ConfigError(
            "--vectors, --rows with --kind, and --model exclude each other.",
            hint="Give one of them, or none to measure the stored embeddings.",
        )
    wanted_lists, wanted_probes = _numbers("--lists", lists), _numbers("--probes", probes)
    for path in (json_file, html_file):
        _check_writable(path)
    settings = Settings()
    engine = open_engine(settings)
    schema.upgrade(engine)
    if vectors is not None:
        workload = Workload.from_file(vectors, n_queries=queries, seed=seed_, k=k)
    elif rows is not None or kind is not None:
        kind = kind or Kind.CLUSTERED
        workload = Workload.generated(
            kind, rows or DEFAULT_ROWS, n_queries=queries, seed=seed_, k=k
        )
    else:
        _seed_if_empty(settings, engine, to_stderr=json_file == Path("-"))
        workload = Workload.stored(
            engine, embedding_model=model, n_queries=queries, seed=seed_, k=k
        )
    result = tune(
        engine,
        workload,
        lists=wanted_lists,
        probes=wanted_probes,
        target_recall=target_recall,
        seed=seed_,
        progress=_progress(),
    )
    _deliver(result, json_file, html_file)


@app.command()
def lab(
    port: Annotated[int, typer.Option(min=1, max=65535, help="First port to try.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open JupyterLab on the first notebook, with the database running for as long."""
    engine = open_engine()
    typer.echo(f"Database: {engine.url.set(drivername='postgresql')}", err=True)
    command = [sys.executable, "-m", "jupyterlab", FIRST_NOTEBOOK, f"--port={port}"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    if not browser or (sys.platform == "linux" and not os.environ.get("DISPLAY")):
        command.append("--no-browser")
    with subprocess.Popen(command, cwd=project_root()) as jupyter:
        # Ctrl-C goes to JupyterLab, which asks; this process waits for its answer.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: jupyter.terminate())
        raise typer.Exit(jupyter.wait())


@db.command()
def start() -> None:
    """Start the embedded PostgreSQL and keep it running until `resume-lab db stop`."""
    typer.echo(f"Running at {_plain(_embedded().start())}")


@db.command()
def stop() -> None:
    """Stop the embedded PostgreSQL, whoever uses it."""
    typer.echo("Stopped." if _embedded().stop() else "It was not running.")


@db.command()
def status(as_json: Json = False) -> None:
    """Say whether the embedded PostgreSQL runs; exit code 3 if it does not."""
    found = _embedded().status()
    if as_json:
        _print_json(
            {
                "running": found.running,
                "kept": found.kept,
                "version": found.version,
                "pid": found.pid,
                "data_dir": str(found.data_dir),
            }
        )
    elif found.running:
        until = "`resume-lab db stop`" if found.kept else "its last user leaves"
        typer.echo(f"PostgreSQL {found.version} runs (pid {found.pid}) until {until}.")
    else:
        typer.echo(f"PostgreSQL {found.version} is not running; it starts when needed.")
    raise typer.Exit(0 if found.running else EXIT_NOT_RUNNING)


@db.command()
def url() -> None:
    """Print the address of the embedded PostgreSQL, for psql and other tools."""
    typer.echo(_plain(_embedded().url()))


def _embedded() -> EmbeddedServer:
    settings = Settings()
    if settings.url is not None:
        typer.echo("Note: DATABASE_URL is set, so other commands do not use this server.", err=True)
    return server(settings)


def _plain(address: sa.URL) -> str:
    return address.set(drivername="postgresql").render_as_string()


def _confirm(settings: Settings, what: str, yes: bool) -> None:
    if settings.app_env is not AppEnv.PROD or yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{what} APP_ENV is prod.", hint="Add --yes to do it without asking.")
    typer.confirm(f"{what} APP_ENV is prod. Go on?", abort=True)


def _seed_if_empty(settings: Settings, engine: Engine, *, to_stderr: bool) -> None:
    if stored_models(engine):
        return
    if settings.app_env is AppEnv.PROD:
        raise DataError(
            "No embeddings are stored, and APP_ENV is prod, where none are made up.",
            hint="Give --vectors FILE or --rows N.",
        )
    typer.echo("No embeddings are stored yet; seeding a default set.", err=to_stderr)
    report = seeding.seed(engine, rows=DEFAULT_ROWS, kind=Kind.CLUSTERED, progress=_progress())
    typer.echo(str(report), err=to_stderr)


def _deliver(result: TuningResult, json_file: Path | None, html_file: Path | None) -> None:
    if json_file == Path("-"):
        _print_json(result.as_dict())
    else:
        typer.echo(text_table(result))
    if html_file is not None:
        typer.echo(f"Report: {write_html(result, html_file)}", err=json_file == Path("-"))
    if json_file is not None and json_file != Path("-"):
        json_file.write_text(json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n")
        typer.echo(f"JSON: {json_file.resolve()}")


def _check_writable(path: Path | None) -> None:
    if path is None or path == Path("-"):
        return
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(
            f"{path} cannot be written.", hint="Name a file in a folder that exists and is yours."
        )


def _numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"{option} is {text!r}.", hint="Write whole numbers, such as 10,50,100.")
    return numbers


def _progress() -> bool:
    return sys.stderr.isatty()


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
