"""A whole tuning run on a scratch copy: the tuner, or every setting of a grid."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real

from sqlalchemy.engine import Engine
from tqdm.auto import tqdm

from resume_lab.database.failures import translated_errors
from resume_lab.database.indexes import IVFFlat
from resume_lab.database.interrupt import was_interrupted
from resume_lab.errors import DatabaseError, DataError, ExperimentError, LabError, leaving
from resume_lab.given import whole, wholes
from resume_lab.tuning import runs
from resume_lab.tuning.aims import PRIOR, Aim, RecallAim, TimeAim
from resume_lab.tuning.decide import Evidence, conclude, none_reaches
from resume_lab.tuning.environment import environment, in_turn
from resume_lab.tuning.measure import ROUNDS, against, checked
from resume_lab.tuning.predict import Prediction, candidate_lists, expectation, predict
from resume_lab.tuning.prove import Target
from resume_lab.tuning.results import (
    CostModel,
    Exact,
    Point,
    Rebuild,
    Recommendation,
    Timings,
    TuningResult,
    WorkloadInfo,
)
from resume_lab.tuning.runs import Run
from resume_lab.tuning.scratch import Storage, scratch_copy
from resume_lab.tuning.tuner import Say, Tuner
from resume_lab.tuning.workload import Workload

DEFAULT_TARGET_RECALL = 0.95
REBUILDS = 3


def tune(
    engine: Engine,
    workload: Workload,
    *,
    target_recall: float | None = None,
    max_ms: float | None = None,
    lists: Sequence[int] | None = None,
    rebuilds: int = REBUILDS,
    rounds: int = ROUNDS,
    seed: int = 0,
    storage: Storage | str = Storage.EXTERNAL,
    prediction: Prediction | None = None,
    run: Run | None = None,
    progress: bool = False,
) -> TuningResult:
    """Predict every setting, prove a few on a scratch copy, and recommend one.

    The aim is `target_recall` (.95 unless said) at the lowest p50 or, instead, `max_ms`: the
    highest recall within this p50. Given `lists` are the only ones that may be built. Half of the
    workload's queries choose the setting, the other half confirm it. The winner is built again
    `rebuilds` times, and the probes hold for every build. A `prediction` made before, on all
    queries or half of them, is used as it is. Steps are kept in `run`, which can be resumed. An
    interrupt drops the copy.
    """
    start = time.perf_counter()
    run = run or Run()
    with ending(run, engine), _said(progress) as say:
        check_options(target_recall, max_ms, rounds, rebuilds)
        seed = whole(seed, "seed", least=0, error=ExperimentError)
        choosing, confirming = workload.split()
        aim = _aim(target_recall, max_ms, len(choosing.queries))
        choice = _choice(workload, lists)
        asked = {"target": target_recall, "max_ms": max_ms, "lists": choice, "seed": seed}
        run.check(runs.fingerprint(workload, asked | {"storage": Storage(storage).value}))
        if prediction is None:
            say("predicting")
            wanted = candidate_lists(len(workload.vectors), own=choice)
            prediction = predict(choosing, wanted, seed=seed)
        promise = expectation(prediction, workload.difficulty, target_recall)
        say("copying the vectors")
        with scratch_copy(engine, workload.vectors, storage=Storage(storage)) as scratch:
            place = environment(scratch, in_turn(rounds))
            tuner = Tuner(
                scratch, choosing, confirming, prediction, aim,
                run=run, say=say, rounds=rounds, seed=seed,
            )  # fmt: skip
            copied = time.perf_counter()
            info = replace(choosing.info, n_confirming=len(confirming.queries))
            found = _decided(tuner, aim, choice, rebuilds, prediction, info)
            measure_s = time.perf_counter() - copied - tuner.build_s
        total_s = workload.exact_s + time.perf_counter() - start
        result = TuningResult(
            info,
            place,
            None if aim.target is None else aim.target.recall,
            found.exact,
            found.points,
            found.recommendation,
            found.why,
            Timings(workload.exact_s, tuner.build_s, measure_s, total_s, prediction.predict_s),
            max_ms,
            prediction.curves,
            found.cost,
            workload.difficulty,
            promise,
        )
        run.finish(result)
    return result


@dataclass(frozen=True)
class _Found:
    """What the tuner came to."""

    exact: Exact
    points: tuple[Point, ...]
    recommendation: Recommendation | None
    why: str
    cost: CostModel | None


def _decided(
    tuner: Tuner,
    aim: Aim,
    choice: Sequence[int],
    rebuilds: int,
    prediction: Prediction,
    info: WorkloadInfo,
) -> _Found:
    tuner.prove(choice)
    compared, exact = tuner.compare()
    winner = aim.best(point for point in compared if point.used_index_forced)
    measured = [*tuner.points(), *compared]
    if winner is None:
        advised = None
        why = none_reaches(compared or measured, str(aim), info, max_ms=aim.max_ms)
    else:
        rebuilt: tuple[Rebuild, ...] = ()
        confirmed = None
        if winner.latency.p50_ms < exact.latency.p50_ms:
            rebuilt = tuner.rebuild(winner.lists, rebuilds)
            probes = aim.over_builds([winner.probes, *(b.probes for b in rebuilt if b.probes)])
            if rebuilt:
                winner, exact = tuner.measure_final(winner.lists, probes)
                measured.append(winner)
            confirmed = tuner.confirm(winner.lists, winner.probes)
        scanned = prediction.curve(winner.lists).rows_scanned[winner.probes - 1]
        evidence = Evidence(
            tuner.predicted(winner),
            float(scanned) / info.rows,
            len(tuner.proofs),
            len(prediction.curves),
            rebuilt,
            confirmed,
            aim.target,
            aim.max_ms,
        )
        advised, why = conclude(evidence, exact, info)
    by_setting = {(point.lists, point.probes): point for point in measured}
    points = (tuner.predicted(against(exact, by_setting[key])) for key in sorted(by_setting))
    cost = tuner.cost(compared)
    return _Found(exact, tuple(points), advised, why, None if cost is PRIOR else cost)


def check_options(
    target_recall: float | None, max_ms: float | None, rounds: int, rebuilds: int
) -> None:
    """Raise ExperimentError for what no run can be asked."""
    for what, number in (("target recall", target_recall), ("latency budget", max_ms)):
        if not isinstance(number, Real | None):
            raise ExperimentError(f"The {what} is {number!r}; it must be a number.")
    whole(rounds, "rounds", error=ExperimentError)
    whole(rebuilds, "rebuilds", least=0, error=ExperimentError)
    if target_recall is not None and max_ms is not None:
        raise ExperimentError("A target recall and a latency budget exclude each other.")
    if target_recall is not None and not 0 < target_recall <= 1:
        raise ExperimentError(f"The target recall is {target_recall}; it is above 0, at most 1.")
    if max_ms is not None and not 0 < max_ms < float("inf"):
        raise ExperimentError(f"The latency budget is {max_ms} ms; it must be above 0.")


def _aim(target_recall: float | None, max_ms: float | None, n_queries: int) -> Aim:
    if max_ms is not None:
        return TimeAim(max_ms)
    recall = DEFAULT_TARGET_RECALL if target_recall is None else target_recall
    return RecallAim(Target.of(recall, n_queries), n_queries)


def _choice(workload: Workload, lists: Sequence[int] | None) -> list[int]:
    """Return the lists that may be built, checked before anything is copied."""
    rows = len(workload.vectors)
    choice = wholes(lists, "lists", error=ExperimentError) if lists else candidate_lists(rows)
    for value in choice:
        checked(IVFFlat(value), [1], workload)
    return choice


@contextlib.contextmanager
def _said(progress: bool) -> Iterator[Say]:
    """Give a line that says what is being done, and for how long."""
    ended = threading.Event()
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False, disable=not progress) as bar:

        def tick() -> None:
            while not ended.wait(1.0):
                bar.refresh()

        if progress:
            threading.Thread(target=tick, daemon=True).start()
        try:
            yield bar.set_description_str
        finally:
            ended.set()


LEFT = "The tables are as they were; the copy is dropped, by the next run at the latest."


def _left(error: LabError) -> str | None:
    return LEFT if isinstance(error, DatabaseError) else None


@contextlib.contextmanager
def ending(run: Run, engine: Engine) -> Iterator[None]:
    """Say in the run how it ended if it did not finish, and in the error what it leaves."""
    try:
        with leaving(_left), translated_errors(engine):
            yield
    except BaseException as error:
        with contextlib.suppress(DataError):  # what happened first is what to tell
            run.end(runs.INTERRUPTED if was_interrupted(error) else runs.FAILED)
        raise
