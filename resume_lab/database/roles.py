"""Three roles, so that who only asks can only read: owner, writer and reader, as SQL.

Roles belong to the whole server, rights to one database. What the statements find, they leave, and
no rows are ever touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resume_lab.database.indexes import quoted
from resume_lab.errors import SchemaError

OWNER, WRITER, READER = ROLES = ("resume_lab_owner", "resume_lab_writer", "resume_lab_reader")
TABLES = ("document_chunks", "chunk_embeddings", "query_logs")
READS = "resume_lab_reads:"
"""Under row level security, members of the role of this name and a source's may read the source."""

VERSION_TABLE = "alembic_version"
LOGGED_COLUMNS = ("query_text", "retrieved_chunk_ids", "response_text")
"""All that a reader may write: what `ask` puts into the log, and never reads back."""

_CHUNKS, _EMBEDDINGS, _LOGS = TABLES
_SEQUENCES = (
    "document_chunks_chunk_id_seq",
    "chunk_embeddings_embedding_id_seq",
    "query_logs_query_id_seq",
)
_TRIGGER = "document_chunks_set_updated_at()"

_ON_DATABASE = (
    ("CONNECT", ROLES),
    ("TEMPORARY", (OWNER, WRITER)),  # a load goes through a temporary table where rows are secured
    ("CREATE", (OWNER,)),  # `tune` copies into a schema of its own
)
_ON_SCHEMA = (("USAGE", ROLES), ("CREATE", (OWNER,)))

SETTINGS: Mapping[str, Mapping[str, str]] = {
    OWNER: {},
    # A load is one transaction that lasts as long as its rows, so no statement of a writer is
    # ended; a forgotten transaction is, since others wait behind its locks.
    WRITER: {"idle_in_transaction_session_timeout": "10min"},
    # A search takes milliseconds. What takes longer is a mistake, and would keep others waiting.
    READER: {
        "statement_timeout": "30s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "60s",
    },
}
"""What a login as the role begins with; a session may set it anew, so it guards from accidents."""

_OBJECTS = """
SELECT relname AS name, 'TABLE' AS kind, pg_get_userbyid(relowner) AS owner,
       ARRAY(SELECT privilege_type FROM aclexplode(relacl) WHERE grantee = 0 ORDER BY 1) AS public
FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
AND relname = ANY (:tables)
UNION ALL
SELECT proname || '()', 'FUNCTION', pg_get_userbyid(proowner), '{}'
FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname || '()' = :trigger
ORDER BY kind DESC, name
"""
_SCHEMAS = """
SELECT current_schema() AS own,
       has_schema_privilege('public', current_schema(), 'CREATE') AS public_creates,
       (SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
        WHERE extname = 'vector' AND NOT has_schema_privilege('public', n.oid, 'USAGE')
        AND nspname <> current_schema()) AS vector
"""


@dataclass(frozen=True)
class Place:
    """What stands before the roles come: where the tables are, whose they are, what all may do.

    `objects` are kind and name to owner; `public` the privileges on a table that everybody has;
    `vector_schema` is that of pgvector where not everybody sees it.
    """

    schema: str
    vector_schema: str | None
    objects: Mapping[tuple[str, str], str]
    public: Mapping[str, tuple[str, ...]]
    public_creates: bool

    @property
    def has_roles(self) -> bool:
        """Say whether the tables belong to the owner's role already."""
        return self.objects["TABLE", _CHUNKS] == OWNER


def find_place(connection: Connection) -> Place:
    """Look at the tables, their owners and what everybody may do; raises SchemaError without."""
    wanted = {"tables": [*TABLES, VERSION_TABLE], "trigger": _TRIGGER}
    found = connection.execute(sa.text(_OBJECTS), wanted).all()
    if not set(TABLES) <= {row.name for row in found}:
        raise SchemaError(
            "The tables are not there yet.",
            hint="Run `resume-lab migrate` first. Where they are in another schema, put it first: "
            "?options=-c%20search_path%3DNAME at the end of DATABASE_URL.",
        )
    schemas = connection.execute(sa.text(_SCHEMAS)).one()
    for name in (schemas.own, schemas.vector, *(row.owner for row in found)):
        if name is not None and not name.isprintable():
            raise SchemaError(
                f"The name {name!r} holds a character that cannot be written into a migration.",
                hint="Rename that schema or role first: ALTER ... RENAME TO ...;",
            )
    return Place(
        schemas.own,
        schemas.vector,
        {(row.kind, row.name): row.owner for row in found},
        {row.name: tuple(row.public) for row in found if row.public},
        schemas.public_creates,
    )


