"""A name is only a name: no statement has another shape for it."""

import dataclasses

from hypothesis import example, given, settings
from psycopg2 import sql
from sqlalchemy.engine import Connection, Engine

from resume_lab.database.indexes import IVFFlat, quoted, raw_connection
from resume_lab.database.vector_column import VectorColumn, dotted
from resume_lab.database.vector_rows import VectorRows
from resume_lab.rollout.table_search import TableSearch
from resume_lab.tuning import advice
from resume_lab.vectors import Metric
from tests.data.lexer import Token, tokens
from tests.data.naming import EVIL, PLAIN, Names, all_names, steps, workload

HASHED = "lab_ivfflat_"
"""Followed by a hash of the other names."""


def statements(of: Names) -> list[str]:
    """What is written without asking a server."""
    forth, back = steps(of)
    info = workload(of.info)
    table = of.info.table
    return [
        IVFFlat(3).ddl(table, of.column, "l2", name=of.index, where=of.info.where),
        advice.index_statements(3, info),
        advice.create_index(3, info, name=of.index),
        advice.query(info),
        f"GRANT SELECT ON {dotted(table)} TO {quoted(of.index)}",
        *forth.alone,
        *forth.together,
        *back.alone,
        *back.together,
        forth.sql,
        back.sql,
    ]


def queries(connection: Connection, of: Names) -> list[str]:
    """What is written for a connection, as it is sent."""
    column = VectorColumn(of.info.table, of.column, 3, of.id_column, True, (1, 1))
    rows = VectorRows(column, of.info.where).sampled(0.5, 1).drawn(3)
    search = TableSearch(connection, of.info, Metric.L2)
    every = search._sql("SELECT {column} FROM {table} WHERE ({where})")
    with raw_connection(connection).cursor() as cursor:
        return [
            rows.select(sql.Identifier(of.column)).as_string(cursor),
            cursor.mogrify(search._search(5), ["[1]"]).decode(),
            cursor.mogrify(every, []).decode(),
        ]


def kinds(statement: str) -> list[str]:
    return [token.kind for token in tokens(statement)]


def names_in(statement: str, given: dict[str, str]) -> list[str]:
    found = [token.value for token in tokens(statement) if token.kind == "name"]
    return [HASHED if name.startswith(HASHED) else given.get(name, name) for name in found]


def assert_same_shape(plain: list[str], other: list[str], of: Names) -> None:
    """The same tokens, with the names of `of` in the place of the plain ones."""
    given = dict(zip(dataclasses.astuple(PLAIN), dataclasses.astuple(of), strict=True))
    for before, after in zip(plain, other, strict=True):
        assert kinds(after) == kinds(before), after
        assert names_in(after, {}) == names_in(before, given)


def test_the_lexer_of_these_tests_reads_as_postgresql_does() -> None:
    assert tokens("""DO E'a\\'b' "x""y" $t$ $$ ' $t$ 'it''s' -- rest""") == [
        Token("DO", "DO"),
        Token("string", "a'b"),
        *(Token("name", "a"), Token("'", "'"), Token("name", "b")),  # the block of DO
        Token("name", 'x"y'),
        Token("string", " $$ ' "),
        Token("string", "it's"),
        Token("comment", "-- rest"),
    ]
    assert kinds("SELECT 1; /* no */ x") == ["SELECT", "number", ";", "comment"]
    assert kinds('u&"a" = b') != kinds('"a" = b')


@given(all_names)
@example(Names(*EVIL))
@example(Names(*EVIL[::-1]))
@settings(max_examples=60, deadline=None)
def test_no_name_changes_the_shape_of_a_statement(of: Names) -> None:
    assert_same_shape(statements(PLAIN), statements(of), of)


@given(all_names)
@example(Names(*EVIL))
@example(Names(*EVIL[::-1]))
@settings(max_examples=60, deadline=None)
def test_no_name_changes_the_shape_of_a_query(shared_database: Engine, of: Names) -> None:
    with shared_database.connect() as connection:
        assert_same_shape(queries(connection, PLAIN), queries(connection, of), of)
