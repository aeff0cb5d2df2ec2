"""What the commands share: their common options, errors as sentences, questions, JSON."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Annotated, Any

import psycopg2
import sqlalchemy as sa
import typer
from typer.core import TyperGroup

from resume_lab.config import AppEnv, Settings
from resume_lab.database.connecting import UnverifiedServer
from resume_lab.database.failures import explained
from resume_lab.database.interrupt import was_interrupted
from resume_lab.errors import ConfigError, LabError
from resume_lab.printable import plain

EXIT_INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask when APP_ENV is prod.")]


class Group(TyperGroup):
    """Ends every command with one readable sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error or an interrupt becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            say(f"Error: {error}", err=True)
            raise typer.Exit(1) from None
        except (sa.exc.SQLAlchemyError, psycopg2.Error) as error:
            say(f"Error: {explained(error) or _first_line(error)}", err=True)
            raise typer.Exit(1) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            say(f"Error: {where}{error.strerror or error}", err=True)
            raise typer.Exit(1) from None
        except MemoryError:
            say("Error: This machine has too little memory for that.", err=True)
            raise typer.Exit(1) from None
        except (KeyboardInterrupt, AssertionError) as error:
            if not was_interrupted(error):
                raise
            say("\nInterrupted: what was not finished is undone.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


def show_warnings() -> None:
    """Write what this project warns of in one line, without a line of source."""
    before = warnings.formatwarning

    def formatted(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if category is UnverifiedServer:
            return f"Warning: {message}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = formatted


def confirm(settings: Settings, what: str, yes: bool) -> None:
    """Ask before `what` happens in prod; without a terminal to ask on, refuse."""
    if settings.app_env is not AppEnv.PROD or yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{what} APP_ENV is prod.", hint="Add --yes to do it without asking.")
    typer.confirm(f"{what} APP_ENV is prod. Go on?", abort=True)


def progress() -> bool:
    """Say whether somebody is there to watch a progress bar."""
    return sys.stderr.isatty()


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text for a person, without what a terminal would obey: names from data are in it."""
    typer.echo(plain(text), err=err, nl=nl)


def print_json(value: Any) -> None:
    """Print plain values as JSON, and nothing else."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _first_line(error: Exception) -> str:
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__
