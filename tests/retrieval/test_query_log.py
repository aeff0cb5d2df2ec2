"""Questions are kept with what was found and answered, and read back."""

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.session import engine_for
from resume_lab.errors import DataError, SchemaError
from resume_lab.retrieval import log_question, logged_questions

ROLE = "only_writes_the_log"


def rows(engine: Engine) -> list[tuple[object, ...]]:
    statement = "SELECT query_text, retrieved_chunk_ids, response_text FROM query_logs ORDER BY 1"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def test_a_question_is_kept_whatever_it_holds(database: Engine) -> None:
    log_question(database, "a 100% 'sure' question?", [3, 1], "An answer.")
    log_question(database, "b\0c\ud800", [], None)
    assert rows(database) == [
        ("a 100% 'sure' question?", [3, 1], "An answer."),
        ("bc?", [], None),
    ]


def test_questions_come_back_once_and_the_newest_first(database: Engine) -> None:
    for question in ("first", "second", "  ", "", "third", "first", "first "):
        log_question(database, question, [], None)
    assert logged_questions(database, 10) == ["first ", "first", "third", "second"]
    assert logged_questions(database, 2) == ["first ", "first"]


def test_nothing_asked_is_an_empty_list(database: Engine) -> None:
    assert logged_questions(database, 5) == []
    with pytest.raises(DataError, match="limit is 0"):
        logged_questions(database, 0)


def test_a_role_that_may_only_insert_can_log(database: Engine) -> None:
    with database.begin() as connection:
        for statement in (
            f"CREATE ROLE {ROLE} LOGIN",
            f"GRANT INSERT ON query_logs TO {ROLE}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
        ):
            connection.execute(sa.text(statement))
    engine = engine_for(database.url.set(username=ROLE))
    try:
        log_question(engine, "allowed?", [1], "yes")
    finally:
        engine.dispose()
        with database.begin() as connection:
            connection.execute(sa.text(f"DROP OWNED BY {ROLE}"))
            connection.execute(sa.text(f"DROP ROLE {ROLE}"))
    assert rows(database) == [("allowed?", [1], "yes")]


def test_without_tables_a_migration_is_asked_for(empty_database: Engine) -> None:
    with pytest.raises(SchemaError, match="resume-lab migrate"):
        log_question(empty_database, "a", [], None)
    with pytest.raises(SchemaError, match="resume-lab migrate"):
        logged_questions(empty_database, 1)
