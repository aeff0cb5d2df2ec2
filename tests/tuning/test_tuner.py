"""The steps of a run: each done once and kept, and gone on with after an interruption."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.tuning import (
    Prediction,
    Scratch,
    Workload,
    predict,
    runs,
    scratch_copy,
    trial,
    tune,
)
from resume_lab.tuning.aims import PRIOR, Aim, RecallAim, TimeAim
from resume_lab.tuning.prove import Target
from resume_lab.tuning.results import CostModel
from resume_lab.tuning.runs import Run
from resume_lab.tuning.trial import BuiltIndex
from resume_lab.tuning.tuner import MAX_BUILDS, Tuner

LISTS = [10, 20, 38]
MEAN = RecallAim(Target(0.9, certain=False), 30)


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.generated("spectrum", 1500, n_queries=60, dim=512)


@pytest.fixture(scope="module")
def prediction(workload: Workload) -> Prediction:
    return predict(workload.split()[0], LISTS)


@pytest.fixture
def scratch(database: Engine, workload: Workload) -> Iterator[Scratch]:
    with scratch_copy(database, workload.vectors) as copied:
        yield copied


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lists of every index that is built."""
    return counted(monkeypatch)


def counted(monkeypatch: pytest.MonkeyPatch, *, stop_at: int | None = None) -> list[int]:
    """Note the lists of every index that is built; at number `stop_at` interrupt instead."""
    real, noted = trial.build, []

    def build(scratch: Scratch, workload: Workload, index: IVFFlat) -> BuiltIndex:
        if len(noted) + 1 == stop_at:
            raise KeyboardInterrupt
        noted.append(index.lists)
        return real(scratch, workload, index)

    monkeypatch.setattr(trial, "build", build)
    return noted


def tuner(
    scratch: Scratch, workload: Workload, made: Prediction, aim: Aim = MEAN, run: Run | None = None
) -> Tuner:
    choosing, confirming = workload.split()
    return Tuner(scratch, choosing, confirming, made, aim, run=run or Run(), say=lambda _: None,
                 rounds=1)  # fmt: skip


class Eager(RecallAim):
    """Would build every index there is."""

    def next_index(
        self, prediction: Prediction, choice: Iterable[int], built: Iterable[int], cost: CostModel
    ) -> int | None:
        return min(set(choice) - set(built), default=None)


def names(scratch: Scratch) -> set[object]:
    found = sa.inspect(scratch.engine).get_indexes("items", schema=scratch.schema)
    return {index["name"] for index in found}


def test_the_indexes_that_are_ahead_are_built_once_and_stay_for_the_comparison(
    scratch: Scratch, workload: Workload, prediction: Prediction, builds: list[int]
) -> None:
    found = tuner(scratch, workload, prediction)
    found.prove(LISTS)
    assert 1 <= len(builds) <= MAX_BUILDS
    assert list(found.proofs) == builds
    assert len(set(builds)) == len(builds)
    points, exact = found.compare()
    assert found.build_s > 0
    assert [(p.lists, p.probes) for p in points] == [(n, found.proofs[n].probes) for n in builds]
    assert all(p.shuffled and p.n_queries == 30 for p in points)
    assert all(p.speedup_vs_exact == exact.latency.p50_ms / p.latency.p50_ms for p in points)
    assert names(scratch) == {f"lab_ivfflat_{lists}" for lists in builds}
    assert found.compare() == (points, exact)  # kept, not measured again


def test_no_more_indexes_are_built_than_the_limit(
    scratch: Scratch, workload: Workload, prediction: Prediction, builds: list[int]
) -> None:
    alike = prediction.curves[0]
    many = [replace(alike, lists=lists) for lists in range(10, 10 + 2 * MAX_BUILDS)]
    made = replace(prediction, curves=tuple(many))
    tuner(scratch, workload, made, Eager(MEAN.target, 30)).prove([curve.lists for curve in many])
    assert builds == [10, 11, 12][:MAX_BUILDS]


def test_a_rebuild_is_another_index_and_the_last_one_is_measured(
    scratch: Scratch, workload: Workload, prediction: Prediction, builds: list[int]
) -> None:
    found = tuner(scratch, workload, prediction)
    found.prove([38])
    rebuilt = found.rebuild(38, 2)
    assert builds == [38, 38, 38]
    assert len(rebuilt) == 2
    assert all(1 <= built.probes <= 38 and built.recall >= 0.9 - 1e-9 for built in rebuilt)
    assert names(scratch) == {"lab_ivfflat_38"}
    probes = max(built.probes for built in rebuilt)
    point, exact = found.measure_final(38, probes)
    assert builds == [38, 38, 38]
    assert (point.probes, point.shuffled, point.recall >= 0.9 - 1e-9) == (probes, True, True)
    assert point.build_s == rebuilt[-1].build_s
    assert exact.latency.p50_ms > 0


def test_a_rebuild_of_the_winner_drops_every_other_index(
    scratch: Scratch, workload: Workload, prediction: Prediction
) -> None:
    found = tuner(scratch, workload, prediction)
    found.prove([10])
    found.prove([10, 38])
    found.rebuild(10, 1)
    assert names(scratch) == {"lab_ivfflat_10"}


def test_the_other_queries_confirm_and_without_any_there_is_no_confirmation(
    scratch: Scratch, workload: Workload, prediction: Prediction
) -> None:
    confirmed = tuner(scratch, workload, prediction).confirm(38, 38)
    assert confirmed is not None
    assert (confirmed.mean, confirmed.n_queries) == (1.0, 30)
    assert tuner(scratch, workload.part(slice(1)), prediction).confirm(38, 5) is None


