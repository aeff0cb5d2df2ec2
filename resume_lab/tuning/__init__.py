"""Experiments: the workload, the scratch copy, measuring, deciding."""

from resume_lab.tuning.decide import decide
from resume_lab.tuning.measure import Sweep, measure
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
from resume_lab.tuning.workload import Workload, stored_models

__all__ = [
    "Exact",
    "Latency",
    "Point",
    "Recommendation",
    "Scratch",
    "Storage",
    "Sweep",
    "TuningResult",
    "Workload",
    "decide",
    "measure",
    "pareto_frontier",
    "scratch_copy",
    "stored_models",
    "tune",
]
