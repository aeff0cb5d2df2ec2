"""What can be no name or no condition is refused; no two names mean one thing."""

import dataclasses

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.indexes import IVFFlat, execute, literal, quoted, raw_connection
from resume_lab.database.vector_column import split_name
from resume_lab.errors import DatabaseError, DataError, SchemaError
from resume_lab.rollout.drift import measure_drift, own_table
from resume_lab.rollout.migration import prepare
from resume_lab.tuning.results import TableInfo
from resume_lab.tuning.table import TableSource, read_table
from tests.data.conftest import Held, Run, refused
from tests.rollout.kept_runs import finding, kept, run, tuned

LONG = "n" * 64
CUT = LONG[:63]
ENDS_THE_QUERY = "true); COMMIT; DROP TABLE items; SELECT (1"


@pytest.fixture
def items(database: Engine) -> Engine:
    """A database with a table of 40 vectors."""
    run(
        database,
        "CREATE TABLE items (id int, v vector(3))",
        "INSERT INTO items SELECT n, ARRAY[n, 1, 2] FROM generate_series(1, 40) n",
    )
    return database


def test_two_names_that_share_63_bytes_do_not_meet(items: Engine, typed: Run, held: Held) -> None:
    run(items, f"ALTER TABLE items RENAME TO {CUT}", f"ALTER TABLE {CUT} RENAME v TO {CUT}")
    before = held()
    for attempt in (
        lambda: read_table(items, TableSource(LONG, CUT)),
        lambda: read_table(items, TableSource(CUT, LONG)),
        lambda: read_table(items, TableSource(f"{LONG}.{CUT}", CUT)),
        lambda: read_table(items, TableSource(CUT, CUT, id_column=LONG)),
        lambda: read_table(items, TableSource(CUT, CUT, queries_from=f"{LONG}.{CUT}")),
        lambda: own_table(items, LONG, CUT),
        lambda: measure_drift(items, TableInfo((LONG,), CUT, "id")),
        lambda: prepare(items, kept(tuned(TableInfo((LONG,), CUT, "id"), dim=3))),
        lambda: prepare(items, kept(tuned(TableInfo((CUT,), LONG, "id"), dim=3))),
        lambda: IVFFlat(3).ddl((CUT,), CUT, "l2", name=LONG),
    ):
        with pytest.raises(SchemaError, match="cannot be a name in PostgreSQL: it has 64 bytes"):
            attempt()
    refused(typed("tune", "--table", LONG, "--column", CUT), "it has 64 bytes")
    refused(typed("drift", "--table", CUT, "--column", LONG), "it has 64 bytes")
    assert held() == before
    assert read_table(items, TableSource(CUT, CUT)).info.rows == 32


@pytest.mark.parametrize("longest", ["a" * 63, "é" * 31 + "a", "日" * 21, "😀" * 15 + "abc"])
def test_a_name_of_63_bytes_is_the_longest(shared_database: Engine, longest: str) -> None:
    with shared_database.connect() as connection:
        execute(connection, f"CREATE TABLE {quoted(longest)} (id int)")
        named = sa.text("SELECT count(*) FROM pg_class WHERE relname = :name")
        assert connection.scalar(named, {"name": longest}) == 1
    with pytest.raises(SchemaError, match="it has 64 bytes"):
        quoted(longest + "x")


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "caf\udce9"])
def test_what_is_no_text_is_no_name_and_no_literal(shared_database: Engine, name: str) -> None:
    with pytest.raises(SchemaError, match="cannot be a name in PostgreSQL") as raised:
        quoted(name)
    assert "1 to 63 bytes" in str(raised.value.hint)
    if name:
        with pytest.raises(DataError, match="no text"):
            literal(name)
    with (
        shared_database.connect() as connection,
        raw_connection(connection).cursor() as cursor,
        pytest.raises(SchemaError, match="is not the name of a table"),
    ):
        split_name(cursor, name, parts=(1,), what="table")


def test_a_condition_can_neither_end_nor_change_a_statement(items: Engine) -> None:
    for where in (
        ENDS_THE_QUERY, "true; DROP TABLE items", "", "\udcff", "a\0", "/*", "true) OR (true",
    ):  # fmt: skip
        table = TableInfo(("items",), "v", "id", where, partial=True)
        pretends = dataclasses.replace(table, embedding_model="not that of the condition")
        for attempt in (
            lambda where=where: read_table(items, TableSource("items", "v", where=where)),
            lambda where=where: measure_drift(items, own_table(items, "items", "v", where)),
            lambda table=pretends: measure_drift(items, table),
            lambda table=table: prepare(items, kept(tuned(table, dim=3))),
            lambda table=pretends: prepare(items, kept(tuned(table, dim=3))),
        ):
            with pytest.raises(DatabaseError, match="cannot be used") as raised:
                attempt()
            assert "what would follow WHERE" in str(raised.value.hint)
    with items.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM items")) == 40


def test_the_comment_of_an_index_cannot_make_drift_run_a_statement(items: Engine) -> None:
    """The owner of an index writes its comment, and another role measures the drift."""
    run(
        items,
        "CREATE INDEX i ON items USING ivfflat (v vector_cosine_ops) WITH (lists = 4)",
        f"COMMENT ON INDEX i IS {literal(finding(where=ENDS_THE_QUERY).as_text())}",
    )
    with pytest.raises(DatabaseError, match="it holds a semicolon"):
        measure_drift(items, own_table(items, "items", "v"))
    with items.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM items")) == 40
