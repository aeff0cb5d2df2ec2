from pathlib import Path

import numpy as np
import pytest
from psycopg2 import sql
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.database.indexes import DISTANCES, raw_connection
from resume_lab.errors import DataError
from resume_lab.tuning import Workload, scratch_copy, stored_models
from resume_lab.vectors import Kind, generate

from .factory import unit_rows, workload


def test_the_truth_of_four_points_in_the_plane_is_what_one_sees() -> None:
    found = workload(metric="l2")
    assert found.truth.ids.tolist() == [[0, 1], [3, 2]]
    assert found.truth.distances == pytest.approx(np.sqrt([[2, 4], [5, 9]]))
    assert (found.info.rows, found.info.dim, found.info.n_queries) == (4, 2, 2)
    assert (found.info.k, found.info.distance) == (2, "l2")


def test_one_neighbour_more_than_k_is_known_and_not_part_of_the_truth() -> None:
    found = workload(metric="l2")
    assert found.neighbours.ids.tolist() == [[0, 1, 3], [3, 2, 0]]
    assert found.neighbours.distances[:, 2] == pytest.approx(np.sqrt([8, 13]))
    assert found.truth.distances.shape == found.truth.ids.shape == (2, 2)


def test_where_k_is_all_rows_there_is_no_neighbour_more_and_beyond_it_is_refused() -> None:
    rows, queries = unit_rows(6), unit_rows(3, seed=1)
    assert Workload.of(rows, queries, k=6).neighbours.ids.shape == (3, 6)
    with pytest.raises(DataError, match="k is 7; permitted: whole numbers, 1 to 6"):
        Workload.of(rows, queries, k=7)


@pytest.mark.parametrize(("queries", "choose", "confirm"), [(10, 5, 5), (7, 4, 3), (1, 1, 0)])
def test_of_the_queries_half_choose_and_the_others_confirm(
    queries: int, choose: int, confirm: int
) -> None:
    whole = Workload.of(unit_rows(50), unit_rows(queries, seed=1), k=3, source="mine")
    first, second = whole.split()
    assert (len(first.queries), len(second.queries)) == (choose, confirm)
    for name in ("queries", "query_texts"):
        parts = [*getattr(first, name), *getattr(second, name)]
        assert np.array_equal(parts, getattr(whole, name))
    assert np.array_equal(np.vstack([first.truth.ids, second.truth.ids]), whole.truth.ids)
    assert first.vectors is second.vectors is whole.vectors
    assert (first.info.n_queries, first.source, first.k) == (choose, "mine", 3)


def test_a_part_has_the_answers_of_its_own_queries() -> None:
    found = workload(metric="l2").part(slice(1, 2))
    assert (found.queries.tolist(), found.truth.ids.tolist()) == ([[-1, -3]], [[3, 2]])


def test_held_out_queries_are_not_among_the_rows_and_nothing_is_lost() -> None:
    vectors = unit_rows(500)
    found = Workload.holding_out(vectors, n_queries=40, seed=3)
    rows = {row.tobytes() for row in found.vectors}
    queries = {row.tobytes() for row in found.queries}
    assert (len(rows), len(queries)) == (460, 40)
    assert not rows & queries
    assert rows | queries == {row.tobytes() for row in vectors}


def test_the_rows_keep_their_order_and_the_seed_chooses_the_queries() -> None:
    vectors = unit_rows(100)
    place = {row.tobytes(): number for number, row in enumerate(vectors)}
    first = Workload.holding_out(vectors, n_queries=10, seed=0)
    numbers = [place[row.tobytes()] for row in first.vectors]
    assert numbers == sorted(numbers)
    again = Workload.holding_out(vectors, n_queries=10, seed=0)
    other = Workload.holding_out(vectors, n_queries=10, seed=1)
    assert np.array_equal(first.queries, again.queries)
    assert not np.array_equal(first.queries, other.queries)


def test_at_most_a_fifth_is_held_out() -> None:
    found = Workload.holding_out(unit_rows(100), n_queries=200)
    assert (found.info.rows, found.info.n_queries) == (80, 20)


@pytest.mark.parametrize(("rows", "n_queries", "k"), [(4, 1, 1), (12, 200, 11), (100, 0, 10)])
def test_too_few_vectors_are_refused(rows: int, n_queries: int, k: int) -> None:
    with pytest.raises(DataError, match=f"^{rows} vectors are too few"):
        Workload.holding_out(unit_rows(rows), n_queries=n_queries, k=k)


@pytest.mark.parametrize("k", [1, 10, 50])
def test_what_the_refusal_asks_for_is_enough(k: int) -> None:
    found = Workload.holding_out(unit_rows(k + 5), n_queries=1, k=k)
    assert found.truth.ids.shape == (1, k)


def test_bad_vectors_are_refused_naming_the_row() -> None:
    vectors = unit_rows(50)
    vectors[7] = 0
    with pytest.raises(DataError, match="row 7"):
        Workload.holding_out(vectors)


def test_more_dimensions_than_pgvector_indexes_are_refused_and_2000_are_not() -> None:
    with pytest.raises(DataError, match="2001 dimensions; pgvector indexes at most 2000"):
        Workload.of(unit_rows(20, 2001), unit_rows(2, 2001), k=3)
    assert Workload.of(unit_rows(20, 2000), unit_rows(2, 2000), k=3).info.dim == 2000


