"""Vectors that cannot be used are refused and leave no trace; odd ones give right answers."""

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.errors import DataError
from resume_lab.retrieval import search, search_vector
from resume_lab.rollout.drift import measure_drift, stored_table
from resume_lab.tuning import Workload, tune, tune_grid
from tests.data.conftest import Held, Run, refused
from tests.retrieval.stored import MODEL, FakeEmbedder, axes, store
from tests.retrieval.stored import tune as tune_index
from tests.rollout.kept_runs import run
from tests.tuning.factory import unit_rows

DIM = 1536


def rows_with(value: float, row: int = 3) -> np.ndarray:
    rows = np.ones((20, DIM))
    rows[row] = value
    return rows


# --- files


CANNOT_BE_STORED = (
    (rows_with(1e39), "row 3 (counted from 0) has an infinity (or beyond float32)"),
    (rows_with(1e-46), "row 3 (counted from 0) is a zero vector"),
    (rows_with(np.nan), "row 3 (counted from 0) has NaN"),
    (np.zeros((20, DIM)), "row 0 (counted from 0) is a zero vector"),
    (np.ones((0, DIM)), "shape (0, 1536)"),
    (np.ones(DIM), "shape (1536,)"),
    (np.ones((20, 3, DIM)), "shape (20, 3, 1536)"),
    (np.ones((20, DIM), dtype=complex), "permitted: real numbers"),
    (np.full((20, DIM), "a"), "permitted: real numbers"),
    (np.ones((20, DIM - 1)), "1535 dimensions; permitted: 1536"),
    (np.ones((20, 3000)), "3000 dimensions; permitted: 1536"),
)
CANNOT_BE_TUNED = (
    (rows_with(np.inf), "row 3 (counted from 0) has an infinity"),
    (np.ones((0, 8)), "shape (0, 8)"),
    (np.ones((8, 0)), "shape (8, 0)"),
    (np.ones((50, 2001)), "2001 dimensions; pgvector indexes at most 2000"),
    (np.ones((50, 1)), "1 dimension; pgvector indexes 2 or more"),
    (np.ones((3, 8)), "3 vectors are too few"),
)


def test_a_file_that_cannot_be_used_is_refused_and_leaves_no_trace(
    typed: Run, held: Held, tmp_path: Path
) -> None:
    before = held()
    for cases, command in ((CANNOT_BE_STORED, "seed --from"), (CANNOT_BE_TUNED, "tune --vectors")):
        for vectors, said in cases:
            np.save(tmp_path / "bad.npy", vectors)
            refused(typed(*command.split(), "bad.npy"), said)
    assert held() == before
    assert not (tmp_path / "lab").exists()


# --- arrays


GOOD = unit_rows(30, 4)


def changed(value: float) -> np.ndarray:
    rows = GOOD.copy()
    rows[7, 2] = value
    return rows


@pytest.mark.parametrize(
    ("vectors", "queries", "said"),
    [
        (GOOD.tolist(), GOOD, "of type list; permitted: a NumPy array"),
        (GOOD, GOOD.tolist(), "of type list; permitted: a NumPy array"),
        (GOOD[:0], GOOD, r"vectors has shape \(0, 4\)"),
        (GOOD, GOOD[:0], r"queries has shape \(0, 4\)"),
        (GOOD, GOOD[0], r"queries has shape \(4,\)"),
        (GOOD, GOOD[:, :3], "queries have 3 dimensions; permitted: 4"),
        (changed(np.nan), GOOD, "vectors: row 7 .* has length nan"),
        (GOOD, changed(np.inf), "queries: row 7 .* has length inf"),
        (changed(3e38), GOOD, "vectors: row 7"),
        ((GOOD * 9).astype(int), GOOD, "dtype int64; permitted: float32"),
        (GOOD[:, :1], GOOD[:, :1], "1 dimension; pgvector indexes 2 or more by this distance"),
    ],
)
def test_arrays_that_cannot_be_compared_are_refused(
    vectors: np.ndarray, queries: np.ndarray, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        Workload.of(vectors, queries, k=3)


def test_one_dimension_can_be_indexed_by_euclidean_distance(database: Engine) -> None:
    rows = np.arange(40, dtype=np.float32)[:, None]
    found = tune_grid(
        database, Workload.of(rows, rows[:5] + 0.25, k=3, metric="l2"), lists=[4], rounds=1
    )
    assert found.points[-1].recall == 1.0


# --- queries


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([np.nan] * DIM, "has NaN in column 0"),
        ([1.0] * (DIM - 1) + [-np.inf], "has an infinity .* in column 1535"),
        ([1e39] + [0.0] * (DIM - 1), "has an infinity .* in column 0"),
        ([1e-46] * DIM, "is a zero vector"),
        ([10**400] * DIM, "no vector of numbers"),
        ([1j] * DIM, "no vector of numbers"),
        ([None] * DIM, "has NaN in column 0"),
        ([[1.0], [1.0, 2.0]], "no vector of numbers"),
        ([], r"shape \(1, 0\)"),
        ([[]], r"shape \(1, 0\); permitted: \(1536,\)"),
        ([[1.0] * DIM] * 2, r"shape \(2, 1536\)"),
        ([1.0] * (DIM + 1), "1537 dimensions; permitted: 1536"),
        (None, r"shape \(\)"),
    ],
)
def test_a_query_that_is_no_direction_is_refused_before_anything_is_connected(
    vector: object, said: str
) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    with pytest.raises(DataError, match=said):
        search_vector(nowhere, vector, model=MODEL)  # type: ignore[arg-type]


