"""Many threads search on one engine while others write, rebuild, kill, or take every connection."""

import contextlib
import gc
import itertools
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from resume_lab import seeding
from resume_lab.config import Settings
from resume_lab.database.indexes import execute
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError
from resume_lab.ingestion import ingest_content, remove_content
from resume_lab.retrieval import route, search_vector
from resume_lab.retrieval.connection import borrowed
from resume_lab.retrieval.search import query_text
from resume_lab.retrieval.statements import By, Query
from resume_lab.rollout import swap
from resume_lab.rollout.finding import standing_indexes
from resume_lab.tuning.results import WorkloadInfo
from resume_lab.tuning.workload import embeddings_of
from resume_lab.vectors import exact_neighbours, generate
from tests.ingestion.embedders import Recording
from tests.retrieval.stored import TUNED, axes, finding, store, tune

ROWS, QUERIES, K = 1_500, 50, 10
LISTS, PROBES = 10, 5
THREADS, SEARCHES = 8, 60
REBUILDS = 4
MODEL = "synthetic/clustered/seed=0"

Search = Callable[[int], list[int]]


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return generate("clustered", QUERIES, start=ROWS)


@pytest.fixture(scope="module")
def truth(queries: np.ndarray) -> list[list[int]]:
    return exact_neighbours(generate("clustered", ROWS), queries, K).ids.tolist()


@pytest.fixture
def tidy(database: Engine) -> Iterator[Engine]:
    """Fails the test if a connection, a transaction or a setting is left behind."""
    yield database
    assert database.pool.checkedout() == 0
    assert sessions(database, "state LIKE 'idle in transaction%'") == 0
    with contextlib.ExitStack() as lent:
        for _ in range(5):
            connection = lent.enter_context(database.connect())
            connection.execute(sa.text("SELECT '[1]'::vector"))
            names = ("ivfflat.probes", "ivfflat.iterative_scan", "enable_sort")
            shown = [connection.scalar(sa.text(f"SHOW {name}")) for name in names]
            assert shown == ["1", "off", "on"]


@pytest.fixture
def filled(tidy: Engine) -> Engine:
    seeding.seed(tidy, rows=ROWS, kind="clustered")
    return tidy


@pytest.fixture
def few(tidy: Engine) -> Engine:
    for number in range(K):
        store(tidy, f"Vector {number}", axes(1, number), model=MODEL)
    return tidy


@pytest.fixture
def find(filled: Engine, queries: np.ndarray) -> Search:
    """Search for a query by its number; return the numbers of the rows found."""

    def search(number: int) -> list[int]:
        result = search_vector(filled, queries[number % QUERIES], model=MODEL, k=K)
        return [hit.chunk_index for hit in result]

    return search


