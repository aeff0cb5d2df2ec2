"""A recommendation put to work: the migration, the finding in the index's comment, the drift."""

from resume_lab.rollout.drift import Drift, measure_drift
from resume_lab.rollout.finding import Finding
from resume_lab.rollout.migration import Rollout, prepare, write

__all__ = ["Drift", "Finding", "Rollout", "measure_drift", "prepare", "write"]
