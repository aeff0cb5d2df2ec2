import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import copy
from resume_lab.database.indexes import raw_connection
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError
from resume_lab.tuning import Storage, scratch_copy
from resume_lab.tuning.scratch import SCHEMA_PREFIX, drop_abandoned

from .factory import unit_rows

HOLDER = """
import sys
import numpy as np
from resume_lab.database.session import engine_for
from resume_lab.tuning import scratch_copy
import sqlalchemy as sa
with scratch_copy(engine_for(sa.make_url(sys.argv[1])), np.ones((9, 3), np.float32)) as scratch:
    print(scratch.schema, flush=True)
    sys.stdin.read()
"""


def scratch_schemas(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        found = connection.scalars(
            sa.text("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, :p)"),
            {"p": SCHEMA_PREFIX},
        )
        return list(found)


@contextmanager
def other_process(engine: Engine) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process with a scratch copy, and the name of its schema."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, engine.url.render_as_string(hide_password=False)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def abandoned(engine: Engine) -> str:
    """Leave a schema behind as a killed process does, and wait until the server has noticed."""
    with other_process(engine) as (process, schema):
        process.kill()
        process.wait()
    with engine.connect() as connection:
        for _ in range(500):
            held = connection.scalar(
                sa.text(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                    "(SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            )
            if not held:
                return schema
            connection.execute(sa.text("SELECT pg_sleep(0.01)"))
    raise AssertionError("the server did not notice the death of a client")


def test_storage_is_what_was_asked_for(database: Engine) -> None:
    found = {}
    for storage in Storage:
        with (
            scratch_copy(database, unit_rows(20), storage=storage) as scratch,
            database.connect() as connection,
        ):
            found[storage] = connection.scalar(
                sa.text(
                    "SELECT attstorage FROM pg_attribute WHERE attname = 'embedding' "
                    "AND attrelid = CAST(:table AS regclass)"
                ),
                {"table": ".".join(scratch.table)},
            )
    assert found == {Storage.EXTERNAL: "e", Storage.PLAIN: "p"}


def test_the_copy_equals_the_array_and_id_is_the_row(database: Engine) -> None:
    vectors = unit_rows(3000, 5)  # more than two batches
    with scratch_copy(database, vectors) as scratch, database.connect() as connection:
        assert (scratch.rows, scratch.dim) == (3000, 5)
        assert scratch.table == (scratch.schema, "items")
        raw = raw_connection(connection)
        query = copy.sql.SQL("SELECT embedding FROM {} ORDER BY id").format(
            copy.sql.Identifier(*scratch.table)
        )
        assert np.array_equal(copy.read_vectors(raw, query, 3000, 5), vectors)
        ids = connection.execute(
            sa.text(f"SELECT min(id), max(id), count(DISTINCT id) FROM {scratch.schema}.items")
        ).one()
        assert tuple(ids) == (0, 2999, 3000)


def test_the_copy_is_vacuumed_and_analysed(database: Engine) -> None:
    with scratch_copy(database, unit_rows(500)) as scratch, database.connect() as connection:
        rows, pages, visible = connection.execute(
            sa.text(
                "SELECT reltuples, relpages, relallvisible FROM pg_class "
                "WHERE oid = CAST(:table AS regclass)"
            ),
            {"table": f"{scratch.schema}.items"},
        ).one()
        assert rows == 500
        assert visible == pages > 0


def test_the_schema_is_there_during_and_gone_afterwards(database: Engine) -> None:
    with scratch_copy(database, unit_rows(20)) as scratch:
        assert scratch_schemas(database) == [scratch.schema]
    assert scratch_schemas(database) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_schema_is_gone_after_an_error(database: Engine, error: type[BaseException]) -> None:
    with pytest.raises(error), scratch_copy(database, unit_rows(20)):
        raise error
    assert scratch_schemas(database) == []


def test_a_load_that_fails_leaves_nothing(database: Engine) -> None:
    vectors = unit_rows(20)
    vectors[19, 0] = np.nan
    with pytest.raises(DatabaseError, match="NaN"), scratch_copy(database, vectors):
        pass
    assert scratch_schemas(database) == []


def test_afterwards_no_lock_is_left_on_a_pooled_connection(database: Engine) -> None:
    with scratch_copy(database, unit_rows(20)):
        pass
    with database.connect() as connection:
        held = sa.text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = ANY("
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
        )
        assert connection.scalar(held) == 0


def test_two_experiments_at_once_do_not_meet(database: Engine) -> None:
    with scratch_copy(database, unit_rows(20)) as one, scratch_copy(database, unit_rows(30)) as two:
        assert set(scratch_schemas(database)) == {one.schema, two.schema}
    assert scratch_schemas(database) == []


def test_the_schema_of_a_killed_process_is_dropped_by_the_next_experiment(
    database: Engine,
) -> None:
    schema = abandoned(database)
    assert scratch_schemas(database) == [schema]
    with scratch_copy(database, unit_rows(20)) as scratch:
        assert scratch_schemas(database) == [scratch.schema]


def test_a_schema_in_use_by_another_process_is_left_alone(database: Engine) -> None:
    with other_process(database) as (_, schema):
        with scratch_copy(database, unit_rows(20)) as scratch:
            assert set(scratch_schemas(database)) == {schema, scratch.schema}
        with database.connect() as connection:
            assert drop_abandoned(connection) == []
        assert scratch_schemas(database) == [schema]


def test_the_tables_of_a_user_are_left_alone(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA lab_scratches; CREATE SCHEMA labxscratch_1"))
        connection.execute(sa.text("CREATE TABLE lab_scratches.items AS SELECT 1 AS id"))
        connection.execute(sa.text("CREATE TABLE items AS SELECT 2 AS id"))
    with scratch_copy(database, unit_rows(20)):
        pass
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT id FROM lab_scratches.items")) == 1
        assert connection.scalar(sa.text("SELECT id FROM items")) == 2
        assert sa.inspect(connection).has_schema("labxscratch_1")


@pytest.fixture
def plain_role(database: Engine) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"plain_{database.url.database}"
    with database.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN"))
    yield name
    with database.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {name}; DROP ROLE {name}"))


def test_create_on_the_database_is_all_that_is_needed(database: Engine, plain_role: str) -> None:
    plain = engine_for(database.url.set(username=plain_role))
    with pytest.raises(DatabaseError) as refused, scratch_copy(plain, unit_rows(20)):
        pass
    assert refused.value.hint is not None
    grant = refused.value.hint.removeprefix("Let the owner run: ")
    with database.begin() as connection:
        connection.execute(sa.text(grant))  # the hint is what helps
    with scratch_copy(plain, unit_rows(20)) as scratch:
        assert scratch_schemas(database) == [scratch.schema]
    assert scratch_schemas(database) == []
    plain.dispose()


def test_without_pgvector_the_refusal_says_so(empty_database: Engine) -> None:
    with (
        pytest.raises(DatabaseError, match="does not see pgvector's type vector") as refused,
        scratch_copy(empty_database, unit_rows(20)),
    ):
        pass
    assert "CREATE EXTENSION vector" in str(refused.value)
    assert scratch_schemas(empty_database) == []


def test_what_another_role_left_behind_does_not_stop_an_experiment(
    database: Engine, plain_role: str
) -> None:
    schema = abandoned(database)
    with database.begin() as connection:
        connection.execute(
            sa.text(f'GRANT CREATE ON DATABASE "{database.url.database}" TO {plain_role}')
        )
    plain = engine_for(database.url.set(username=plain_role))
    with scratch_copy(plain, unit_rows(20)) as scratch:
        assert set(scratch_schemas(database)) == {schema, scratch.schema}
    plain.dispose()
