"""The questions that people asked, as the queries of a workload."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy.engine import Engine

from resume_lab.embedding import Embedder, embed
from resume_lab.errors import DataError
from resume_lab.retrieval.query_log import logged_questions
from resume_lab.tuning import Workload
from resume_lab.tuning.workload import (
    DEFAULT_K,
    DEFAULT_QUERIES,
    embeddings_of,
    read_stored,
    stored_models,
)


def asked_workload(
    engine: Engine,
    embedder: Embedder,
    *,
    questions: Sequence[str] | None = None,
    n_queries: int = DEFAULT_QUERIES,
    k: int = DEFAULT_K,
    seed: int = 0,
) -> Workload:
    """Return the stored embeddings of a model, asked for by `questions`, else the logged ones.

    Of the logged ones at most `n_queries` different ones, the newest; in random order, so that
    each half is a sample of all. Raises DataError if there are none, or nothing is stored of the
    model.
    """
    model, vectors = read_stored(engine, embedder.model)
    kind = "logged questions" if questions is None else "questions"
    questions = logged_questions(engine, n_queries) if questions is None else questions
    if not questions:
        raise DataError(
            "No questions are logged yet.",
            hint='`resume-lab ask "..."` logs what is asked, unless LOG_QUESTIONS is false.',
        )
    order = np.random.default_rng(seed).permutation(len(questions))
    queries = embed(embedder, [questions[number] for number in order])
    return Workload.of(
        vectors,
        queries,
        k=k,
        source=f"stored embeddings of {model}, asked by {len(questions):,} {kind}",
        table=embeddings_of(model, partial=len(stored_models(engine)) > 1),
    )
