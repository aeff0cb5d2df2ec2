"""Chunks with vectors worked out by hand, an embedder that knows a few texts, a tuned index."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import ChunkEmbedding, DocumentChunk
from resume_lab.database.indexes import execute, literal
from resume_lab.rollout.finding import Finding

MODEL = "fake/axes"
TUNED = "lab_ivfflat_fake"
# On so few rows the planner would rather scan than read an index.
NEEDS = {"enable_sort": "off", "enable_seqscan": "off"}


def axes(*weights: float) -> np.ndarray:
    """A vector that is zero after these."""
    vector = np.zeros(1536, np.float32)
    vector[: len(weights)] = weights
    return vector


class FakeEmbedder:
    model = MODEL
    is_remote = False

    def __init__(self, vectors: Mapping[str, np.ndarray]) -> None:
        self.vectors = vectors
        self.asked: list[str] = []

    def batches(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        self.asked += texts
        yield np.stack([self.vectors[text] for text in texts])


def store(
    engine: Engine, content: str, vector: np.ndarray, *, model: str = MODEL, **columns: Any
) -> int:
    """Insert a chunk and its embedding; return its id."""
    row = {"content": content, "source_file": "content/a.md", "chunk_index": 0} | columns
    with engine.begin() as connection:
        chunk_id = connection.scalar(
            sa.insert(DocumentChunk).values(row).returning(DocumentChunk.chunk_id)
        )
        connection.execute(
            sa.insert(ChunkEmbedding).values(
                chunk_id=chunk_id, embedding=vector, embedding_model=model
            )
        )
    return chunk_id


def finding(model: str, lists: int, probes: int) -> Finding:
    return Finding(
        lists=lists, probes=probes, k=10, distance="cosine", target_recall=0.9, recall=0.95,
        recall_low=0.93, confirmed_recall=0.94, rows=1, where=f"embedding_model = {literal(model)}",
        pgvector_version="0.8.5", date="2026-02-13", needs=NEEDS,
    )  # fmt: skip


def tune(engine: Engine, model: str, *, lists: int, probes: int, index: str = TUNED) -> None:
    """Build an index for one model that says its probes."""
    found = finding(model, lists, probes)
    with engine.begin() as connection:
        execute(connection, "DROP INDEX IF EXISTS ix_chunk_embeddings_embedding")
        execute(
            connection,
            f"CREATE INDEX {index} ON chunk_embeddings USING ivfflat "
            f"(embedding vector_cosine_ops) WITH (lists = {lists}) WHERE {found.where}",
        )
        execute(connection, f"COMMENT ON INDEX {index} IS {literal(found.as_text())}")
