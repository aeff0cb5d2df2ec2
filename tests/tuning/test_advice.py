"""What a run recommends, done on the real table: that index answers, with that recall."""

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.database import schema
from resume_lab.database.indexes import execute, raw_connection
from resume_lab.tuning import Recommendation, Workload, tune
from resume_lab.vectors import exact_neighbours, generate, recall_at_k

ROWS = 3000
MODEL = "synthetic/clustered/seed=0"
FIRST_ID = "SELECT min(chunk_id) FROM chunk_embeddings WHERE embedding_model = %s"


def _advice(database: Engine) -> Recommendation:
    workload = Workload.stored(database, embedding_model=MODEL, n_queries=60)
    found = tune(database, workload, lists=[40], rounds=1).recommendation
    assert found is not None
    with database.begin() as connection:
        execute(connection, found.ddl)
        connection.execute(sa.text("ANALYZE chunk_embeddings"))
    return found


def _followed(database: Engine, advice: Recommendation) -> tuple[str, float]:
    """Run the advised query for new questions; return its plan and recall."""
    questions = generate("clustered", 50, start=ROWS)
    truth = exact_neighbours(generate("clustered", ROWS), questions, 10).ids
    found = np.full(truth.shape, -1)
    with database.begin() as connection:
        cursor = raw_connection(connection).cursor()
        cursor.execute(FIRST_ID, [MODEL])
        ((first_id,),) = cursor.fetchall()
        cursor.execute(advice.query_settings)
        for number, question in enumerate(questions):
            query = advice.query.replace(":query", f"'[{','.join(map(str, question))}]'")
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
    advice = _advice(database)
    plan, recall = _followed(database, advice)
    name = "lab_ivfflat_" if others else "ix_chunk_embeddings_embedding "
    assert f"Index Scan using {name}" in plan
    assert recall > advice.recall - 0.06
    if not others:
        schema.check(database)
