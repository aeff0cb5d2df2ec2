"""Binary COPY: what goes in comes back bit by bit, in flat memory; errors arrive as they are."""

import json
import threading
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from psycopg2 import sql
from sqlalchemy.engine import Engine

from resume_lab.database import copy
from resume_lab.database.indexes import raw_connection
from resume_lab.errors import DatabaseError, DataError

many = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.tuples(st.integers(0, 40), st.integers(1, 9)).flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=floats)
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
SPECIAL = np.array(
    [[0.0, -0.0], [1e-45, -1e-45], [3.4028235e38, -3.4028235e38], [1.1754944e-38, 1 / 3]],
    dtype=np.float32,
)
VALUES = sql.SQL("SELECT v FROM t ORDER BY n")


@pytest.fixture
def table(empty_database: Engine) -> Iterator[object]:
    """A psycopg2 connection to an empty table t of number, vector, text and JSON."""
    with empty_database.connect() as connection:
        raw = raw_connection(connection)
        run(raw, "CREATE EXTENSION vector")
        run(raw, "CREATE TABLE t (n integer, v vector, w varchar, j jsonb)")
        raw.commit()
        yield raw


def run(raw, statement: str, parameters: object = None) -> list[tuple[object, ...]]:
    with raw.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


@given(vectors, st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"])))
@example(SPECIAL, "zero, subnormal, largest")
@example(np.zeros((3, 256), dtype=np.float32), "")
@many
def test_vectors_come_back_bit_by_bit(table, batch: np.ndarray, name: str) -> None:
    run(table, "TRUNCATE t")
    numbers = np.arange(len(batch), dtype=np.int32) - 2
    encoded = copy.encode_batch(numbers, batch, name.encode())
    assert copy.copy_rows(table, ("t",), ("n", "v", "w"), [encoded]) == len(batch)
    back = copy.read_vectors(table, VALUES, len(batch), batch.shape[1])
    assert back.dtype == np.float32
    assert back.tobytes() == batch.tobytes()
    others = run(table, "SELECT n, w, j FROM t ORDER BY n")
    assert others == [(int(number), name, None) for number in numbers]


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-(2**31), 2**31 - 1), st.none() | texts, json_values)
    )
)
@example([(None, None, None), (0, "", ""), (1, "Zoë 日本 \U0001f600", {"é": [None, "\\"]})])
@many
def test_rows_of_any_width_come_back(
    table, rows: list[tuple[int | None, str | None, object]]
) -> None:
    run(table, "TRUNCATE t")
    encoded = copy.encode_rows(
        (
            None if number is None else copy.int4(number),
            None if word is None else copy.text(word),
            copy.jsonb(json.dumps(value, ensure_ascii=False).replace("\\u0000", "")),
        )
        for number, word, value in rows
    )
    assert copy.copy_rows(table, ("t",), ("n", "w", "j"), [encoded]) == len(rows)
    assert run(table, "SELECT n, w, j FROM t ORDER BY ctid") == rows


def test_one_row_is_written_as_the_manual_says() -> None:
    batch = copy.encode_batch(
        np.array([7], dtype=np.int32), np.array([[1.0, -2.0]], dtype=np.float32), b"ab"
    )
    assert batch.hex(" ") == (
        "00 03 "  # three columns
        "00 00 00 04 00 00 00 07 "  # four bytes: 7
        "00 00 00 0c 00 02 00 00 3f 80 00 00 c0 00 00 00 "  # twelve: 2 dimensions, 0, 1.0, -2.0
        "00 00 00 02 61 62"  # two: ab
    )
    assert copy.encode_rows([(None, b"x")]).hex(" ") == "00 02 ff ff ff ff 00 00 00 01 78"


def test_no_rows_are_no_rows(table) -> None:
    assert copy.copy_rows(table, ("t",), ("n",), []) == 0
    assert copy.copy_rows(table, ("t",), ("n",), iter([b"", b""])) == 0
    assert copy.read_vectors(table, VALUES, 0, 5).shape == (0, 5)


def test_an_empty_part_does_not_end_the_stream(table) -> None:
    part = copy.encode_batch(np.array([1, 2], dtype=np.int32))
    assert copy.copy_rows(table, ("t",), ("n",), [part, b"", part]) == 4


def test_table_and_columns_are_quoted(table) -> None:
    run(table, 'CREATE SCHEMA "a.b"')
    run(table, 'CREATE TABLE "a.b"."%s""" ("x, y" integer)')
    part = copy.encode_batch(np.array([5], dtype=np.int32))
    assert copy.copy_rows(table, ("a.b", '%s"'), ("x, y",), [part]) == 1
    assert run(table, 'SELECT "x, y" FROM "a.b"."%s"""') == [(5,)]


