"""The recall of the index in use, held against what SQL says of the same rows."""

import dataclasses
import re

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.errors import DatabaseError, DataError, SchemaError
from resume_lab.rollout import drift, table_search
from resume_lab.rollout.drift import Drift, measure_drift, own_table, stored_table
from resume_lab.tuning.results import TableInfo
from resume_lab.vectors import RecallSummary

from .kept_runs import MODEL, add_rows, finding, run

ROWS, K = 300, 5
NEEDS = {"enable_seqscan": "off", "enable_sort": "off"}
ITEMS = TableInfo(("items",), "v", "")
FOUND = finding(lists=12, probes=2, k=K, where=None, rows=ROWS, needs=NEEDS, distance="l2")


@pytest.fixture
def items(database: Engine) -> Engine:
    """A table of random vectors in eight dimensions, with an index by Euclidean distance."""
    eight = ", ".join(["random()"] * 8)
    run(
        database,
        "CREATE TABLE items (id int PRIMARY KEY, v vector(8))",
        f"SELECT setseed(0.5); INSERT INTO items SELECT n, ARRAY[{eight}]::vector "
        f"FROM generate_series(1, {ROWS}) n",
        "CREATE INDEX items_v ON items USING ivfflat (v vector_l2_ops) WITH (lists = 12)",
    )
    return database


def comment(engine: Engine, index: str, **changes: object) -> None:
    text = dataclasses.replace(FOUND, **changes).as_text().replace("'", "''")
    run(engine, f"COMMENT ON INDEX {index} IS '{text}'")


def recall_by_sql(engine: Engine, operator: str, probes: int) -> float:
    """The mean share of the true K others that a search of K + 1 finds, over all rows."""
    others = (
        "ARRAY(SELECT id FROM (SELECT id FROM items ORDER BY {order} LIMIT :k + 1) n "
        "WHERE id <> :me LIMIT :k)"
    )
    distance = f"(v {operator} CAST(:v AS vector))"
    by_index = sa.text("SELECT " + others.format(order=distance))
    exactly = sa.text("SELECT " + others.format(order=distance + " + 0"))  # no index orders by it
    shares = []
    with engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT id, v::text FROM items")).all()
        for setting in ("enable_seqscan = off", "enable_sort = off", f"ivfflat.probes = {probes}"):
            connection.execute(sa.text(f"SET LOCAL {setting}"))
        for number, vector in rows:
            values = {"v": vector, "me": number, "k": K}
            found, true = (set(connection.scalar(q, values)) for q in (by_index, exactly))
            shares.append(len(found & true) / K)
    return sum(shares) / len(shares)


