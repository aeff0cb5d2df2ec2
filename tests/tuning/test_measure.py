import sys

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.database.indexes import raw_connection
from resume_lab.errors import DatabaseError, ExperimentError
from resume_lab.tuning import Sweep, Workload, scratch_copy
from resume_lab.tuning import measure as measure_setting
from resume_lab.tuning.measure import EXACT, INDEX_NAME

from .factory import unit_rows


def sweep(engine: Engine, workload: Workload, lists: int, probes: list[int]) -> Sweep:
    with scratch_copy(engine, workload.vectors) as scratch:
        return measure_setting(scratch, workload, IVFFlat(lists), probes, rounds=1)


@pytest.fixture(scope="module")
def clustered() -> Workload:
    return Workload.generated("clustered", 2000, n_queries=40, dim=512)


def two_far_groups(k: int) -> Workload:
    """Rows at 99 to 102 and at -99 to -102; a query just right of the middle and one at 100."""
    places = [99, 100, 101, 102, -99, -100, -101, -102]
    rows = np.array([[x, 0] for x in places], dtype=np.float32)
    queries = np.array([[0.1, 0], [100.2, 0]], dtype=np.float32)
    return Workload.of(rows, queries, k=k, metric="l2")


def test_recall_is_what_one_works_out_by_hand(database: Engine) -> None:
    # Of the first query's true neighbours 99, -99, 100, -100 the right list holds two; of the
    # second's all.
    (point,) = sweep(database, two_far_groups(k=4), 2, [1]).points
    assert point.recall == 0.75
    assert (point.recall_min, point.rows_returned) == (0.5, 1.0)
    assert point.recall_tie_aware == 0.75


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
    (point,) = sweep(database, workload, 8, [8]).points
    assert (point.recall, point.recall_tie_aware, point.recall_high) == (1.0, 1.0, 1.0)
    assert point.used_index_forced


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
    database: Engine, clustered: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[measure_setting.__module__]  # the package's name is the function
    monkeypatch.setattr(module, "_drop_index", lambda _: None)
    with scratch_copy(database, clustered.vectors) as scratch:
        (point,) = measure_setting(scratch, clustered, IVFFlat(40), [3], rounds=1).points
        hits = 0
        statement = f"SELECT id FROM {scratch.schema}.items ORDER BY embedding <=> %s LIMIT 10"  # noqa: S608
        with (
            scratch.engine.begin() as connection,
            raw_connection(connection).cursor() as cursor,
        ):
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL ivfflat.probes = 3")
            for text, true in zip(clustered.query_texts, clustered.truth.ids, strict=True):
                cursor.execute(statement, [text])
                hits += len({row[0] for row in cursor.fetchall()} & set(true.tolist()))
    assert 0 < hits < 400
    assert point.recall == pytest.approx(hits / 400)


def test_left_free_the_planner_uses_the_index_for_few_probes_only(
    database: Engine, clustered: Workload
) -> None:
    few, all_ = sweep(database, clustered, 40, [1, 40]).points
    assert few.used_index
    assert f"Index Scan on {INDEX_NAME}" in few.plan
    assert not all_.used_index
    assert "Seq Scan on items" in all_.plan
    assert all_.used_index_forced
    assert f"Index Scan on {INDEX_NAME}" in all_.forced_plan


def test_a_small_table_is_scanned_and_its_index_measured_all_the_same(database: Engine) -> None:
    workload = Workload.holding_out(unit_rows(60, 4), n_queries=10, k=3)
    (point,) = sweep(database, workload, 2, [1]).points
    assert not point.used_index
    assert point.used_index_forced
    assert point.recall < 1.0  # half of the lists: not the answer of a scan


def test_the_exact_scan_is_a_sequential_one(database: Engine, clustered: Workload) -> None:
    found = sweep(database, clustered, 10, [1])
    assert "Seq Scan on items" in found.exact.plan
    assert INDEX_NAME not in found.exact.plan
    assert found.exact.server_ms > 0


def test_each_round_runs_all_settings_and_the_exact_scan_in_an_order_of_its_own(
    database: Engine, clustered: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[measure_setting.__module__]
    real, order = module._run, []

    def noted(scratch: object, workload: object, setting: int, texts: list[str]) -> object:
        order.append((setting, len(texts)))
        return real(scratch, workload, setting, texts)

    monkeypatch.setattr(module, "_run", noted)
    with scratch_copy(database, clustered.vectors) as scratch:
        found = measure_setting(scratch, clustered, IVFFlat(8), [1, 2, 4, 8], rounds=4)
    assert order[:2] == [(EXACT, 3), (8, 3)]  # the warm-up, which is not counted
    rounds = [order[first : first + 5] for first in range(2, 22, 5)]
    assert all(sorted(one) == [(0, 30), (1, 40), (2, 40), (4, 40), (8, 40)] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert [len(point.latency.samples_ms) for point in found.points] == [160] * 4
    assert len(found.exact.latency.samples_ms) == 120


def test_no_setting_and_no_index_is_left_behind(database: Engine, clustered: Workload) -> None:
    settings = ("ivfflat.probes", "enable_seqscan", "enable_indexscan", "maintenance_work_mem")

    def shown(engine: Engine) -> list[str]:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT '[1]'::vector"))
            return [str(connection.scalar(sa.text(f"SHOW {name}"))) for name in settings]

    before = shown(database)
    with scratch_copy(database, clustered.vectors) as scratch:
        measure_setting(scratch, clustered, IVFFlat(200), [7], rounds=1)
        assert shown(database) == before
        assert before[:3] == ["1", "on", "on"]
        assert sa.inspect(database).get_indexes("items", schema=scratch.schema) == []
        again = measure_setting(scratch, clustered, IVFFlat(5), [1], rounds=1)
    assert again.points[0].lists == 5


def test_the_build_gets_the_memory_it_needs(database: Engine, clustered: Workload) -> None:
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = database.url.database
        connection.execute(sa.text(f"ALTER DATABASE {name} SET maintenance_work_mem = '1MB'"))
    database.dispose()
    with scratch_copy(database, clustered.vectors) as scratch:
        ddl = IVFFlat(150).ddl(scratch.table, "embedding", "cosine", name="without")
        with (
            pytest.raises(sa.exc.OperationalError, match="memory required is"),
            database.begin() as connection,
        ):
            connection.execute(sa.text(ddl))
        found = measure_setting(scratch, clustered, IVFFlat(150), [1], rounds=1)
    assert found.build.build_s > 0
    assert found.build.size_bytes > 2000 * 512 * 4


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
            measure_setting(scratch, workload, IVFFlat(lists), probes)
        assert sa.inspect(database).get_indexes("items", schema=scratch.schema) == []


def test_an_index_is_dropped_when_a_query_fails(database: Engine) -> None:
    workload = two_far_groups(k=2)
    other = Workload.of(unit_rows(8, 3), unit_rows(2, 3), k=2, metric="l2")  # 3 dimensions, not 2
    with scratch_copy(database, workload.vectors) as scratch:
        with pytest.raises(DatabaseError, match="different vector dimensions"):
            measure_setting(scratch, other, IVFFlat(2), [1])
        assert sa.inspect(database).get_indexes("items", schema=scratch.schema) == []
