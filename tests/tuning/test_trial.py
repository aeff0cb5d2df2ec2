"""Indexes side by side on one scratch table, and what each of them answers."""

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.database.indexes import execute, raw_connection
from resume_lab.tuning import Scratch, Workload, scratch_copy, trial
from resume_lab.tuning.trial import EXACT, EXACT_QUERIES, Answers, BuiltIndex, Setting

from .factory import two_far_groups

SETTINGS = (
    "ivfflat.probes",
    "enable_sort",
    "enable_seqscan",
    "enable_indexscan",
    "maintenance_work_mem",
)


@pytest.fixture(scope="module")
def clustered() -> Workload:
    return Workload.generated("clustered", 1500, n_queries=40, dim=256)


def indexes(scratch: Scratch) -> set[str]:
    found = sa.inspect(scratch.engine).get_indexes("items", schema=scratch.schema)
    return {str(index["name"]) for index in found}


def alone(scratch: Scratch, clustered: Workload, built: BuiltIndex, probes: int) -> np.ndarray:
    """Ask in plain SQL with every other index really gone, then undo it."""
    found = np.full((len(clustered.queries), 10), -1)
    statement = f"SELECT id FROM {scratch.schema}.items ORDER BY embedding <=> %s LIMIT 10"
    with scratch.engine.connect() as connection, raw_connection(connection).cursor() as cursor:
        for name in indexes(scratch) - {built.name}:
            cursor.execute(f"DROP INDEX {scratch.schema}.{name}")
        cursor.execute(f"SET LOCAL enable_seqscan = off; SET LOCAL ivfflat.probes = {probes}")
        for number, text in enumerate(clustered.query_texts):
            cursor.execute(statement, [text])
            ids = [row[0] for row in cursor.fetchall()]
            found[number, : len(ids)] = ids
    return found


def test_each_of_two_indexes_on_one_table_gives_its_own_answers(
    database: Engine, clustered: Workload
) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        few, many = (trial.build(scratch, clustered, IVFFlat(n)) for n in (5, 60))
        assert indexes(scratch) == {few.name, many.name} == {"lab_ivfflat_5", "lab_ivfflat_60"}
        answers = {
            built.name: trial.answer(scratch, clustered, Setting(built, 1)).ids
            for built in (few, many)
        }
        assert indexes(scratch) == {few.name, many.name}  # the other was hidden, not dropped
        for built in (few, many):
            assert np.array_equal(answers[built.name], alone(scratch, clustered, built, 1))
        assert not np.array_equal(answers[few.name], answers[many.name])


def test_a_dropped_index_is_gone_and_the_others_are_not(
    database: Engine, clustered: Workload
) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        one, other = (trial.build(scratch, clustered, IVFFlat(n)) for n in (3, 4))
        trial.drop(scratch, one)
        assert indexes(scratch) == {other.name}
        assert trial.build(scratch, clustered, IVFFlat(3)).name == one.name


def test_no_setting_leaks_out_of_its_transaction(database: Engine, clustered: Workload) -> None:
    def shown() -> list[str]:
        with database.connect() as connection:
            connection.execute(sa.text("SELECT '[1]'::vector"))
            return [str(connection.scalar(sa.text(f"SHOW {name}"))) for name in SETTINGS]

    before = shown()
    assert before[:4] == ["1", "on", "on", "on"]
    with scratch_copy(database, clustered.vectors) as scratch:
        built = trial.build(scratch, clustered, IVFFlat(200))
        trial.answer(scratch, clustered, Setting(built, 7), slice(5))
        trial.answer(scratch, clustered, EXACT, slice(5))
        trial.plans(scratch, clustered, Setting(built, 9), timed=2)
        assert shown() == before
        assert database.pool.status().startswith("Pool size: 5  Connections in pool: 1")


def test_the_exact_scan_finds_the_truth_beside_any_index(
    database: Engine, clustered: Workload
) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        trial.build(scratch, clustered, IVFFlat(60))
        found = trial.answer(scratch, clustered, EXACT)
        assert np.array_equal(found.ids, clustered.truth.ids)
        _, plan = trial.plans(scratch, clustered, EXACT, timed=1)
        assert not plan.indexes
        assert "Seq Scan on items" in plan.summary


def test_only_the_queries_that_are_wanted_are_asked(database: Engine, clustered: Workload) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        built = trial.build(scratch, clustered, IVFFlat(10))
        whole = trial.answer(scratch, clustered, Setting(built, 3))
        first = trial.answer(scratch, clustered, Setting(built, 3), slice(15))
        rest = trial.answer(scratch, clustered, Setting(built, 3), slice(15, 100))
    assert (len(first.ids), len(rest.ids)) == (15, 25)
    together = first.with_more(rest)
    assert np.array_equal(together.ids, whole.ids)
    assert len(together.samples_ms) == 40
    assert (together.samples_ms > 0).all()


