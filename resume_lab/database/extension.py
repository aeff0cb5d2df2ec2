"""The extension alone, for experiments on vectors that need none of the tables."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.failures import translated_errors
from resume_lab.database.pgvector_version import check_version
from resume_lab.database.schema import migration_lock


def ensure_extension(engine: Engine) -> None:
    """Create the extension vector if the database lacks it; raises SchemaError.

    One that is older than this package needs is an error too.
    """
    statement = sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")
    with engine.connect() as connection:
        check_version(connection)
        if connection.scalar(statement):
            return
    with translated_errors(engine), migration_lock(engine), engine.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
