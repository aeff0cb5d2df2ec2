"""initial schema with pgvector

Revision ID: 5a003342d559
Revises:
Create Date: 2026-02-13 09:00:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import Vector
from sqlalchemy.dialects import postgresql

revision: str = "5a003342d559"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

KEEP_UPDATED_AT = """
CREATE FUNCTION document_chunks_set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END
$$
"""


def _timestamp(name: str) -> sa.Column:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def upgrade() -> None:
    """Create the extension, the three tables and their indexes."""
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "document_chunks",
        sa.Column("chunk_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("source_file", sa.String(500), nullable=False),
        sa.Column("category", sa.String(100), nullable=True),
        sa.Column("document_title", sa.String(500), nullable=True),
        sa.Column("chunk_index", sa.Integer(), nullable=False),
        sa.Column(
            "metadata_json",
            postgresql.JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        _timestamp("created_at"),
        _timestamp("updated_at"),
        sa.PrimaryKeyConstraint("chunk_id", name="pk_document_chunks"),
    )
    op.create_index("ix_document_chunks_source_file", "document_chunks", ["source_file"])
    op.create_index("ix_document_chunks_category", "document_chunks", ["category"])
    op.execute(KEEP_UPDATED_AT)
    op.execute(
        "CREATE TRIGGER set_updated_at BEFORE UPDATE ON document_chunks "
        "FOR EACH ROW EXECUTE FUNCTION document_chunks_set_updated_at()"
    )

    op.create_table(
        "chunk_embeddings",
        sa.Column("embedding_id", sa.Integer(), nullable=False),
        sa.Column("chunk_id", sa.Integer(), nullable=False),
        sa.Column("embedding", Vector(1536), nullable=False),
        sa.Column("embedding_model", sa.String(200), nullable=False),
        _timestamp("created_at"),
        sa.PrimaryKeyConstraint("embedding_id", name="pk_chunk_embeddings"),
        sa.ForeignKeyConstraint(
            ["chunk_id"],
            ["document_chunks.chunk_id"],
            name="fk_chunk_embeddings_chunk_id_document_chunks",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "chunk_id", "embedding_model", name="uq_chunk_embeddings_chunk_id_embedding_model"
        ),
    )
    op.create_index("ix_chunk_embeddings_embedding_model", "chunk_embeddings", ["embedding_model"])
    # pgvector before 0.8.5 asks for 65 MB here even on an empty table; the server's default is 64.
    op.execute("SET LOCAL maintenance_work_mem = '128MB'")
    op.create_index(
        "ix_chunk_embeddings_embedding",
        "chunk_embeddings",
        ["embedding"],
        postgresql_using="ivfflat",
        postgresql_with={"lists": 100},
        postgresql_ops={"embedding": "vector_cosine_ops"},
    )
    op.execute("RESET maintenance_work_mem")

    op.create_table(
        "query_logs",
        sa.Column("query_id", sa.Integer(), nullable=False),
        sa.Column("query_text", sa.Text(), nullable=False),
        sa.Column(
            "retrieved_chunk_ids",
            postgresql.ARRAY(sa.Integer()),
            server_default=sa.text("'{}'::integer[]"),
            nullable=False,
        ),
        sa.Column("response_text", sa.Text(), nullable=True),
        _timestamp("created_at"),
        sa.PrimaryKeyConstraint("query_id", name="pk_query_logs"),
    )
    op.create_index("ix_query_logs_created_at", "query_logs", ["created_at"])


def downgrade() -> None:
    """Drop the tables, children first; the extension stays, others may use it."""
    op.drop_table("query_logs")
    op.drop_table("chunk_embeddings")
    op.drop_table("document_chunks")
    op.execute("DROP FUNCTION document_chunks_set_updated_at()")
