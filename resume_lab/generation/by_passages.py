"""The best passages as they stand, where no model writes an answer."""

from __future__ import annotations

from collections.abc import Callable

from resume_lab.config import Settings
from resume_lab.embedding.embedder import LEXICAL_MODEL
from resume_lab.generation.answer import PASSAGES, UNKNOWN, Answer, source_line
from resume_lab.ingestion.details import details
from resume_lab.printable import plain
from resume_lab.retrieval import Hit, SearchResult

MIN_SCORE = 0.12
"""Cosine similarity of the lexical embedder below which a passage hardly fits.

Of 24 questions that the sample content answers, 20 have a hit above it; of 24 others, 10 have. No
value separates the two.
"""


def answer_by_passages(
    found: SearchResult, settings: Settings, say: Callable[[str], object]
) -> Answer:
    """Return the passages found, each below its number and source; `say` gets them at once."""
    is_known = _fits(found)
    if is_known:
        why = "No model was asked:" if settings.has_model_server else "No model is set up, so"
        passages = (_numbered(n, hit) for n, hit in enumerate(found.hits, start=1))
        text = "\n\n".join([f"{why} these are the best passages as they stand.", *passages])
        note = None
    else:
        text = UNKNOWN
        note = "No stored passage fits the question." if found.hits else "No passage was found."
    say(text)
    return Answer(
        question=found.question,
        text=text,
        hits=found.hits,
        cited=tuple(range(1, len(found.hits) + 1)) if is_known else (),
        by=PASSAGES,
        is_known=is_known,
        note=note,
    )


def _fits(found: SearchResult) -> bool:
    """Say whether any passage has to do with the question.

    Vectors always have a nearest one; only of the lexical embedder is it known what a score says.
    """
    if found.model != LEXICAL_MODEL:
        return bool(found.hits)
    return any(hit.score >= MIN_SCORE for hit in found.hits)


def _numbered(number: int, hit: Hit) -> str:
    facts = "" if hit.chunk_index else details(hit.metadata)
    parts = (source_line(number, hit), facts, hit.content.strip("\n"))
    return plain("\n".join(part for part in parts if part.strip()))
