"""Vector search over stored chunks: the tuned index with its probes, or exact search."""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from resume_lab import seeding
from resume_lab.database.indexes import execute
from resume_lab.errors import DatabaseError, DataError
from resume_lab.retrieval import nearest_chunks
from resume_lab.rollout.finding import Finding
from resume_lab.vectors import exact_neighbours, generate

ROWS, LISTS, PROBES = 300, 12, 5
MODEL = "synthetic/clustered/seed=0"
OTHER = "synthetic/random/seed=0"
TUNED = "lab_ivfflat_tuned"

# On so few rows the planner would rather scan than read an index.
NEEDS = {"enable_sort": "off", "enable_seqscan": "off"}


@pytest.fixture
def filled(database: Engine) -> Engine:
    for kind in ("random", "clustered"):
        seeding.seed(database, rows=ROWS, kind=kind)
    return database


def build_tuned(engine: Engine, probes: int = PROBES) -> Finding:
    found = Finding(
        lists=LISTS, probes=probes, k=10, distance="cosine", target_recall=0.9, recall=0.95,
        recall_low=0.93, confirmed_recall=0.94, rows=ROWS, where=f"embedding_model = '{MODEL}'",
        pgvector_version="0.8.5", date="2026-02-13", needs=NEEDS,
    )  # fmt: skip
    with engine.begin() as connection:
        execute(connection, "DROP INDEX ix_chunk_embeddings_embedding")
        execute(
            connection,
            f"CREATE INDEX {TUNED} ON chunk_embeddings USING ivfflat "
            f"(embedding vector_cosine_ops) WITH (lists = {LISTS}) WHERE {found.where}",
        )
        comment = found.as_text().replace("'", "''")
        execute(connection, f"COMMENT ON INDEX {TUNED} IS '{comment}'")
    return found


def question(number: int = 0) -> np.ndarray:
    return generate("clustered", 1, start=ROWS + number)[0]


@cache
def rows() -> np.ndarray:
    return generate("clustered", ROWS)


def truth(vector: np.ndarray, k: int) -> list[int]:
    """The numbers of the nearest rows of MODEL."""
    return exact_neighbours(rows(), vector[None], k).ids[0].tolist()


def numbers(found: object) -> list[int]:
    return [int(chunk.content.split()[1]) for chunk in found.chunks]


@pytest.fixture
def watched(filled: Engine) -> Iterator[Callable[[], list[tuple[str, ...]]]]:
    """Return, for each search, the settings in force within it and the plan."""
    seen: list[tuple[str, ...]] = []

    def look(connection: Connection, cursor, statement, parameters, *_: object) -> None:
        if "AS nearest" not in statement:
            return
        other = connection.connection.dbapi_connection.cursor()
        values = []
        for name in ("ivfflat.probes", "enable_sort"):
            other.execute(f"SHOW {name}")
            values += other.fetchone()
        other.execute("EXPLAIN " + statement, parameters)
        seen.append((*values, "\n".join(row[0] for row in other.fetchall())))

    sa.event.listen(filled, "before_cursor_execute", look)
    yield lambda: seen
    sa.event.remove(filled, "before_cursor_execute", look)


def settings(connection: Connection) -> list[str]:
    names = ("ivfflat.probes", "enable_sort", "enable_seqscan")
    return [str(connection.scalar(sa.text(f"SHOW {name}"))) for name in names]


def test_the_tuned_index_answers_with_its_probes(
    filled: Engine, watched: Callable[[], list[tuple[str, ...]]]
) -> None:
    found = build_tuned(filled)
    nearest = nearest_chunks(filled, question(), embedding_model=MODEL)
    ((probes, enable_sort, plan),) = watched()
    assert (probes, enable_sort) == (str(PROBES), "off")
    assert f"Index Scan using {TUNED}" in plan
    assert nearest.finding == found
    assert nearest.how == "tuned index, 5 of 12 lists probed (recall@10 was 0.950)"
    assert len(nearest.chunks) == 5
    with filled.connect() as connection:
        assert settings(connection) == ["1", "on", "on"]


def test_all_lists_probed_give_the_exact_answer(filled: Engine) -> None:
    build_tuned(filled, probes=LISTS)
    for number in range(3):
        vector = question(number)
        nearest = nearest_chunks(filled, vector, embedding_model=MODEL, k=10)
        assert numbers(nearest) == truth(vector, 10)
        distances = [chunk.distance for chunk in nearest.chunks]
        assert distances == sorted(distances)
        assert nearest.chunks[0].similarity == pytest.approx(1 - distances[0])


def test_without_a_finding_the_search_is_exact(
    filled: Engine, watched: Callable[[], list[tuple[str, ...]]]
) -> None:
    for number in range(3):
        vector = question(number)
        nearest = nearest_chunks(filled, vector, embedding_model=MODEL, k=7)
        assert numbers(nearest) == truth(vector, 7)
        assert nearest.finding is None
        assert nearest.how.startswith("exact search")
    assert all("ix_chunk_embeddings_embedding " not in plan for *_, plan in watched())


def test_a_finding_for_one_model_is_not_used_for_another(filled: Engine) -> None:
    build_tuned(filled)
    nearest = nearest_chunks(filled, question(), embedding_model=OTHER)
    assert nearest.finding is None
    assert all(chunk.source_file == OTHER for chunk in nearest.chunks)
    nothing = nearest_chunks(filled, question(), embedding_model="it's not there")
    assert nothing.chunks == ()


def test_a_transaction_under_way_keeps_its_settings_and_its_work(filled: Engine) -> None:
    build_tuned(filled)
    with filled.begin() as connection:
        connection.execute(sa.text("INSERT INTO query_logs (query_text) VALUES ('mine')"))
        connection.execute(sa.text("SELECT set_config('ivfflat.probes', '3', true)"))
        nearest = nearest_chunks(connection, question(), embedding_model=MODEL)
        assert nearest.finding is not None
        assert settings(connection) == ["3", "on", "on"]
    with filled.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM query_logs")) == 1
        assert settings(connection) == ["1", "on", "on"]


def test_a_connection_without_transactions_is_refused(filled: Engine) -> None:
    build_tuned(filled)
    autocommit = filled.execution_options(isolation_level="AUTOCOMMIT")
    with pytest.raises(DatabaseError, match="commits each statement by itself"):
        nearest_chunks(autocommit, question(), embedding_model=MODEL)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.zeros(1536), "permitted: finite float32 values, not all 0"),
        (np.full(1536, np.nan), "permitted: finite"),
        (np.full(1536, 1e300), "permitted: finite"),
        (np.ones(3), "3 dimensions; permitted: 1536"),
        (np.ones((2, 1536)), r"shape \(2, 1536\)"),
        (["a"] * 1536, "no vector of numbers"),
    ],
)
def test_a_vector_that_cannot_be_searched_for_is_refused(
    database: Engine, vector: object, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        nearest_chunks(database, vector, embedding_model=MODEL)


def test_k_below_one_is_refused(database: Engine) -> None:
    with pytest.raises(DataError, match="k is 0"):
        nearest_chunks(database, np.ones(1536), embedding_model=MODEL, k=0)
