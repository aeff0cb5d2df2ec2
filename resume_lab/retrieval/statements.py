"""The SQL of a search: nearest by vector, or that fused with the nearest by words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

RRF_CONSTANT = 60
"""k in 1 / (k + rank): Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion", SIGIR 2009."""

WORD_WEIGHTS = "{0.7, 0.8, 0.9, 1}"
"""Of a word in the content, nowhere, in the headings, in the title.

With ts_rank's own weights, where a title outweighs ten contents, fewer labelled questions find
their file.
"""

_LEAST_CANDIDATES, _CANDIDATES_A_HIT = 50, 10
_LEAST_SHARE = 0.5
_RAREST_WORDS = 32
"""Only so many words of a question are ranked: of a long one, the common ones cost seconds."""


class By(StrEnum):
    """What a search goes by: the vectors, the words, or both, fused by reciprocal rank."""

    VECTORS = "vectors"
    WORDS = "words"
    HYBRID = "hybrid"


_COLUMNS = (
    "c.chunk_id, c.content, c.source_file, c.category, c.document_title, c.chunk_index, "
    "c.metadata_json"
)
# The distance stands here once: PostgreSQL takes its time to read 1536 numbers.
_DISTANCES = "SELECT e.chunk_id, e.embedding <=> %(vector)s::vector AS distance FROM {rows}"
_BY_INDEX = "{distances} ORDER BY distance LIMIT %(n_vectors)s"
# No index is used below OFFSET 0: every row is compared.
_EXACT = """
SELECT chunk_id, distance FROM ({distances} OFFSET 0) AS compared
ORDER BY distance, chunk_id LIMIT %(n_vectors)s
"""
_COUNT = "SELECT count(*) FROM (SELECT FROM {rows} {limit}) AS wanted"
_BY_VECTOR = """
SELECT {columns}, nearest.distance, NULL, NULL
FROM ({nearest}) AS nearest JOIN document_chunks c USING (chunk_id)
"""
# Any word of the question counts, the rarer among the matches the more: ts_rank alone knows nothing
# of rarity. What has less than half the weight of the best shares common words only; its rank would
# outdo the one chunk that has the rare word.
_HYBRID = r"""
WITH nearest AS MATERIALIZED ({nearest}),
asked AS MATERIALIZED (
    SELECT lexeme, word
    FROM (
        SELECT lexeme, (
            $$'$$ || replace(replace(lexeme, $$\$$, $$\\$$), $$'$$, $$''$$) || $$'$$
        )::tsquery AS word
        FROM unnest(to_tsvector('english', %(question)s))
    ) AS words CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM document_chunks WHERE search_words @@ word
    ) AS counted
    WHERE n > 0 ORDER BY n LIMIT %(n_rarest)s
),
matches AS MATERIALIZED (
    SELECT chunk_id, lexeme, ts_rank(%(weights)s, c.search_words, asked.word) AS rank
    FROM asked, {chunk_rows} AND c.search_words @@ asked.word
),
rarities AS (
    SELECT lexeme,
        ln(1 + (SELECT count(DISTINCT chunk_id) FROM matches)::float8 / count(*)) AS rarity
    FROM matches GROUP BY lexeme
),
worded AS (
    SELECT chunk_id, sum(rank * rarity) AS weight, max(sum(rank * rarity)) OVER () AS best
    FROM matches JOIN rarities USING (lexeme)
    GROUP BY chunk_id ORDER BY weight DESC, chunk_id LIMIT %(n_words)s
),
vector_ranks AS (
    SELECT chunk_id, row_number() OVER (ORDER BY distance, chunk_id) AS vector_rank FROM nearest
),
word_ranks AS (
    SELECT chunk_id, row_number() OVER (ORDER BY weight DESC, chunk_id) AS word_rank
    FROM worded WHERE weight >= best * %(least_share)s
),
fused AS (
    SELECT chunk_id, vector_rank, word_rank,
        coalesce(1 / (%(rrf)s::float8 + vector_rank), 0)
        + coalesce(1 / (%(rrf)s::float8 + word_rank), 0) AS score
    FROM vector_ranks FULL JOIN word_ranks USING (chunk_id)
    ORDER BY score DESC, chunk_id LIMIT %(k)s
)
SELECT {columns}, e.embedding <=> %(vector)s::vector, vector_rank, word_rank
FROM fused JOIN document_chunks c USING (chunk_id) JOIN chunk_embeddings e USING (chunk_id)
WHERE e.embedding_model = %(model)s
ORDER BY fused.score DESC, chunk_id
"""


@dataclass(frozen=True)
class Query:
    """What is looked for; `vector` is text as pgvector reads it, no `tags` and None mean all.

    `source` is the name under which a folder was ingested, or a folder below it.
    """

    vector: str
    model: str
    question: str
    k: int
    category: str | None
    tags: tuple[str, ...]
    source: str | None
    by: By

    @property
    def is_filtered(self) -> bool:
        """Say whether only some rows of the model are wanted."""
        return self.category is not None or bool(self.tags) or self.source is not None

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the values that the statements name."""
        candidates = max(_LEAST_CANDIDATES, _CANDIDATES_A_HIT * self.k)
        return {
            "vector": self.vector,
            "model": self.model,
            "question": self.question,
            "k": self.k,
            "n_vectors": {By.VECTORS: self.k, By.WORDS: 0, By.HYBRID: candidates}[self.by],
            "n_words": self.k if self.by is By.WORDS else candidates,
            "least_share": 0 if self.by is By.WORDS else _LEAST_SHARE,
            "n_rarest": _RAREST_WORDS,
            "category": self.category,
            "tags": json.dumps({"tags": self.tags}),
            "source": f"{self.source}/",
            "rrf": RRF_CONSTANT,
            "weights": WORD_WEIGHTS,
        }

    def search(self, *, exact: bool) -> str:
        """Return the search; its rows are `_COLUMNS`, the distance, both ranks."""
        distances = _DISTANCES.format(rows=self._rows(joined=self.is_filtered))
        nearest = (_EXACT if exact else _BY_INDEX).format(distances=distances)
        if self.by is By.VECTORS:
            return _BY_VECTOR.format(columns=_COLUMNS, nearest=nearest)
        rows = self._rows(joined=True)
        return _HYBRID.format(columns=_COLUMNS, nearest=nearest, chunk_rows=rows)

    def count(self, at_most: int | None = None) -> str:
        """Return the count of the rows that may be found, `at_most` or all."""
        rows = self._rows(joined=self.is_filtered)
        limit = "" if at_most is None else f"LIMIT {at_most}"
        return _COUNT.format(rows=rows, limit=limit)

    def _rows(self, *, joined: bool) -> str:
        chunks = "JOIN document_chunks c USING (chunk_id)" if joined else ""
        category = "" if self.category is None else "AND c.category = %(category)s"
        tags = "AND c.metadata_json @> %(tags)s::jsonb" if self.tags else ""
        source = "" if self.source is None else "AND starts_with(c.source_file, %(source)s)"
        return (
            f"chunk_embeddings e {chunks} "
            f"WHERE e.embedding_model = %(model)s {category} {tags} {source}"
        )
