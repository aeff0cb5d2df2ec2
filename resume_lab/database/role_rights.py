"""Who may do what in this database now, asked of PostgreSQL itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resume_lab.database import row_security
from resume_lab.database.roles import ROLES, TABLES, find_place
from resume_lab.printable import printable

OWNS = "owns"
PUBLIC = "public"
"""Everybody, as PostgreSQL's functions call it; no role can have this name."""

# The three roles, everybody, and whoever else was granted something or owns a table.
_ROLES = """
WITH tables AS (
    SELECT relowner, relacl FROM pg_class WHERE oid = ANY (CAST(:tables AS regclass[]))
)
SELECT rolname AS name, rolsuper OR rolbypassrls AS unheld,
       array_to_string(rolconfig, ', ') AS settings,
       has_schema_privilege(oid, current_schema(), 'CREATE') AS creates_tables,
       has_database_privilege(oid, current_database(), 'CREATE') AS creates_schemas
FROM pg_roles
WHERE rolname = ANY (:roles) OR oid IN (
    SELECT relowner FROM tables UNION SELECT (aclexplode(relacl)).grantee FROM tables
)
UNION ALL
SELECT 'public', false, NULL, has_schema_privilege('public', current_schema(), 'CREATE'),
       has_database_privilege('public', current_database(), 'CREATE')
"""
_RIGHTS = """
SELECT role, relname AS table, pg_get_userbyid(relowner) = role AS owns,
    ARRAY(
        SELECT may FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS may
        WHERE has_table_privilege(role, c.oid, may)
    ) AS may,
    ARRAY(
        SELECT attname FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0
        AND has_column_privilege(role, c.oid, attnum, 'INSERT') ORDER BY attnum
    ) AS inserts
FROM unnest(CAST(:roles AS text[])) AS role, pg_class c
WHERE c.oid = ANY (CAST(:tables AS regclass[]))
ORDER BY array_position(CAST(:tables AS text[]), relname::text)
"""


@dataclass(frozen=True)
class RoleRights:
    """What one role may do. `tables` has what it may do with each, in SQL's words, or "owns".

    `is_held` is False for a superuser and a role with BYPASSRLS, which no policy holds.
    """

    name: str
    is_there: bool
    is_held: bool = True
    tables: Mapping[str, str] = field(default_factory=dict)
    creates: tuple[str, ...] = ()
    settings: str | None = None

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        if not self.is_there:
            return ["is not there"]
        by_right: defaultdict[str, list[str]] = defaultdict(list)
        for table, right in self.tables.items():
            by_right[right].append(table)
        said = [
            f"{right}{'' if right == OWNS else ' on'} {', '.join(tables)}"
            for right, tables in by_right.items()
        ]
        said += [f"creates {' and '.join(self.creates)}"] if self.creates else []
        said += [self.settings] if self.settings else []
        said += [] if self.is_held else ["is held by no row level security"]
        return said or ["nothing"]


@dataclass(frozen=True)
class Rights:
    """Who may do what. `row_security` is "off", "on" or "forced" for each table.

    `sources` are those that have a role, and who was let to read each.
    """

    roles: tuple[RoleRights, ...]
    row_security: Mapping[str, str]
    sources: Mapping[str, list[str]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it as a small table."""
        width = max(len(printable(role.name)) for role in self.roles)
        lines = [
            f"{'' if number else printable(role.name):{width}}  {line}"
            for role in self.roles
            for number, line in enumerate(role.lines())
        ]
        return "\n".join([*lines, "", *self._row_security()])

    def _row_security(self) -> list[str]:
        states = set(self.row_security.values())
        if states == {row_security.OFF}:
            return ["Row level security is off: who may read a table reads all of its rows."]
        if len(states) > 1:
            each = ", ".join(f"{table} {state}" for table, state in self.row_security.items())
            return [f"Row level security: {each}."]
        lines = [f"Row level security is {states.pop()}; without a source a reader sees no row."]
        for source, members in self.sources.items():
            lines.append(f"  {printable(source)}: {printable(', '.join(members)) or 'nobody'}")
        return lines

    __repr__ = __str__


def find_rights(connection: Connection) -> Rights:
    """Ask who may do what with the three tables; raises SchemaError without them."""
    find_place(connection)
    wanted = {"tables": list(TABLES), "roles": list(ROLES)}
    there = {row.name: row for row in connection.execute(sa.text(_ROLES), wanted)}
    may: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in connection.execute(sa.text(_RIGHTS), wanted | {"roles": list(there)}):
        if right := _right(row):
            may[row.role][row.table] = right
    others = sorted(there.keys() - {*ROLES, PUBLIC})
    return Rights(
        tuple(_of_role(name, there.get(name), may[name]) for name in (*ROLES, *others, PUBLIC)),
        row_security.state(connection),
        row_security.sources(connection),
    )


def _right(row: sa.Row[Any]) -> str:
    if row.owns:
        return OWNS
    columns = [] if "INSERT" in row.may else [f"INSERT ({', '.join(row.inserts)})"]
    return ", ".join([*row.may, *(columns if row.inserts else [])])


def _of_role(name: str, row: sa.Row[Any] | None, tables: Mapping[str, str]) -> RoleRights:
    if row is None:
        return RoleRights(name, is_there=False)
    makes = {"tables": row.creates_tables, "schemas": row.creates_schemas}
    creates = tuple(what for what, allowed in makes.items() if allowed)
    return RoleRights(name, True, not row.unheld, tables, creates, row.settings)
