"""Settings that cannot be are refused before any work; with odd ones the answer is right."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.database import verify
from resume_lab.database.indexes import IVFFlat, execute, literal
from resume_lab.errors import DatabaseError, DataError, ExperimentError, LabError
from resume_lab.retrieval import search, search_vector
from resume_lab.rollout.drift import measure_drift, own_table, stored_table
from resume_lab.rollout.migration import prepare
from resume_lab.tuning import Workload, measure, predict, tune, tune_grid
from resume_lab.tuning.results import TableInfo
from resume_lab.tuning.table import TableSource, read_table
from resume_lab.vectors import Kind, Metric
from tests.data.conftest import Held, Run, refused
from tests.retrieval.stored import MODEL, NEEDS, axes, store
from tests.retrieval.stored import finding as finding_of
from tests.rollout.kept_runs import finding, kept, run, tuned
from tests.tuning.factory import unit_rows

SMALL = Workload.of(unit_rows(50, 4), unit_rows(6, 4, seed=1), k=3)
ITEMS = TableInfo(("items",), "v", "id")
QUICK = ("--grid", "--queries", "6", "--rows", "60")


@pytest.fixture
def items(database: Engine) -> Engine:
    """A table of eight dimensions with an index that was built before its 400 rows came."""
    eight = ", ".join(["random() - 0.5"] * 8)
    found = finding(lists=20, probes=1, k=5, where=None, rows=0, needs=NEEDS)
    run(
        database,
        "CREATE TABLE items (id int, v vector(8))",
        "CREATE INDEX items_v ON items USING ivfflat (v vector_cosine_ops) WITH (lists = 20)",
        f"COMMENT ON INDEX items_v IS {literal(found.as_text())}",
        f"SELECT setseed(0.5); INSERT INTO items SELECT n, ARRAY[{eight}] "
        "FROM generate_series(1, 400) n",
    )
    return database


@pytest.fixture
def setting(database: Engine) -> Iterator[Callable[[str], None]]:
    """Change a setting of the database, as its owner can at any time."""

    def change(text: str) -> None:
        database.dispose()  # a session that has pgvector's library would check the value
        run(database, f"ALTER DATABASE {database.url.database} SET {text}")
        database.dispose()

    yield change
    database.dispose()


# --- lists, probes, k: what they can be


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (0, "lists is 0; pgvector takes 1 to 32768"),
        (-1, "lists is -1; pgvector takes"),
        (32_769, "lists is 32769; pgvector takes"),
        ("abc", "lists is 'abc'; permitted: whole numbers"),
        ("10", "lists is '10'; permitted: whole numbers"),
        (2.5, "lists is 2.5; permitted: whole numbers"),
        (None, "lists is None; permitted: whole numbers"),
        (51, "lists is 51, but there are only 50 rows"),
    ],
)
def test_lists_that_no_index_can_have_are_refused_before_anything_is_copied(
    lists: object, said: str
) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    for attempt in (tune, tune_grid):
        with pytest.raises(ExperimentError, match=said):
            attempt(nowhere, SMALL, lists=[lists])  # type: ignore[list-item]
    with pytest.raises(LabError, match=f"lists is {lists!r}"):
        predict(SMALL, [lists])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ([0], "probes is 0; with lists = 4 it can be 1 to 4"),
        ([-1], "probes is -1; with lists = 4"),
        (["abc"], "probes is 'abc'; permitted: whole numbers"),
        ("abc", "probes is 'a'; permitted: whole numbers"),
        (4, "probes is 4; permitted: a list"),
    ],
)
def test_probes_that_no_query_can_have_are_refused(probes: object, said: str) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    with pytest.raises(ExperimentError, match=said):
        tune_grid(nowhere, SMALL, lists=[4], probes=probes)  # type: ignore[arg-type]


def test_more_probes_than_lists_are_refused_for_one_index_and_told_in_a_grid(
    database: Engine, typed: Run
) -> None:
    with pytest.raises(ExperimentError, match="probes is 40000; with lists = 4 it can be 1 to 4"):
        measure(None, SMALL, IVFFlat(4), [40_000])  # type: ignore[arg-type]
    done = typed("tune", *QUICK, "--lists", 4, "--probes", "1,40000")
    assert done.returncode == 0
    assert "Probes 40000 were left out: no index has more than 4 lists." in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"rounds": "3"}, "rounds is '3'"),
        ({"target_recall": "high"}, "target recall is 'high'; it must be a number"),
        ({"target_recall": float("nan")}, "target recall is nan"),
        ({"max_ms": -1}, "latency budget is -1"),
        ({"lists": 5}, r"lists is 5; permitted: a list.\nSuch as lists=\[10, 50\]"),
        ({"storage": "toast"}, "storage is 'toast'; permitted: external, plain"),
    ],
)
def test_a_run_that_cannot_be_asked_for_is_refused(options: dict, said: str) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    with pytest.raises(LabError, match=said):
        tune(nowhere, SMALL, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k is 0; permitted: 1 or more"),
        ({"k": -1}, "k is -1"),
        ({"k": "3"}, "k is '3'; permitted: whole numbers"),
        ({"k": 51}, r"k is 51; permitted: .*1 to 50 \(the number of rows\)"),
        ({"metric": "l1"}, "metric is 'l1'; permitted: cosine, l2, ip"),
    ],
)
def test_a_workload_of_what_cannot_be_is_refused(options: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Workload.of(SMALL.vectors, SMALL.queries, **options)
    with pytest.raises(DataError):
        Workload.holding_out(SMALL.vectors, n_queries=1, **options)


@pytest.mark.parametrize(
    "options", [{"rows": 0}, {"rows": -5}, {"rows": "many"}, {"n_queries": 0}, {"kind": "square"}]
)
def test_vectors_that_cannot_be_generated_are_refused(options: dict) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(DataError, match=f"{name} is {value!r}; permitted: "):
        Workload.generated(**{"kind": "random", "rows": 9, "k": 1} | options)


def test_a_name_of_a_choice_is_taken_and_another_refused_with_what_there_is() -> None:
    assert (Kind("random"), Metric("l2")) == (Kind.RANDOM, Metric.L2)
    with pytest.raises(DataError, match="kind is 'x'; permitted: random, clustered, spectrum"):
        Kind("x")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"question": None}, "question is None; it must be a text"),
        ({"k": -1}, "k is -1; permitted: 1 to 1,000"),
        ({"k": 10**30}, "permitted: 1 to 1,000"),
        ({"category": 5}, "category is 5; it must be a text"),
        ({"model": 5}, "model is 5; it must be a text"),
        ({"source": 5}, "source is 5; it must be a text"),
        ({"tags": [1]}, "tag is 1; it must be a text"),
        ({"tags": 5}, r"tags is 5.\nGive a list: tags=\[5\]"),
    ],
)
def test_a_search_for_what_is_no_text_or_number_is_refused(options: dict, said: str) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    with pytest.raises(DataError, match=said):
        search(**{"question": "why", "engine": nowhere} | options)


def test_what_is_typed_wrongly_changes_nothing(items: Engine, typed: Run, held: Held) -> None:
    before = held()
    of_items = ("--table", "items", "--column", "v")
    for command, said in (
        (("tune", *QUICK, "--k", 500), "k is 500; permitted: whole numbers, 1 to 60"),
        (("tune", *QUICK, "--k", 0), "Invalid value for '--k'"),
        (("tune", *QUICK, "--lists", 61), "lists is 61, but there are only 60 rows"),
        (("tune", *QUICK, "--lists", 32769), "pgvector takes 1 to 32768"),
        (("tune", *QUICK, "--lists", "abc"), "--lists is 'abc'"),
        (("tune", *QUICK, "--probes", "abc"), "--probes is 'abc'"),
        (("tune", *of_items, "--k", 500), "for k = 500 it takes 505 or more"),
        (("tune", *of_items, "--where", "id = 1; DROP TABLE items"), "it holds a semicolon"),
        (("drift", *of_items, "--k", 400), "400 rows are too few to ask for 400 neighbours"),
        (("drift", *of_items, "--k", 0), "Invalid value for '--k'"),
        (("drift", *of_items, "--where", "id = "), "cannot be used: syntax error"),
        (("drift", *of_items, "--target", 2), "Invalid value for '--target'"),
        (("drift", "--model", "nobody's"), "No embeddings"),
        (("search", "why", "-k", -1), "k is -1; permitted: 1 to 1,000"),
        (("seed", "--kind", "square"), "'random', 'clustered', 'spectrum'"),
    ):
        refused(typed(*command), said)
    assert held() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": "3"}, "k is '3'"),
        ({"n_queries": 0}, "n_queries is 0"),
        ({"n_queries": -5}, "n_queries is -5"),
        ({"target_recall": 0}, "target recall is 0"),
        ({"target_recall": float("nan")}, "target recall is nan"),
    ],
)
def test_a_drift_that_cannot_be_measured_is_refused(options: dict, said: str) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    with pytest.raises(DataError, match=said):
        measure_drift(nowhere, ITEMS, **options)


@pytest.mark.parametrize(
    "options", [{"k": "3"}, {"n_queries": 2.5}, {"seed": -1}, {"max_rows": "all"}]
)
def test_a_table_read_with_what_is_no_number_is_refused(options: dict) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    with pytest.raises(DataError, match=f"{next(iter(options))} is "):
        read_table(nowhere, TableSource("items", "v"), **options)


def test_what_is_no_result_is_not_rolled_out(database: Engine) -> None:
    other = kept(tuned(ITEMS, dim=3))
    for result in (
        {},
        {"workload": None},
        other | {"workload": other["workload"] | {"distance": "l1"}},
    ):
        with pytest.raises(ExperimentError, match="not the result of a run") as raised:
            prepare(database, result)
        assert "resume-lab tune" in str(raised.value.hint)


# --- what stands in the database


def test_an_index_from_before_the_rows_is_found_by_its_recall(items: Engine, typed: Run) -> None:
    found = measure_drift(items, own_table(items, "items", "v"))
    assert found.is_below_target
    assert found.finding is not None
    assert (found.finding.rows, found.rows, found.index) == (0, 400, "items_v")
    done = typed("drift", "--table", "items", "--column", "v")
    assert done.returncode == 1
    assert "400 rows" in done.stdout
    assert "0 rows, pgvector" in done.stdout
    assert "Recall is below the target of 0.9" in done.stdout


def test_an_index_of_another_operator_class_is_not_used_and_that_is_said(database: Engine) -> None:
    for number in range(5):
        store(database, f"word {number}", axes(1, number), chunk_index=number)
    found = finding_of(MODEL, 2, 1)
    run(
        database,
        "DROP INDEX ix_chunk_embeddings_embedding",
        "CREATE INDEX other ON chunk_embeddings USING ivfflat (embedding vector_l2_ops) "
        f"WITH (lists = 2) WHERE {found.where}",
        f"ALTER DATABASE {database.url.database} SET enable_seqscan = off",
    )
    database.dispose()
    drift = measure_drift(database, stored_table(database), k=2)
    assert (drift.recall, drift.index) == (None, None)
    assert drift.verdict == "No vector index is used: every answer is exact."
    (check,) = (c for c in verify(database).checks if "cosine" in c.detail)
    assert not check.passed
    run(database, f"COMMENT ON INDEX other IS {literal(found.as_text())}")  # says cosine
    result = search_vector(database, axes(1), model=MODEL, explain=True)
    assert [hit.content for hit in result] == [f"word {number}" for number in range(5)]
    assert str(result.explanation).startswith("PostgreSQL did not take the tuned index other")
    drift = measure_drift(database, stored_table(database), k=2)
    assert drift.verdict == "The planner does not use other: it reads every row, which is exact."


def test_probes_set_before_pgvector_was_loaded_do_no_harm(
    items: Engine, setting: Callable[[str], None], typed: Run
) -> None:
    """PostgreSQL takes any text for a setting of a library that it has not loaded yet."""
    store(items, "mine", axes(1))
    setting("ivfflat.probes = 'banana'")
    run(items, "COMMENT ON INDEX items_v IS NULL")
    drift = measure_drift(items, ITEMS, target_recall=0.99)
    assert drift.is_below_target  # with 1 of 20 lists, which is what pgvector falls back to
    assert [hit.content for hit in search_vector(items, axes(1), model=MODEL)] == ["mine"]
    points = tune_grid(items, SMALL, lists=[4], probes=[1, 4], rounds=1).points
    assert [point.probes for point in points] == [1, 4]
    assert points[1].recall == 1.0
    assert typed("verify").returncode == 0


def test_little_memory_for_builds_is_raised_where_it_is_ours_and_named_where_it_is_not(
    database: Engine, setting: Callable[[str], None]
) -> None:
    setting("maintenance_work_mem = '1MB'")
    assert seeding.seed(database, rows=300, kind="clustered").added == 300
    found = tune_grid(database, Workload.stored(database, n_queries=6), lists=[8], rounds=1)
    assert found.points[-1].recall == 1.0
    planned = prepare(database, kept(dataclasses.replace(tuned(), workload=found.workload)))
    run(database, "DROP INDEX ix_chunk_embeddings_embedding")
    autocommit = database.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        for statement in planned.upgrade.alone:
            execute(connection, statement)
        assert connection.scalar(sa.text("SHOW maintenance_work_mem")) == "1MB"
        with pytest.raises(DatabaseError, match="memory required is") as raised:
            execute(
                connection,
                IVFFlat(100).ddl(("chunk_embeddings",), "embedding", "cosine", name="by_hand"),
            )
    assert "maintenance_work_mem" in str(raised.value.hint)
