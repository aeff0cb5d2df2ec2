"""The tuned index of a model, found by its comment: every search looks, so none uses old probes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from resume_lab.database.indexes import MAX_LISTS, literal
from resume_lab.rollout.finding import Finding

# Leaner than `rollout.finding.tuned_index`, for every search waits for it.
_COMMENTS = """
SELECT indexrelid, (
    SELECT description FROM pg_description
    WHERE objoid = indexrelid AND classoid = 'pg_class'::regclass AND objsubid = 0
), row_security_active(indrelid)
FROM pg_index WHERE indrelid = 'chunk_embeddings'::regclass AND indisvalid AND indpred IS NOT NULL
"""
_NAME = "SELECT relname FROM pg_class WHERE oid = %s"


@dataclass(frozen=True)
class Tuned:
    """A tuned index and its finding; `is_secured` where this role may not read every row."""

    oid: int
    finding: Finding
    is_secured: bool

    @property
    def settings(self) -> dict[str, str]:
        """Return what is set for one search."""
        return {
            "ivfflat.probes": str(self.finding.probes),
            # Where the lists probed hold too few rows, the next ones are read.
            "ivfflat.iterative_scan": "relaxed_order",
            "ivfflat.max_probes": str(MAX_LISTS),
            # Up to PostgreSQL 17 a sort that `needs` forbids counts as dear enough to compile.
            "jit": "off",
            **self.finding.needs,
        }

    def name(self, cursor: Cursor) -> str | None:
        """Ask for the name of the index; None if it was dropped since."""
        cursor.execute(_NAME, [self.oid])
        found = cursor.fetchone()
        return None if found is None else str(found[0])


def find_tuned(cursor: Cursor, model: str) -> Tuned | None:
    """Return the newest valid index with a finding for the rows of `model`."""
    where = f"embedding_model = {literal(model)}"
    cursor.execute(_COMMENTS)
    for oid, comment, is_secured in sorted(cursor.fetchall(), reverse=True):
        finding = _finding(comment)
        if finding and finding.where == where and finding.distance == "cosine":
            return Tuned(oid, finding, is_secured)
    return None


@lru_cache(maxsize=64)
def _finding(comment: str | None) -> Finding | None:
    """Return what a comment says; reading it takes as long as fetching it."""
    return Finding.of_text(comment)
