import dataclasses

import pytest
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from resume_lab.database import EMBEDDING_DIM, ChunkEmbedding, DocumentChunk
from resume_lab.database.indexes import raw_connection
from resume_lab.tuning import decide
from resume_lab.tuning.decide import Evidence, conclude, none_reaches
from resume_lab.tuning.prove import Target
from resume_lab.tuning.results import Point, Rebuild
from resume_lab.vectors import RecallSummary

from .factory import exact, point, stored_table, workload

WORKLOAD = workload().info


# --- a grid


def test_the_cheapest_point_that_meets_the_target_is_recommended() -> None:
    points = (
        point(10, 1, 0.80, 1.0),
        point(10, 4, 0.97, 4.0),
        point(50, 8, 0.96, 2.5),
        point(50, 20, 0.99, 8.0),
    )
    found, why = decide(points, exact(20.0), 0.95, WORKLOAD)
    assert found is not None
    assert (found.lists, found.probes, found.recall, found.p50_ms) == (50, 8, 0.96, 2.5)
    assert found.speedup_vs_exact == 8.0
    assert found.query_settings == "SET LOCAL ivfflat.probes = 8;"
    assert "lists 50, probes 8: recall@2 0.960" in why
    assert "8.0 times as fast as the exact scan" in why
    assert "reaches below" not in why


def test_recall_equal_to_the_target_meets_it() -> None:
    found, _ = decide((point(10, 1, 0.95, 1.0),), exact(), 0.95, WORKLOAD)
    assert found is not None


def test_when_none_meets_the_target_the_nearest_is_named() -> None:
    points = (point(10, 1, 0.5, 1.0), point(10, 5, 0.9, 3.0))
    found, why = decide(points, exact(), 0.95, WORKLOAD)
    assert found is None
    assert "No measured setting reaches recall 0.95" in why
    assert "0.900 at lists 10, probes 5, which reads about 50% of the table in 3 ms" in why


def test_an_index_no_faster_than_the_exact_scan_is_not_recommended() -> None:
    found, why = decide((point(10, 9, 1.0, 20.0),), exact(20.0), 0.95, WORKLOAD)
    assert found is None
    assert "no faster than the exact scan (20 ms)" in why


def test_an_interval_that_reaches_below_the_target_is_said_with_the_sure_alternative() -> None:
    points = (point(10, 4, 0.96, 2.0, low=0.93), point(10, 8, 0.99, 3.0, low=0.97))
    found, why = decide(points, exact(), 0.95, WORKLOAD)
    assert found is not None
    assert (found.probes, found.recall_low) == (4, 0.93)
    assert "the cheapest whose interval does not is lists 10, probes 8 at 3 ms" in why


def test_an_interval_that_reaches_below_with_no_sure_alternative_asks_for_more_queries() -> None:
    _, why = decide((point(10, 4, 0.96, 2.0, low=0.93),), exact(), 0.95, WORKLOAD)
    assert "more queries would tell" in why


def test_where_the_planner_would_read_the_whole_table_the_settings_forbid_it() -> None:
    found, why = decide((point(10, 4, 0.96, 2.0, used=False),), exact(), 0.95, WORKLOAD)
    assert found is not None
    assert found.query_settings == "SET LOCAL ivfflat.probes = 4; SET LOCAL enable_sort = off;"
    assert "the planner reads the whole table" in why


def test_points_at_which_the_index_was_never_used_do_not_count() -> None:
    never = point(10, 4, 1.0, 0.1, used=False, forced=False)
    found, why = decide((never, point(10, 8, 0.99, 3.0)), exact(), 0.95, WORKLOAD)
    assert found is not None
    assert found.probes == 8
    found, why = decide((never,), exact(), 0.95, WORKLOAD)
    assert found is None
    assert "used the index at no setting" in why