def test_generated_queries_are_not_among_the_rows() -> None:
    found = Workload.generated("clustered", 300, n_queries=30, seed=5, dim=16)
    assert found.source == "clustered vectors, generated (seed 5)"
    assert (found.info.rows, found.info.n_queries) == (300, 30)
    assert not {row.tobytes() for row in found.vectors} & {row.tobytes() for row in found.queries}


def test_a_file_of_any_dimension_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", unit_rows(60, 24))
    found = Workload.from_file(tmp_path / "mine.npy", n_queries=5, k=3, metric="ip")
    assert (found.source, found.table) == ("file mine.npy", None)
    assert (found.info.rows, found.info.dim, found.info.distance) == (55, 24, "ip")


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_the_truth_is_postgresqls_own_exact_order(database: Engine, metric: str) -> None:
    vectors = unit_rows(400, 32) * np.linspace(0.5, 2.0, 400, dtype=np.float32)[:, None]
    found = Workload.holding_out(vectors, n_queries=15, k=8, metric=metric)
    with scratch_copy(database, found.vectors) as scratch, scratch.engine.connect() as connection:
        statement = sql.SQL("SELECT id FROM {} ORDER BY embedding {} %s::vector LIMIT 8").format(
            sql.Identifier(*scratch.table), sql.SQL(DISTANCES[metric].operator)
        )
        with raw_connection(connection).cursor() as cursor:
            for text, ids in zip(found.query_texts, found.truth.ids.tolist(), strict=True):
                cursor.execute(statement, [text])
                assert [row[0] for row in cursor.fetchall()] == ids


def test_query_texts_carry_every_float32_through_the_server(database: Engine) -> None:
    hard = np.array(
        [0.1, 1 / 3, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, 16777217, -0.0, 1 + 2**-23, 7e-10],
        dtype=np.float32,
    )
    random = np.random.default_rng(0).integers(0, 2**32, 3000, dtype=np.uint32).view(np.float32)
    queries = np.concatenate([hard, random[np.isfinite(random)]])[:1500].reshape(-1, 10)
    ordinary = workload()
    found = Workload(
        ordinary.vectors, queries, ordinary.truth, 2, ordinary.metric, "hard numbers", 0.0
    )
    with database.connect() as connection, raw_connection(connection).cursor() as cursor:
        for text, query in zip(found.query_texts, queries, strict=True):
            cursor.execute("SELECT vector_send(%s::vector)", [text])
            ((sent,),) = cursor.fetchall()
            assert np.array_equal(np.frombuffer(sent, ">f4", offset=4).view(">u4"),
                                  query.astype(">f4").view(">u4"))  # fmt: skip


def test_with_nothing_stored_the_refusal_says_how_to_get_some(database: Engine) -> None:
    assert stored_models(database) == {}
    with pytest.raises(DataError, match=r"(?s)No embeddings are stored\..*resume-lab seed"):
        Workload.stored(database)


def test_of_several_stored_models_the_largest_is_taken_or_the_one_named(database: Engine) -> None:
    seeding.seed(database, rows=40, kind="random", seed=1)
    seeding.seed(database, rows=60, kind="clustered", seed=2)
    assert list(stored_models(database).items()) == [
        ("synthetic/clustered/seed=2", 60),
        ("synthetic/random/seed=1", 40),
    ]
    largest = Workload.stored(database, n_queries=5)
    assert largest.table is not None
    assert largest.table.embedding_model == "synthetic/clustered/seed=2"
    named = Workload.stored(database, embedding_model="synthetic/random/seed=1", n_queries=5)
    assert named.source == "stored embeddings of synthetic/random/seed=1"
    stored = np.concatenate([named.vectors, named.queries])
    made = generate(Kind.RANDOM, 40, seed=1)
    assert {row.tobytes() for row in stored} == {row.tobytes() for row in made}


def test_a_model_that_is_not_stored_is_refused_naming_those_that_are(database: Engine) -> None:
    seeding.seed(database, rows=10)
    with pytest.raises(DataError) as refused:
        Workload.stored(database, embedding_model="ada'002")
    assert str(refused.value).startswith('No embeddings of "ada\'002" are stored.\n')
    assert "Stored models: synthetic/random/seed=0." in str(refused.value)


def test_a_stored_workload_knows_whether_its_table_holds_other_models(database: Engine) -> None:
    seeding.seed(database, rows=40)
    assert not Workload.stored(database, n_queries=4).table.partial
    seeding.seed(database, rows=30, seed=1)
    assert Workload.stored(database, n_queries=4).table.partial


def test_planted_queries_lie_as_far_from_their_rows_as_the_dial_says() -> None:
    held_out = Workload.generated("clustered", 300, n_queries=20, dim=64)
    near, same = held_out.asked_near(0.02, seed=1), held_out.asked_near(0.0, seed=1)
    assert same.truth.distances[:, 0] == pytest.approx(np.zeros(20), abs=1e-6)
    assert near.truth.distances[:, 0] == pytest.approx(np.full(20, 0.02), abs=1e-5)
    assert np.array_equal(near.truth.ids[:, 0], same.truth.ids[:, 0])
    assert "planted at distance 0.02" in near.source
    assert (near.info.rows, near.info.n_queries, near.k) == (300, 20, held_out.k)
