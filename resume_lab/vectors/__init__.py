"""Arrays in, arrays out: metrics, exact neighbours, recall, synthetic vectors, files."""

from resume_lab.vectors.difficulty import Difficulty, Trait
from resume_lab.vectors.exact import Neighbours, exact_neighbours
from resume_lab.vectors.files import load_vectors, unit, validate_vectors
from resume_lab.vectors.ivf_model import Curve, predict_curves
from resume_lab.vectors.metric import Metric, distances
from resume_lab.vectors.neighbourhood import difficulty_of
from resume_lab.vectors.planted import Planted, plant
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
    "Curve",
    "Difference",
    "Difficulty",
    "Kind",
    "Metric",
    "Neighbours",
    "Planted",
    "RecallSummary",
    "Trait",
    "difficulty_of",
    "distances",
    "exact_neighbours",
    "generate",
    "load_vectors",
    "paired_difference",
    "plant",
    "predict_curves",
    "recall_at_k",
    "recall_tie_aware",
    "stream",
    "summarise",
    "unit",
    "validate_vectors",
]