@pytest.mark.parametrize("block_rows", [7, 4096])
def test_the_recall_is_that_of_the_index_with_its_probes(
    items: Engine, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr(table_search, "BLOCK_ROWS", block_rows)
    comment(items, "items_v")
    found = measure_drift(items, ITEMS, n_queries=ROWS)
    assert found.recall is not None
    assert found.recall.mean == pytest.approx(recall_by_sql(items, "<->", probes=2))
    assert 0.3 < found.recall.low < found.recall.mean < found.recall.high < 1
    assert (found.index, found.tuned, found.k, found.rows) == ("items_v", "items_v", K, ROWS)
    assert found.recall.n_queries == ROWS


@pytest.mark.parametrize(("distance", "operator"), [("cosine", "<=>"), ("ip", "<#>")])
def test_every_distance(items: Engine, distance: str, operator: str) -> None:
    run(
        items,
        "DROP INDEX items_v",
        f"CREATE INDEX other ON items USING ivfflat (v vector_{distance}_ops) WITH (lists = 12)",
    )
    comment(items, "other", distance=distance, probes=3)
    found = measure_drift(items, ITEMS, n_queries=ROWS)
    assert found.recall is not None
    assert found.recall.mean == pytest.approx(recall_by_sql(items, operator, probes=3))


def test_all_lists_probed_are_exact_with_equal_zero_and_missing_vectors(items: Engine) -> None:
    run(
        items,
        "DROP INDEX items_v",
        "UPDATE items SET v = '[1,2,3,4,5,6,7,8]' WHERE id <= 40",
        "UPDATE items SET v = '[0,0,0,0,0,0,0,0]' WHERE id BETWEEN 41 AND 60",
        "UPDATE items SET v = NULL WHERE id BETWEEN 61 AND 80",
        "CREATE INDEX items_v ON items USING ivfflat (v vector_cosine_ops) WITH (lists = 12)",
    )
    comment(items, "items_v", distance="cosine", probes=12)
    found = measure_drift(items, ITEMS, n_queries=ROWS)
    assert found.recall is not None
    assert (found.recall.mean, found.recall.n_queries, found.rows) == (1.0, ROWS - 40, ROWS - 20)


def test_it_says_what_was_then_and_what_is_now(items: Engine) -> None:
    comment(items, "items_v", rows=200, pgvector_version="0.7.0", probes=12)
    text = str(measure_drift(items, ITEMS))
    assert re.search(r"^items\.v: 300 rows, pgvector 0\.8\.\d+\.$", text, re.M)
    assert "recall@5 1.000 (" in text
    assert "200 rows, pgvector 0.7.0, 2026-02-13." in text
    assert text.endswith("Fine: recall reaches the target of 0.9.")


def test_below_the_target_and_the_target_asked_for(items: Engine) -> None:
    comment(items, "items_v")
    found = measure_drift(items, ITEMS)
    assert found.target_recall == 0.9
    assert found.is_below_target
    assert "`resume-lab tune`, then `resume-lab rollout`" in found.verdict
    assert not measure_drift(items, ITEMS, target_recall=0.3).is_below_target


def test_an_index_without_a_finding_has_the_probes_of_the_server(items: Engine) -> None:
    run(
        items,
        "COMMENT ON INDEX items_v IS 'mine'",
        f"ALTER DATABASE {items.url.database} SET enable_seqscan = off",
        f"ALTER DATABASE {items.url.database} SET enable_sort = off",
    )
    items.dispose()
    found = measure_drift(items, ITEMS, k=K, n_queries=ROWS)
    assert found.recall is not None
    assert found.recall.mean == pytest.approx(recall_by_sql(items, "<->", probes=1))
    assert found.verdict.startswith("items_v has no finding")
    assert "no target" in found.verdict
    assert not found.is_below_target


def test_what_the_planner_does_not_use_is_exact(items: Engine) -> None:
    comment(items, "items_v", needs={})
    run(items, f"ALTER DATABASE {items.url.database} SET enable_indexscan = off")
    items.dispose()
    found = measure_drift(items, ITEMS)
    assert (found.recall, found.index, found.tuned) == (None, None, "items_v")
    assert "planner does not use items_v" in found.verdict
    run(items, "DROP INDEX items_v")
    found = measure_drift(items, ITEMS)
    assert found.verdict == "No vector index is used: every answer is exact."
    assert not found.is_below_target


SUMMARY = RecallSummary(0.92, 0.89, 0.95, 0.8, 0.5, 200)


@pytest.mark.parametrize(
    ("target", "tuned", "below", "said"),
    [
        (0.92, "i", False, "its interval goes below"),
        (0.921, "i", True, "below the target of 0.921"),
        (0.88, "i", False, "Fine"),
        (0.88, "j", False, "takes i instead of the tuned j. Fine"),
    ],
)
def test_the_verdict(target: float, tuned: str, below: bool, said: str) -> None:
    found = Drift("m", 10, SUMMARY, target, "i", tuned, FOUND, 300, "0.8.5")
    assert found.is_below_target == below
    assert said in found.verdict
    assert found.as_dict()["verdict"] == found.verdict


def test_the_rows_of_a_table_are_those_of_its_tuned_index(items: Engine) -> None:
    where = "id % 2 = 0 -- even ones"
    run(
        items,
        "CREATE INDEX even ON items USING ivfflat (v vector_l2_ops) WITH (lists = 4) "
        "WHERE id % 2 = 0",
    )
    comment(items, "even", where=where, lists=4, probes=4)
    table = own_table(items, "public.Items", "V")
    assert (table.table, table.column, table.where) == (("public", "items"), "v", where)
    found = measure_drift(items, table)
    assert found.rows == ROWS / 2
    assert found.tuned == "even"
    assert own_table(items, "items", "v", "id < 9").where == "id < 9"


def test_stored_embeddings_are_those_of_one_model(database: Engine) -> None:
    add_rows(database, MODEL, 60)
    add_rows(database, "another", 20)
    table = stored_table(database)
    assert table.embedding_model == MODEL
    assert measure_drift(database, table, n_queries=5, k=3).rows == 60
    assert stored_table(database, "another").where == "embedding_model = 'another'"
    with pytest.raises(DataError, match="No embeddings of 'nobody'") as raised:
        stored_table(database, "nobody")
    assert "another" in raised.value.hint


def test_mistakes_end_in_a_sentence(items: Engine) -> None:
    with pytest.raises(DataError, match="300 rows are too few to ask for 300 neighbours"):
        measure_drift(items, ITEMS, k=300)
    with pytest.raises(DataError, match="0 rows are too few"):
        measure_drift(items, dataclasses.replace(ITEMS, where="false"))
    with pytest.raises(DatabaseError, match="syntax error"):
        measure_drift(items, dataclasses.replace(ITEMS, where="id <<"))
    run(items, "CREATE SEQUENCE counter")
    with pytest.raises(DatabaseError, match="read-only"):
        measure_drift(items, dataclasses.replace(ITEMS, where="nextval('counter') > 0"))
    with pytest.raises(SchemaError, match="nowhere"):
        own_table(items, "nowhere", "v")


def test_the_same_rows_are_asked_for_each_time(items: Engine) -> None:
    comment(items, "items_v")
    assert drift.DEFAULT_QUERIES < ROWS
    assert measure_drift(items, ITEMS) == measure_drift(items, ITEMS)
