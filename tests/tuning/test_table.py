"""The user's own table: any is read, none is written to or blocked, and a refusal says why."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import copy
from resume_lab.database.indexes import IVFFlat, execute, raw_connection
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError, DataError, ExperimentError, LabError, SchemaError
from resume_lab.tuning import Workload, measure, scratch_copy
from resume_lab.tuning.table import TableSource, read_table

from .factory import unit_rows

ITEMS = TableSource("items", "embedding")
SLOW = TableSource("items", "embedding", where="pg_sleep(0.003) IS NOT NULL")
READERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%pg_sleep(0.003)%'"
)
LOCKS = (
    "SELECT DISTINCT mode FROM pg_locks WHERE relation = 'items'::regclass "
    "AND pid <> pg_backend_pid()"
)
READ = """
import sys
import sqlalchemy as sa
from resume_lab.database.session import engine_for
from resume_lab.tuning.table import TableSource, read_table
try:
    source = TableSource("items", "embedding", where=sys.argv[2])
    read_table(engine_for(sa.make_url(sys.argv[1])), source)
except KeyboardInterrupt:
    print("interrupted")
"""


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            execute(connection, statement)


def load(engine: Engine, table: str, rows: np.ndarray) -> None:
    """Add rows numbered from 0 to a table of id and embedding."""
    with engine.begin() as connection:
        batch = copy.encode_batch(np.arange(len(rows), dtype=np.int32), rows)
        copy.copy_rows(raw_connection(connection), (table,), ("id", "embedding"), [batch])


@pytest.fixture
def shop(empty_database: Engine) -> Engine:
    """A database whose table items has 300 vectors of 4 dimensions."""
    run(
        empty_database,
        "CREATE EXTENSION vector",
        "CREATE TABLE items (id integer PRIMARY KEY, embedding vector(4))",
        "CREATE TABLE asked (id integer, embedding vector(4))",
    )
    load(empty_database, "items", unit_rows(300, 4))
    return empty_database


@pytest.fixture
def reader(shop: Engine) -> Iterator[Engine]:
    """An engine of a role that may do nothing but log in."""
    name = f"reader_{shop.url.database}"
    run(shop, f"CREATE ROLE {name} LOGIN")
    engine = engine_for(shop.url.set(username=name))
    yield engine
    engine.dispose()
    run(shop, f"DROP OWNED BY {name}; DROP ROLE {name}")


def contents(rows: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in rows}


def all_of(workload: Workload) -> set[bytes]:
    return contents(workload.vectors) | contents(workload.queries)


def refused(engine: Engine, source: TableSource, kind: type[LabError], **options: int) -> str:
    """Return the message; any says in what state the database is, and what to do."""
    with pytest.raises(kind) as raised:
        read_table(engine, source, **options)
    assert raised.value.message.endswith(" Nothing was changed.")
    assert raised.value.hint
    return raised.value.message


def test_a_table_is_read_whole_and_queries_are_laid_aside(shop: Engine) -> None:
    found = read_table(shop, ITEMS, metric="l2", k=3, n_queries=20, seed=1)
    assert (found.info.rows, found.info.n_queries, found.info.dim) == (280, 20, 4)
    assert (found.metric, found.k, found.sampled_from) == ("l2", 3, None)
    assert all_of(found) == contents(unit_rows(300, 4))
    assert found.source == "items.embedding"
    table = found.table
    assert table is not None
    assert (table.table, table.column, table.id_column) == (("items",), "embedding", "id")
    assert (table.where, table.partial, table.embedding_model) == (None, False, None)


def test_names_are_read_as_sql_reads_them(shop: Engine) -> None:
    run(
        shop,
        'CREATE SCHEMA a; CREATE TABLE a."My Items" (id integer, "Key %s" integer, "V;" vector(4))',
        'INSERT INTO a."My Items" SELECT id, id, embedding FROM items',
    )
    found = read_table(shop, TableSource('A."My Items"', '"V;"', id_column='"Key %s"'))
    assert all_of(found) == contents(unit_rows(300, 4))
    assert found.source == 'a."My Items"."V;"'
    assert found.table is not None
    assert found.table.table == ("a", "My Items")
    assert found.table.id_column == "Key %s"


def test_a_condition_selects_the_rows_and_makes_the_index_partial(shop: Engine) -> None:
    where = "id < 10 OR id % 2 = 1"
    found = read_table(shop, TableSource("items", "embedding", where=where))
    odd = [number for number in range(300) if number < 10 or number % 2]
    assert all_of(found) == contents(unit_rows(300, 4)[odd])
    assert found.source == f"items.embedding where {where}"
    assert found.table is not None
    assert (found.table.where, found.table.partial) == (where, True)


@pytest.mark.parametrize(
    "create",
    [
        "CREATE MATERIALIZED VIEW other AS TABLE items",
        "CREATE VIEW other AS SELECT embedding FROM items",
        "CREATE TABLE other (LIKE items) PARTITION BY RANGE (id); "
        "CREATE TABLE one PARTITION OF other FOR VALUES FROM (0) TO (40); "
        "CREATE TABLE two PARTITION OF other DEFAULT; INSERT INTO other TABLE items",
    ],
    ids=["materialized view", "view", "partitioned table"],
)
def test_other_relations_are_read_and_sampled_like_tables(shop: Engine, create: str) -> None:
    run(shop, create)
    source = TableSource("other", "embedding")
    assert all_of(read_table(shop, source)) == contents(unit_rows(300, 4))
    sample = read_table(shop, source, max_rows=100)
    assert all_of(sample) < contents(unit_rows(300, 4))
    assert 25 <= len(all_of(sample)) <= 100
    assert sample.sampled_from == sample.info.sampled_from == pytest.approx(300, rel=0.5)


def test_a_sample_is_said_to_be_one_and_the_seed_chooses_it(shop: Engine) -> None:
    first, again, other = (read_table(shop, ITEMS, max_rows=100, seed=s) for s in (3, 3, 4))
    sample = f"a random sample of {len(all_of(first))} of about {first.sampled_from} rows"
    assert first.source == f"items.embedding, {sample}"
    assert np.array_equal(first.vectors, again.vectors)
    assert np.array_equal(first.queries, again.queries)
    assert all_of(first) != all_of(other)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_null_and_zero_vectors_are_left_out(shop: Engine, metric: str) -> None:
    run(
        shop,
        "UPDATE items SET embedding = NULL WHERE id < 10",
        "UPDATE items SET embedding = '[0,0,0,0]' WHERE id BETWEEN 10 AND 29",
    )
    found = read_table(shop, ITEMS, metric=metric)
    assert all_of(found) == contents(unit_rows(300, 4)[30:])
    assert found.source == "items.embedding, without 20 zero vectors"


def test_real_queries_are_not_held_out_of_the_rows(shop: Engine) -> None:
    asked = unit_rows(50, 4, seed=1)
    load(shop, "asked", asked)
    run(shop, "INSERT INTO asked VALUES (50, NULL), (51, '[0,0,0,0]')")
    source = TableSource("items", "embedding", queries_from="public.asked.embedding")
    found = read_table(shop, source, n_queries=30)
    assert contents(found.vectors) == contents(unit_rows(300, 4))
    assert len(contents(found.queries)) == len(found.queries) >= 29
    assert contents(found.queries) < contents(asked)
    assert found.source == "items.embedding, queries from public.asked.embedding"
    other = read_table(shop, source, n_queries=30, seed=1)
    assert contents(found.queries) != contents(other.queries)
    every = read_table(shop, source, n_queries=100)
    assert contents(every.queries) == contents(asked)
    assert not np.array_equal(every.queries, asked)  # in random order


def test_queries_that_do_not_fit_are_refused(shop: Engine) -> None:
    run(shop, "CREATE TABLE other (v vector(3), t text)")

    def message(name: str, kind: type[LabError] = SchemaError) -> str:
        return refused(shop, TableSource("items", "embedding", queries_from=name), kind)

    assert "The queries of other.v have 3 dimensions, the rows of items" in message("other.v")
    assert "would find themselves" in message("public.items.embedding")
    assert "other.t is of type text" in message("other.t")
    assert "There is no table nowhere" in message("nowhere.v")
    assert "is not the name of a table with its column" in message("asked")
    assert "asked.embedding has no usable vectors" in message("asked.embedding", DataError)


def test_what_cannot_be_read_is_refused_without_a_change(shop: Engine) -> None:
    run(shop, "CREATE TABLE t (id text, h halfvec(3), v vector, big vector(2001))")

    def message(kind: type[LabError], *names: str, **more: str) -> str:
        return refused(shop, TableSource(*names, **more), kind)

    assert "There is no table nowhere" in message(SchemaError, "nowhere", "v")
    assert "is not the name of a table" in message(SchemaError, "t; DROP TABLE t", "v")
    assert "is not the name of a column" in message(SchemaError, "items", "a.embedding")
    assert "items has no column v" in message(SchemaError, "items", "v")
    assert "has no column nr" in message(SchemaError, "items", "embedding", id_column="nr")
    assert "t.id is of type text" in message(SchemaError, "t", "id")
    assert "t.h is of type halfvec(3)" in message(SchemaError, "t", "h")
    assert "without a dimension" in message(SchemaError, "t", "v")
    assert "2,001 dimensions" in message(SchemaError, "t", "big")
    where = message(DatabaseError, "items", "embedding", where="id = = 1")
    assert """'id = = 1' cannot be used: syntax error at or near "=".""" in where
    later = message(DatabaseError, "items", "embedding", where="1 / (id - 9) < 5")
    assert "Reading items ended early: division by zero." in later


def test_too_few_vectors_are_refused(shop: Engine) -> None:
    run(shop, "CREATE TABLE empty (v vector(4), id integer)")
    none = TableSource("items", "embedding", where="id < 0")
    assert "empty.v has no usable vectors" in refused(shop, TableSource("empty", "v"), DataError)
    assert "items.embedding where id < 0 has no usable" in refused(shop, none, DataError)
    assert "for k = 300 it takes 305 or more" in refused(shop, ITEMS, DataError, k=300)
    run(shop, "UPDATE items SET embedding = '[0,0,0,0]' WHERE id > 100")
    assert "has 101 usable vectors; for k = 97" in refused(shop, ITEMS, DataError, k=97)
    assert len(read_table(shop, ITEMS, k=96).queries) == 5  # as many as can be spared
    run(shop, "UPDATE items SET embedding = NULL")
    assert "items.embedding has no usable vectors" in refused(shop, ITEMS, DataError)


def test_with_real_queries_k_rows_are_enough(shop: Engine) -> None:
    load(shop, "asked", unit_rows(3, 4, seed=1))
    source = TableSource("items", "embedding", where="id < 10", queries_from="asked.embedding")
    assert read_table(shop, source, k=10).truth.ids.shape == (3, 10)
    assert "for k = 11 it takes 11 or more" in refused(shop, source, DataError, k=11)


@pytest.mark.parametrize("numbers", [{"k": 0}, {"n_queries": 0}, {"k": 10, "max_rows": 14}])
def test_numbers_that_cannot_be_are_refused(shop: Engine, numbers: dict[str, int]) -> None:
    with pytest.raises(ExperimentError, match="max_rows at least k"):
        read_table(shop, ITEMS, **numbers)


def test_select_and_create_on_the_database_are_all_that_is_needed(
    shop: Engine, reader: Engine
) -> None:
    role = reader.url.username
    assert "This role may not read items" in refused(reader, ITEMS, DatabaseError)
    run(
        shop,
        f"GRANT SELECT (embedding) ON items TO {role}",
        f'GRANT CREATE ON DATABASE "{shop.url.database}" TO {role}',
    )
    found = read_table(reader, ITEMS)
    with scratch_copy(reader, found.vectors) as scratch, reader.connect() as connection:
        rows = connection.scalar(sa.text(f"SELECT count(*) FROM {scratch.schema}.items"))
        assert rows == len(found.vectors)
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.execute(sa.text("DELETE FROM items"))


@pytest.fixture
def slow_read(shop: Engine) -> Iterator[Future[Workload]]:
    """A reading of items that is under way for more than a second."""
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(read_table, shop, SLOW, n_queries=5)
        wait_until(shop, READERS, 1)
        yield work


def wait_until(engine: Engine, query: str, value: object) -> None:
    deadline = time.monotonic() + 10
    with engine.connect() as connection:
        while connection.scalar(sa.text(query)) != value:
            assert time.monotonic() < deadline, query
            connection.rollback()  # a transaction sees the activity of its first look
            time.sleep(0.01)


def test_others_write_meanwhile_and_are_not_seen(shop: Engine, slow_read: Future[Workload]) -> None:
    with shop.connect() as connection:
        locks = connection.scalars(sa.text(LOCKS)).all()
    quickly = "SET LOCAL lock_timeout = 500"
    run(shop, quickly, "INSERT INTO items SELECT 1000 + id, embedding FROM items")
    run(shop, quickly, "CREATE INDEX ON items (id)")
    assert not slow_read.done()
    assert locks == ["AccessShareLock"]
    assert all_of(slow_read.result()) == contents(unit_rows(300, 4))


def test_a_condition_that_writes_is_refused(shop: Engine) -> None:
    run(shop, "CREATE SEQUENCE s")
    source = TableSource("items", "embedding", where="nextval('s') > 0")
    assert "in a read-only transaction" in refused(shop, source, DatabaseError)
    with shop.connect() as connection:
        assert not connection.scalar(sa.text("SELECT is_called FROM s"))
    run(shop, "INSERT INTO items VALUES (1000)")  # the engine still writes


def test_a_server_lost_in_the_middle_is_told(shop: Engine, slow_read: Future[Workload]) -> None:
    run(shop, READERS.replace("count(*)", "pg_terminate_backend(pid)"))
    with pytest.raises(DatabaseError) as raised:
        slow_read.result()
    assert raised.value.message.startswith("Reading items ended early: ")
    assert raised.value.message.endswith(" Nothing was changed.")
    assert raised.value.hint == "Run the same command again."


def test_a_locked_table_is_waited_for_and_then_told(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resume_lab.tuning.table.LOCK_WAIT", "50ms")
    with shop.begin() as connection:
        execute(connection, "LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        message = refused(shop, ITEMS, DatabaseError)
    assert message.startswith("Another session has kept items locked for 50ms.")


def test_ctrl_c_ends_the_reading_on_the_server_too(shop: Engine) -> None:
    url = shop.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", READ, url, SLOW.where], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        wait_until(shop, READERS, 1)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
    wait_until(shop, READERS, 0)


def test_pgvector_in_a_schema_of_its_own_is_reached(empty_database: Engine) -> None:
    """As on Supabase, for a role whose search path does not have that schema."""
    run(
        empty_database,
        "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions",
        "CREATE TABLE items (id integer, embedding extensions.vector(4))",
    )
    engine = engine_for(empty_database.url)
    load(engine, "items", unit_rows(300, 4))
    found = read_table(engine, ITEMS)
    with scratch_copy(engine, found.vectors) as scratch:
        (point,) = measure(scratch, found, IVFFlat(5), [5], rounds=1).points
    assert point.recall == 1.0
    engine.dispose()
