"""Index statements that PostgreSQL takes as meant, and the memory their builds ask for."""

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection, Engine

from resume_lab.database.indexes import (
    DISTANCES,
    MIB,
    IVFFlat,
    allow_build,
    drop_vector_indexes,
    execute,
    literal,
    quoted,
)
from resume_lab.errors import DatabaseError, ExperimentError

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=15
)
"""At most 60 bytes: PostgreSQL cuts a name at 63."""

many = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize(
    ("lists", "mib"), [(100, 64), (200, 70), (316, 118), (500, 204), (1000, 506), (2000, 1401)]
)
def test_build_memory_is_what_pgvector_asks_for(lists: int, mib: int) -> None:
    assert round(IVFFlat(lists).build_memory_bytes(1536) / MIB) == mib


def test_build_memory_by_hand() -> None:
    # 1 list, 10,000 samples, 2 dimensions: a vector takes 16 bytes.
    assert IVFFlat(1).build_memory_bytes(2) == 10_002 * 16 + 8 + 40_000 + 80_000 + 12 + 4


@pytest.mark.parametrize("lists", [0, -1, 32_769])
def test_a_number_of_lists_that_pgvector_refuses_is_refused(lists: int) -> None:
    with pytest.raises(ExperimentError, match=f"lists is {lists}; pgvector takes 1 to 32768"):
        IVFFlat(lists)


@pytest.mark.parametrize("lists", [1, 32_768])
def test_the_bounds_of_lists_are_those_of_pgvector(lists: int, empty_database: Engine) -> None:
    ddl = IVFFlat(lists).ddl(("t",), "v", "l2", name="i")
    with empty_database.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION vector"))
        connection.execute(sa.text("CREATE TABLE t (v vector(1))"))
        allow_build(connection, IVFFlat(lists), 1)
        execute(connection, ddl)
        beyond = ddl.replace(f"lists = {lists}", f"lists = {0 if lists == 1 else 32_769}")
        with pytest.raises(DatabaseError, match="out of bounds"):
            execute(connection, beyond.replace(" i ", " j "))


def test_plain_names_stand_without_quotes() -> None:
    ddl = IVFFlat(50).ddl(("public", "items"), "embedding", "cosine", name="lab_items")
    assert ddl == (
        "CREATE INDEX lab_items ON public.items USING ivfflat "
        "(embedding vector_cosine_ops) WITH (lists = 50)"
    )
    partial = IVFFlat(50).ddl(("t",), "v", "ip", name="i", where="m = 'x'")
    assert partial.endswith("(v vector_ip_ops) WITH (lists = 50) WHERE m = 'x'")


def with_vectors(engine: Engine) -> Connection:
    connection = engine.connect()
    connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
    return connection


def build_and_look(connection: Connection, table: str, column: str, name: str, model: str) -> None:
    """Build an index under these names for real, and find it again by them; then undo it."""
    savepoint = connection.begin_nested()
    execute(connection, f"CREATE TABLE {quoted(table)} ({quoted(column)} vector(2), m text)")
    where = f"m = {literal(model)}"
    execute(connection, IVFFlat(3).ddl((table,), column, "l2", name=name, where=where))
    look = sa.text(
        "SELECT c.relname, a.attname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
        "JOIN pg_class c ON c.oid = x.indrelid JOIN pg_attribute a ON a.attrelid = c.oid "
        "AND a.attnum = x.indkey[0] WHERE i.relname = :name"
    )
    assert connection.execute(look, {"name": name}).one() == (table, column)
    savepoint.rollback()


@given(names, names, names, st.text(st.characters(exclude_categories=["Cs"], min_codepoint=1)))
@example('"; DROP TABLE x; --', "a'b", "a%b", "it's\\")
@example("abc\n", "Größe", "日本語", "%s %(x)s :y")
@example("t", "v", "concurrently", "\\")
@many
def test_any_name_is_taken_as_it_is(
    empty_database: Engine, table: str, column: str, index: str, model: str
) -> None:
    with with_vectors(empty_database) as connection:
        build_and_look(connection, table, "c" + column[:14], "i" + index[:14], model)


def test_every_word_of_sql_may_be_a_name(empty_database: Engine) -> None:
    with with_vectors(empty_database) as connection:
        words = connection.scalars(sa.text("SELECT word FROM pg_get_keywords()")).all()
        assert len(words) > 400
        for word in words:
            savepoint = connection.begin_nested()
            execute(connection, f"CREATE TABLE {quoted(word)} ({quoted(word)} vector(2))")
            execute(connection, IVFFlat(3).ddl((word,), word, "l2", name="i"))
            execute(connection, f"DROP TABLE {quoted(word)}")
            execute(connection, "CREATE TABLE plain (v vector(2))")
            execute(connection, IVFFlat(3).ddl(("plain",), "v", "l2", name=word))
            found = connection.scalar(
                sa.text(
                    "SELECT relname FROM pg_class WHERE relkind = 'i' "
                    "AND oid > 16384 AND relname = :w"
                ),
                {"w": word},
            )
            assert found == word
            savepoint.rollback()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@example("it's 100 % \\ E'")
