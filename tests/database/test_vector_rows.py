"""A condition stays one condition, and a sample is random and never too large."""

from collections.abc import Iterator
from typing import Any

import psycopg2.extensions
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.indexes import execute, raw_connection
from resume_lab.database.session import engine_for
from resume_lab.database.vector_column import find_vector_column
from resume_lab.database.vector_rows import VectorRows, at_most, check_condition, count, read
from resume_lab.errors import DatabaseError

ROWS = 2000
many = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Recording(psycopg2.extensions.cursor):
    """A cursor that keeps its statements."""

    statements: list[str] = []  # noqa: RUF012

    def execute(self, query: Any, *arguments: Any) -> None:
        self.statements.append(query if isinstance(query, str) else query.as_string(self))
        super().execute(query, *arguments)


@pytest.fixture(scope="module")
def connection(server18: EmbeddedServer) -> Iterator[Any]:
    """A psycopg2 connection that may only read; item n of 2,000 has the vector (n, 1)."""
    admin = sa.create_engine(server18.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE vector_rows"))
    admin.dispose()
    engine = engine_for(server18.url("vector_rows"))
    with engine.begin() as connection:
        execute(
            connection,
            "CREATE EXTENSION vector; CREATE TABLE items (n integer, kind text, v vector(2)); "
            "INSERT INTO items SELECT n, 'it''s; --' || n % 2, ARRAY[n, 1]::real[] "
            "FROM generate_series(1, 2000) n; INSERT INTO items (n) VALUES (-1); "
            "CREATE VIEW seen AS TABLE items; ANALYZE items",
        )
    with engine.connect() as connection:
        raw = raw_connection(connection)
        raw.set_session(isolation_level="REPEATABLE READ", readonly=True)
        yield raw
        raw.rollback()
        raw.set_session(isolation_level="DEFAULT", readonly="DEFAULT")
    engine.dispose()


@pytest.fixture
def cursor(connection: Any) -> Iterator[Any]:
    with connection.cursor() as cursor:
        yield cursor
    connection.rollback()


def items(cursor: Any, where: str | None = None, table: str = "items") -> VectorRows:
    return VectorRows(find_vector_column(cursor, (table,), "v"), where)


def numbers(cursor: Any, rows: VectorRows, n_rows: int) -> list[float]:
    vectors = read(cursor, rows, n_rows)
    assert vectors.shape == (n_rows, 2)
    return vectors[:, 0].tolist()


@pytest.mark.parametrize(
    ("where", "there"),
    [
        (None, 2000),
        ("n <= 10 OR n > 1990", 20),
        ("kind LIKE '%s1' OR kind LIKE '%1'", 1000),
        ("n IN (SELECT max(n) FROM items GROUP BY kind)", 2),
        ("kind = 'it''s' || chr(59) || ' ' || '-' || '-1' AND n < 10", 5),
        ("n = ANY (ARRAY[1, 2, 3]) AND kind <> $$x$$ AND kind <> E'\\'('", 3),
        ("items.n BETWEEN 1 AND 4\n", 4),
        ("n > 0 AND NULL", 0),
        ('"n" = -1', 0),
    ],
)
def test_a_condition_selects_the_rows_whose_vector_is_not_null(
    cursor: Any, where: str | None, there: int
) -> None:
    rows = items(cursor, where)
    check_condition(cursor, rows)
    assert count(cursor, rows) == there
    assert len(set(numbers(cursor, rows, there))) == there


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("", 'syntax error at or near ")"'),
        ("n = = 1", 'syntax error at or near "="'),
        ("nowhere = 1", 'column "nowhere" does not exist'),
        ("n", "must be type boolean, not type integer"),
        ("true, true", "must be type boolean, not type record"),
        ("count(*) > 1", "aggregate functions are not allowed in WHERE"),
        ("kind = 'open", "unterminated quoted string"),
        ("(n > 0", "syntax error"),
        ("n = $1", "there is no parameter $1"),
        ("n = %s", "syntax error"),
        ("true) OR (true", "syntax error"),
        ("true] || ARRAY[true", "syntax error"),
        ("true) UNION ALL SELECT n FROM items WHERE (true", "syntax error"),
        ("true) LIMIT (1", "syntax error"),
        ("true); DROP TABLE items; SELECT (true", "it holds a semicolon"),
        ("true)) -- ", "it holds a comment"),
        ("true /* ", "it holds a comment"),
        ("true) \0", "it holds a zero byte"),
        ("kind = '\udcff'", "encoding"),
    ],
)
def test_what_is_not_one_condition_is_refused_in_the_servers_words(
    cursor: Any, where: str, words: str
) -> None:
    with pytest.raises(DatabaseError) as raised:
        check_condition(cursor, items(cursor, where))
    assert words in raised.value.message
    assert raised.value.message.endswith(" Nothing was changed.")
    assert "what would follow WHERE" in raised.value.hint


