"""The questions asked, kept with the chunks they found and the answers given."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Engine

from resume_lab.errors import DataError
from resume_lab.retrieval.connection import borrowed

# Without RETURNING, which a role that may only insert is not allowed.
_INSERT = """
INSERT INTO query_logs (query_text, retrieved_chunk_ids, response_text)
VALUES (%s, %s::integer[], %s)
"""
_ASKED = r"""
SELECT query_text FROM query_logs WHERE query_text ~ '[^[:space:]]'
GROUP BY query_text ORDER BY max(created_at) DESC, max(query_id) DESC LIMIT %s
"""


def log_question(
    engine: Engine, question: str, chunk_ids: Sequence[int], response: str | None
) -> None:
    """Keep a question, the ids of its chunks, best first, and the answer or what failed.

    Raises DatabaseError, SchemaError.
    """
    values = [_storable(question), list(chunk_ids), _storable(response)]
    with borrowed(engine) as raw, raw.cursor() as cursor:
        cursor.execute(_INSERT, values)


def logged_questions(engine: Engine, limit: int) -> list[str]:
    """Return the texts of up to `limit` different questions, the last asked first.

    Blank ones are left out. Raises DatabaseError, SchemaError.
    """
    if limit < 1:
        raise DataError(f"limit is {limit}; it must be at least 1.")
    with borrowed(engine) as raw, raw.cursor() as cursor:
        cursor.execute(_ASKED, [limit])
        return [text for (text,) in cursor.fetchall()]


def _storable(text: str | None) -> str | None:
    """Return the text without what PostgreSQL cannot store: whatever was said must be kept."""
    return text and text.replace("\0", "").encode(errors="replace").decode()
