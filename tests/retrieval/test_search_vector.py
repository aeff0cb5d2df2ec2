"""The way to the rows: the tuned index with its probes, or all rows compared; nothing stays."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from resume_lab import seeding
from resume_lab.database.indexes import execute, literal
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError, DataError
from resume_lab.retrieval import SearchResult, route, search_vector
from resume_lab.vectors import exact_neighbours, generate
from tests.retrieval.stored import TUNED, axes, finding, store, tune

ROWS, LISTS = 500, 20
MODEL = "synthetic/clustered/seed=0"


@pytest.fixture
def filled(database: Engine) -> Engine:
    """Rows of which every fiftieth has the category rare."""
    seeding.seed(database, rows=ROWS, kind="clustered")
    with database.begin() as connection:
        execute(
            connection,
            "UPDATE document_chunks SET category = 'rare', "
            'metadata_json = \'{"tags": ["rare"]}\' WHERE chunk_index % 50 = 0',
        )
    return database


def question() -> np.ndarray:
    return generate("clustered", 1, start=ROWS)[0]


def truth(k: int, step: int = 1) -> list[int]:
    """The numbers of the nearest rows among every `step`-th."""
    rows = generate("clustered", ROWS)[::step]
    return (exact_neighbours(rows, question()[None], k).ids[0] * step).tolist()


def numbers(result: SearchResult) -> list[int]:
    return [hit.chunk_index for hit in result]


def settings(connection: Connection) -> list[str]:
    names = ("ivfflat.probes", "ivfflat.iterative_scan", "enable_sort", "enable_seqscan", "jit")
    return [str(connection.scalar(sa.text(f"SHOW {name}"))) for name in names]


@pytest.fixture
def untouched(filled: Engine) -> Iterator[None]:
    """Fails the test if a pooled connection comes back with other settings."""
    with filled.connect() as connection:
        connection.execute(sa.text("SELECT '[1]'::vector"))
        before = settings(connection)
    yield
    with filled.connect() as connection:
        assert settings(connection) == before
        assert not connection.connection.dbapi_connection.autocommit


@pytest.mark.usefixtures("untouched")
def test_the_tuned_index_is_taken_with_its_probes(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=LISTS)
    result = search_vector(filled, question(), model=MODEL, k=10, explain=True)
    assert numbers(result) == truth(10)
    assert result.explanation == (
        f"Tuned index {TUNED}, 20 of 20 lists probed, enable_sort off, enable_seqscan off, "
        "more where these hold fewer than 10 rows (iterative scan); "
        "recall@10 was 0.950 when it was tuned, on 1 rows."
    )


def test_a_new_finding_is_followed_at_once(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=1)
    search_vector(filled, question(), model=MODEL)
    with filled.begin() as connection:
        comment = literal(finding(MODEL, LISTS, 7).as_text())
        execute(connection, f"COMMENT ON INDEX {TUNED} IS {comment}")
    result = search_vector(filled, question(), model=MODEL, explain=True)
    assert "7 of 20 lists probed" in str(result.explanation)
    tune(filled, MODEL, lists=5, probes=3, index="lab_ivfflat_newer")
    with filled.begin() as connection:
        execute(connection, f"DROP INDEX {TUNED}")
    result = search_vector(filled, question(), model=MODEL, explain=True)
    assert "lab_ivfflat_newer" in str(result.explanation)
    assert "3 of 5 lists probed" in str(result.explanation)


def test_all_rows_wanted_come_from_one_list_probed(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=1)
    found = numbers(search_vector(filled, question(), model=MODEL, k=ROWS))
    assert sorted(found) == list(range(ROWS))


@pytest.mark.parametrize("wanted", [{"category": "rare"}, {"tags": ["rare"]}])
def test_a_selective_filter_is_searched_exactly(filled: Engine, wanted: dict) -> None:
    tune(filled, MODEL, lists=LISTS, probes=1)
    result = search_vector(filled, question(), model=MODEL, explain=True, **wanted)
    assert numbers(result) == truth(5, step=50)
    assert result.explanation == "Exact: only 10 rows match the filter."


@pytest.mark.parametrize("wanted", [{"category": "rare"}, {"tags": ["rare"]}])
def test_k_rows_come_through_the_index_under_a_filter_of_2_percent(
    filled: Engine, wanted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "FEW_ROWS", 5)
    tune(filled, MODEL, lists=LISTS, probes=1)
    result = search_vector(filled, question(), model=MODEL, k=10, explain=True, **wanted)
    assert numbers(result) == truth(10, step=50)
    assert f"Tuned index {TUNED}, 1 of 20 lists probed" in str(result.explanation)
    assert "10 rows that match the filter (iterative scan)" in str(result.explanation)
    assert str(result.explanation).endswith("when it was tuned, on 1 rows without a filter.")


def test_an_index_that_the_planner_leaves_is_not_claimed(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=1)
    with filled.begin() as connection:
        comment = finding(MODEL, LISTS, LISTS).as_text().replace(': "off"', ': "on"')
        execute(connection, f"COMMENT ON INDEX {TUNED} IS {literal(comment)}")
    result = search_vector(filled, question(), model=MODEL, explain=True)
    assert str(result.explanation).startswith(f"PostgreSQL did not take the tuned index {TUNED}")
    assert "Seq Scan on chunk_embeddings" in str(result.explanation)
    assert numbers(result) == truth(5)


def test_an_index_of_another_model_or_without_finding_is_left(filled: Engine) -> None:
    store(filled, "other", axes(1), model="it's \\another")
    tune(filled, MODEL, lists=LISTS, probes=1)
    result = search_vector(filled, axes(1), model="it's \\another", explain=True)
    assert [hit.content for hit in result] == ["other"]
    assert str(result.explanation).startswith("Exact: no tuned index for it's \\another;")
    with filled.begin() as connection:
        execute(connection, f"COMMENT ON INDEX {TUNED} IS 'mine'")
    result = search_vector(filled, question(), model=MODEL, explain=True)
    assert str(result.explanation).startswith("Exact: no tuned index")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("by", ["vectors", "hybrid"])
def test_a_transaction_under_way_keeps_its_work_and_its_settings(filled: Engine, by: str) -> None:
    tune(filled, MODEL, lists=LISTS, probes=2)
    with filled.begin() as connection:
        connection.execute(sa.text("INSERT INTO query_logs (query_text) VALUES ('mine')"))
        connection.execute(sa.text("SELECT set_config('ivfflat.probes', '3', true)"))
        before = settings(connection)
        result = search_vector(connection, question(), model=MODEL, question="Vector", by=by)
        assert len(result) == 5
        assert settings(connection) == before
    with filled.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM query_logs")) == 1


@pytest.mark.usefixtures("untouched")
def test_a_connection_without_a_transaction_is_given_none(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=LISTS)
    with filled.connect() as connection:
        assert numbers(search_vector(connection, question(), model=MODEL)) == truth(5)
        assert not connection.in_transaction()
        assert not connection.connection.dbapi_connection.autocommit
    with filled.connect() as connection, connection.begin() as transaction:
        search_vector(connection, question(), model=MODEL)
        connection.execute(sa.text("INSERT INTO query_logs (query_text) VALUES ('mine')"))
        transaction.rollback()
    with filled.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM query_logs")) == 0


@pytest.mark.usefixtures("untouched")
def test_autocommit_makes_no_difference(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=LISTS)
    autocommit = filled.execution_options(isolation_level="AUTOCOMMIT")
    assert numbers(search_vector(autocommit, question(), model=MODEL)) == truth(5)
    with autocommit.connect() as connection:
        before = settings(connection)
        assert numbers(search_vector(connection, question(), model=MODEL)) == truth(5)
        assert settings(connection) == before
        connection.exec_driver_sql("BEGIN")
        assert numbers(search_vector(connection, question(), model=MODEL)) == truth(5)
        assert settings(connection) == before
        connection.exec_driver_sql("ROLLBACK")


def test_an_error_of_the_server_is_translated_and_the_connection_goes_back(filled: Engine) -> None:
    impatient = filled.url.update_query_dict({"options": "-c lock_timeout=20ms"})
    engine = engine_for(impatient, pool_size=1, max_overflow=0)
    with filled.begin() as connection:
        connection.execute(sa.text("LOCK TABLE document_chunks"))
        for _ in range(2):
            with pytest.raises(DatabaseError, match=r"holds a lock on the tables\.\n  pid "):
                search_vector(engine, question(), model=MODEL)
    assert numbers(search_vector(engine, question(), model=MODEL)) == truth(5)
    engine.dispose()


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.zeros(1536), "not all 0"),
        (np.ones(3), "3 dimensions; permitted: 1536"),
        (["a"] * 1536, "no vector of numbers"),
    ],
)
def test_a_vector_that_cannot_be_searched_for_is_refused(
    database: Engine, vector: object, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        search_vector(database, vector, model=MODEL)


def test_a_model_without_rows_finds_nothing(database: Engine) -> None:
    assert len(search_vector(database, axes(1), model="none")) == 0
    assert len(search_vector(database, axes(1), model="none", question="a", by="hybrid")) == 0


def test_an_index_for_another_distance_is_no_finding_for_this_one(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=LISTS)
    other = dataclasses.replace(finding(MODEL, LISTS, 1), distance="l2")
    with filled.begin() as connection:
        execute(
            connection,
            "CREATE INDEX lab_newer ON chunk_embeddings USING ivfflat "
            f"(embedding vector_l2_ops) WITH (lists = {LISTS}) WHERE {other.where}",
        )
        execute(connection, f"COMMENT ON INDEX lab_newer IS {literal(other.as_text())}")
    said = search_vector(filled, question(), model=MODEL, explain=True).explanation
    assert f"{LISTS} of {LISTS} lists probed" in str(said)


def test_a_limit_of_the_database_on_probes_costs_no_rows(filled: Engine) -> None:
    tune(filled, MODEL, lists=LISTS, probes=1)
    with filled.connect() as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
        connection.execute(sa.text(f"ALTER DATABASE {name} SET ivfflat.max_probes = 1"))
        connection.commit()
    filled.dispose()
    everything = len(search_vector(filled, question(), model=MODEL, k=1000))
    with filled.connect() as connection:
        rows = connection.scalar(
            sa.text("SELECT count(*) FROM chunk_embeddings WHERE embedding_model = :m"),
            {"m": MODEL},
        )
    assert everything == min(rows, 1000)


@pytest.mark.parametrize("k", ["2", 2.0, None])
def test_k_is_a_whole_number(filled: Engine, k: object) -> None:
    with pytest.raises(DataError, match="whole number"):
        search_vector(filled, question(), model=MODEL, k=k)
    assert len(search_vector(filled, question(), model=MODEL, k=np.int64(2))) == 2