@pytest.mark.parametrize("model", ["ada-002", 'it\'s "100%" :new\\', "file/ünïcode 50%.npy@0"])
def test_the_statements_run_on_the_real_table_whatever_the_model_is_called(
    database: Engine, model: str
) -> None:
    points = (point(4, 2, 1.0, 1.0, used=False),)
    shared = dataclasses.replace(WORKLOAD, table=stored_table(model, partial=True))
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
            cursor.execute(f"SELECT embedding_model FROM chunk_embeddings WHERE {predicate}")
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
    found, _ = decide((point(4, 2, 1.0, 1.0),), exact(), 0.95, workload(metric=metric).info)
    assert found is not None
    assert found.ddl == (
        "SET maintenance_work_mem = '256MB';\n"
        "CREATE INDEX ix_embedding_ivfflat_4 ON your_table USING ivfflat "
        f"(embedding {opclass}) WITH (lists = 4)"
    )


# --- the tuner's winner


def recall_of(mean: float, low: float, high: float, queries: int = 100) -> RecallSummary:
    return RecallSummary(mean, low, high, 0.5, 0.1, queries)


def verdict(winner: Point | None = None, **more: object) -> str:
    """Return what is said of a winner with .97 (from .96) at the target .95, changed by `more`."""
    said = conclude(evidence(winner, **more), exact(20.0), WORKLOAD)[1]
    assert " inf " not in said
    return said


def evidence(winner: Point | None = None, **more: object) -> Evidence:
    usual: dict[str, object] = {
        "winner": winner or point(40, 4, 0.97, 2.0, low=0.96, n_queries=200),
        "read_share": 0.1,
        "indexes_built": 2,
        "indexes_predicted": 9,
        "rebuilds": (),
        "confirmed": recall_of(0.97, 0.955, 0.98),
        "target": Target(0.95, certain=True),
    }
    return Evidence(**(usual | more))  # type: ignore[arg-type]


def test_the_winner_is_recommended_with_all_that_supports_it() -> None:
    rebuilds = (Rebuild(3, 0.96, 0.95, 1.0), Rebuild(4, 0.97, 0.96, 1.0))
    winner = dataclasses.replace(
        point(40, 4, 0.97, 2.0, low=0.96, n_queries=200), predicted_recall=0.965
    )
    found, why = conclude(evidence(winner, rebuilds=rebuilds), exact(20.0), WORKLOAD)
    assert found is not None
    assert (found.lists, found.probes, found.recall, found.recall_low) == (40, 4, 0.97, 0.96)
    assert (found.n_queries, found.predicted_recall, found.rebuilds) == (200, 0.965, rebuilds)
    assert (found.confirmed_recall, found.confirmed_low, found.confirmed_high) == (
        0.97, 0.955, 0.98,
    )  # fmt: skip
    assert found.confirmed_queries == 100
    assert why == (
        "lists 40, probes 4: recall@2 0.970 (95% interval 0.960 to 0.980, 200 queries) at 2 ms, "
        "10.0 times as fast as the exact scan, is the fastest whose interval lies above recall "
        "0.95, of 2 indexes built and 9 predicted. Built 2 more times, because every build draws "
        "other centroids, it needed probes 3, 4; 4 holds for all. 100 other queries, which had no "
        "part in choosing, give recall 0.970 (0.955 to 0.980)."
    )


def test_without_queries_to_confirm_it_that_is_said() -> None:
    found, why = conclude(evidence(confirmed=None), exact(20.0), WORKLOAD)
    assert found is not None
    assert (found.confirmed_recall, found.confirmed_queries) == (None, 0)
    assert why.endswith("There were no queries left to confirm it.")


def test_too_few_queries_for_certainty_are_told_how_many_it_takes() -> None:
    said = verdict(target=Target(0.95, certain=False))
    assert "is the fastest that reaches recall 0.95 on average" in said
    assert (
        "2 queries cannot show recall 0.95 with certainty, however good their answers: that takes "
        "at least 60 that choose." in said
    )


def test_a_recall_of_one_is_shown_by_no_number_of_queries() -> None:
    winner = point(40, 40, 1.0, 2.0, low=0.98)
    perfect = recall_of(1.0, 0.97, 1.0)
    said = verdict(winner, target=Target(1.0, certain=False), confirmed=perfect)
    assert "cannot show recall 1 with certainty" in said
    assert "no number of queries can." in said


def test_a_confirmation_below_the_target_is_said_plainly() -> None:
    said = verdict(confirmed=recall_of(0.94, 0.91, 0.96))
    assert "give recall 0.940 (0.910 to 0.960): below the target." in said


