import math

import numpy as np
import pytest

from resume_lab.vectors import Metric, distances

QUERY = np.array([[3.0, 4.0]])
ROWS = np.array([[[3.0, 4.0], [4.0, -3.0], [-6.0, -8.0], [0.0, 0.0]]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric.COSINE, [0.0, 1.0, 2.0, math.nan]),
        (Metric.L2, [0.0, math.sqrt(50.0), 15.0, 5.0]),
        (Metric.IP, [-25.0, 0.0, 50.0, 0.0]),
    ],
)
def test_distances_are_those_of_pgvector(metric: Metric, expected: list[float]) -> None:
    np.testing.assert_allclose(distances(QUERY, ROWS, metric), [expected], atol=1e-15)


@pytest.mark.parametrize("metric", list(Metric))
def test_equal_rows_have_equal_bits_wherever_they_stand(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    row, query = rng.standard_normal((2, 1537), dtype=np.float32)
    rows = np.tile(row, (1, 37, 1))
    assert len(np.unique(distances(query[None], rows, metric))) == 1


def test_float32_input_is_measured_in_float64() -> None:
    found = distances(QUERY.astype(np.float32), ROWS.astype(np.float32), Metric.L2)
    assert found.dtype == np.float64
    assert found.shape == (1, 4)
