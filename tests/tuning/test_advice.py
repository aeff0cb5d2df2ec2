"""What a run recommends, done on the real table: that index answers, with that recall."""

import dataclasses

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.database import IVFFlat, schema
from resume_lab.database.indexes import execute, raw_connection
from resume_lab.tuning import Prediction, Recommendation, Workload, advice, tune
from resume_lab.tuning.results import TableInfo, WorkloadInfo
from resume_lab.vectors import exact_neighbours, generate, recall_at_k

from .factory import curve

ROWS = 2000
MODEL = "synthetic/clustered/seed=0"
FIRST_ID = "SELECT min(chunk_id) FROM chunk_embeddings WHERE embedding_model = %s"


def _advice(database: Engine) -> Recommendation:
    workload = Workload.stored(database, embedding_model=MODEL, n_queries=60)
    made = Prediction(workload, (curve(np.linspace(0.5, 1, 40)),), 0.1)
    found = tune(database, workload, lists=[40], prediction=made, rebuilds=0, rounds=1)
    advised = found.recommendation
    assert advised is not None, found.why
    with database.begin() as connection:
        execute(connection, advised.ddl)
        connection.execute(sa.text("ANALYZE chunk_embeddings"))
    return advised


def _followed(database: Engine, advised: Recommendation) -> tuple[str, float]:
    """Run the advised query for new questions; return its plan and recall."""
    questions = generate("clustered", 50, start=ROWS)
    truth = exact_neighbours(generate("clustered", ROWS), questions, 10).ids
    found = np.full(truth.shape, -1)
    with database.begin() as connection:
        cursor = raw_connection(connection).cursor()
        cursor.execute(FIRST_ID, [MODEL])
        ((first_id,),) = cursor.fetchall()
        cursor.execute(advised.query_settings)
        for number, question in enumerate(questions):
            query = advised.query.replace(":query", f"'[{','.join(map(str, question))}]'")
            cursor.execute(query)
            ids = [row[0] - first_id for row in cursor.fetchall()]
            found[number, : len(ids)] = ids
        cursor.execute(f"EXPLAIN {query}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    return plan, float(recall_at_k(found, truth).mean())


@pytest.mark.parametrize("others", [False, True], ids=["one model", "two models"])
def test_the_advised_index_answers_with_the_recall_that_was_promised(
    database: Engine, others: bool
) -> None:
    seeding.seed(database, rows=ROWS, kind="clustered")
    if others:
        seeding.seed(database, rows=ROWS, kind="random")
    advised = _advice(database)
    plan, recall = _followed(database, advised)
    name = "lab_ivfflat_" if others else "ix_chunk_embeddings_embedding "
    assert f"Index Scan using {name}" in plan
    assert recall > advised.recall - 0.06
    if not others:
        schema.check(database)


# --- the statements


def info(table: TableInfo | None = None, **changes: object) -> WorkloadInfo:
    made = WorkloadInfo(1000, 8, 50, 5, "l2", "mine", table=table)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


MINE = TableInfo(("My shop", "items"), "Vector", "order", where="kind = 'a'", partial=True)


def test_the_statements_of_a_users_table_are_quoted_and_partial_with_its_condition() -> None:
    name = advice.index_name(7, info(MINE))
    assert name.startswith("lab_ivfflat_")
    assert advice.index_statements(7, info(MINE)) == (
        "SET maintenance_work_mem = '256MB';\n"
        f'DROP INDEX IF EXISTS "My shop".{name};\n'
        f'CREATE INDEX {name} ON "My shop".items USING ivfflat ("Vector" vector_l2_ops) '
        "WITH (lists = 7) WHERE kind = 'a'"
    )
    assert advice.query(info(MINE)) == (
        'SELECT "order" FROM "My shop".items '
        "WHERE kind = 'a' ORDER BY \"Vector\" <-> :query LIMIT 5;"
    )


def test_a_condition_that_selects_the_whole_table_makes_no_partial_index() -> None:
    whole = dataclasses.replace(MINE, partial=False)
    assert "WHERE" not in advice.index_statements(7, info(whole))
    assert "WHERE kind = 'a'" in advice.query(info(whole))


def test_every_part_of_a_table_has_an_index_name_of_its_own_whatever_its_lists() -> None:
    others = [
        MINE,
        dataclasses.replace(MINE, column="other"),
        dataclasses.replace(MINE, table=("items",)),
        dataclasses.replace(MINE, where="kind = 'b'"),
    ]
    assert len({advice.index_name(7, info(table)) for table in others}) == 4
    assert advice.index_name(7, info(MINE)) == advice.index_name(80, info(MINE))


def test_the_memory_is_what_the_build_needs_and_never_less_than_the_least() -> None:
    assert advice.build_memory_mib(4, 8) == advice.MIN_BUILD_MIB == 256
    needed = advice.build_memory_mib(2000, 1536)
    assert needed > 256
    assert needed * 2**20 > IVFFlat(2000).build_memory_bytes(1536)
    assert f"SET maintenance_work_mem = '{needed}MB'" in advice.index_statements(
        2000, info(MINE, dim=1536)
    )


def test_a_query_sets_its_probes_and_what_the_planner_needs() -> None:
    assert advice.query_settings(9, needs=None) == "SET LOCAL ivfflat.probes = 9;"
    assert advice.query_settings(9, needs="SET LOCAL enable_sort = off") == (
        "SET LOCAL ivfflat.probes = 9; SET LOCAL enable_sort = off;"
    )
