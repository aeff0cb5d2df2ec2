"""The three tables of "ask my resume": chunks of text, their embeddings, the questions asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    Computed,
    DateTime,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.types import Integer

from resume_lab.database.base import Base

EMBEDDING_DIM = 1536
EMBEDDING_INDEX = "ix_chunk_embeddings_embedding"
INITIAL_LISTS = 100

CHUNK_COLUMNS = (
    "chunk_id",
    "content",
    "source_file",
    "category",
    "document_title",
    "chunk_index",
    "metadata_json",
)
EMBEDDING_COLUMNS = ("chunk_id", "embedding", "embedding_model")
"""What a load writes of each table, in the order of its COPY."""

# As PostgreSQL shows it, so that `alembic check` sees no difference.
SEARCH_WORDS = """
CASE WHEN metadata_json = '{"lab": true}'::jsonb THEN NULL::tsvector ELSE
setweight(to_tsvector('english'::regconfig, COALESCE(document_title, ''::character varying)::text), 'A'::"char")
|| setweight(to_tsvector('english'::regconfig, COALESCE(metadata_json #>> '{resume_lab,headings}'::text[], ''::text)), 'B'::"char")
|| to_tsvector('english'::regconfig, "left"(content, 100000))
|| CASE WHEN chunk_index = 0 AND jsonb_typeof(metadata_json) = 'object'::text THEN
to_tsvector('english'::regconfig, "left"((metadata_json - 'resume_lab'::text)::text, 50000))
ELSE ''::tsvector END
END
"""  # noqa: E501

_NOW = func.now()


class DocumentChunk(Base):
    """A piece of a document, small enough to embed."""

    __tablename__ = "document_chunks"
    __table_args__ = (
        Index("ix_document_chunks_search_words", "search_words", postgresql_using="gin"),
        Index(
            "ix_document_chunks_metadata_json",
            "metadata_json",
            postgresql_using="gin",
            postgresql_ops={"metadata_json": "jsonb_path_ops"},
        ),
    )

    chunk_id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str] = mapped_column(Text)
    source_file: Mapped[str] = mapped_column(String(500), index=True)
    category: Mapped[str | None] = mapped_column(String(100), index=True)
    document_title: Mapped[str | None] = mapped_column(String(500))
    chunk_index: Mapped[int] = mapped_column(Integer)
    metadata_json: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(  # a trigger keeps it
        DateTime(timezone=True), server_default=_NOW, server_onupdate=_NOW
    )
    search_words: Mapped[str | None] = mapped_column(
        TSVECTOR, Computed(SEARCH_WORDS, persisted=True), deferred=True
    )

    embeddings: Mapped[list[ChunkEmbedding]] = relationship(
        back_populates="chunk", cascade="all, delete-orphan", passive_deletes=True
    )


class ChunkEmbedding(Base):
    """The embedding of one chunk by one model; a chunk may have several, to compare models."""

    __tablename__ = "chunk_embeddings"
    __table_args__ = (
        UniqueConstraint("chunk_id", "embedding_model"),
        Index(
            EMBEDDING_INDEX,
            "embedding",
            postgresql_using="ivfflat",
            postgresql_with={"lists": INITIAL_LISTS},
            postgresql_ops={"embedding": "vector_cosine_ops"},
        ),
    )

    embedding_id: Mapped[int] = mapped_column(primary_key=True)
    chunk_id: Mapped[int] = mapped_column(
        ForeignKey("document_chunks.chunk_id", ondelete="CASCADE")
    )
    embedding: Mapped[list[float]] = mapped_column(Vector(EMBEDDING_DIM))
    embedding_model: Mapped[str] = mapped_column(String(200), index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)

    chunk: Mapped[DocumentChunk] = relationship(back_populates="embeddings")


class QueryLog(Base):
    """A question, the chunks it found, and the answer given."""

    __tablename__ = "query_logs"

    query_id: Mapped[int] = mapped_column(primary_key=True)
    query_text: Mapped[str] = mapped_column(Text)
    retrieved_chunk_ids: Mapped[list[int]] = mapped_column(
        ARRAY(Integer), server_default=text("'{}'::integer[]")
    )
    response_text: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=_NOW, index=True
    )
