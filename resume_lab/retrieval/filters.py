"""What the stored chunks could be limited to, for a search whose filter matches none."""

from __future__ import annotations

from sqlalchemy.engine import Engine

from resume_lab.printable import printable
from resume_lab.retrieval.connection import borrowed

_MOST = 20
_STORED = {
    "categories": """
        SELECT DISTINCT category FROM document_chunks
        WHERE category IS NOT NULL AND metadata_json <> '{"lab": true}' ORDER BY 1 LIMIT %s
    """,
    "tags": """
        SELECT DISTINCT tag FROM document_chunks, jsonb_array_elements_text(
            CASE jsonb_typeof(metadata_json -> 'tags')
            WHEN 'array' THEN metadata_json -> 'tags' ELSE '[]' END
        ) AS tag ORDER BY 1 LIMIT %s
    """,
}


def nothing_matches(engine: Engine, *, by_category: bool, by_tags: bool) -> str:
    """Say that no chunk matches the filter, and what there is to choose from."""
    asked = {"categories": by_category, "tags": by_tags}
    there = "".join(f" Stored {what}: {_list(engine, what)}." for what in asked if asked[what])
    return f"No stored chunk matches the filter.{there}"


def _list(engine: Engine, what: str) -> str:
    with borrowed(engine) as raw, raw.cursor() as cursor:
        cursor.execute(_STORED[what], [_MOST + 1])
        names = [printable(name) for (name,) in cursor.fetchall()]
    return ", ".join([*names[:_MOST], *["..."] * (len(names) > _MOST)]) or "none"