def test_a_zero_byte_in_a_text_is_refused() -> None:
    for encode in (copy.text, copy.jsonb):
        with pytest.raises(DataError, match="zero byte"):
            encode('"a\0b"')


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="different lengths"):
        copy.encode_batch(np.arange(2, dtype=np.int32), np.ones((3, 2), dtype=np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_the_server_refuses_leaves_nothing(table, bad: float) -> None:
    rows = np.ones((3000, 8), dtype=np.float32)
    rows[-1, 3] = bad
    batch = copy.encode_batch(np.arange(3000, dtype=np.int32), rows)
    with pytest.raises(DatabaseError, match="not allowed in vector"):
        copy.copy_rows(table, ("t",), ("n", "v"), [batch])
    table.rollback()
    assert run(table, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t (n, v) VALUES (1, '[1,2,3]')",  # fewer
        "INSERT INTO t (n, v) SELECT n, '[1,2,3]' FROM generate_series(1, 3) n",  # more
        "INSERT INTO t (n, v) VALUES (1, '[1,2,3]'), (2, NULL)",
        "INSERT INTO t (n, v) VALUES (1, '[1,2]'), (2, '[1,2,3,4]')",  # as long together
        "INSERT INTO t (n, v) SELECT n, '[1,2,3]' FROM generate_series(1, 200000) n",
    ],
)
def test_reading_other_rows_than_expected_is_an_error(table, statement: str) -> None:
    run(table, statement)
    with pytest.raises(DataError, match="Expected 2 vectors of 3 dimensions"):
        copy.read_vectors(table, VALUES, 2, 3)


def test_a_table_that_is_not_there_is_an_error_of_the_project(table) -> None:
    with pytest.raises(DatabaseError, match="does not exist"):
        copy.read_vectors(table, sql.SQL("SELECT v FROM nowhere"), 1, 1)
    table.rollback()
    with pytest.raises(DatabaseError, match="does not exist"):
        copy.copy_rows(table, ("nowhere",), ("n",), [])


def test_memory_is_flat_both_ways(table) -> None:
    """300 batches of 1 MB go in, and come back into one array, with a few MB beside it."""
    rows, dim, batches = 256, 1024, 300

    def make() -> Iterator[bytes]:
        numbers = np.arange(rows, dtype=np.int32)
        for number in range(batches):
            yield copy.encode_batch(numbers, np.full((rows, dim), number, dtype=np.float32))

    run(table, "ALTER TABLE t ALTER v SET STORAGE PLAIN")
    tracemalloc.start()
    try:
        with copy.ahead(make()) as ready:
            copy.copy_rows(table, ("t",), ("n", "v"), ready)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
        tracemalloc.reset_peak()
        query = sql.SQL("SELECT v FROM t WHERE n < 64")
        back = copy.read_vectors(table, query, 64 * batches, dim)
        assert tracemalloc.get_traced_memory()[1] < back.nbytes + 20 * 2**20
    finally:
        tracemalloc.stop()
    assert sorted(set(back[:, 0])) == list(range(batches))


def failing() -> Iterator[bytes]:
    yield copy.encode_batch(np.array([1], dtype=np.int32))
    raise DataError("row 1 is bad")


def test_an_error_while_making_batches_is_raised_as_it_is(table) -> None:
    with pytest.raises(DataError, match="row 1 is bad"):
        copy.copy_rows(table, ("t",), ("n",), failing())
    table.rollback()
    with pytest.raises(DataError, match="row 1 is bad"), copy.ahead(failing()) as ready:
        copy.copy_rows(table, ("t",), ("n",), ready)
    table.rollback()
    assert run(table, "SELECT count(*) FROM t") == [(0,)]


def threads() -> int:
    return threading.active_count()


def consume_one_and_fail(batches: Iterator[bytes]) -> None:
    with copy.ahead(batches, depth=2) as ready:
        next(ready)
        raise ZeroDivisionError


def test_an_error_of_the_consumer_stops_the_thread() -> None:
    made = []

    def endless() -> Iterator[bytes]:
        while True:
            made.append(b"x")
            yield b"x"

    before = threads()
    with pytest.raises(ZeroDivisionError):
        consume_one_and_fail(endless())
    assert threads() == before
    assert len(made) < 100


def test_batches_are_made_ahead_but_only_a_few() -> None:
    made = []

    def numbered() -> Iterator[bytes]:
        for number in range(50):
            made.append(number)
            yield bytes([number])

    with copy.ahead(numbered(), depth=3) as ready:
        deadline = time.monotonic() + 5
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 4  # three wait, one is in hand
        assert [part[0] for part in ready] == list(range(50))
