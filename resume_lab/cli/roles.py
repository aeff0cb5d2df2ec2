"""`resume-lab roles`: who may do what, three roles as a migration, and who reads which source."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from sqlalchemy.engine import Engine

from resume_lab.cli.console import Json, print_json, say
from resume_lab.database import open_engine, role_migration
from resume_lab.database.failures import translated_errors
from resume_lab.database.role_migration import RoleMigration
from resume_lab.database.role_rights import find_rights
from resume_lab.database.row_security import let_read, still_lacking, taking_back
from resume_lab.errors import ConfigError


def roles_command(
    write: Annotated[
        bool, typer.Option("--write", help="Write the roles as a migration; run nothing.")
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print its SQL only; write nothing.")] = False,
    row_security: Annotated[
        bool, typer.Option("--row-security", help="With row level security on the three tables.")
    ] = False,
    let: Annotated[
        str | None, typer.Option("--let", metavar="ROLE", help="Let this role read a source.")
    ] = None,
    read: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The source: the name of an ingested folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    r"""Show who may do what; write owner, writer and reader as a migration.

    `resume-lab migrate` runs it. Then resume_lab_reader can search and ask, and log what it asked;
    resume_lab_writer can ingest as well; resume_lab_owner owns the tables. Nobody can log in as
    one of them until it has a password, which psql asks for: \password resume_lab_reader

    With --row-security a reader sees the sources only that it was let to read:
    resume-lab roles --let resume_lab_reader --read content
    """
    if (let is None) != (read is None):
        raise ConfigError(
            "--let and --read need each other.",
            hint="Such as --let resume_lab_reader --read content.",
        )
    if row_security and not (write or sql):
        raise ConfigError("--row-security needs --write or --sql.", hint="Add one of them.")
    if sum((write, sql, let is not None)) > 1:
        raise ConfigError(
            "--write, --sql and --let exclude each other.", hint="Leave out the others."
        )
    engine = open_engine()
    if let is not None and read is not None:
        _let(engine, let, read, as_json=as_json)
    elif write or sql:
        planned = role_migration.prepare(engine, with_row_security=row_security)
        _write(planned, only_sql=sql, as_json=as_json)
    else:
        with translated_errors(engine), engine.connect() as connection:
            rights = find_rights(connection)
        print_json(rights.as_dict()) if as_json else say(str(rights))


def _let(engine: Engine, role: str, source: str, *, as_json: bool) -> None:
    with translated_errors(engine), engine.begin() as connection:
        statements = let_read(connection, role, source)
        lacking = still_lacking(connection, role, source)
    back = taking_back(role, source)
    if as_json:
        print_json({"done": list(statements), "way_back": back, "lacking": list(lacking)})
    else:
        done = "".join(f"{statement};\n" for statement in statements)
        notes = "".join(f"\n-- {sentence}" for sentence in lacking)
        say(f"{done}-- The way back:\n-- {back};{notes}")


def _write(planned: RoleMigration, *, only_sql: bool, as_json: bool) -> None:
    file = None if only_sql else role_migration.write(planned)
    if as_json:
        print_json(_as_dict(planned, None if file is None else str(file)))
    elif file is None:
        say(f"{planned.sql}\n-- The way back:\n{_commented(planned.way_back)}", nl=False)
    else:
        say(f"Written: {file}\nRead it, then resume-lab migrate")


def _commented(script: str) -> str:
    """Keep a script that is only to be read from being run with the other."""
    return "".join(f"-- {line}\n" for line in script.splitlines())


def _as_dict(planned: RoleMigration, file: str | None) -> dict[str, Any]:
    return {
        "title": planned.title,
        "upgrade": planned.sql,
        "downgrade": planned.way_back,
        "file": file,
    }
