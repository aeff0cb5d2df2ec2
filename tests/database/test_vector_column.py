"""A vector column is found as SQL names it; any other is refused with what to do."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.indexes import execute, raw_connection
from resume_lab.database.session import engine_for
from resume_lab.database.vector_column import (
    VectorColumn,
    find_vector_column,
    require_column,
    split_name,
)
from resume_lab.errors import DatabaseError, SchemaError


@pytest.fixture(scope="module")
def engine(any_server: EmbeddedServer) -> Iterator[Engine]:
    """An engine on a database of this module with the extension and nothing else."""
    admin = sa.create_engine(any_server.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE vector_columns"))
    admin.dispose()
    engine = engine_for(any_server.url("vector_columns"))
    with engine.begin() as connection:
        execute(connection, "CREATE EXTENSION vector")
    yield engine
    engine.dispose()


@pytest.fixture
def cursor(engine: Engine) -> Iterator[Any]:
    """A cursor in a transaction that is undone."""
    with engine.connect() as connection, raw_connection(connection).cursor() as cursor:
        yield cursor


def refusal(cursor: Any, table: str, column: str) -> SchemaError:
    with pytest.raises(SchemaError, match=r"Nothing was changed\.\n") as raised:
        find_vector_column(cursor, tuple(table.split(".")), column)
    return raised.value


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Items", ("items",)),
        ('"Items"', ("Items",)),
        (' shop . "It""s; %s"', ("shop", 'It"s; %s')),
        ("prüfung_1", ("prüfung_1",)),
    ],
)
def test_names_are_read_as_sql_reads_them(cursor: Any, text: str, parts: tuple[str, ...]) -> None:
    assert split_name(cursor, text, parts=(1, 2), what="table") == parts


@pytest.mark.parametrize("text", ["", "a b", "a.b.c", "a.", '"a', "1a", "a;", "a--", "a\0", '""'])
def test_what_is_no_name_is_refused(cursor: Any, text: str) -> None:
    with pytest.raises(SchemaError, match=r"is not the name of a table\. Nothing was changed"):
        split_name(cursor, text, parts=(1, 2), what="table")


def test_a_column_is_found_whatever_its_names(cursor: Any) -> None:
    cursor.execute('CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."%s""" ("x, y" vector(2000))')
    found = find_vector_column(cursor, ("a.b", '%s"'), "x, y")
    assert (found.dim, str(found)) == (2000, '"a.b"."%s"""."x, y"')


@pytest.mark.parametrize(
    ("create", "sampled"),
    [
        ("CREATE TABLE r AS TABLE t", True),
        ("CREATE TABLE r (v vector(3)) PARTITION BY RANGE (v)", True),
        ("CREATE MATERIALIZED VIEW r AS TABLE t", True),
        ("CREATE VIEW r AS TABLE t", False),
    ],
)
def test_every_relation_with_rows_will_do(cursor: Any, create: str, sampled: bool) -> None:
    cursor.execute(f"CREATE TABLE t (v vector(3)); {create}")
    found = find_vector_column(cursor, ("r",), "v")
    assert (found.dim, found.can_be_sampled) == (3, sampled)


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("id integer, v vector(4), b integer PRIMARY KEY", "b"),
        ("b integer, a integer, v vector(4), PRIMARY KEY (a, b)", "a"),
        ("a integer, v vector(4), id integer", "id"),
        ('v vector(4), "A b" integer, c integer', "A b"),
        ("v vector(4)", "v"),
    ],
)
def test_a_row_is_named_by_its_key_or_what_comes_next(cursor: Any, columns: str, key: str) -> None:
    cursor.execute(f"CREATE TABLE t (gone integer, {columns}); ALTER TABLE t DROP COLUMN gone")
    assert find_vector_column(cursor, ("t",), "v").key == key


def test_a_wanted_column_must_be_there(cursor: Any) -> None:
    cursor.execute('CREATE TABLE t (v vector(4), "No" text)')
    found: VectorColumn = find_vector_column(cursor, ("t",), "v")
    require_column(cursor, found, "No")
    with pytest.raises(SchemaError, match=r"t has no column no\. Nothing was changed") as raised:
        require_column(cursor, found, "no")
    assert raised.value.hint == 'Its columns: v, "No".'


def test_a_table_that_is_not_there_is_refused_naming_the_vector_columns(cursor: Any) -> None:
    cursor.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (a vector(3)); CREATE TABLE u (b vector, c integer); "
        "CREATE INDEX i ON s.t USING ivfflat (a vector_l2_ops); CREATE SEQUENCE q"
    )
    for name in ("t", "s.u", "s.i", "q", "nowhere.t"):
        error = refusal(cursor, name, "a")
        assert error.message == f"There is no table {name}. Nothing was changed."
        assert error.hint == "Vector columns in this database: u.b, s.t.a."


