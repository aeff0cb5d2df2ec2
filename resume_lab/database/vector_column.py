"""A vector column of any table, found by its name or refused in a sentence.

Names are read as PostgreSQL reads them: `Items` is items, `"Items"` is Items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg2 import errors, sql

from resume_lab.database.indexes import MAX_INDEXED_DIM, quoted
from resume_lab.errors import DatabaseError, SchemaError, leaving

UNCHANGED = "Nothing was changed."

_CAN_BE_SAMPLED = "rpm"  # pg_class.relkind: table, partitioned table, materialized view
_RELATIONS = [*_CAN_BE_SAMPLED, "v", "f"]  # view, foreign table
_CAST_TO_VECTOR = ("halfvec", "sparsevec", "real[]", "double precision[]")
_SHOWN_COLUMNS = 20
_LOOKED_AT_ROWS = 1000

# The type of the extension: another schema may have a type vector of its own.
_COLUMNS = """
SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.atttypmod,
       e.oid IS NOT NULL, COALESCE(p.conkey[1] = a.attnum, false)
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_extension e
    ON e.extname = 'vector' AND e.extname = t.typname AND e.extnamespace = t.typnamespace
LEFT JOIN pg_constraint p ON p.conrelid = a.attrelid AND p.contype = 'p'
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_VECTOR_COLUMNS = """
SELECT n.nspname, c.relname, pg_table_is_visible(c.oid), a.attname
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_extension e ON e.extname = t.typname AND e.extnamespace = t.typnamespace
WHERE e.extname = 'vector' AND c.relkind = ANY (%s) AND NOT a.attisdropped
ORDER BY 3 DESC, 1, 2, a.attnum
LIMIT %s
"""


@dataclass(frozen=True)
class VectorColumn:
    """A column of type vector(dim). `table` is its name, or schema and name, as it was asked for.

    `key` is the column that names a row: the first of the primary key, else one called id, else the
    first other column. `can_be_sampled` says whether TABLESAMPLE works on the relation.
    """

    table: tuple[str, ...]
    column: str
    dim: int
    key: str
    can_be_sampled: bool
    place: tuple[int, int]

    def __str__(self) -> str:
        return dotted((*self.table, self.column))


@dataclass(frozen=True)
class _Column:
    number: int
    name: str
    type: str
    dim: int
    is_vector: bool
    in_key: bool


def dotted(names: Sequence[str]) -> str:
    """Return a qualified name as it stands in SQL."""
    return ".".join(map(quoted, names))


def split_name(cursor: Any, text: str, *, parts: Sequence[int], what: str) -> tuple[str, ...]:
    """Return the parts of a qualified name.

    Raises SchemaError unless `parts` has their number, and for a name that is too long.
    """
    try:
        cursor.execute("SELECT parse_ident(%s)", [text])
    except (errors.InvalidParameterValue, ValueError):  # ValueError: a zero byte
        names: tuple[str, ...] = ()
    else:
        ((found,),) = cursor.fetchall()
        names = tuple(found)
        with leaving(UNCHANGED):
            dotted(names)  # refuses one that PostgreSQL would cut short, and then take for another
    if len(names) not in parts:
        raise SchemaError(
            f"{text!r} is not the name of a {what}. {UNCHANGED}",
            hint='A name is written as in SQL: items, shop.items, "Items".',
        )
    return names


def find_vector_column(cursor: Any, table: tuple[str, ...], column: str) -> VectorColumn:
    """Return a column that IVFFlat can index and this role can read.

    Raises SchemaError for a table or column that is not there or not of type vector(dim), and
    DatabaseError where the role may not read it. Runs in the cursor's transaction.
    """
    with _permitted(cursor, table):
        relation, kind = _relation(cursor, table)
        columns = _columns(cursor, relation)
        there = {found.name: found for found in columns}
        if column not in there:
            raise _no_such_column(table, column, columns)
        found = there[column]
        readable = sql.SQL("EXPLAIN SELECT {} FROM {}")
        cursor.execute(readable.format(sql.Identifier(column), sql.Identifier(*table)))
    if not found.is_vector:
        raise _not_a_vector(table, found, columns)
    if found.dim < 0:
        raise _without_dimension(cursor, table, found)
    if found.dim > MAX_INDEXED_DIM:
        raise SchemaError(
            f"{dotted((*table, column))} has {found.dim:,} dimensions; pgvector indexes at most "
            f"{MAX_INDEXED_DIM:,} of type vector. {UNCHANGED}",
            hint="halfvec goes to 4,000 dimensions; MIGRATION_GUIDE.md shows how.",
        )
    return VectorColumn(
        table,
        column,
        found.dim,
        _key(columns, column),
        kind in _CAN_BE_SAMPLED,
        (relation, found.number),
    )


