"""PostgreSQL: the embedded server, sessions, models, migrations, checks, indexes and COPY."""

from resume_lab.database.base import Base
from resume_lab.database.checks import verify
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.indexes import IVFFlat
from resume_lab.database.models import EMBEDDING_DIM, ChunkEmbedding, DocumentChunk, QueryLog
from resume_lab.database.session import open_engine, session_factory
from resume_lab.database.verification import Check, Verification

__all__ = [
    "EMBEDDING_DIM",
    "Base",
    "Check",
    "ChunkEmbedding",
    "DocumentChunk",
    "EmbeddedServer",
    "IVFFlat",
    "QueryLog",
    "Verification",
    "open_engine",
    "session_factory",
    "verify",
]