@pytest.mark.parametrize("vector", [axes(), axes(np.nan)])
def test_what_an_embedder_should_not_have_made_is_not_searched_for(
    database: Engine, vector: np.ndarray
) -> None:
    store(database, "mine", axes(1))
    with pytest.raises(DataError, match="query: "):
        search("why", engine=database, embedder=FakeEmbedder({"why": vector}))


# --- fine, though odd


def chunks(result: object) -> list[str]:
    return [hit.content for hit in result]  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_tuned", [False, True])
@pytest.mark.parametrize("by", ["vectors", "hybrid"])
def test_equal_vectors_are_all_found_each_once(database: Engine, is_tuned: bool, by: str) -> None:
    for number in range(12):
        store(database, f"word {number}", axes(1, 1), chunk_index=number)
    if is_tuned:
        tune_index(database, MODEL, lists=4, probes=1)
    every = search_vector(database, axes(1), model=MODEL, question="word", k=1000, by=by)
    assert sorted(chunks(every)) == sorted(f"word {number}" for number in range(12))
    assert {round(hit.score, 6) for hit in every} == {0.707107}
    assert len(search_vector(database, axes(1), model=MODEL, k=5)) == 5


def test_a_zero_vector_is_in_no_index_and_hides_no_other_row(database: Engine) -> None:
    for content, vector in (("zero", axes()), ("far", axes(-1)), ("near", axes(1))):
        store(database, content, vector)
    assert chunks(search_vector(database, axes(1), model=MODEL)) == ["near", "far", "zero"]
    tune_index(database, MODEL, lists=2, probes=1)
    assert chunks(search_vector(database, axes(1), model=MODEL, k=1000)) == ["near", "far"]


def test_a_file_of_equal_vectors_is_stored_tuned_and_watched(
    database: Engine, tmp_path: Path
) -> None:
    np.save(tmp_path / "equal.npy", np.ones((60, DIM)))
    assert seeding.seed_file(database, tmp_path / "equal.npy").added == 60
    found = tune_grid(database, Workload.stored(database, k=3), lists=[1, 4], rounds=1)
    assert all(point.recall_tie_aware == 1.0 for point in found.points)
    assert found.why
    run(database, f"ALTER DATABASE {database.url.database} SET enable_sort = off")
    database.dispose()
    drift = measure_drift(database, stored_table(database), k=3)
    assert drift.recall is not None
    assert drift.recall.mean == 1.0  # one is as near as another


def test_duplicates_count_for_one_another(database: Engine) -> None:
    twice = np.concatenate([GOOD, GOOD])
    found = tune_grid(database, Workload.of(twice, GOOD[:6], k=3), lists=[3], probes=[3], rounds=1)
    (point,) = found.points
    assert (point.recall_tie_aware, point.rows_returned) == (1.0, 1.0)


def test_a_handful_of_rows_is_tuned_to_an_end(database: Engine) -> None:
    for rows, k in ((1, 1), (2, 2), (3, 1)):
        few = Workload.of(GOOD[:rows], GOOD[-2:], k=k)
        found = tune(database, few, rebuilds=1, rounds=1)
        assert found.points[0].recall == 1.0
        assert found.why


def test_rows_and_queries_without_a_direction_end_in_a_verdict(database: Engine) -> None:
    rows = GOOD.copy()
    rows[5:] = 0
    for workload in (
        Workload.of(rows, GOOD[:3], k=9),  # fewer than k rows can come from an index
        Workload.of(np.zeros_like(GOOD), GOOD[:3], k=3),
        Workload.of(GOOD, np.zeros_like(GOOD[:3]), k=3),
    ):
        assert tune_grid(database, workload, lists=[2], rounds=1).why


def test_nulls_alone_are_no_vectors(database: Engine, typed: Run, held: Held) -> None:
    run(
        database,
        "CREATE TABLE items (id int, v vector(3))",
        "INSERT INTO items SELECT n, NULL FROM generate_series(1, 40) n",
        "CREATE INDEX i ON items USING ivfflat (v vector_cosine_ops) WITH (lists = 4)",
    )
    before = held()
    refused(typed("tune", "--table", "items", "--column", "v"), "items.v has no usable vectors")
    refused(typed("drift", "--table", "items", "--column", "v"), "0 rows are too few")
    assert held() == before
