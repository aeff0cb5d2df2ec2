"""Arrays in, arrays out: metrics, exact neighbours, recall, synthetic vectors, files."""

from resume_lab.vectors.exact import Neighbours, exact_neighbours
from resume_lab.vectors.files import load_vectors, unit, validate_vectors
from resume_lab.vectors.metric import Metric, distances
from resume_lab.vectors.recall import (
    Difference,
    RecallSummary,
    paired_difference,
    recall_at_k,
    recall_tie_aware,
    summarise,
)
from resume_lab.vectors.synthetic import Kind, generate, stream

__all__ = [
    "Difference",
    "Kind",
    "Metric",
    "Neighbours",
    "RecallSummary",
    "distances",
    "exact_neighbours",
    "generate",
    "load_vectors",
    "paired_difference",
    "recall_at_k",
    "recall_tie_aware",
    "stream",
    "summarise",
    "unit",
    "validate_vectors",
]
