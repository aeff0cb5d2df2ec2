import dataclasses

import pytest
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from resume_lab.database import EMBEDDING_DIM, ChunkEmbedding, DocumentChunk
from resume_lab.database.indexes import raw_connection
from resume_lab.tuning import decide

from .factory import exact, point, workload


def test_the_cheapest_point_that_meets_the_target_is_recommended() -> None:
    points = (
        point(10, 1, 0.80, 1.0),
        point(10, 4, 0.97, 4.0),
        point(50, 8, 0.96, 2.5),
        point(50, 20, 0.99, 8.0),
    )
    found, why = decide(points, exact(20.0), 0.95, workload())
    assert found is not None
    assert (found.lists, found.probes, found.recall, found.p50_ms) == (50, 8, 0.96, 2.5)
    assert found.speedup_vs_exact == 8.0
    assert found.query_settings == "SET LOCAL ivfflat.probes = 8;"
    assert "lists 50, probes 8: recall@2 0.960" in why
    assert "8.0 times as fast as the exact scan" in why
    assert "reaches below" not in why


def test_recall_equal_to_the_target_meets_it() -> None:
    found, _ = decide((point(10, 1, 0.95, 1.0),), exact(), 0.95, workload())
    assert found is not None


def test_when_none_meets_the_target_the_nearest_is_named() -> None:
    points = (point(10, 1, 0.5, 1.0), point(10, 5, 0.9, 3.0))
    found, why = decide(points, exact(), 0.95, workload())
    assert found is None
    assert "No measured setting reaches recall@2 0.95" in why
    assert "0.900 at lists 10, probes 5, which reads about 50% of the table in 3 ms" in why


def test_an_index_no_faster_than_the_exact_scan_is_not_recommended() -> None:
    found, why = decide((point(10, 9, 1.0, 20.0),), exact(20.0), 0.95, workload())
    assert found is None
    assert "no faster than the exact scan (20 ms)" in why


def test_an_interval_that_reaches_below_the_target_is_said_with_the_sure_alternative() -> None:
    points = (point(10, 4, 0.96, 2.0, low=0.93), point(10, 8, 0.99, 3.0, low=0.97))
    found, why = decide(points, exact(), 0.95, workload())
    assert found is not None
    assert (found.probes, found.recall_low) == (4, 0.93)
    assert "the cheapest whose interval does not is lists 10, probes 8 at 3 ms" in why


def test_an_interval_that_reaches_below_with_no_sure_alternative_asks_for_more_queries() -> None:
    _, why = decide((point(10, 4, 0.96, 2.0, low=0.93),), exact(), 0.95, workload())
    assert "more queries would tell" in why


def test_where_the_planner_would_read_the_whole_table_the_settings_forbid_it() -> None:
    found, why = decide((point(10, 4, 0.96, 2.0, used=False),), exact(), 0.95, workload())
    assert found is not None
    assert found.query_settings == "SET LOCAL ivfflat.probes = 4; SET LOCAL enable_sort = off;"
    assert "the planner reads the whole table" in why


def test_points_at_which_the_index_was_never_used_do_not_count() -> None:
    never = point(10, 4, 1.0, 0.1, used=False, forced=False)
    found, why = decide((never, point(10, 8, 0.99, 3.0)), exact(), 0.95, workload())
    assert found is not None
    assert found.probes == 8
    found, why = decide((never,), exact(), 0.95, workload())
    assert found is None
    assert "used the index at no setting" in why


@pytest.mark.parametrize("model", ["ada-002", 'it\'s "100%" :new\\', "file/ünïcode 50%.npy@0"])
def test_the_statements_run_on_the_real_table_whatever_the_model_is_called(
    database: Engine, model: str
) -> None:
    points = (point(4, 2, 1.0, 1.0, used=False),)
    shared = dataclasses.replace(workload(embedding_model=model), shares_table=True)
    found, _ = decide(points, exact(), 0.95, shared)
    assert found is not None
    with Session(database) as session:
        chunk = DocumentChunk(content="?", source_file="?", chunk_index=0)
        vector = [1.0] * EMBEDDING_DIM
        for name in (model, "another"):
            chunk.embeddings.append(ChunkEmbedding(embedding=vector, embedding_model=name))
        session.add(chunk)
        session.flush()
        with raw_connection(session.connection()).cursor() as cursor:
            cursor.execute(found.ddl)
            cursor.execute(
                "SELECT pg_get_expr(indpred, indrelid) FROM pg_index "
                "WHERE indexrelid::regclass::text LIKE 'lab_ivfflat_%'"
            )
            ((predicate,),) = cursor.fetchall()
            cursor.execute(f"SELECT embedding_model FROM chunk_embeddings WHERE {predicate}")  # noqa: S608
            assert cursor.fetchall() == [(model,)]
            cursor.execute(found.query_settings)
            cursor.execute("SHOW ivfflat.probes")
            assert cursor.fetchone() == ("2",)
            cursor.execute("SHOW enable_sort")
            assert cursor.fetchone() == ("off",)


@pytest.mark.parametrize(
    ("metric", "opclass"),
    [("cosine", "vector_cosine_ops"), ("l2", "vector_l2_ops"), ("ip", "vector_ip_ops")],
)
def test_for_vectors_from_elsewhere_the_table_is_a_placeholder(metric: str, opclass: str) -> None:
    found, _ = decide((point(4, 2, 1.0, 1.0),), exact(), 0.95, workload(metric=metric))
    assert found is not None
    assert found.ddl == (
        "SET maintenance_work_mem = '256MB';\n"
        "CREATE INDEX ix_embedding_ivfflat_4 ON your_table USING ivfflat "
        f"(embedding {opclass}) WITH (lists = 4)"
    )
