"""words and tags of chunks can be searched

Revision ID: 8c1f0e6b27d4
Revises: 5a003342d559
Create Date: 2026-11-22 20:30:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "8c1f0e6b27d4"
down_revision: str | Sequence[str] | None = "5a003342d559"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Made-up rows have no words worth finding, and a tsvector holds at most 1 MB.
WORDS = """
CASE WHEN metadata_json = '{"lab": true}'::jsonb THEN NULL::tsvector ELSE
setweight(to_tsvector('english'::regconfig, COALESCE(document_title, ''::character varying)::text), 'A'::"char")
|| setweight(to_tsvector('english'::regconfig, COALESCE(metadata_json #>> '{resume_lab,headings}'::text[], ''::text)), 'B'::"char")
|| to_tsvector('english'::regconfig, "left"(content, 100000))
|| CASE WHEN chunk_index = 0 AND jsonb_typeof(metadata_json) = 'object'::text THEN
to_tsvector('english'::regconfig, "left"((metadata_json - 'resume_lab'::text)::text, 50000))
ELSE ''::tsvector END
END
"""  # noqa: E501


def upgrade() -> None:
    """Keep the words of chunks, in the first of a file those of its front matter too; index them.

    Title and headings weigh more. The tags are indexed with all of the metadata.
    """
    op.add_column(
        "document_chunks",
        sa.Column(
            "search_words", postgresql.TSVECTOR(), sa.Computed(WORDS, persisted=True), nullable=True
        ),
    )
    op.create_index(
        "ix_document_chunks_search_words",
        "document_chunks",
        ["search_words"],
        postgresql_using="gin",
    )
    op.create_index(
        "ix_document_chunks_metadata_json",
        "document_chunks",
        ["metadata_json"],
        postgresql_using="gin",
        postgresql_ops={"metadata_json": "jsonb_path_ops"},
    )


def downgrade() -> None:
    """Drop both indexes and the words."""
    op.drop_index("ix_document_chunks_metadata_json", table_name="document_chunks")
    op.drop_index("ix_document_chunks_search_words", table_name="document_chunks")
    op.drop_column("document_chunks", "search_words")