def forth(place: Place) -> Iterator[str]:
    """Return the statements that make the roles and give them their rights."""
    yield from map(_create, ROLES)
    # Since PostgreSQL 16, who creates a role may administer it and no more.
    yield (
        f"DO $$ BEGIN\n    IF NOT pg_has_role('{OWNER}', 'USAGE') THEN\n"
        f"        GRANT {OWNER} TO CURRENT_USER;\n    END IF;\nEND $$"
    )
    yield from _around(place, "GRANT", "TO")
    for kind, name in place.objects:
        yield f"ALTER {kind} {_in(place, name)} OWNER TO {OWNER}"
    yield f"REVOKE ALL ON\n    {_all(place, _tables(place))}\n    FROM PUBLIC"
    if place.public_creates:
        yield f"REVOKE CREATE ON SCHEMA {quoted(place.schema)} FROM PUBLIC"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON\n    {_all(place, TABLES)}\n    TO {WRITER}"
    yield f"GRANT USAGE ON SEQUENCE\n    {_all(place, _SEQUENCES)}\n    TO {WRITER}"
    yield f"GRANT SELECT ON\n    {_all(place, (_CHUNKS, _EMBEDDINGS))}\n    TO {READER}"
    yield f"GRANT INSERT ({', '.join(LOGGED_COLUMNS)})\n    ON {_in(place, _LOGS)} TO {READER}"
    yield f"GRANT USAGE ON SEQUENCE {_in(place, _SEQUENCES[-1])} TO {READER}"
    if VERSION_TABLE in _tables(place):
        yield f"GRANT SELECT ON {_in(place, VERSION_TABLE)} TO {WRITER}, {READER}"


def back(place: Place) -> Iterator[str]:
    """Return those that give the tables back, take the rights away, and drop roles not in use."""
    every = ", ".join(ROLES)
    if place.public_creates:
        yield f"GRANT CREATE ON SCHEMA {quoted(place.schema)} TO PUBLIC"
    for (kind, name), owner in place.objects.items():
        yield f"ALTER {kind} {_in(place, name)} OWNER TO {quoted(owner)}"
    for table, privileges in place.public.items():
        yield f"GRANT {', '.join(privileges)} ON {_in(place, table)} TO PUBLIC"
    yield f"REVOKE ALL ON\n    {_all(place, _tables(place))}\n    FROM {every}"
    yield f"REVOKE ALL ON SEQUENCE\n    {_all(place, _SEQUENCES)}\n    FROM {every}"
    yield from _around(place, "REVOKE", "FROM")
    yield _DROP


def _around(place: Place, verb: str, to: str) -> Iterator[str]:
    """Grant what the roles need around the tables, or revoke it: each as it was granted."""
    for privilege, roles in _ON_DATABASE:
        yield (
            f"DO $$ BEGIN\n    EXECUTE '{verb} {privilege} ON DATABASE '\n"
            f"        || quote_ident(current_database())\n"
            f"        || ' {to} {', '.join(roles)}';\nEND $$"
        )
    for privilege, roles in _ON_SCHEMA:
        yield f"{verb} {privilege} ON SCHEMA {quoted(place.schema)} {to} {', '.join(roles)}"
    if place.vector_schema is not None:
        yield f"{verb} USAGE ON SCHEMA {quoted(place.vector_schema)} {to} {', '.join(ROLES)}"


def _create(role: str) -> str:
    """Create a role that nobody can log in as until it is given a password, or a way without."""
    lines = [f"CREATE ROLE {role} LOGIN"]
    lines += [f"ALTER ROLE {role} SET {name} = '{to}'" for name, to in SETTINGS[role].items()]
    body = "".join(f"        {line};\n" for line in lines)
    return (
        f"DO $$ BEGIN\n    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN\n"
        f"{body}    END IF;\nEND $$"
    )


# Memberships go with a role, but what it owns or may do elsewhere keeps it, and that is right. The
# roles of sources, which own nothing, stay for as long as a database has a reader.
_DROP = """DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT rolname FROM pg_roles
        WHERE rolname IN ('resume_lab_owner', 'resume_lab_writer', 'resume_lab_reader')
        OR starts_with(rolname, 'resume_lab_reads:')
        ORDER BY starts_with(rolname, 'resume_lab_reads:')
    LOOP
        BEGIN
            IF starts_with(name, 'resume_lab_reads:')
                AND to_regrole('resume_lab_reader') IS NOT NULL
            THEN
                RAISE dependent_objects_still_exist USING MESSAGE = 'a reader is there';
            END IF;
            EXECUTE 'DROP ROLE ' || quote_ident(name);
        EXCEPTION
            WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use THEN
                RAISE NOTICE USING MESSAGE = name || ' stays: ' || SQLERRM;
        END;
    END LOOP;
END $$"""


def _in(place: Place, name: str) -> str:
    return f"{quoted(place.schema)}.{name}"


def _all(place: Place, names: Sequence[str]) -> str:
    return ",\n    ".join(_in(place, name) for name in names)


def _tables(place: Place) -> tuple[str, ...]:
    return tuple(name for kind, name in place.objects if kind == "TABLE")