def test_the_cost_is_the_prior_until_enough_was_measured(
    scratch: Scratch, workload: Workload, prediction: Prediction
) -> None:
    found = tuner(scratch, workload, prediction)
    assert found.cost() is PRIOR
    found.prove([38])
    assert found.points()
    cost = found.cost()
    assert cost is PRIOR or cost.n_points == len(found.points()) >= 2


def test_a_point_gets_the_recall_that_was_predicted_for_it(
    scratch: Scratch, workload: Workload, prediction: Prediction
) -> None:
    found = tuner(scratch, workload, prediction)
    found.prove([20])
    for point in map(found.predicted, found.points()):
        assert point.predicted_recall == prediction.curve(20).recall[point.probes - 1]


def test_with_a_budget_that_nothing_keeps_nothing_is_compared_but_the_exact_scan(
    scratch: Scratch, workload: Workload, prediction: Prediction
) -> None:
    found = tuner(scratch, workload, prediction, TimeAim(1e-6))
    found.prove([38])
    assert [proof.probes for proof in found.proofs.values()] == [None]
    points, exact = found.compare()
    assert points == ()
    assert exact.latency.p50_ms > 0


# --- interrupted, and gone on with


def begun(
    folder: Path, database: Engine, workload: Workload, made: Prediction, run: Run | None = None
) -> Run:
    """Tune with one index and two rebuilds until it ends, one way or the other."""
    run = run or runs.start(folder, label="x", options={})
    tune(database, workload, target_recall=0.9, lists=[38], prediction=made, rebuilds=2, rounds=1,
         run=run)  # fmt: skip
    return run


def steps_of(folder: Path, name: str) -> list[str]:
    lines = (folder / name / "steps.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


@pytest.mark.parametrize(
    ("stop_at", "done", "more"),
    [
        (1, ["fingerprint"], [38, 38, 38]),
        (2, ["fingerprint", "proof 38", "comparison"], [38, 38]),
        (3, ["fingerprint", "proof 38", "comparison", "rebuild 1"], [38]),
    ],
    ids=["proving", "first rebuild", "second rebuild"],
)
def test_a_resumed_run_does_what_is_left_and_nothing_twice(
    database: Engine, workload: Workload, prediction: Prediction, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, stop_at: int, done: list[str], more: list[int],
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        counted(patched, stop_at=stop_at)
        with pytest.raises(KeyboardInterrupt):
            begun(tmp_path, database, workload, prediction)
    (kept,) = runs.saved(tmp_path)
    assert (kept.status, kept.result, kept.steps) == ("interrupted", None, len(done))
    assert steps_of(tmp_path, kept.name) == done

    builds = counted(monkeypatch)
    before = runs.Run(tmp_path / kept.name)
    again = begun(tmp_path, database, workload, prediction, runs.resume(tmp_path, kept.name))
    assert builds == more
    steps = Counter(steps_of(tmp_path, kept.name))
    assert set(steps.values()) == {1}
    assert {"proof 38", "comparison", "rebuild 1", "rebuild 2"} <= set(steps)
    assert any(step.startswith("final 38 ") for step in steps)
    assert any(step.startswith("confirmation 38 ") for step in steps)
    for step in done:
        assert again.kept(step) == before.kept(step)
    finished = runs.load(tmp_path, kept.name)
    assert finished.status == "finished"
    assert finished.result is not None
    assert finished.result["why"]


@pytest.mark.parametrize(
    ("before", "builds"), [("compare", 3), ("measure_final", 1), ("confirm", 1)]
)
def test_an_index_that_is_gone_is_built_again_for_what_is_left(
    database: Engine, workload: Workload, prediction: Prediction, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, before: str, builds: int,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(Tuner, before, interrupted)
        with pytest.raises(KeyboardInterrupt):
            begun(tmp_path, database, workload, prediction)
    (kept,) = runs.saved(tmp_path)
    built = counted(monkeypatch)
    begun(tmp_path, database, workload, prediction, runs.resume(tmp_path, kept.name))
    assert built == [38] * builds
    assert runs.load(tmp_path, kept.name).status == "finished"
    compared = runs.Run(tmp_path / kept.name).kept("comparison")
    assert compared is not None
    (point,) = compared["points"]
    assert point["recall"] >= 0.9 - 1e-9  # proven on the index that was compared


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_is_not_gone_on_with_on_other_vectors_or_for_another_aim(
    database: Engine, workload: Workload, prediction: Prediction, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(Tuner, "compare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            begun(tmp_path, database, workload, prediction)
    (kept,) = runs.saved(tmp_path)
    moved = Workload.of(workload.vectors[::-1].copy(), workload.queries)
    fewer = workload.part(slice(50))
    for other in (moved, fewer):
        with pytest.raises(ExperimentError, match="other vectors or with other options"):
            begun(tmp_path, database, other, prediction, runs.resume(tmp_path, kept.name))
    with pytest.raises(ExperimentError, match="other vectors or with other options"):
        tune(database, workload, target_recall=0.8, lists=[38], prediction=prediction,
             run=runs.resume(tmp_path, kept.name))  # fmt: skip
    assert steps_of(tmp_path, kept.name) == ["fingerprint", "proof 38"]
    begun(tmp_path, database, workload, prediction, runs.resume(tmp_path, kept.name))


def test_a_finished_run_is_not_gone_on_with(
    database: Engine, workload: Workload, prediction: Prediction, tmp_path: Path
) -> None:
    run = begun(tmp_path, database, workload, prediction)
    with pytest.raises(ExperimentError, match="has finished; there is nothing to resume"):
        runs.resume(tmp_path, str(run.name))