def test_a_column_that_is_not_there_is_refused_naming_the_vector_columns(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (id integer, a vector(3), h halfvec(3), b vector(5))")
    error = refusal(cursor, "t", "embedding")
    assert error.message == "t has no column embedding. Nothing was changed."
    assert error.hint == "Its vector columns: a vector(3), b vector(5)."
    assert "no column ctid" in refusal(cursor, "t", "ctid").message


@pytest.mark.parametrize("of", ["text", "bit(3)", "integer", "vector(3)[]"])
def test_a_column_of_another_type_is_refused(cursor: Any, of: str) -> None:
    cursor.execute(f"CREATE TABLE t (c {of}, v vector(3))")
    error = refusal(cursor, "t", "c")
    assert error.message.startswith("t.c is of type ")
    assert ", not vector." in error.message
    assert error.hint == "Its vector columns: v vector(3)."


@pytest.mark.parametrize(
    ("of", "value"),
    [
        ("halfvec(3)", "[1,2,3]"), ("sparsevec(3)", "{1:1}/3"),
        ("real[]", "{1,2,3}"), ("double precision[]", "{1,2,3}"),
    ],
)  # fmt: skip
def test_the_view_that_is_advised_makes_a_vector_column(cursor: Any, of: str, value: str) -> None:
    cursor.execute(f"CREATE TABLE t (c {of}); INSERT INTO t VALUES ('{value}')")
    error = refusal(cursor, "t", "c")
    assert f"t.c is of type {of}, not vector." in error.message
    view = error.hint.partition(": ")[2].partition(";")[0]
    cursor.execute(view.replace("vector(n)", "vector(3)"))
    assert find_vector_column(cursor, ("as_vectors",), "as_vector").dim == 3


def test_a_type_vector_that_is_not_the_extensions_is_refused(cursor: Any) -> None:
    cursor.execute("CREATE SCHEMA s; CREATE TYPE s.vector AS (x real); CREATE TABLE t (c s.vector)")
    assert "t.c is of type s.vector, not vector" in refusal(cursor, "t", "c").message


def test_a_column_without_a_dimension_is_refused_and_what_is_advised_mends_it(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (v vector); INSERT INTO t VALUES (NULL), ('[1,2,3]')")
    error = refusal(cursor, "t", "v")
    assert "without a dimension, which pgvector cannot index; its rows have 3" in error.message
    cursor.execute(error.hint.partition(": ")[2].partition(";")[0])
    assert find_vector_column(cursor, ("t",), "v").dim == 3


def test_a_column_of_mixed_dimensions_or_without_rows_is_refused(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (v vector)")
    assert "cannot index; it has no rows" in refusal(cursor, "t", "v").message
    cursor.execute("INSERT INTO t VALUES ('[1,2,3]'), ('[1]'), ('[1,2]'), ('[3]')")
    error = refusal(cursor, "t", "v")
    assert "its rows have 1 and 2 and 3 dimensions" in error.message
    assert "column of their own" in error.hint


def test_more_dimensions_than_an_index_takes_are_refused(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (v vector(2001))")
    error = refusal(cursor, "t", "v")
    assert "t.v has 2,001 dimensions; pgvector indexes at most 2,000" in error.message


@pytest.mark.parametrize("table", [("t",), ("s", "t")])
def test_the_grant_that_is_advised_is_enough(cursor: Any, table: tuple[str, ...]) -> None:
    cursor.execute(f"CREATE SCHEMA s; CREATE TABLE {'.'.join(table)} (v vector(3))")
    cursor.execute('CREATE ROLE "New reader"; SAVEPOINT before; SET LOCAL ROLE "New reader"')
    with pytest.raises(DatabaseError, match="permission denied") as raised:
        find_vector_column(cursor, table, "v")
    assert "Nothing was changed." in raised.value.message
    cursor.execute("ROLLBACK TO before")
    cursor.execute(raised.value.hint.removeprefix("Let the owner run: "))
    cursor.execute('SET LOCAL ROLE "New reader"')
    assert find_vector_column(cursor, table, "v").dim == 3


def test_the_search_path_finds_a_table_without_its_schema(cursor: Any) -> None:
    cursor.execute("CREATE SCHEMA s; CREATE TABLE s.t (v vector(3))")
    cursor.execute("SET LOCAL search_path = s, public")
    assert find_vector_column(cursor, ("t",), "v").table == ("t",)
