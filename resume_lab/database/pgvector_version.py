"""Which pgvector a database has, and whether it is new enough."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resume_lab.errors import SchemaError

MIN_PGVECTOR = (0, 8)
"""The first that reads on where a filter leaves too few rows: ivfflat.iterative_scan."""

_VERSIONS = """
SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available
"""


def check_version(connection: Connection) -> None:
    """Raise SchemaError if pgvector, or what CREATE EXTENSION would bring, is older than 0.8."""
    installed, available = connection.execute(sa.text(_VERSIONS)).one()
    version = installed or available
    if version is None or _is_enough(version):
        return
    if available is not None and _is_enough(available):
        hint = f"The server carries {available} already: ALTER EXTENSION vector UPDATE;"
    else:
        hint = "Install a newer one on the server (Debian: postgresql-<major>-pgvector)" + (
            ", then: ALTER EXTENSION vector UPDATE;" if installed else "."
        )
    raise SchemaError(f"pgvector {version} is older than 0.8.", hint=hint)


def _is_enough(version: str) -> bool:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= MIN_PGVECTOR
