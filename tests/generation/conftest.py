"""Stored passages, an embedder of their words, and what was logged."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from model_server import model_settings, vector_of
from numpy.typing import NDArray
from pytest_httpserver import HTTPServer
from sqlalchemy.engine import Engine

from resume_lab.config import Settings
from resume_lab.database import (
    EMBEDDING_DIM,
    ChunkEmbedding,
    DocumentChunk,
    QueryLog,
    session_factory,
)
from resume_lab.embedding import service
from resume_lab.embedding.embedder import LEXICAL_MODEL
from resume_lab.generation import Answer, ask

from .factory import QUESTION, Ask, Logged


class WordEmbedder:
    """One dimension a word, so that only texts with common words are near."""

    model = LEXICAL_MODEL
    is_remote = False

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        vectors = np.stack([vector_of(text, EMBEDDING_DIM) for text in texts])
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def store(database: Engine, embedder: WordEmbedder) -> Callable[..., int]:
    """What stores a passage and returns its chunk id."""

    def stored(content: str, **columns: Any) -> int:
        (vector,) = next(embedder.batches([content]))
        values = {
            "source_file": "content/life.md",
            "document_title": "Life",
            "chunk_index": 0,
            "metadata_json": {"resume_lab": {"headings": "Work"}},
        }
        with session_factory(database).begin() as session:
            chunk = DocumentChunk(content=content, **values | columns)
            chunk.embeddings = [
                ChunkEmbedding(embedding=vector.tolist(), embedding_model=embedder.model)
            ]
            session.add(chunk)
            session.flush()
            return chunk.chunk_id

    return stored


@pytest.fixture
def passages(store: Callable[..., int]) -> list[int]:
    """The chunk ids of three passages about a career."""
    return [
        store("At Harvard the Mark I computer was programmed.", source_file="content/harvard.md"),
        store("The compiler A-0 was written for a computer.", source_file="content/work.md"),
        store("A moth was found in the Mark II computer.", source_file="content/bug.md"),
    ]


@pytest.fixture
def logged(database: Engine) -> Logged:
    """What returns question, chunk ids and response of every row of query_logs."""

    def rows() -> list[tuple[str, list[int], str | None]]:
        with session_factory(database)() as session:
            logs = session.scalars(sa.select(QueryLog).order_by(QueryLog.query_id)).all()
        return [(log.query_text, log.retrieved_chunk_ids, log.response_text) for log in logs]

    return rows


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried twice, and no answer is waited for long."""
    monkeypatch.setattr(service, "MAX_RETRIES", 0)
    monkeypatch.setattr(service, "TIMEOUT_S", 0.2)


@pytest.fixture
def by_model(database: Engine, embedder: Any, httpserver: HTTPServer) -> Ask:
    """`ask` with a local server that answers."""
    settings = model_settings(httpserver, chat_model="small-model")

    def asking(question: str = QUESTION, **options: Any) -> Answer:
        return ask(
            question, **{"engine": database, "embedder": embedder, "settings": settings, **options}
        )

    return asking


@pytest.fixture
def by_passages(database: Engine, embedder: Any) -> Ask:
    """`ask` without key and server."""

    def asking(question: str = QUESTION, **options: Any) -> Answer:
        return ask(
            question, engine=database, embedder=embedder, **{"settings": Settings(), **options}
        )

    return asking
