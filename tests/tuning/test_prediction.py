"""The predicted recall curve against an index that PostgreSQL built."""

import numpy as np
import pytest
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.tuning import Workload, measure, scratch_copy
from resume_lab.vectors import Kind
from resume_lab.vectors.ivf_model import predict_curves

LISTS = 40
PROBES = [1, 2, 4, 8, 20]
WITHIN = 0.12
"""Two builds of one index differ by half as much: pgvector does not fix its seed."""


@pytest.mark.parametrize("kind", list(Kind))
def test_predicted_recall_is_what_postgresql_measures(database: Engine, kind: Kind) -> None:
    workload = Workload.generated(kind, 3000, n_queries=60, dim=512)
    (curve,) = predict_curves(workload.vectors, workload.queries, workload.truth, [LISTS])
    with scratch_copy(database, workload.vectors) as scratch:
        sweep = measure(scratch, workload, IVFFlat(LISTS), PROBES, rounds=1)
    measured = np.array([point.recall for point in sweep.points])
    predicted = curve.recall[np.array(PROBES) - 1]
    assert np.abs(predicted - measured).max() < WITHIN
    assert np.abs(predicted - measured).mean() < WITHIN / 2
    assert measured.max() - measured.min() > WITHIN  # a flat curve would prove nothing
