import math
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy.engine import Engine

from resume_lab.errors import ExperimentError
from resume_lab.tuning import Workload
from resume_lab.tuning.growth import (
    GrownIndex,
    by_topic,
    measure_growth,
    queries_until_rebuild_pays,
)
from resume_lab.vectors import exact_neighbours

from .factory import point
from .test_scratch import scratch_schemas


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.generated("clustered", 2000, n_queries=80, dim=256)


def test_an_index_built_on_an_empty_table_loses_recall_and_needs_more_probes(
    database: Engine,
) -> None:
    # Large enough that the loss is several times the draw of a build: .8 against .97.
    workload = Workload.generated("clustered", 3000, n_queries=200)
    empty, half, fresh = measure_growth(database, workload, 60, shares=(0, 0.5))
    assert [empty.rows_at_build, half.rows_at_build, fresh.rows_at_build] == [0, 1500, 3000]
    assert {index.fresh.probes for index in (empty, half, fresh)} == {fresh.fresh.probes}
    assert fresh.needed == fresh.fresh
    assert fresh.fresh.recall_low >= 0.95
    assert empty.fresh.recall < fresh.fresh.recall
    assert empty.needed is not None
    assert empty.needed.probes > fresh.fresh.probes
    assert scratch_schemas(database) == []


def test_every_row_that_came_later_is_found_by_an_index_that_reads_all(
    database: Engine, workload: Workload
) -> None:
    few = workload.part(slice(20))  # too few to be sure of .99, so the mean has to reach it
    stale, _ = measure_growth(database, few, 4, shares=(0.1,), target_recall=1.0)
    assert stale.needed is not None
    assert stale.needed.recall == 1.0


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(
    database: Engine, workload: Workload, share: float
) -> None:
    with pytest.raises(ExperimentError, match="0 to 1"):
        measure_growth(database, workload, 4, shares=(share,))


def test_a_rebuild_pays_once_the_time_saved_has_made_up_for_it() -> None:
    slow, fast = point(10, 8, 0.96, 6.0), replace(point(10, 2, 0.96, 2.0), build_s=1.0)
    stale, fresh = GrownIndex(0, fast, slow), GrownIndex(100, fast, fast)
    assert queries_until_rebuild_pays(stale, fresh) == 250  # 1 s of building, 4 ms a query
    assert queries_until_rebuild_pays(fresh, fresh) == math.inf
    assert queries_until_rebuild_pays(GrownIndex(0, fast, None), fresh) == math.inf


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_rows_by_topic_are_the_same_rows_with_the_same_neighbours(metric: str) -> None:
    made = Workload.generated("clustered", 600, n_queries=10, dim=64)
    before = Workload.of(made.vectors, made.queries, metric=metric)
    after = by_topic(before, topics=4)
    found = exact_neighbours(after.vectors, after.queries, before.k + 1, before.metric)
    assert np.array_equal(found.ids, after.neighbours.ids)
    assert not np.array_equal(after.vectors, before.vectors)
    assert {row.tobytes() for row in after.vectors} == {row.tobytes() for row in before.vectors}
    near = [float(np.vecdot(w.vectors[1:], w.vectors[:-1]).mean()) for w in (before, after)]
    assert near[1] > near[0]  # neighbours in the table are neighbours in space