def test_a_confirmation_that_is_not_certain_says_how_many_queries_would_tell() -> None:
    # Half of .05 is 1.96 standard errors: a spread of .1276, and (1.96 * .1276 / .02)^2 = 156.
    said = verdict(confirmed=recall_of(0.97, 0.945, 0.995))
    assert "the target is reached, but not for certain; about 157 such queries would tell" in said


def test_a_confirmation_of_just_the_target_promises_no_number_of_queries() -> None:
    said = verdict(confirmed=recall_of(0.95, 0.93, 0.97))
    assert "give recall 0.950 (0.930 to 0.970): the target is reached, but not for certain." in said


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ([4], "Built 1 more time, because every build draws other centroids, it needed probes 4;"),
        ([3, 4], "it needed probes 3, 4; 4 holds for all."),
    ],
)
def test_every_rebuild_is_told(probes: list[int], said: str) -> None:
    rebuilds = tuple(Rebuild(value, 0.96, 0.95, 1.0) for value in probes)
    assert said in verdict(rebuilds=rebuilds)


def test_where_one_build_could_not_be_made_to_hold_nothing_holds_for_all() -> None:
    rebuilds = (Rebuild(4, 0.96, 0.95, 1.0), Rebuild(None, 0.9, 0.88, 1.0))
    said = verdict(rebuilds=rebuilds)
    assert "needed probes 4, none" in said
    assert "holds for all" not in said


def test_a_winner_within_a_budget_is_told_by_its_budget() -> None:
    found, why = conclude(evidence(target=None, max_ms=2.5), exact(20.0), WORKLOAD)
    assert found is not None
    assert "is the highest recall within 2.5 ms, of 2 indexes built and 9 predicted." in why
    assert "with certainty" not in why


def test_an_index_that_reads_most_of_the_rows_is_told_to_have_found_little() -> None:
    assert "It reads about 62% of the rows, so the index finds little structure" in verdict(
        read_share=0.62
    )
    assert "little structure" not in verdict(read_share=0.5)


def test_a_winner_that_the_planner_does_not_take_says_what_makes_it() -> None:
    winner = point(40, 4, 0.97, 2.0, used=False)
    found, why = conclude(evidence(winner), exact(20.0), WORKLOAD)
    assert found is not None
    assert (found.used_index, "enable_sort = off" in found.query_settings) == (False, True)
    assert "it needs enable_sort = off in the query's transaction" in why


def test_a_sample_of_the_table_is_told() -> None:
    sampled = dataclasses.replace(WORKLOAD, rows=2000, sampled_from=1_000_000)
    _, why = conclude(evidence(), exact(20.0), sampled)
    assert "Measured on a sample of 2,000 of about 1,000,000 rows" in why


@pytest.mark.parametrize("p50_ms", [20.0, 25.0])
def test_a_winner_no_faster_than_the_exact_scan_is_not_recommended(p50_ms: float) -> None:
    found, why = conclude(evidence(point(40, 9, 0.97, p50_ms)), exact(20.0), WORKLOAD)
    assert found is None
    assert "(lists 40, probes 9, " in why
    assert "no faster than the exact scan (20 ms): search exactly, without an index" in why


def test_where_no_index_reached_the_aim_the_nearest_is_named() -> None:
    points = (point(10, 5, 0.9, 3.0), point(20, 4, 0.99, 3.0, forced=False))
    said = none_reaches(points, "recall 0.95", WORKLOAD)
    assert "No measured setting reaches recall 0.95." in said
    assert "0.900 at lists 10, probes 5" in said
    assert "used the index at no setting" in none_reaches((), "recall 0.95", WORKLOAD)


def test_where_none_keeps_a_budget_the_fastest_is_named_and_not_the_most_exact() -> None:
    points = (point(10, 1, 0.5, 1.5), point(10, 9, 0.99, 9.0))
    said = none_reaches(points, "a p50 of 1 ms", WORKLOAD, max_ms=1.0)
    assert "a p50 of 1 ms" in said
    assert "1.5 ms" in said
    assert "more probes" not in said