OPERANDS = [
    "true",
    "false",
    "n > 0",
    "NOT true",
    "(true",
    "true)",
    "[1]",
    "'",
    "$$",
    "E'\\'",
    "",
    "1",
]
OPERATORS = [
    " OR ", " AND ", ") OR (", ") AND (", "] OR ARRAY[", "] = ARRAY[", " = ", "::", ",", "[", "]",
    ";", "--", "/*", "*/", "\n", " IS NULL ", ") UNION SELECT 1 FROM items WHERE (", ") LIMIT (",
]  # fmt: skip
texts = st.lists(st.tuples(st.sampled_from(OPERANDS), st.sampled_from(OPERATORS)), max_size=5).map(
    lambda pairs: "".join(part for pair in pairs for part in pair)
)


@given(texts, st.sampled_from(OPERANDS))
@example("true) OR (", "true")
@example("true) OR $$) OR $$ = ($$", "")
@many
def test_no_text_leaves_its_brackets(cursor: Any, text: str, end: str) -> None:
    """What is accepted is one operand: `false AND it` selects no row, `true OR it` selects all."""
    where = text + end
    rows = items(cursor, where)
    try:
        check_condition(cursor, rows)
    except DatabaseError:
        cursor.connection.rollback()
        return
    for before, there in (("false AND", 0), ("true OR", ROWS + 1)):
        cursor.execute(f"SELECT count(*) FROM items WHERE {before} (\n{where}\n)")
        assert cursor.fetchall() == [(there,)]


@pytest.mark.parametrize("table", ["items", "seen"])
def test_no_more_rows_than_allowed_are_all_of_them(cursor: Any, table: str) -> None:
    rows, there, sampled_from = at_most(cursor, items(cursor, table=table), ROWS, seed=0)
    assert (there, sampled_from) == (ROWS, None)
    assert sorted(numbers(cursor, rows, there)) == list(range(1, ROWS + 1))


@pytest.mark.parametrize("table", ["items", "seen"])
@pytest.mark.parametrize(
    ("where", "there"),
    [
        ("true", 2000),
        ("n % 1000 = n % 1000", 2000),  # the planner expects 10
        ("n % 20 < 1", 100),  # the planner expects 667
    ],
    ids=["as planned", "more than planned", "fewer than planned"],
)
@pytest.mark.parametrize("most", [200, 40])
def test_a_sample_has_at_most_what_was_asked_for(
    cursor: Any, table: str, where: str, there: int, most: int
) -> None:
    for seed in range(5):
        rows, found, sampled_from = at_most(cursor, items(cursor, where, table), most, seed)
        assert most / 4 <= found <= most
        assert len(set(numbers(cursor, rows, found))) == found
        if there <= most:
            assert (found, sampled_from) == (there, None)
        else:
            assert sampled_from == pytest.approx(there, rel=0.6)


@pytest.mark.parametrize("table", ["items", "seen"])
def test_a_sample_comes_from_every_part_of_the_table(cursor: Any, table: str) -> None:
    drawn: list[float] = []
    for seed in range(10):
        rows, found, _ = at_most(cursor, items(cursor, table=table), 200, seed)
        drawn += numbers(cursor, rows, found)
    quarters = [sum(q * 500 < n <= (q + 1) * 500 for n in drawn) / len(drawn) for q in range(4)]
    assert quarters == pytest.approx([0.25] * 4, abs=0.06)  # over 1,000 rows: 4 deviations


def test_a_seed_gives_the_same_sample(cursor: Any) -> None:
    one, again, other = (
        numbers(cursor, rows, found)
        for rows, found, _ in (at_most(cursor, items(cursor), 200, seed) for seed in (1, 1, 2))
    )
    assert one == again != other


def test_of_many_expected_rows_only_a_sample_is_counted(connection: Any) -> None:
    with connection.cursor(cursor_factory=Recording) as cursor:
        at_most(cursor, items(cursor), 200, seed=0)
        counts = [text for text in cursor.statements if "count(*)" in text]
    connection.rollback()
    assert counts
    assert all("TABLESAMPLE" in text for text in counts)


def test_drawn_rows_come_in_random_order(cursor: Any) -> None:
    cursor.execute("SELECT setseed(0.5)")
    first = numbers(cursor, items(cursor).drawn(30), 30)
    assert first != sorted(first)
    assert len(set(first)) == 30
