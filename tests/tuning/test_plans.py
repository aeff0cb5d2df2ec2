from collections.abc import Iterator
from typing import Any

import pytest
from psycopg2 import sql
from sqlalchemy.engine import Engine

from resume_lab.database.indexes import execute, raw_connection
from resume_lab.tuning.plans import explain, parse

QUERY = sql.SQL("SELECT id FROM things ORDER BY place <-> %s::vector LIMIT 2")


@pytest.fixture
def cursor(database: Engine) -> Iterator[Any]:
    with database.begin() as connection:
        execute(
            connection,
            "CREATE TABLE things (id integer, place vector(2));"
            "INSERT INTO things SELECT i, ARRAY[i, 1]::vector FROM generate_series(1, 100) AS i;"
            "CREATE INDEX things_place ON things USING ivfflat (place vector_l2_ops)"
            " WITH (lists = 1); ANALYZE things",
        )
        with raw_connection(connection).cursor() as cursor:
            yield cursor


def test_a_small_table_is_read_whole_and_its_index_is_not_used(cursor: Any) -> None:
    cursor.execute("SET LOCAL enable_indexscan = off")
    plan = explain(cursor, QUERY, "[3,1]")
    assert "Seq Scan on things (cost " in plan.summary
    assert plan.indexes == frozenset()
    assert not plan.uses("things_place")
    assert plan.server_ms is None


def test_an_index_that_is_used_is_named(cursor: Any) -> None:
    cursor.execute("SET LOCAL enable_seqscan = off")
    plan = explain(cursor, QUERY, "[3,1]")
    assert plan.summary.startswith("Limit (cost ")
    assert " > Index Scan on things_place (cost " in plan.summary
    assert plan.uses("things_place")
    assert not plan.uses("things")


def test_analyze_runs_the_query_and_gives_the_servers_time(cursor: Any) -> None:
    plan = explain(cursor, QUERY, "[3,1]", analyze=True)
    assert plan.server_ms is not None
    assert 0 < plan.server_ms < 10_000


def test_the_parameter_is_a_value_never_sql(cursor: Any) -> None:
    query = sql.SQL("SELECT %s::text")
    explain(cursor, query, "'); DROP TABLE things; --", analyze=True)
    cursor.execute("SELECT count(*) FROM things")
    assert cursor.fetchone() == (100,)


def test_a_document_reads_from_the_root_down_and_adds_planning_to_execution() -> None:
    scan = {"Node Type": "Seq Scan", "Relation Name": "items", "Total Cost": 1009.4}
    other = {"Node Type": "Index Only Scan", "Index Name": "by_id", "Total Cost": 0.5}
    gather = {"Node Type": "Gather", "Total Cost": 1200.0, "Plans": [scan, other]}
    document = {"Plan": gather, "Planning Time": 0.25, "Execution Time": 3.5}
    plan = parse(document)
    assert plan.summary == (
        "Gather (cost 1200) > Seq Scan on items (cost 1009) > Index Only Scan on by_id (cost 0)"
    )
    assert plan.indexes == {"by_id"}
    assert plan.server_ms == 3.75


def test_a_document_without_times_was_not_run() -> None:
    assert parse({"Plan": {"Node Type": "Result", "Total Cost": 0.01}}).server_ms is None
