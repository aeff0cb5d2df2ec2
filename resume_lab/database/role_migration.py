"""The roles, and row level security, as a migration to be read before it is run."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Connection, Engine

from resume_lab.database import roles, row_security, schema
from resume_lab.database.failures import translated_errors
from resume_lab.errors import SchemaError
from resume_lab.printable import escaped

_UP = "Make what is not there yet; rows are not touched."
_DOWN = "Give back what was there before; roles that another database uses stay."


@dataclass(frozen=True)
class RoleMigration:
    """The statements of a migration and of its way back, each in one transaction."""

    title: str
    upgrade: tuple[str, ...]
    downgrade: tuple[str, ...]

    @property
    def sql(self) -> str:
        """Return the upgrade as a script for psql."""
        return _script(("BEGIN", *self.upgrade, "COMMIT"))

    @property
    def way_back(self) -> str:
        """Return the downgrade as a script for psql."""
        return _script(("BEGIN", *self.downgrade, "COMMIT"))


def prepare(engine: Engine, *, with_row_security: bool = False) -> RoleMigration:
    """Return what this database lacks of the roles and, if asked for, of row level security.

    Raises SchemaError where migrations wait, without the tables, or where nothing is lacking.
    """
    at, head = schema.current(engine), schema.head()
    if at not in (None, head):
        raise SchemaError(
            f"The database is at migration {at}, and the newest one here is {head}.",
            hint="Run `resume-lab migrate` first.",
        )
    with translated_errors(engine), engine.connect() as connection:
        return lacking(connection, with_row_security=with_row_security)


def lacking(connection: Connection, *, with_row_security: bool) -> RoleMigration:
    """Return the same for the tables that an open connection sees, whatever migrations wait."""
    place = roles.find_place(connection)
    titles: list[str] = []
    forth: list[str] = []
    back: list[str] = []
    if not place.has_roles:
        titles.append("roles for owner, writer and reader")
        forth += roles.forth(place)
        back += roles.back(place)
    is_forced = set(row_security.state(connection).values()) == {row_security.FORCED}
    if with_row_security and not is_forced:
        titles.append("row level security")
        forth += row_security.forth(place.schema)
        back = [*row_security.back(place.schema), *back]
    if not forth:
        raise SchemaError(
            f"The roles{' and row level security' * with_row_security} are in this database.",
            hint="`resume-lab roles` shows what each may do.",
        )
    return RoleMigration(" with ".join(titles), tuple(forth), tuple(back))


def write(planned: RoleMigration) -> Path:
    """Write the migration among the project's and return its file; raises SchemaError."""
    return schema.write_revision(
        schema.new_revision(),
        planned.title,
        upgrade=_body(_UP, planned.upgrade),
        downgrade=_body(_DOWN, planned.downgrade),
    )


def _script(statements: tuple[str, ...]) -> str:
    return "".join(f"{statement};\n" for statement in statements)


def _body(about: str, statements: tuple[str, ...]) -> str:
    """Return the body of upgrade() or downgrade(), for a template that indents its first line."""
    sql = _script(statements).rstrip(";\n").replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    text = "\n".join(map(escaped, sql.replace("%", "%%").splitlines()))
    call = ["op.execute(", '    sa.DDL("""', *text.splitlines(), '""")', ")"]
    lines = [f'"""{about}"""', *call]
    return textwrap.indent("\n".join(lines), "    ").lstrip()
