"""The usual guidance, and every setting of a grid measured."""

import json
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.tuning import Scratch, TuningResult, Workload, runs, trial, tune_grid
from resume_lab.tuning.grid import default_lists, default_probes, probes_within
from resume_lab.tuning.runs import Run
from resume_lab.tuning.trial import EXACT_QUERIES, BuiltIndex

from .factory import unit_rows
from .test_scratch import scratch_schemas


@pytest.mark.parametrize(
    ("rows", "lists"),
    [
        (1, [1]),
        (100, [2]),  # sqrt = 10 and 100 would leave fewer than 50 rows a list
        (2_400, [2, 48]),  # rows / 1000, sqrt; 100 lists would hold 24 rows each
        (20_000, [20, 100, 141]),
        (100_000, [100, 316]),
        (1_000_000, [100, 1000]),
    ],
)
def test_the_lists_are_those_that_guidance_names(rows: int, lists: list[int]) -> None:
    assert default_lists(rows) == lists


@given(st.integers(1, 10**10))
def test_any_number_of_rows_gets_lists_that_can_be_built(rows: int) -> None:
    lists = default_lists(rows)
    assert lists == sorted(set(lists))
    assert 1 <= lists[0] <= lists[-1] <= min(32_768, max(1, rows // 50))


@pytest.mark.parametrize(
    ("lists", "probes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 3]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 20])],
)
def test_probes_double_and_end_with_all_of_the_lists(lists: int, probes: list[int]) -> None:
    assert default_probes(lists) == probes


def test_given_probes_are_sorted_each_once_and_none_beyond_the_lists() -> None:
    assert probes_within([16, 1, 4, 4, 40], 16) == [1, 4, 16]


def test_where_all_given_probes_are_beyond_the_lists_every_list_is_read() -> None:
    assert probes_within([40, 50], 16) == [16]


# --- the whole grid


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.generated("clustered", 2000, n_queries=60, dim=512)


def test_a_grid_is_measured_whole_and_its_cheapest_point_that_meets_the_target_recommended(
    database: Engine, workload: Workload
) -> None:
    start = time.perf_counter()
    found = tune_grid(database, workload, lists=[40, 10], probes=[1, 4, 40], rounds=1)
    wall_s = time.perf_counter() - start
    settings = [(point.lists, point.probes) for point in found.points]
    assert settings == [(10, 1), (10, 4), (40, 1), (40, 4), (40, 40)]
    assert found.points[-1].recall == 1.0
    assert all(point.shuffled and point.n_queries == 60 for point in found.points)
    assert found.recommendation is not None
    chosen = found.points[settings.index((found.recommendation.lists, found.recommendation.probes))]
    assert chosen.recall == found.recommendation.recall >= 0.95
    meeting = [point for point in found.points if point.recall >= 0.95]
    assert chosen.latency.p50_ms == min(point.latency.p50_ms for point in meeting)
    assert (found.workload.rows, found.workload.n_queries) == (2000, 60)
    assert (found.workload.n_confirming, found.curves, found.expectation) == (0, (), "")
    assert found.recommendation.confirmed_recall is None
    assert len(found.exact.latency.samples_ms) == 2 * EXACT_QUERIES  # beside each index, pooled
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["why"] == found.why
    timings = found.timings
    assert min(timings.build_s, timings.measure_s, timings.exact_s) > 0
    assert timings.build_s + timings.measure_s < timings.total_s - timings.exact_s <= wall_s
    assert scratch_schemas(database) == []


def test_without_lists_and_probes_common_guidance_is_tried(database: Engine) -> None:
    small = Workload.of(unit_rows(400, 4), unit_rows(20, 4, seed=1))
    found = tune_grid(database, small, rounds=1)
    expected = [(lists, probes) for lists in default_lists(400) for probes in default_probes(lists)]
    assert [(point.lists, point.probes) for point in found.points] == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_recall": 1.5}, "target recall is 1.5"),
        ({"rounds": 0}, "rounds is 0"),
        ({"lists": [5, 500]}, "lists is 500, but there are only 400 rows"),
        ({"lists": [5], "probes": [0, 1]}, "probes is 0"),
    ],
)
def test_a_grid_that_cannot_be_measured_is_refused_before_anything_is_copied(
    database: Engine, options: dict[str, object], said: str
) -> None:
    small = Workload.of(unit_rows(400, 4), unit_rows(20, 4, seed=1))
    connections: list[str] = []
    sa.event.listen(database, "checkout", lambda *_: connections.append("one"))
    with pytest.raises(ExperimentError, match=said):
        tune_grid(database, small, **options)  # type: ignore[arg-type]
    assert connections == []


def test_a_grid_goes_on_with_the_index_it_was_interrupted_at(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Workload.of(unit_rows(400, 4), unit_rows(20, 4, seed=1))
    real, built = trial.build, []

    def build(scratch: Scratch, workload: Workload, index: IVFFlat) -> BuiltIndex:
        built.append(index.lists)
        if built == [3, 5]:
            raise KeyboardInterrupt
        return real(scratch, workload, index)

    def again(run: Run) -> TuningResult:
        return tune_grid(database, small, lists=[3, 5, 8], probes=[1, 2], rounds=1, run=run)

    monkeypatch.setattr(trial, "build", build)
    run = runs.start(tmp_path, label="x", options={})
    with pytest.raises(KeyboardInterrupt):
        again(run)
    name = str(run.name)
    assert (runs.load(tmp_path, name).status, scratch_schemas(database)) == ("interrupted", [])
    with pytest.raises(ExperimentError, match="other vectors or with other options"):
        tune_grid(database, small, lists=[3], probes=[1], run=runs.resume(tmp_path, name))
    found = again(runs.resume(tmp_path, name))
    assert built == [3, 5, 5, 8]
    assert [point.lists for point in found.points] == [3, 3, 5, 5, 8, 8]
    assert runs.load(tmp_path, name).status == "finished"
