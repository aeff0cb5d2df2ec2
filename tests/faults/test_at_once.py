"""Several processes at once: all there and once, whoever comes first, and nothing left over."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.config import Settings
from resume_lab.database import schema
from resume_lab.database.session import engine_for
from resume_lab.ingestion import ingest_content
from resume_lab.tuning import Workload, predict, runs, tune

TIMEOUT_S = 120
ROWS = 200

Work = Callable[..., Any]


@pytest.fixture(scope="module")
def processes() -> BaseContext:
    """Processes that have the package imported and nothing else in common."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "resume_lab.tuning", "resume_lab.ingestion"])
    return context


def at_once(
    context: BaseContext, engine: Engine, works: list[Work], *arguments: object
) -> list[Any]:
    """Run each work on an engine of its own, all from the same moment; return what they did."""
    answers: Queue[Any] = context.Queue()
    start = context.Barrier(len(works))
    url = engine.url.render_as_string(hide_password=False)
    started = [
        context.Process(target=_run, args=(answers, start, number, work, url, arguments))
        for number, work in enumerate(works)
    ]
    for process in started:
        process.start()
    try:
        done = dict(answers.get(timeout=TIMEOUT_S) for _ in started)
    finally:
        for process in started:
            process.join(timeout=TIMEOUT_S)
    return [done[number] for number in range(len(works))]


def _run(
    answers: Queue[Any], start: Barrier, number: int, work: Work, url: str, arguments: Any
) -> None:
    engine = engine_for(sa.make_url(url))
    start.wait(timeout=TIMEOUT_S)
    try:
        answers.put((number, work(engine, number, *arguments)))
    except BaseException as error:  # told to the test
        answers.put((number, f"{type(error).__name__}: {error}"))
    engine.dispose()


def count(engine: Engine, what: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text(f"SELECT count(*) FROM {what}")) or 0)


def nothing_is_left(engine: Engine) -> None:
    assert count(engine, "pg_namespace WHERE nspname LIKE 'lab%'") == 0
    assert count(engine, "pg_index WHERE NOT indisvalid") == 0
    here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    assert count(engine, f"pg_locks WHERE locktype = 'advisory' AND database = {here}") == 0


def migrate(engine: Engine, _number: int) -> str | None:
    schema.upgrade(engine)
    return schema.current(engine)


def seed_the_same(engine: Engine, _number: int) -> int:
    return seeding.seed(engine, rows=ROWS, allow_prod=True).added


def seed_another(engine: Engine, number: int) -> int:
    return seeding.seed(engine, rows=ROWS, seed=number, allow_prod=True).added


def ingest(engine: Engine, _number: int, folder: Path) -> int:
    settings = Settings(lab_dir=folder / "lab", embedding_model="lexical")
    return ingest_content(folder / "content", engine=engine, name="c", settings=settings).added


def measure(engine: Engine, number: int) -> int:
    workload = Workload.generated("clustered", 300, n_queries=20, dim=16, seed=number, k=3)
    prediction = predict(workload.split()[0], [3])
    result = tune(engine, workload, lists=[3], rebuilds=1, rounds=1, prediction=prediction)
    return result.workload.rows


def resume(_engine: Engine, _number: int, folder: Path, name: str) -> None:
    runs.resume(folder, name)


def test_eight_migrators(processes: BaseContext, empty_database: Engine) -> None:
    assert at_once(processes, empty_database, [migrate] * 8) == [schema.head()] * 8
    schema.check(empty_database)
    nothing_is_left(empty_database)


def test_seeding_one_set_and_others(processes: BaseContext, database: Engine) -> None:
    works = [seed_the_same, seed_another, seed_another, seed_the_same]
    added = at_once(processes, database, works)
    assert sorted([added[0], added[3]]) == [0, ROWS]
    assert added[1:3] == [ROWS, ROWS]
    for table in ("document_chunks", "chunk_embeddings"):
        assert count(database, table) == 3 * ROWS
    assert count(database, "(SELECT DISTINCT chunk_id FROM chunk_embeddings) AS of_them") == (
        3 * ROWS
    )
    schema.check(database)
    nothing_is_left(database)


def test_ingesting_one_folder(processes: BaseContext, database: Engine, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    for number in range(12):
        (content / f"{number}.md").write_text(f"# File {number}\n\nPassage {number} about it.\n")
    added = at_once(processes, database, [ingest] * 2, tmp_path)
    assert sum(added) == 12
    assert count(database, "document_chunks") == 12
    assert count(database, "chunk_embeddings") == 12
    nothing_is_left(database)


def test_tuning_each_on_a_copy_of_its_own(processes: BaseContext, database: Engine) -> None:
    assert at_once(processes, database, [measure] * 3) == [300] * 3
    nothing_is_left(database)


def test_migrating_seeding_and_tuning(processes: BaseContext, empty_database: Engine) -> None:
    schema.upgrade(empty_database)
    done = at_once(processes, empty_database, [migrate, seed_the_same, measure])
    assert done == [schema.head(), ROWS, 300]
    nothing_is_left(empty_database)


def test_a_run_is_resumed_by_one_process_only(
    processes: BaseContext, database: Engine, tmp_path: Path
) -> None:
    run = runs.start(tmp_path, label="test", options={})
    (said,) = at_once(processes, database, [resume], tmp_path, run.name)
    assert "is going on in another process" in said
    assert said.startswith("ExperimentError")
    run.end(runs.INTERRUPTED)
    assert at_once(processes, database, [resume], tmp_path, run.name) == [None]


def test_what_a_process_could_not_do_would_be_told(
    processes: BaseContext, empty_database: Engine
) -> None:
    (said,) = at_once(processes, empty_database, [seed_the_same])
    assert said.startswith("SchemaError: The tables are not there yet")
