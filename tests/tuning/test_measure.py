"""Operating points, with recalls worked out by hand and against the same questions in SQL."""

import dataclasses

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.database.indexes import raw_connection
from resume_lab.errors import DatabaseError, ExperimentError
from resume_lab.tuning import Scratch, Sweep, Workload, measure, scratch_copy, trial
from resume_lab.tuning.measure import against, measure_in_turn
from resume_lab.tuning.trial import EXACT_QUERIES, INDEX_NAME

from .factory import exact, point, two_far_groups, unit_rows


def sweep(engine: Engine, workload: Workload, lists: int, probes: list[int]) -> Sweep:
    with scratch_copy(engine, workload.vectors) as scratch:
        return measure(scratch, workload, IVFFlat(lists), probes, rounds=1)


def indexes(scratch: Scratch) -> list[object]:
    return list(sa.inspect(scratch.engine).get_indexes("items", schema=scratch.schema))


@pytest.fixture(scope="module")
def clustered() -> Workload:
    return Workload.generated("clustered", 2000, n_queries=40, dim=512)


def test_recall_is_what_one_works_out_by_hand(database: Engine) -> None:
    # Of the first query's true neighbours 99, -99, 100, -100 the right list holds two; of the
    # second's all.
    (found,) = sweep(database, two_far_groups(k=4), 2, [1]).points
    assert found.recall == 0.75
    assert (found.recall_min, found.rows_returned) == (0.5, 1.0)
    assert found.recall_tie_aware == 0.75
    assert (found.n_queries, found.shuffled) == (2, True)


def test_a_list_with_fewer_than_k_rows_returns_fewer(database: Engine) -> None:
    # Four rows come of the six asked for. Of the first query's 99, -99, 100, -100, 101, -101 three
    # are among them; of the second's four on the right and two on the left, four.
    (one, both) = sweep(database, two_far_groups(k=6), 2, [1, 2]).points
    assert one.rows_returned == pytest.approx(4 / 6)
    assert one.recall == pytest.approx((3 / 6 + 4 / 6) / 2)
    assert (both.rows_returned, both.recall) == (1.0, 1.0)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_reading_every_list_is_exact(database: Engine, metric: str) -> None:
    vectors = unit_rows(600, 16) * np.linspace(0.5, 2.0, 600, dtype=np.float32)[:, None]
    workload = Workload.holding_out(vectors, n_queries=20, metric=metric)
    (found,) = sweep(database, workload, 8, [8]).points
    assert (found.recall, found.recall_tie_aware, found.recall_high) == (1.0, 1.0, 1.0)
    assert found.used_index_forced


def test_recall_grows_with_probes_and_time_does_too(database: Engine, clustered: Workload) -> None:
    found = sweep(database, clustered, 40, [40, 1, 4, 4])
    assert [point.probes for point in found.points] == [1, 4, 40]
    recalls = [point.recall for point in found.points]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1] == 1.0
    first, _, last = found.points
    assert first.latency.p50_ms < last.latency.p50_ms
    assert first.recall_low <= first.recall <= first.recall_high
    assert first.speedup_vs_exact == found.exact.latency.p50_ms / first.latency.p50_ms


def test_recall_is_that_of_the_same_index_asked_in_sql(
    database: Engine, clustered: Workload
) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        built = trial.build(scratch, clustered, IVFFlat(40))
        (found,), _ = measure_in_turn(scratch, clustered, [(built, 3)], rounds=1)
        hits = 0
        statement = f"SELECT id FROM {scratch.schema}.items ORDER BY embedding <=> %s LIMIT 10"
        with (
            scratch.engine.begin() as connection,
            raw_connection(connection).cursor() as cursor,
        ):
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL ivfflat.probes = 3")
            for text, true in zip(clustered.query_texts, clustered.truth.ids, strict=True):
                cursor.execute(statement, [text])
                hits += len({row[0] for row in cursor.fetchall()} & set(true.tolist()))
    assert 0 < hits < 400
    assert found.recall == pytest.approx(hits / 400)


