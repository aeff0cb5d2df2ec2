"""Experiments: the workload, the scratch copy, measuring, deciding."""

from resume_lab.tuning.decide import decide
from resume_lab.tuning.grid import tune_grid
from resume_lab.tuning.measure import Sweep, measure, recall_per_query
from resume_lab.tuning.predict import Prediction, predict
from resume_lab.tuning.results import (
    Exact,
    Latency,
    Point,
    Recommendation,
    TuningResult,
    pareto_frontier,
)
from resume_lab.tuning.run import tune
from resume_lab.tuning.scratch import Scratch, Storage, scratch_copy
from resume_lab.tuning.table import TableSource, read_table
from resume_lab.tuning.workload import Workload, stored_models

__all__ = [
    "Exact",
    "Latency",
    "Point",
    "Prediction",
    "Recommendation",
    "Scratch",
    "Storage",
    "Sweep",
    "TableSource",
    "TuningResult",
    "Workload",
    "decide",
    "measure",
    "pareto_frontier",
    "predict",
    "read_table",
    "recall_per_query",
    "scratch_copy",
    "stored_models",
    "tune",
    "tune_grid",
]
