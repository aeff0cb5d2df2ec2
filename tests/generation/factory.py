"""What the tests share: a question, hits without a database, names of fixtures' types."""

from collections.abc import Callable
from typing import Any

from resume_lab.generation import Answer
from resume_lab.retrieval import Hit

QUESTION = "Which computer was at Harvard?"

Ask = Callable[..., Answer]
Logged = Callable[[], list[tuple[str, list[int], str | None]]]
"""Question, chunk ids and response of each row."""


def hit(content: str = "At Harvard the Mark I was programmed.", **values: Any) -> Hit:
    return Hit(
        **{
            "chunk_id": 7,
            "content": content,
            "source_file": "content/harvard.md",
            "category": None,
            "title": "Harvard",
            "headings": "Work > Mark I",
            "chunk_index": 0,
            "metadata": {},
            "score": 0.5,
            "vector_rank": None,
            "word_rank": None,
            **values,
        }
    )
