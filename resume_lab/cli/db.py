"""`resume-lab db`: the embedded PostgreSQL by hand."""

from __future__ import annotations

import sqlalchemy as sa
import typer

from resume_lab.cli.console import Json, print_json, say
from resume_lab.config import EmbeddedSettings, Settings, lab_dir
from resume_lab.database import EmbeddedServer
from resume_lab.database.embedded import servers_in
from resume_lab.database.session import server
from resume_lab.errors import ConfigError

EXIT_NOT_RUNNING = 3

db = typer.Typer(no_args_is_help=True, help="The embedded PostgreSQL: start, stop, look.")


@db.command(short_help="Start it and keep it running until `resume-lab db stop`.")
def start() -> None:
    """Start the embedded PostgreSQL and keep it running until `resume-lab db stop`."""
    say(f"Running at {_plain(_embedded().start())}")


@db.command(short_help="Stop it, whoever uses it.")
def stop() -> None:
    """Stop the embedded PostgreSQL, every version of it, whoever uses it."""
    stopped = [found.stop() for found in servers_in(lab_dir())]
    say("Stopped." if any(stopped) else "It was not running.")


@db.command(short_help="Say whether it runs; exit code 3 if it does not.")
def status(as_json: Json = False) -> None:
    """Say whether the embedded PostgreSQL runs; exit code 3 if it does not."""
    found = _embedded().status()
    if as_json:
        print_json(
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
        say(f"PostgreSQL {found.version} runs (pid {found.pid}) until {until}.")
    else:
        say(f"PostgreSQL {found.version} is not running; it starts when needed.")
    raise typer.Exit(0 if found.running else EXIT_NOT_RUNNING)


@db.command(short_help="Print its address, for psql and other tools.")
def url() -> None:
    """Print the address of the embedded PostgreSQL, for psql and other tools.

    Nothing is started; `resume-lab db start` does that.
    """
    say(_plain(_embedded().url()))


def _embedded() -> EmbeddedServer:
    settings = EmbeddedSettings()
    if _database_url_is_set():
        say("Note: DATABASE_URL is set, so other commands do not use this server.", err=True)
    return server(settings)


def _database_url_is_set() -> bool:
    """Say whether it is set, rightly or wrongly; what it says does not matter here."""
    try:
        return Settings().url is not None
    except ConfigError:
        return True


def _plain(address: sa.URL) -> str:
    return address.set(drivername="postgresql").render_as_string()