def require_column(cursor: Any, found: VectorColumn, name: str) -> None:
    """Raise SchemaError if the table of `found` has no column of this name."""
    columns = _columns(cursor, found.place[0])
    if name not in [column.name for column in columns]:
        names = ", ".join(quoted(column.name) for column in columns)
        raise SchemaError(
            f"{dotted(found.table)} has no column {quoted(name)}. {UNCHANGED}",
            hint=f"Its columns: {names}.",
        )


@contextmanager
def _permitted(cursor: Any, table: tuple[str, ...]) -> Iterator[None]:
    cursor.execute("SELECT quote_ident(current_user)")
    ((role,),) = cursor.fetchall()
    try:
        yield
    except errors.InsufficientPrivilege as error:
        schema = f"GRANT USAGE ON SCHEMA {quoted(table[0])} TO {role}; " if table[1:] else ""
        raise DatabaseError(
            f"This role may not read {dotted(table)}: {words(error)}. {UNCHANGED}",
            hint=f"Let the owner run: {schema}GRANT SELECT ON {dotted(table)} TO {role};",
        ) from None


def words(error: BaseException) -> str:
    """Return what the server said, in a line."""
    said = str(error).strip() or "the connection was lost"
    return said.splitlines()[0].removeprefix("ERROR:").strip()


def _relation(cursor: Any, table: tuple[str, ...]) -> tuple[int, str]:
    # An index, a sequence or a type has no rows to select.
    cursor.execute(
        "SELECT oid, relkind FROM pg_class WHERE oid = to_regclass(%s) AND relkind = ANY (%s)",
        [dotted(table), _RELATIONS],
    )
    for relation, kind in cursor.fetchall():
        return relation, kind
    raise SchemaError(
        f"There is no table {dotted(table)}. {UNCHANGED}",
        hint=f"Vector columns in this database: {_all_vector_columns(cursor)}.",
    )


def _columns(cursor: Any, relation: int) -> list[_Column]:
    cursor.execute(_COLUMNS, [relation])
    return [_Column(*row) for row in cursor.fetchall()]


def _key(columns: list[_Column], column: str) -> str:
    others = [other for other in columns if other.name != column] or columns
    return min(others, key=lambda other: (not other.in_key, other.name != "id")).name


def _all_vector_columns(cursor: Any) -> str:
    cursor.execute(_VECTOR_COLUMNS, [_RELATIONS, _SHOWN_COLUMNS])
    found = [
        dotted((table, column) if visible else (schema, table, column))
        for schema, table, visible, column in cursor.fetchall()
    ]
    return ", ".join(found) or "none"


def _vector_columns(columns: list[_Column]) -> str:
    found = [f"{quoted(column.name)} {column.type}" for column in columns if column.is_vector]
    return f"Its vector columns: {', '.join(found) or 'none'}."


def _no_such_column(table: tuple[str, ...], column: str, columns: list[_Column]) -> SchemaError:
    return SchemaError(
        f"{dotted(table)} has no column {quoted(column)}. {UNCHANGED}",
        hint=_vector_columns(columns),
    )


def _not_a_vector(table: tuple[str, ...], found: _Column, columns: list[_Column]) -> SchemaError:
    hint = _vector_columns(columns)
    base = found.type.rpartition(".")[2].partition("(")[0]
    if base in _CAST_TO_VECTOR:
        cast = f"{quoted(found.name)}::vector({found.dim if found.dim > 0 else 'n'})"
        hint = (
            "A view can cast it: CREATE VIEW as_vectors AS "  # noqa: S608 - a hint, never run
            f"SELECT *, {cast} AS as_vector FROM {dotted(table)}; "
            f"then name as_vectors and as_vector. {hint}"
        )
    return SchemaError(
        f"{dotted((*table, found.name))} is of type {found.type}, not vector. {UNCHANGED}",
        hint=hint,
    )


def _without_dimension(cursor: Any, table: tuple[str, ...], found: _Column) -> SchemaError:
    """Say which dimensions the first rows have, and how the column gets one."""
    cursor.execute(
        sql.SQL(
            "SELECT DISTINCT vector_dims(v) FROM "
            "(SELECT {column} AS v FROM {table} WHERE {column} IS NOT NULL LIMIT {rows}) s "
            "ORDER BY 1"
        ).format(
            column=sql.Identifier(found.name),
            table=sql.Identifier(*table),
            rows=sql.Literal(_LOOKED_AT_ROWS),
        )
    )
    dims = [row[0] for row in cursor.fetchall()]
    rows = f"its rows have {' and '.join(map(str, dims))} dimensions" if dims else "it has no rows"
    one = dims[0] if dims else "n"
    name = quoted(found.name)
    hint = (
        "Keep the vectors of each dimension in a column of their own."
        if len(dims) > 1
        else f"Let the owner run: ALTER TABLE {dotted(table)} ALTER COLUMN {name} "
        f"TYPE vector({one}); in a view, cast it: {name}::vector({one})."
    )
    return SchemaError(
        f"{dotted((*table, found.name))} is of type vector without a dimension, which pgvector "
        f"cannot index; {rows}. {UNCHANGED}",
        hint=hint,
    )
