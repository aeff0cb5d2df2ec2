"""What is logged of a question: its answer, the error in its place, or nothing."""

import contextlib
from typing import Any

import pytest
import sqlalchemy as sa
from model_server import CHAT, KEY, asked, model_settings, refuse, serve_chat
from pytest_httpserver import HTTPServer
from sqlalchemy.engine import Engine

from resume_lab.config import Settings
from resume_lab.errors import ConfigError, DatabaseError, DataError, ServiceError

from .factory import QUESTION, Ask, Logged


def test_a_refused_key_is_an_error_that_is_logged_without_it(
    by_model: Ask, passages: list[int], httpserver: HTTPServer, logged: Logged
) -> None:
    refuse(httpserver, 401, f"Incorrect API key provided: {KEY}", path=CHAT)
    with pytest.raises(ServiceError) as raised:
        by_model()
    [(question, ids, response)] = logged()
    assert (question, sorted(ids)) == (QUESTION, passages)
    assert response == f"Error: {raised.value.message}"
    assert KEY not in f"{raised.value}{response}"
    assert "small-model" in response


@pytest.mark.parametrize("failure", [{"broken": True}, {"error": "out of memory"}])
def test_what_came_before_the_server_failed_is_logged(
    by_model: Ask,
    passages: list[int],
    httpserver: HTTPServer,
    logged: Logged,
    failure: dict[str, Any],
) -> None:
    serve_chat(httpserver, ["The Mark I [1]", " and"], **failure)
    pieces: list[str] = []
    with pytest.raises(ServiceError) as raised:
        by_model(on_text=pieces.append)
    assert "".join(pieces) == "The Mark I [1] and"
    [(_, _, response)] = logged()
    assert response == f"Error: {raised.value.message}\n\nThe Mark I [1] and"


@pytest.mark.parametrize(
    ("error", "response"),
    [
        (ServiceError("It is away.", hint="Wait."), "Error: It is away."),
        (ConfigError("Its vectors are too long.", hint="Change."), "Error: Its vectors are too"),
        (DataError("Text 1 has 9,000 tokens."), "Error: Text 1 has 9,000 tokens."),
        (ValueError("odd"), "Error: odd"),
        (RuntimeError(), "Error: RuntimeError"),
        (KeyboardInterrupt(), "(interrupted)"),
    ],
    ids=repr,
)
def test_a_question_whose_embedding_fails_is_logged(
    by_model: Ask,
    passages: list[int],
    embedder: Any,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    response: str,
) -> None:
    def fail(_texts: object) -> None:
        raise error

    monkeypatch.setattr(embedder, "batches", fail)
    with pytest.raises(type(error)):
        by_model()
    [(question, ids, said)] = logged()
    assert (question, ids) == (QUESTION, [])
    assert str(said).startswith(response)


def test_where_the_database_fails_nothing_is_logged(
    by_model: Ask, embedder: Any, passages: list[int], logged: Logged, database: Engine
) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("DROP TABLE chunk_embeddings"))
    with pytest.raises(DatabaseError):
        by_model()
    assert logged() == []


@pytest.mark.parametrize(
    ("error", "said"),
    [(ConfigError("No."), "No."), (RuntimeError("full"), "full"), (TypeError(), "TypeError")],
    ids=repr,
)
def test_any_error_after_the_search_is_logged_with_what_was_said(
    by_model: Ask,
    passages: list[int],
    httpserver: HTTPServer,
    logged: Logged,
    error: Exception,
    said: str,
) -> None:
    def stop(_piece: str) -> None:
        raise error

    serve_chat(httpserver, ["The Mark I [1]", " and"])
    with pytest.raises(type(error)):
        by_model(on_text=stop)
    [(_, ids, response)] = logged()
    assert sorted(ids) == passages
    assert response == f"Error: {said}\n\nThe Mark I [1]"


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_what_came_before_an_interrupt_is_logged(
    by_model: Ask,
    passages: list[int],
    httpserver: HTTPServer,
    logged: Logged,
    error: type[BaseException],
) -> None:
    def stop(piece: str) -> None:
        if "and" in piece:
            raise error

    serve_chat(httpserver, ["The Mark I [1]", " and", " more"])
    with pytest.raises(error):
        by_model(on_text=stop)
    assert [response for _, _, response in logged()] == ["The Mark I [1] and\n(interrupted)"]


@pytest.mark.parametrize("error", [None, ServiceError, KeyboardInterrupt])
@pytest.mark.parametrize("options", [{"log": False}, {}], ids=str)
def test_logging_can_be_switched_off(
    by_model: Ask,
    passages: list[int],
    httpserver: HTTPServer,
    logged: Logged,
    options: dict[str, Any],
    error: type[BaseException] | None,
) -> None:
    def stop(_piece: str) -> None:
        if error is KeyboardInterrupt:
            raise error

    if error is ServiceError:
        refuse(httpserver, 401, path=CHAT)
    else:
        serve_chat(httpserver, ["The Mark I [1]."])
    settings = model_settings(httpserver, log_questions=bool(options))
    with pytest.raises(error) if error else contextlib.nullcontext():
        assert by_model(settings=settings, on_text=stop, **options).is_known
    assert logged() == []


def test_what_is_asked_for_wins_over_the_setting(
    by_passages: Ask, passages: list[int], logged: Logged
) -> None:
    by_passages(settings=Settings(log_questions=False), log=True)
    assert len(logged()) == 1


def test_an_answer_that_cannot_be_logged_is_not_lost(
    by_model: Ask, passages: list[int], httpserver: HTTPServer, database: Engine
) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("DROP TABLE query_logs"))
    serve_chat(httpserver, ["The Mark I [1]."])
    answer = by_model()
    assert answer.text == "The Mark I [1]."
    assert str(answer.note).startswith("The question was not logged: ")
    httpserver.clear()
    refuse(httpserver, 401, path=CHAT)
    with pytest.raises(ServiceError, match="refused the key"):
        by_model()


@pytest.mark.parametrize("question", ["x" * 100_000, " ", ""])
def test_a_question_that_cannot_be_asked_is_not_logged(
    by_model: Ask, passages: list[int], httpserver: HTTPServer, logged: Logged, question: str
) -> None:
    with pytest.raises(DataError):
        by_model(question)
    assert asked(httpserver) == []
    assert logged() == []