@many
def test_a_literal_is_the_text(empty_database: Engine, text: str) -> None:
    with empty_database.connect() as connection:
        cursor = connection.connection.dbapi_connection.cursor()
        cursor.execute(f"SELECT {literal(text)}")
        assert cursor.fetchone() == (text,)


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_operator_and_operator_class_belong_together(distance: str, empty_database: Engine) -> None:
    """The index answers a query by its operator, in the order of the exact scan."""
    with with_vectors(empty_database) as connection:
        execute(
            connection,
            "CREATE TABLE t AS SELECT n, ARRAY[n, 7 - n]::vector(2) AS v "
            "FROM generate_series(1, 6) n",
        )
        execute(connection, IVFFlat(1).ddl(("t",), "v", distance, name="i"))
        query = f"SELECT n FROM t ORDER BY v {DISTANCES[distance].operator} '[1,2]' LIMIT 3"
        exact = connection.scalars(sa.text(query)).all()
        execute(connection, "SET LOCAL enable_seqscan = off")
        plan = "\n".join(connection.scalars(sa.text(f"EXPLAIN {query}")).all())
        assert "Index Scan using i" in plan
        assert connection.scalars(sa.text(query)).all() == exact


def test_a_build_that_fails_for_memory_goes_through_when_allowed(empty_database: Engine) -> None:
    """10,000 rows of 1536 dimensions ask for 65 MB with 100 lists; the server's default is 64."""
    index = IVFFlat(100)
    with with_vectors(empty_database) as connection:
        execute(
            connection,
            "CREATE TABLE t AS SELECT (ARRAY[random(), random()] || array_fill(1, ARRAY[1534]))"
            "::vector(1536) AS v FROM generate_series(1, 10050)",
        )
        execute(connection, "SET LOCAL max_parallel_maintenance_workers = 0")
        execute(connection, "SET LOCAL maintenance_work_mem = '64MB'")
        ddl = index.ddl(("t",), "v", "l2", name="i")
        savepoint = connection.begin_nested()
        with pytest.raises(DatabaseError, match="memory required is 65 MB"):
            execute(connection, ddl)
        savepoint.rollback()
        allow_build(connection, index, 1536)
        assert connection.scalar(sa.text("SHOW maintenance_work_mem")) == "66MB"
        execute(connection, ddl)


def test_memory_already_there_is_not_lowered_and_comes_back(empty_database: Engine) -> None:
    with empty_database.connect() as connection:
        execute(connection, "SET maintenance_work_mem = '3GB'")
        allow_build(connection, IVFFlat(100), 1536)
        assert connection.scalar(sa.text("SHOW maintenance_work_mem")) == "3GB"
        execute(connection, "SET maintenance_work_mem = '64MB'")
        connection.commit()
        allow_build(connection, IVFFlat(1000), 1536)
        assert connection.scalar(sa.text("SHOW maintenance_work_mem")) == "507MB"
        connection.rollback()
        assert connection.scalar(sa.text("SHOW maintenance_work_mem")) == "64MB"


def test_indexes_set_aside_come_back_as_they_were(database: Engine) -> None:
    look = sa.text(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid, "
        "obj_description(indexrelid) FROM pg_index "
        "WHERE indrelid = 'chunk_embeddings'::regclass ORDER BY 1"
    )
    with database.begin() as connection:
        for statement in (
            'CREATE INDEX "Odd; name" ON chunk_embeddings USING ivfflat '
            "(embedding vector_l2_ops) WITH (lists = 7) WHERE embedding_model = 'it''s 100 %'",
            'COMMENT ON INDEX "Odd; name" IS \'{"probes": 3, "note": "it\'\'s 5 %s"}\'',
            "CREATE INDEX graph ON chunk_embeddings USING hnsw "
            "(embedding vector_cosine_ops) WITH (m = 5, ef_construction = 20)",
        ):
            execute(connection, statement)
        before = connection.execute(look).all()
        set_aside = drop_vector_indexes(connection)
        assert {index.name for index in set_aside} == {
            "Odd; name",
            "graph",
            "ix_chunk_embeddings_embedding",
        }
        assert {index.lists for index in set_aside} == {7, None, 100}
        assert len(connection.execute(look).all()) == len(before) - 3
        for index in set_aside:
            index.rebuild(connection, 1536)
        assert connection.execute(look).all() == before