def test_where_fewer_than_k_rows_come_the_rest_is_minus_one(database: Engine) -> None:
    workload = two_far_groups(k=6)
    with scratch_copy(database, workload.vectors) as scratch:
        built = trial.build(scratch, workload, IVFFlat(2))
        found = trial.answer(scratch, workload, Setting(built, 1)).ids
    assert found.tolist() == [[0, 1, 2, 3, -1, -1], [1, 2, 0, 3, -1, -1]]


def test_each_round_asks_all_settings_and_the_exact_scan_in_an_order_of_its_own(
    database: Engine, clustered: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, order = trial.answer, []

    def noted(scratch: Scratch, workload: Workload, setting: Setting, queries: slice) -> Answers:
        found = real(scratch, workload, setting, queries)
        order.append((setting.probes, setting.built and setting.built.name, len(found.ids)))
        return found

    monkeypatch.setattr(trial, "answer", noted)
    with scratch_copy(database, clustered.vectors) as scratch:
        few, many = (trial.build(scratch, clustered, IVFFlat(n)) for n in (4, 9))
        settings = [Setting(few, 1), Setting(many, 8), Setting(many, 2)]
        found = trial.answers_in_turn(
            scratch, clustered, settings, rounds=4, rng=np.random.default_rng(0)
        )
    warm_up = {(0, None, 3), (1, few.name, 3), (8, many.name, 3)}  # each index at its most probes
    assert set(order[:3]) == warm_up
    rounds = [order[first : first + 4] for first in range(3, 19, 4)]
    one = {(0, None, EXACT_QUERIES), (1, few.name, 40), (8, many.name, 40), (2, many.name, 40)}
    assert all(set(asked) == one for asked in rounds)
    assert len({tuple(asked) for asked in rounds}) > 1
    assert [len(found[setting].samples_ms) for setting in (EXACT, *settings)] == [
        4 * EXACT_QUERIES,
        *[160] * 3,
    ]
    assert [len(found[setting].ids) for setting in (EXACT, *settings)] == [
        EXACT_QUERIES,
        40,
        40,
        40,
    ]


def test_left_free_the_planner_takes_the_index_for_few_probes_only(database: Engine) -> None:
    workload = Workload.generated("clustered", 2000, n_queries=10, dim=512)
    with scratch_copy(database, workload.vectors) as scratch:
        built = trial.build(scratch, workload, IVFFlat(40))
        other = trial.build(scratch, workload, IVFFlat(41))
        (few_free, few), (all_free, all_) = (
            trial.plans(scratch, workload, Setting(built, probes), timed=2) for probes in (1, 40)
        )
    assert few_free.uses(built.name)
    assert "Seq Scan on items" in all_free.summary
    assert few.uses(built.name)
    assert all_.uses(built.name)
    assert not any(plan.uses(other.name) for plan in (few_free, few, all_free, all_))
    assert few_free.server_ms is None
    assert few.server_ms is not None


def test_the_build_gets_the_memory_it_needs(database: Engine) -> None:
    workload = Workload.generated("clustered", 2000, n_queries=5, dim=512)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = database.url.database
        connection.execute(sa.text(f"ALTER DATABASE {name} SET maintenance_work_mem = '1MB'"))
    database.dispose()
    with scratch_copy(database, workload.vectors) as scratch:
        ddl = IVFFlat(150).ddl(scratch.table, "embedding", "cosine", name="without")
        with (
            pytest.raises(sa.exc.OperationalError, match="memory required is"),
            database.begin() as connection,
        ):
            connection.execute(sa.text(ddl))
        built = trial.build(scratch, workload, IVFFlat(150))
        assert built.build_s > 0
        assert built.size_bytes > 2000 * 512 * 4


def test_probes_that_the_server_does_not_take_are_an_error_and_never_measured(
    database: Engine, clustered: Workload
) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        built = trial.build(scratch, clustered, IVFFlat(4))
        with pytest.raises(Exception, match=r"ivfflat\.probes"):
            trial.answer(scratch, clustered, Setting(built, 0))


def test_an_index_of_somebody_else_is_not_in_the_way(database: Engine, clustered: Workload) -> None:
    with scratch_copy(database, clustered.vectors) as scratch:
        built = trial.build(scratch, clustered, IVFFlat(30))
        with database.begin() as connection:
            execute(connection, f'CREATE INDEX "An ""hnsw""" ON {scratch.schema}.items '
                    "USING hnsw (embedding vector_cosine_ops)")  # fmt: skip
        _, forced = trial.plans(scratch, clustered, Setting(built, 30), timed=1)
        assert forced.indexes == {built.name}
        assert 'An "hnsw"' in indexes(scratch)
