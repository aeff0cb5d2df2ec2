"""The JSON in an index's comment: what it carries, and what is not mistaken for it."""

import dataclasses
import json
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from resume_lab.errors import DatabaseError
from resume_lab.rollout.finding import Finding, standing_indexes, tuned_index, use

from .kept_runs import MODEL, finding, run

TABLE = ("chunk_embeddings",)
WHERE = f"embedding_model = '{MODEL}'"


def index(name: str, comment: str | None = None, where: str = "", lists: int = 3) -> list[str]:
    made = (
        f"CREATE INDEX {name} ON chunk_embeddings USING ivfflat (embedding vector_cosine_ops) "
        f"WITH (lists = {lists}) {where}"
    )
    return [made] if comment is None else [made, f"COMMENT ON INDEX {name} IS $${comment}$$"]


@pytest.mark.parametrize(
    "found",
    [
        finding(),
        finding(target_recall=None, confirmed_recall=0.94, where=None, rows=0),
        finding(where="größe = 'it''s \\ \"'", needs={"enable_sort": "off"}),
    ],
)
def test_it_comes_back_as_it_was(found: Finding) -> None:
    text = found.as_text()
    assert Finding.of_text(text) == found
    assert text.isascii()
    assert next(iter(json.loads(text))) == "resume_lab_finding"


@pytest.mark.parametrize(
    "comment",
    [None, "", "the index of the search page", "{}", "[]", "7", '"x"', "{" * 9000, "[" * 100_000],
)
def test_a_comment_of_somebody_else_is_no_finding(comment: str | None) -> None:
    assert Finding.of_text(comment) is None


@given(st.text())
def test_no_text_breaks_it(comment: str) -> None:
    assert Finding.of_text(comment) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resume_lab_finding", 2),
        ("probes", 0), ("probes", 5), ("probes", "2"), ("probes", True), ("lists", 40_000),
        ("k", 0), ("rows", -1), ("recall", 1.1), ("recall_low", float("nan")), ("recall", None),
        ("distance", "jaccard"), ("where", 3), ("date", None), ("needs", []),
        ("needs", {"search_path": "evil"}), ("needs", {"enable_sort": "off; DROP"}),
    ],
)  # fmt: skip
def test_a_broken_finding_is_none(name: str, value: Any) -> None:
    held = json.loads(finding().as_text()) | {name: value}
    assert Finding.of_text(json.dumps(held)) is None
    del held[name]
    assert Finding.of_text(json.dumps(held)) is None


def test_the_indexes_of_a_column_with_their_findings(database: Engine) -> None:
    run(
        database,
        *index("tuned", finding().as_text(), f"WHERE {WHERE}"),
        "CREATE INDEX graph ON chunk_embeddings USING hnsw (embedding vector_l2_ops)",
    )
    with database.connect() as connection:
        general, tuned, graph = standing_indexes(connection, TABLE, "embedding")
        assert standing_indexes(connection, TABLE, "chunk_id") == []
        assert standing_indexes(connection, ("nothing",), "embedding") == []
    assert (general.lists, general.partial, general.finding) == (100, False, None)
    assert (tuned.name, tuned.partial, tuned.finding) == ("tuned", True, finding())
    assert tuned.target.startswith("public.chunk_embeddings USING ivfflat (embedding vector_cos")
    assert (general.distance, graph.distance, graph.lists) == ("cosine", "l2", None)


def test_the_newest_valid_index_for_the_rows_counts(database: Engine) -> None:
    for_others = finding(where="embedding_model = 'other'").as_text()
    newest = finding(probes=3)
    run(
        database,
        *index("older", finding().as_text()),
        *index("newer", newest.as_text()),
        *index("others", for_others),
        *index("broken", finding(probes=4).as_text()),
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
    )
    with database.connect() as connection:
        found = tuned_index(connection, TABLE, "embedding", WHERE)
        assert found is not None
        assert (found[0].name, found[1]) == ("newer", newest)
        assert tuned_index(connection, TABLE, "embedding", "embedding_model = 'third'") is None


def test_its_settings_last_as_long_as_the_transaction(database: Engine) -> None:
    found = finding(needs={"enable_sort": "off"})
    shown = [sa.text("SHOW ivfflat.probes"), sa.text("SHOW enable_sort")]
    with database.connect() as connection:  # a new session: the library is not loaded yet
        with connection.begin():
            use(connection, found)
            assert [connection.scalar(name) for name in shown] == ["2", "off"]
        assert [connection.scalar(name) for name in shown] == ["1", "on"]


def test_a_value_is_checked_even_in_a_new_session(database: Engine) -> None:
    found = dataclasses.replace(finding(), probes=40_000)
    with (
        database.connect() as connection,
        pytest.raises(sa.exc.DBAPIError, match="outside the valid range"),
    ):
        use(connection, found)


def test_a_connection_without_transactions_is_refused(database: Engine) -> None:
    autocommit = database.execution_options(isolation_level="AUTOCOMMIT")
    with (
        autocommit.connect() as connection,
        pytest.raises(DatabaseError, match="commits each statement by itself"),
    ):
        use(connection, finding())