def test_points_of_several_indexes_are_measured_against_one_exact_scan(
    database: Engine, clustered: Workload
) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        few, many = (trial.build(scratch, clustered, IVFFlat(n)) for n in (10, 40))
        wanted = [(many, 2), (few, 1), (many, 1)]
        points, found = measure_in_turn(scratch, clustered, wanted, rounds=2)
    assert [(point.lists, point.probes) for point in points] == [(40, 2), (10, 1), (40, 1)]
    exact_ms = [point.speedup_vs_exact * point.latency.p50_ms for point in points]
    assert exact_ms == pytest.approx([found.latency.p50_ms] * 3)
    assert [point.build_s for point in points] == [many.build_s, few.build_s, many.build_s]
    assert len(found.latency.samples_ms) == 2 * EXACT_QUERIES
    assert all(len(point.latency.samples_ms) == 80 for point in points)


def test_with_nothing_to_measure_the_exact_scan_is_measured(
    database: Engine, clustered: Workload
) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        points, found = measure_in_turn(scratch, clustered, [], rounds=1)
    assert points == ()
    assert found.latency.p50_ms > 0


def test_left_free_the_planner_uses_the_index_for_few_probes_only(
    database: Engine, clustered: Workload
) -> None:
    few, all_ = sweep(database, clustered, 40, [1, 40]).points
    assert few.used_index
    assert f"Index Scan on {INDEX_NAME}_40" in few.plan
    assert not all_.used_index
    assert "Seq Scan on items" in all_.plan
    assert all_.used_index_forced
    assert f"Index Scan on {INDEX_NAME}_40" in all_.forced_plan


def test_a_small_table_is_scanned_and_its_index_measured_all_the_same(database: Engine) -> None:
    workload = Workload.holding_out(unit_rows(60, 4), n_queries=10, k=3)
    (found,) = sweep(database, workload, 2, [1]).points
    assert not found.used_index
    assert found.used_index_forced
    assert found.recall < 1.0  # half of the lists: not the answer of a scan


def test_the_exact_scan_is_a_sequential_one(database: Engine, clustered: Workload) -> None:
    found = sweep(database, clustered, 10, [1])
    assert "Seq Scan on items" in found.exact.plan
    assert INDEX_NAME not in found.exact.plan
    assert found.exact.server_ms > 0


def test_an_index_is_dropped_after_its_sweep(database: Engine, clustered: Workload) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        found = measure(scratch, clustered, IVFFlat(40), [7], rounds=1)
        assert indexes(scratch) == []
        again = measure(scratch, clustered, IVFFlat(40), [1], rounds=1)
    assert (found.points[0].probes, again.points[0].probes) == (7, 1)
    assert found.build.build_s > 0


def test_an_index_is_dropped_when_a_query_fails(database: Engine) -> None:
    workload = two_far_groups(k=2)
    other = Workload.of(unit_rows(8, 3), unit_rows(2, 3), k=2, metric="l2")  # 3 dimensions, not 2
    with scratch_copy(database, workload.vectors) as scratch:
        with pytest.raises(DatabaseError, match="different vector dimensions"):
            measure(scratch, other, IVFFlat(2), [1])
        assert indexes(scratch) == []


@pytest.mark.parametrize(
    ("lists", "probes", "said"),
    [
        (4, [0], "probes is 0; with lists = 4 it can be 1 to 4"),
        (4, [1, 5], "probes is 5; with lists = 4 it can be 1 to 4"),
        (4, [], "No probes to measure"),
        (9, [1], "lists is 9, but there are only 8 rows"),
    ],
)
def test_settings_that_the_index_cannot_have_are_refused_before_the_build(
    database: Engine, lists: int, probes: list[int], said: str
) -> None:
    workload = two_far_groups(k=2)
    with scratch_copy(database, workload.vectors) as scratch:
        with pytest.raises(ExperimentError, match=said):
            measure(scratch, workload, IVFFlat(lists), probes)
        assert indexes(scratch) == []


def test_the_speed_up_is_that_over_the_exact_scan_given_and_nothing_else_changes() -> None:
    found = against(exact(30.0), point(10, 1, 0.9, 2.0, exact_ms=20.0))
    assert found.speedup_vs_exact == 15.0
    assert found == dataclasses.replace(point(10, 1, 0.9, 2.0), speedup_vs_exact=15.0)
