"""What an index is: its parameters, its statement, the memory that its build asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg2 import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from resume_lab.database.failures import translated_driver_errors
from resume_lab.errors import DataError, ExperimentError, SchemaError
from resume_lab.given import is_text, whole

MAX_LISTS = 32_768
MAX_INDEXED_DIM = 2_000
"""Largest dimension of a `vector` that IVFFlat and HNSW take; `halfvec` goes to 4,000."""

MAX_NAME_BYTES = 63
"""PostgreSQL cuts a longer name without a word, so that two names could mean one thing."""

MIN_ROWS_PER_LIST = 50
MIB = 1024**2

_MORE_RESERVED = frozenset({"collation", "concurrently", "lateral", "system_user", "tablesample"})
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Operators:
    """How pgvector writes one distance: the operator in ORDER BY, the class in CREATE INDEX."""

    operator: str
    opclass: str
    label: str


DISTANCES = {
    "cosine": Operators("<=>", "vector_cosine_ops", "cosine distance"),
    "l2": Operators("<->", "vector_l2_ops", "Euclidean distance"),
    "ip": Operators("<#>", "vector_ip_ops", "negative inner product"),
}


@dataclass(frozen=True)
class IVFFlat:
    """An inverted-file index: rows are kept in `lists` clusters, a query reads `probes` of them."""

    lists: int

    def __post_init__(self) -> None:
        """Raise ExperimentError for a number of lists that pgvector does not take."""
        lists = whole(self.lists, "lists", least=None, error=ExperimentError)
        object.__setattr__(self, "lists", lists)
        if not 1 <= lists <= MAX_LISTS:
            raise ExperimentError(
                f"lists is {self.lists}; pgvector takes 1 to {MAX_LISTS}.",
                hint="A usual first value is rows / 1000, or the square root of the rows.",
            )

    @property
    def label(self) -> str:
        """Return a short name for tables and plots."""
        return f"ivfflat lists={self.lists}"

    def ddl(
        self,
        table: tuple[str, ...],
        column: str,
        distance: str,
        *,
        name: str,
        where: str | None = None,
    ) -> str:
        """Return CREATE INDEX with the operator class named: without one it would be L2.

        Identifiers are quoted where they need it; `where` is SQL as it stands. Raises SchemaError
        for what cannot be a name, ExperimentError for another distance.
        """
        if distance not in DISTANCES:
            raise ExperimentError(
                f"The distance is {distance!r}; permitted: {', '.join(DISTANCES)}."
            )
        target = ".".join(map(quoted, table))
        statement = (
            f"CREATE INDEX {quoted(name)} ON {target} USING ivfflat "
            f"({quoted(column)} {DISTANCES[distance].opclass}) WITH (lists = {self.lists})"
        )
        return statement if where is None else f"{statement} WHERE {where}"

    def build_memory_bytes(self, dim: int) -> int:
        """Return what pgvector's k-means allocates and checks against maintenance_work_mem.

        The sum of the arrays in pgvector 0.8's `src/ivfbuild.c` and `src/ivfkmeans.c` for the full
        sample of max(10000, 50 * lists) rows; since 0.8.5 a small table needs less.
        """
        lists, samples = self.lists, max(10_000, 50 * self.lists)
        item = -(-(8 + 4 * dim) // 8) * 8  # MAXALIGN of a vector's header and elements
        vectors = (2 * lists + samples) * item
        bounds = 4 * samples * lists + 8 * samples + 12 * lists + 4 * lists * lists
        return vectors + 4 * lists * dim + bounds


def quoted(identifier: str) -> str:
    """Return an identifier as PostgreSQL reads it, in quotes where it needs them.

    Raises SchemaError for what can be no name, or only cut short. The dialect only tells which
    words are reserved: it would write every % twice.
    """
    if wrong := _wrong_name(identifier):
        raise SchemaError(
            f"{identifier!r} cannot be a name in PostgreSQL: it {wrong}.",
            hint=f"A name has 1 to {MAX_NAME_BYTES} bytes; letters beyond ASCII take 2 to 4.",
        )
    if (
        re.fullmatch("[a-z_][a-z0-9_]*", identifier)
        and identifier not in _MORE_RESERVED
        and not _DIALECT.identifier_preparer.quote(identifier).startswith('"')
    ):
        return identifier
    return '"' + identifier.replace('"', '""') + '"'


def _wrong_name(identifier: str) -> str:
    if not identifier:
        return "is empty"
    if not is_text(identifier):
        return "holds a character that is no text"
    size = len(identifier.encode())
    return f"has {size} bytes" if size > MAX_NAME_BYTES else ""


def literal(value: str) -> str:
    """Return a string as a literal of SQL, whatever standard_conforming_strings says.

    Raises DataError for a text that PostgreSQL cannot hold.
    """
    if not is_text(value):
        raise DataError(
            f"{value!r} holds a character that is no text.", hint="Type it anew, without it."
        )
    escaped = value.replace("'", "''")
    return f"'{escaped}'" if "\\" not in value else " E'" + escaped.replace("\\", "\\\\") + "'"


def allow_build(connection: Connection, index: IVFFlat, dim: int) -> None:
    """Raise maintenance_work_mem to what the build needs, until the transaction ends."""
    needed_mib = -(-index.build_memory_bytes(dim) // MIB) + 1
    connection.execute(
        sa.text(
            "SELECT set_config('maintenance_work_mem', :mib || 'MB', true) "
            "WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < :mib * 1048576::bigint"
        ),
        {"mib": needed_mib},
    )


def raw_connection(connection: Connection) -> Any:
    """Return psycopg2's own connection under SQLAlchemy's, in the same transaction."""
    return connection.connection.dbapi_connection


def execute(connection: Connection, statement: str | sql.Composable) -> None:
    """Run a statement without parameters as it stands, in the same transaction."""
    with translated_driver_errors(), raw_connection(connection).cursor() as cursor:
        cursor.execute(statement)


@dataclass(frozen=True)
class SetAside:
    """A vector index dropped for a load, and what it takes to build it again."""

    schema: str
    name: str
    definition: str
    lists: int | None
    comment: str | None

    def rebuild(self, connection: Connection, dim: int) -> None:
        """Build the index as it was, on the rows there are now."""
        if self.lists is not None:
            allow_build(connection, IVFFlat(self.lists), dim)
        execute(connection, self.definition)
        if self.comment is not None:
            comment = sql.SQL("COMMENT ON INDEX {} IS {}").format(
                sql.Identifier(self.schema, self.name), sql.Literal(self.comment)
            )
            execute(connection, comment)


def drop_vector_indexes(connection: Connection, table: str = "chunk_embeddings") -> list[SetAside]:
    """Drop the vector indexes of a table before a load, and return them for rebuilding.

    Built after the load, an index is faster to make and its centroids fit the rows.
    """
    found = connection.execute(
        sa.text(
            "SELECT n.nspname, i.relname, pg_get_indexdef(i.oid) AS definition, "
            "(SELECT option_value::int FROM pg_options_to_table(i.reloptions) "
            " WHERE option_name = 'lists') AS lists, obj_description(i.oid, 'pg_class') AS comment "
            "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
            "JOIN pg_am a ON a.oid = i.relam JOIN pg_namespace n ON n.oid = i.relnamespace "
            "WHERE x.indrelid = CAST(:table AS regclass) AND a.amname IN ('ivfflat', 'hnsw')"
        ),
        {"table": table},
    ).all()
    for row in found:
        name = sql.Identifier(row.nspname, row.relname)
        execute(connection, sql.SQL("DROP INDEX {}").format(name))
    return [SetAside(*row) for row in found]
