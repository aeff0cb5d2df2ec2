"""Stored chunks by vector, by words, or by both."""

from resume_lab.retrieval.hit import Hit, SearchResult
from resume_lab.retrieval.labelled import (
    Evaluation,
    LabelledQuestion,
    evaluate,
    evaluate_search,
    read_questions,
)
from resume_lab.retrieval.query_log import log_question, logged_questions
from resume_lab.retrieval.questions import asked_workload
from resume_lab.retrieval.search import search, search_vector
from resume_lab.retrieval.statements import By

__all__ = [
    "By",
    "Evaluation",
    "Hit",
    "LabelledQuestion",
    "SearchResult",
    "asked_workload",
    "evaluate",
    "evaluate_search",
    "log_question",
    "logged_questions",
    "read_questions",
    "search",
    "search_vector",
]