def sessions(engine: Engine, state: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
    with engine_for(engine.url, poolclass=NullPool).connect() as connection:
        return int(connection.scalar(sa.text(query + state)))


def wait_for_sessions(engine: Engine, state: str, number: int) -> None:
    deadline = time.monotonic() + 10
    while sessions(engine, state) != number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def while_running(
    work: Callable[[], object], find: Search, *others: Callable[[], object]
) -> list[tuple[int, list[int]]]:
    """Search from THREADS threads, and do each of `others` again and again, until `work` ends.

    An error of any thread is raised. The numbers of the queries and what they found are returned.
    """
    stop = threading.Event()

    def searching(first: int) -> list[tuple[int, list[int]]]:
        found = []
        for number in itertools.count(first):
            if stop.is_set() and len(found) >= SEARCHES:
                return found
            found.append((number, find(number)))
        raise AssertionError("the loop has no end")

    def again(other: Callable[[], object]) -> None:
        while not stop.is_set():
            other()

    with ThreadPoolExecutor(THREADS + len(others)) as pool:
        searchers = [pool.submit(searching, number) for number in range(THREADS)]
        busy = [pool.submit(again, other) for other in others]
        try:
            work()
        finally:
            stop.set()
        assert [one.result() for one in busy] == [None] * len(others)
        return [pair for one in searchers for pair in one.result()]


@pytest.fixture
def ingest(filled: Engine, tmp_path: Path) -> Callable[[], object]:
    """Ingest two changed files and take them out again, as another model."""
    rounds = itertools.count()
    folder = tmp_path / "content"
    folder.mkdir()

    def once() -> None:
        for name in ("a", "b"):
            (folder / f"{name}.md").write_text(f"# {name}\n\nRound {next(rounds)}.\n")
        settings, embedder = Settings(lab_dir=tmp_path), Recording("other", remote=False)
        options = {"engine": filled, "name": "busy", "settings": settings}
        assert ingest_content(folder, embedder=embedder, **options).chunks == 2
        assert remove_content(folder, **options) == 2

    return once


def alone(engine: Engine, *statements: str) -> None:
    own = engine_for(engine.url, poolclass=NullPool)
    with own.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            execute(connection, statement)


def reindex(engine: Engine) -> None:
    for _ in range(REBUILDS):
        alone(engine, f"REINDEX INDEX CONCURRENTLY {TUNED}")


def swap_back_and_forth(engine: Engine) -> None:
    """Put indexes of few and of many lists in each other's place, as the migrations do."""
    table = embeddings_of(MODEL, partial=True)
    info = WorkloadInfo(ROWS, 1536, QUERIES, K, "cosine", "test", table=table)
    for number in range(REBUILDS):
        lists, probes = ((40, 20), (LISTS, PROBES))[number % 2]
        with engine.connect() as connection:
            standing = standing_indexes(connection, table.table, table.column)
        found = finding(MODEL, lists, probes)
        steps = swap.forth(info, table, found, TUNED, standing, str(number))
        alone(engine, *steps.alone, *steps.together)


def test_every_row_is_compared_while_another_model_is_ingested(
    filled: Engine, find: Search, truth: list[list[int]], ingest: Callable[[], object]
) -> None:
    found = while_running(lambda: alone(filled, "VACUUM (ANALYZE) chunk_embeddings"), find, ingest)
    assert len(found) >= THREADS * SEARCHES
    assert all(ids == truth[number % QUERIES] for number, ids in found)


def test_an_index_finds_the_same_while_another_model_is_ingested(
    filled: Engine, find: Search, ingest: Callable[[], object]
) -> None:
    tune(filled, MODEL, lists=LISTS, probes=PROBES)
    before = [find(number) for number in range(QUERIES)]
    found = while_running(lambda: alone(filled, "VACUUM (ANALYZE) chunk_embeddings"), find, ingest)
    assert all(ids == before[number % QUERIES] for number, ids in found)


@pytest.mark.parametrize("rebuild", [reindex, swap_back_and_forth])
def test_recall_holds_while_the_index_is_rebuilt_and_another_model_ingested(
    filled: Engine,
    find: Search,
    truth: list[list[int]],
    ingest: Callable[[], object],
    rebuild: Callable[[Engine], None],
) -> None:
    tune(filled, MODEL, lists=LISTS, probes=PROBES)
    found = while_running(lambda: rebuild(filled), find, ingest)
    assert {len(ids) for _, ids in found} == {K}
    right = [len(set(ids).intersection(truth[number % QUERIES])) / K for number, ids in found]
    assert np.mean(right) >= finding(MODEL, LISTS, PROBES).recall_low
    with filled.connect() as connection:
        (index,) = standing_indexes(connection, ("chunk_embeddings",), "embedding")
    assert (index.name, index.valid, index.lists) == (TUNED, True, LISTS)


def test_an_index_replaced_during_the_search_is_not_called_passed_over(
    filled: Engine, queries: np.ndarray
) -> None:
    tune(filled, MODEL, lists=LISTS, probes=PROBES)
    query = Query(query_text(queries[0]), MODEL, "", K, None, (), None, By.VECTORS)
    with borrowed(filled) as raw, raw.cursor() as cursor:
        found = route.find_route(cursor, query)
        alone(filled, f"REINDEX INDEX CONCURRENTLY {TUNED}")
        cursor.execute(found.statements(query), query.parameters)
        assert cursor.rowcount == K
        assert "replaced during the search" in route.explain(cursor, query, found)


def test_more_threads_than_connections_are_all_served(
    filled: Engine, find: Search, truth: list[list[int]]
) -> None:
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(find, range(240)))
    assert found == [truth[number % QUERIES] for number in range(240)]


