"""Row level security on the three tables, forced: who is let to read which sources.

A source is the name under which a folder was ingested, or a folder below it. Who may read it is a
member of a role made for it, which nobody can give to themselves; a setting could be set by anybody
who types SQL. Where no policy lets a role, it sees no row. Superusers and roles with BYPASSRLS are
not held.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resume_lab.database.indexes import MAX_NAME_BYTES, execute, quoted
from resume_lab.database.roles import OWNER, READER, READS, ROLES, TABLES, WRITER
from resume_lab.errors import ConfigError

OFF, ON, FORCED = "off", "on", "forced"

_CHUNKS, _EMBEDDINGS, _LOGS = TABLES
_EVERYTHING = f"TO {OWNER}, {WRITER}\n    USING (true) WITH CHECK (true)"
# The sources are looked up once a statement: that does not depend on the row.
_OF_SOURCES = """FOR SELECT TO resume_lab_reader
    USING ((source_file || '/') ^@ ANY (ARRAY(
        SELECT substr(rolname, length('resume_lab_reads:') + 1) || '/' FROM pg_roles
        WHERE starts_with(rolname, 'resume_lab_reads:') AND pg_has_role(oid, 'MEMBER')
    )))"""
# Without OFFSET 0, PostgreSQL would hash all the chunks for each search, to look at a few of them.
_OF_CHUNKS = """FOR SELECT TO resume_lab_reader
    USING (EXISTS (
        SELECT FROM {chunks} c
        WHERE c.chunk_id = chunk_embeddings.chunk_id OFFSET 0
    ))"""
_POLICIES = (
    *(("resume_lab_all", table, _EVERYTHING) for table in TABLES),
    ("resume_lab_read", _CHUNKS, _OF_SOURCES),
    ("resume_lab_read", _EMBEDDINGS, _OF_CHUNKS),
    ("resume_lab_log", _LOGS, f"FOR INSERT TO {READER}\n    WITH CHECK (true)"),
)


def forth(schema: str) -> Iterator[str]:
    """Return the statements that make the policies and force them on everybody."""
    for name, table, rule in _POLICIES:
        chunks = _in(schema, _CHUNKS)
        yield f"DROP POLICY IF EXISTS {name} ON {_in(schema, table)}"  # of one undone by hand
        yield f"CREATE POLICY {name} ON {_in(schema, table)} {rule.format(chunks=chunks)}"
    for table in TABLES:
        yield f"ALTER TABLE {_in(schema, table)} ENABLE ROW LEVEL SECURITY"
        yield f"ALTER TABLE {_in(schema, table)} FORCE ROW LEVEL SECURITY"


def back(schema: str) -> Iterator[str]:
    """Return those that take them away; who may read which source stays known."""
    for table in TABLES:
        yield f"ALTER TABLE {_in(schema, table)} NO FORCE ROW LEVEL SECURITY"
        yield f"ALTER TABLE {_in(schema, table)} DISABLE ROW LEVEL SECURITY"
    for name, table, _ in _POLICIES:
        yield f"DROP POLICY {name} ON {_in(schema, table)}"


def state(connection: Connection) -> dict[str, str]:
    """Return of each table whether row level security is OFF, ON or FORCED."""
    found = connection.execute(
        sa.text(
            "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class "
            "WHERE oid = ANY (CAST(:tables AS regclass[]))"
        ),
        {"tables": list(TABLES)},
    )
    return {
        row.relname: FORCED
        if row.relrowsecurity and row.relforcerowsecurity
        else ON
        if row.relrowsecurity
        else OFF
        for row in found
    }


def sources(connection: Connection) -> dict[str, list[str]]:
    """Return each source that has a role, and who was let to read it."""
    found = connection.execute(
        sa.text(
            "SELECT substr(source.rolname, length(:reads) + 1) AS name, "
            "ARRAY(SELECT member::regrole::text FROM pg_auth_members m "
            "      WHERE m.roleid = source.oid ORDER BY 1) AS members "
            "FROM pg_roles source WHERE starts_with(source.rolname, :reads) ORDER BY 1"
        ),
        {"reads": READS},
    )
    return {row.name: list(row.members) for row in found}


def let_read(connection: Connection, role: str, source: str) -> tuple[str, ...]:
    """Let a role read a source, and return the statements that did it.

    The role of the source is made where there is none. Raises ConfigError for a name that
    PostgreSQL would cut and for a role that is not there, DatabaseError.
    """
    name = source_role(source)
    _check_name(role)
    if not _is_role(connection, role):
        make = f"CREATE ROLE {quoted(role)} LOGIN IN ROLE {READER};"
        raise ConfigError(
            f"There is no role {role}.",
            state="Nothing was changed.",
            hint="Run `resume-lab roles --write`, then `resume-lab migrate`."
            if role in ROLES
            else f"Correct the name, or make it: {make}",
        )
    made = () if _is_role(connection, name) else (f"CREATE ROLE {quoted(name)} NOLOGIN",)
    statements = (*made, f"GRANT {quoted(name)} TO {quoted(role)}")
    for statement in statements:
        execute(connection, statement)
    return statements


def still_lacking(connection: Connection, role: str, source: str) -> tuple[str, ...]:
    """Say what else a role lacks to read a source and no other, a sentence each."""
    lacking = []
    if not _is_role(connection, READER):
        lacking.append(f"There is no {READER} yet: `resume-lab roles --write` writes it.")
    elif not _is_member(connection, role, READER):
        lacking.append(f"It is no reader yet: GRANT {READER} TO {quoted(role)};")
    if set(state(connection).values()) != {FORCED}:
        lacking.append(
            "Row level security is off, so a reader reads everything: "
            "`resume-lab roles --write --row-security` writes it."
        )
    stored = sa.text(
        "SELECT EXISTS (SELECT FROM document_chunks "
        "WHERE starts_with(source_file || '/', :source || '/'))"
    )
    cleaned = source.strip().rstrip("/")
    if not connection.scalar(stored, {"source": cleaned}):
        lacking.append(f"Nothing is stored under {cleaned}/ yet, or this role does not see it.")
    return tuple(lacking)


def _is_role(connection: Connection, name: str) -> bool:
    known = sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :name)")
    return bool(connection.scalar(known, {"name": name}))


def _is_member(connection: Connection, role: str, of: str) -> bool:
    member = sa.text("SELECT pg_has_role(:role, :of, 'MEMBER')")
    return bool(connection.scalar(member, {"role": role, "of": of}))


def taking_back(role: str, source: str) -> str:
    """Return the statement that ends what `let_read` began."""
    return f"REVOKE {quoted(source_role(source))} FROM {quoted(role)}"


def source_role(source: str) -> str:
    """Return the role whose members may read a source; raises ConfigError for a bad name."""
    cleaned = source.strip().rstrip("/")
    if not cleaned:
        raise ConfigError(f"The source {source!r} is blank.", hint="Name a folder as ingested.")
    _check_name(READS + cleaned)
    return READS + cleaned


def _check_name(role: str) -> None:
    if not role.strip() or not role.isprintable():
        raise ConfigError(f"{role!r} cannot be the name of a role.", hint="Correct the name.")
    if len(role.encode()) > MAX_NAME_BYTES:
        raise ConfigError(
            f"{role!r} is longer than the {MAX_NAME_BYTES} bytes of a role's name in PostgreSQL.",
            hint="For a source: ingest the folder under a shorter name, `resume-lab ingest FOLDER "
            "--name NAME`, or let the role read a folder above it.",
        )


def _in(schema: str, table: str) -> str:
    return f"{quoted(schema)}.{table}"
