"""The connection check: green on a good database, and on a bad one a reason and what to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.config import parse_database_url
from resume_lab.database import schema, verify
from resume_lab.database.session import engine_for
from resume_lab.database.verification import Check, Verification

NAMES = [
    "connection",
    "server",
    "extension",
    "tables",
    "migration",
    "vector index",
    "create, read, update, delete",
    "vector search",
    "relationships and cascade",
    "unique constraint",
]


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def failed(engine: Engine) -> dict[str, Check]:
    verification = verify(engine)
    assert not verification.passed
    return {check.name: check for check in verification.checks if not check.passed}


def test_every_check_passes_after_the_migration(any_empty_database: Engine) -> None:
    schema.upgrade(any_empty_database)
    verification = verify(any_empty_database)
    assert verification.passed, str(verification)
    assert [check.name for check in verification.checks] == NAMES
    assert all(check.ms > 0 and check.detail for check in verification.checks)
    details = {check.name: check.detail for check in verification.checks}
    assert details["server"].startswith("PostgreSQL 1")
    assert details["extension"] == "pgvector 0.8.5 in schema public"
    assert details["migration"] == f"at {schema.head()} (head)"
    assert details["tables"] == "document_chunks 0, query_logs 0, chunk_embeddings 0"


def test_it_leaves_nothing_behind_in_a_database_full_of_data(database: Engine, snapshot) -> None:
    seeding.seed(database, rows=2_000, kind="clustered")
    execute(database, "INSERT INTO query_logs (query_text) VALUES ('what?')")
    before = snapshot(database)
    for _ in range(2):
        verification = verify(database)
        assert verification.passed, str(verification)
    assert snapshot(database) == before
    assert "chunk_embeddings 2,000" in str(verification)


def test_an_unmigrated_database_is_told_to_migrate(empty_database: Engine) -> None:
    wrong = failed(empty_database)
    assert set(NAMES) - set(wrong) == {"connection", "server"}
    for name in ("extension", "tables", "migration", "vector index", "vector search"):
        assert "resume-lab migrate" in wrong[name].hint, name
    assert "no revision" in wrong["migration"].detail


def test_a_database_at_an_older_revision_is_told_to_migrate(database: Engine) -> None:
    execute(database, "UPDATE alembic_version SET version_num = 'older'")
    wrong = failed(database)
    assert set(wrong) == {"migration"}
    assert wrong["migration"].detail == f"The database is at older, not {schema.head()}."


def test_a_missing_extension_is_found(database: Engine) -> None:
    execute(database, "DROP EXTENSION vector CASCADE")
    wrong = failed(database)
    assert wrong["extension"].detail == "The extension vector is not there."
    assert wrong["tables"].detail == "chunk_embeddings lacks embedding."
    assert {"vector index", "vector search"} <= set(wrong)
    assert "create, read, update, delete" not in wrong


def test_an_invalid_index_is_found(database: Engine) -> None:
    execute(
        database,
        "UPDATE pg_index SET indisvalid = false "
        "WHERE indexrelid = 'ix_chunk_embeddings_embedding'::regclass",
    )
    wrong = failed(database)
    assert set(wrong) == {"vector index"}
    assert "ix_chunk_embeddings_embedding is invalid" in wrong["vector index"].detail
    assert "DROP INDEX ix_chunk_embeddings_embedding;" in wrong["vector index"].hint


def test_an_index_of_another_distance_does_not_count(database: Engine) -> None:
    execute(
        database,
        "DROP INDEX ix_chunk_embeddings_embedding",
        "CREATE INDEX l2 ON chunk_embeddings USING hnsw (embedding vector_l2_ops)",
    )
    assert set(failed(database)) == {"vector index"}


def test_a_dropped_unique_constraint_is_found(database: Engine) -> None:
    execute(
        database,
        "ALTER TABLE chunk_embeddings DROP CONSTRAINT uq_chunk_embeddings_chunk_id_embedding_model",
    )
    assert set(failed(database)) == {"unique constraint"}


def test_a_foreign_key_without_cascade_is_found(database: Engine) -> None:
    key = "fk_chunk_embeddings_chunk_id_document_chunks"
    execute(
        database,
        f"ALTER TABLE chunk_embeddings DROP CONSTRAINT {key}, ADD CONSTRAINT {key} "
        "FOREIGN KEY (chunk_id) REFERENCES document_chunks",
    )
    assert set(failed(database)) == {"relationships and cascade"}


@pytest.fixture
def reader(database: Engine) -> Iterator[Engine]:
    """An engine of a role that may read only."""
    execute(
        database,
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    engine = engine_for(database.url.set(username="reader"))
    yield engine
    engine.dispose()
    execute(database, "DROP OWNED BY reader", "DROP ROLE reader")


def test_a_role_that_may_only_read_is_told_what_to_grant(reader: Engine) -> None:
    wrong = failed(reader)
    assert set(wrong) == set(NAMES[6:])
    for check in wrong.values():
        assert check.detail == "permission denied for table document_chunks"
        assert "Grant this role SELECT, INSERT, UPDATE and DELETE" in check.hint


def test_a_read_only_server_is_told_from_missing_rights(database: Engine) -> None:
    read_only = {"options": "-c default_transaction_read_only=on"}
    engine = engine_for(database.url.update_query_dict(read_only))
    wrong = failed(engine)
    assert set(wrong) == set(NAMES[6:])
    assert "connect to the primary" in wrong["unique constraint"].hint
    engine.dispose()


def test_a_server_that_is_not_there_is_one_failed_check(tmp_path: Path) -> None:
    engine = engine_for(parse_database_url(f"postgresql://me:c4n4ry@/lab?host={tmp_path}"))
    verification = verify(engine)
    (check,) = verification.checks
    assert (check.name, check.passed) == ("connection", False)
    assert "No server listens on that socket" in check.hint
    assert "c4n4ry" not in str(verification) + verification._repr_html_()


TWO = Verification(
    (
        Check("good", True, 1.25, "as it should be", "not shown"),
        Check("bad", False, 1234.5, "<b>1 & 2</b>", "Type `x > y`."),
    )
)


def test_the_text_has_a_line_for_each_check_and_what_to_do() -> None:
    lines = str(TWO).splitlines()
    assert lines[0].split() == ["passed", "good", "1.2", "ms", "as", "it", "should", "be"]
    assert lines[1].split()[:4] == ["FAILED", "bad", "1234.5", "ms"]
    assert lines[2] == "        -> Type `x > y`."
    assert lines[3] == "1 of 2 checks failed."
    assert str(Verification(TWO.checks[:1])).endswith("All checks passed.")


def test_the_table_of_a_notebook_is_escaped() -> None:
    table = TWO._repr_html_()
    assert "&lt;b&gt;1 &amp; 2&lt;/b&gt;" in table
    assert "x &gt; y" in table
    assert "<b>1" not in table
    assert "not shown" not in table
    assert table.count("<tr>") == 3


def test_the_dictionary_says_the_same() -> None:
    assert TWO.as_dict()["passed"] is False
    assert TWO.as_dict()["checks"][1] == {
        "name": "bad",
        "passed": False,
        "ms": 1234.5,
        "detail": "<b>1 & 2</b>",
        "hint": "Type `x > y`.",
    }