def test_a_thread_that_no_connection_comes_free_for_is_told_within_the_time_out(
    few: Engine,
) -> None:
    engine = engine_for(few.url, pool_size=1, max_overflow=1, pool_timeout=0.3)

    def refused(_: int) -> float:
        start = time.monotonic()
        with pytest.raises(DatabaseError, match="connections"):
            search_vector(engine, axes(1), model=MODEL)
        return time.monotonic() - start

    with engine.connect(), engine.connect(), ThreadPoolExecutor(4) as pool:
        assert max(pool.map(refused, range(4))) < 5
    assert len(search_vector(engine, axes(1), model=MODEL)) == 5
    engine.dispose()


def test_hundreds_of_searches_leave_nothing_in_memory(few: Engine) -> None:
    tune(few, MODEL, lists=2, probes=1)

    def held_bytes(searches: int) -> int:
        for number in range(searches):
            search_vector(few, axes(1, number), model=MODEL)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = held_bytes(50)
        assert held_bytes(300) - before < 150_000  # a vector alone is 6,144 bytes
    finally:
        tracemalloc.stop()


@pytest.fixture
def locked(few: Engine) -> Iterator[Connection]:
    """Hold a lock that every search waits for."""
    with engine_for(few.url, poolclass=NullPool).connect() as connection:
        connection.execute(sa.text("LOCK TABLE document_chunks"))
        yield connection


WAITING = "wait_event_type = 'Lock'"


def kill_the_waiting(engine: Engine) -> None:
    wait_for_sessions(engine, WAITING, 1)
    alone(
        engine,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    )


def test_a_search_whose_backend_is_killed_says_so_and_the_next_one_works(
    few: Engine, locked: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(1) as pool:
        search = pool.submit(search_vector, few, axes(1), model=MODEL)
        kill_the_waiting(few)
        with pytest.raises(DatabaseError, match="connection to the server was lost"):
            search.result(timeout=10)
    assert few.pool.checkedout() == 0
    assert not caplog.records  # the pool logs a traceback of a connection it cannot roll back
    locked.rollback()
    assert len(search_vector(few, axes(1), model=MODEL)) == 5


def test_a_connection_in_a_transaction_whose_backend_is_killed_can_be_used_again(
    few: Engine, locked: Connection
) -> None:
    with ThreadPoolExecutor(1) as pool, few.connect() as connection:
        connection.execute(sa.text("INSERT INTO query_logs (query_text) VALUES ('lost')"))
        search = pool.submit(search_vector, connection, axes(1), model=MODEL)
        kill_the_waiting(few)
        with pytest.raises(DatabaseError, match="connection to the server was lost"):
            search.result(timeout=10)
        locked.rollback()
        connection.rollback()
        assert len(search_vector(connection, axes(1), model=MODEL)) == 5
        assert connection.scalar(sa.text("SELECT count(*) FROM query_logs")) == 0


def test_an_interrupted_search_gives_its_connection_back(few: Engine, locked: Connection) -> None:
    def interrupt() -> None:
        wait_for_sessions(few, WAITING, 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    options = {"model": MODEL, "question": "Vector", "by": By.HYBRID}
    with pytest.raises(KeyboardInterrupt):
        search_vector(few, axes(1), **options)
    thread.join()
    assert few.pool.checkedout() == 0
    wait_for_sessions(few, WAITING, 0)
    locked.rollback()
    assert len(search_vector(few, axes(1), **options)) == 5
