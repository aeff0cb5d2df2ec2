"""A question answered from what is stored: by a model, or by the passages as they stand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.config import Settings
from resume_lab.database.session import lent_engine
from resume_lab.embedding import Embedder
from resume_lab.errors import ConfigError, DatabaseError, LabError
from resume_lab.generation.answer import PASSAGES, Answer, joined
from resume_lab.generation.by_model import answer_by_model
from resume_lab.generation.by_passages import answer_by_passages
from resume_lab.retrieval import By, SearchResult, log_question, search
from resume_lab.retrieval.search import check_question

if TYPE_CHECKING:
    from openai import OpenAI

MODEL = "model"


def ask(
    question: str,
    *,
    engine: Engine | None = None,
    k: int = 5,
    category: str | None = None,
    tags: Sequence[str] | None = None,
    model: str | None = None,
    source: str | None = None,
    by: By | str = By.HYBRID,
    answer_by: str | None = None,
    log: bool | None = None,
    on_text: Callable[[str], object] | None = None,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> Answer:
    """Answer `question` from the k passages found for it, citing them by number.

    `model` is the embedding model. `answer_by` is "model" or "passages" (as they stand); by default
    a model where there is a key or a server. `on_text` gets the text of the answer piece by piece,
    as it comes. `log` keeps question, chunk ids and answer, or the error in its place, in
    query_logs; by default as LOG_QUESTIONS says.

    Raises what `search` raises; ConfigError for a model without key and server; ServiceError where
    the model fails.
    """
    check_question(question)
    settings = settings or Settings()
    is_logged = settings.log_questions if log is None else log
    said = _Said(on_text)
    found: SearchResult | None = None
    with _client(answer_by, settings) as client, lent_engine(engine, settings) as engine:
        try:
            found = search(
                question,
                engine=engine,
                k=k,
                category=category,
                tags=tags,
                model=model,
                source=source,
                by=by,
                embedder=embedder,
                settings=settings,
            )
            if client is not None and found.hits:
                answer = answer_by_model(found, client, settings, said.add)
            else:
                answer = answer_by_passages(found, settings, said.add)
        except BaseException as error:
            if is_logged and not isinstance(error, DatabaseError):  # there a log would fail too
                _log(engine, question, found, _broken_off(said.text, error))
            raise
        problem = _log(engine, question, found, _whole(answer)) if is_logged else None
    return replace(answer, note=joined(answer.note, problem))


class _Said:
    """What was said so far, passed on as it comes."""

    def __init__(self, on_text: Callable[[str], object] | None) -> None:
        self.text = ""
        self._on_text = on_text

    def add(self, piece: str) -> None:
        self.text += piece
        if self._on_text is not None and piece:
            self._on_text(piece)


def _client(
    answer_by: str | None, settings: Settings
) -> contextlib.AbstractContextManager[OpenAI | None]:
    """Return the client of the server that answers; of None where the passages do."""
    if answer_by not in (None, MODEL, PASSAGES):
        raise ConfigError(f"answer_by is {answer_by!r}; permitted: {MODEL}, {PASSAGES}.")
    if answer_by == PASSAGES or (answer_by is None and not settings.has_model_server):
        return contextlib.nullcontext()
    from resume_lab.embedding.service import openai_client  # slow to import: openai

    return openai_client(settings)


def _whole(answer: Answer) -> str:
    """Return what is logged of an answer: its text, and why it is cut short."""
    return f"{answer.text}\n\n({answer.cut_short})" if answer.cut_short else answer.text


def _broken_off(text: str, error: BaseException) -> str:
    """Return what is logged of an answer that an error or an interrupt ended after `text`."""
    if isinstance(error, BrokenPipeError) or not isinstance(error, Exception):
        return f"{text}\n(interrupted)".strip()
    message = error.message if isinstance(error, LabError) else str(error)
    return f"Error: {message or type(error).__name__}\n\n{text}".strip()


def _log(engine: Engine, question: str, found: SearchResult | None, response: str) -> str | None:
    """Log the question; a failure to do so is returned as a sentence, so that no answer is lost."""
    chunk_ids = [hit.chunk_id for hit in found.hits] if found is not None else []
    try:
        log_question(engine, question, chunk_ids, response)
    except (sa.exc.SQLAlchemyError, LabError) as error:
        return f"The question was not logged: {str(error).splitlines()[0]}"
    return None
