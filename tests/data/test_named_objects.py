"""Names of all kinds on a real server: what is made has that name, what is read is that table."""

from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from sqlalchemy.engine import Connection, Engine

from resume_lab.database import copy
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.indexes import (
    drop_vector_indexes,
    execute,
    literal,
    quoted,
    raw_connection,
)
from resume_lab.database.session import engine_for
from resume_lab.database.vector_column import dotted, find_vector_column
from resume_lab.errors import DatabaseError
from resume_lab.retrieval import search_vector
from resume_lab.rollout import swap
from resume_lab.rollout.drift import measure_drift, own_table, stored_table
from resume_lab.rollout.migration import prepare
from resume_lab.rollout.table_search import TableSearch
from resume_lab.tuning import Workload, advice, scratch_copy
from resume_lab.tuning.results import TableInfo
from resume_lab.tuning.table import TableSource, read_table
from resume_lab.vectors import Metric
from tests.data.naming import EVIL, Names, all_names, workload
from tests.retrieval.stored import axes, store, tune
from tests.rollout.kept_runs import kept, run, tuned

LOOK = sa.text(
    "SELECT n.nspname, t.relname, a.attname, i.relname, obj_description(i.oid, 'pg_class') "
    "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid "
    "JOIN pg_namespace n ON n.oid = t.relnamespace AND n.oid = i.relnamespace "
    "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0] WHERE n.nspname = :schema"
)


def index_in(connection: Connection, schema: str) -> tuple[Any, ...]:
    """Return schema, table, column, name and comment of the only index of a schema."""
    return tuple(connection.execute(LOOK, {"schema": schema}).one())


@given(all_names)
@example(Names(*EVIL))
@example(Names(*EVIL[::-1]))
@settings(max_examples=12, deadline=None)
def test_what_is_made_has_exactly_the_name_that_was_given(
    shared_database: Engine, of: Names
) -> None:
    """Rows by COPY, an index that is set aside, built again and renamed, a search; all undone."""
    column, name, other = f"c{of.column}", f"i{of.index}", f"j{of.index}"
    table = TableInfo((of.schema, of.table), column, column, of.info.where, partial=True)
    with shared_database.connect() as connection:
        execute(connection, f"CREATE SCHEMA {quoted(of.schema)}")
        columns = f"{quoted(column)} vector(3), embedding_model text"
        execute(connection, f"CREATE TABLE {dotted(table.table)} ({columns})")
        raw = raw_connection(connection)
        batch = copy.encode_batch(np.eye(3, dtype=np.float32), of.model.encode())
        copy.copy_rows(raw, table.table, (column, "embedding_model"), [batch, batch])
        with raw.cursor() as cursor:
            assert find_vector_column(cursor, table.table, column).dim == 3
        execute(connection, advice.create_index(3, workload(table), name=name))
        execute(connection, f"COMMENT ON INDEX {advice.qualified(table, name)} IS {literal(name)}")
        made = (of.schema, of.table, column, name, name)
        assert index_in(connection, of.schema) == made
        (aside,) = drop_vector_indexes(connection, dotted(table.table))
        aside.rebuild(connection, 3)
        assert index_in(connection, of.schema) == made
        execute(connection, next(swap._build(table, "lab_draft", "", None)))  # nothing is invalid
        execute(connection, swap._rename(table, name, other))
        assert index_in(connection, of.schema)[3] == other
        assert TableSearch(connection, table, Metric.COSINE).count() == 6


@pytest.mark.parametrize("evil", EVIL)
def test_a_table_of_any_name_is_read_rolled_out_and_watched(database: Engine, evil: str) -> None:
    name, old = quoted(evil), evil[::-1]
    table = f"{name}.{name}"
    run(
        database,
        f"CREATE SCHEMA {name}",
        f"CREATE TABLE {table} (id int, {name} vector(3))",
        f"INSERT INTO {table} SELECT n, ARRAY[n, 1, 2] FROM generate_series(1, 40) n",
        f"CREATE INDEX {quoted(old)} ON {table} USING hnsw ({name} vector_cosine_ops)",
        "CREATE TABLE items (id int)",
    )
    found = read_table(database, TableSource(table, name, id_column=name), k=3)
    assert found.info.rows == 32
    planned = prepare(database, kept(tuned(found.table, dim=3)))
    run(database, *planned.upgrade.alone, *planned.upgrade.together)
    drift = measure_drift(database, own_table(database, table, name), n_queries=5)
    assert (drift.tuned, drift.rows) == (planned.index, 40)
    run(database, *planned.downgrade.alone, *planned.downgrade.together)
    with database.connect() as connection:
        assert index_in(connection, evil)[:4] == (evil, evil, evil, old)
        assert connection.scalar(sa.text("SELECT count(*) FROM items")) == 0


@pytest.mark.parametrize("model", [*EVIL, "x" * 200, "é" * 200])
def test_a_model_of_any_name_is_stored_tuned_searched_and_rolled_out(
    database: Engine, model: str
) -> None:
    store(database, "another model's", axes(1), model=model[:-1] or "x")
    for number in range(8):
        store(database, "mine", axes(1, number), model=model, chunk_index=number)
    found = Workload.stored(database, embedding_model=model, n_queries=1, k=2)
    assert (found.info.rows, found.info.n_queries) == (7, 1)
    tune(database, model, lists=1, probes=1)
    result = search_vector(database, axes(1), model=model, k=20, explain=True)
    assert [hit.content for hit in result] == ["mine"] * 8
    assert "Tuned index" in str(result.explanation)
    planned = prepare(database, kept(tuned(stored_table(database, model))))
    run(database, *planned.upgrade.alone, *planned.upgrade.together)
    drift = measure_drift(database, stored_table(database, model), k=3)
    assert (drift.tuned, drift.rows) == (planned.index, 8)


def test_an_index_of_the_same_name_in_another_schema_stays(database: Engine) -> None:
    run(
        database,
        "CREATE SCHEMA first",
        "CREATE TABLE first.t (id int)",
        "CREATE INDEX ix_chunk_embeddings_embedding ON first.t (id)",
        "COMMENT ON INDEX first.ix_chunk_embeddings_embedding IS 'theirs'",
        "COMMENT ON INDEX ix_chunk_embeddings_embedding IS 'mine'",
    )
    with database.begin() as connection:
        execute(connection, "SET LOCAL search_path = first, public")
        (aside,) = drop_vector_indexes(connection)
        aside.rebuild(connection, 1536)
        assert index_in(connection, "first")[4] == "theirs"
        said = "SELECT obj_description('public.ix_chunk_embeddings_embedding'::regclass)"
        assert connection.scalar(sa.text(said)) == "mine"


def test_the_grant_that_is_advised_names_any_database_and_role(server18: EmbeddedServer) -> None:
    database, role = 'my "base"; --', "it's me"
    admin = engine_for(server18.url("postgres"))
    run(admin, f"CREATE DATABASE {quoted(database)}", f"CREATE ROLE {quoted(role)} LOGIN")
    owner = engine_for(server18.url(database))
    engine = engine_for(owner.url.set(username=role))
    vectors = np.eye(3, dtype=np.float32)
    try:
        run(owner, "CREATE EXTENSION vector")
        with pytest.raises(DatabaseError) as raised, scratch_copy(engine, vectors):
            pass
        run(owner, str(raised.value.hint).removeprefix("Let the owner run: "))
        with scratch_copy(engine, vectors) as scratch:
            assert scratch.rows == 3
    finally:
        engine.dispose()
        owner.dispose()
        run(admin, f"DROP DATABASE {quoted(database)}", f"DROP ROLE {quoted(role)}")
        admin.dispose()
