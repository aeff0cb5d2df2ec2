"""Runs on the disk: each step is there once it was kept, whatever happens afterwards."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resume_lab.errors import DataError, ExperimentError
from resume_lab.tuning import runs
from resume_lab.tuning.results import Latency
from resume_lab.tuning.runs import Run, exact_of, fingerprint, plain, point_of

from .factory import exact, point, workload
from .test_results import result


def begun(folder: Path, *, steps: int = 0, label: str = "mine") -> Run:
    run = runs.start(folder, label=label, options={"k": 3})
    for number in range(steps):
        run.keep(f"step {number}", {"number": number})
    return run


def named(run: Run) -> str:
    assert run.name is not None
    return run.name


# --- steps


def test_a_step_is_done_once_and_its_outcome_is_given_again(tmp_path: Path) -> None:
    run, done = begun(tmp_path), []

    def work() -> list[int]:
        done.append(1)
        return [1, 2]

    assert run.step("a", work) == run.step("a", work) == [1, 2]
    assert Run(tmp_path / named(run)).step("a", work) == [1, 2]  # another process
    assert done == [1]
    assert (run.kept("a"), run.kept("b")) == ([1, 2], None)


def test_a_step_that_fails_is_not_kept(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run.step("a", lambda: 1 // 0)
    assert Run(tmp_path / named(run)).kept("a") is None
    assert run.step("a", lambda: 2) == 2


def test_a_run_without_a_folder_keeps_nothing_beyond_itself(tmp_path: Path) -> None:
    run = Run()
    assert run.name is None
    assert run.step("a", lambda: 1) == run.kept("a") == 1
    run.finish(result())
    run.end(runs.FAILED)
    assert Run().kept("a") is None


@given(cut=st.integers(1, 200))
def test_wherever_a_crash_cuts_the_last_line_off_the_steps_before_it_are_there(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    run = begun(folder, steps=3)
    path = folder / named(run) / "steps.jsonl"
    text = path.read_text()
    last = text.splitlines(keepends=True)[-1]
    path.write_text(text[: len(text) - min(cut, len(last))])
    again = Run(folder / named(run))
    whole = cut == 1  # only the end of the line is missing
    assert [again.kept(f"step {n}") is not None for n in range(3)] == [True, True, whole]
    again.keep("step 2", {"number": 2})
    again.keep("step 3", {"number": 3})
    found = Run(folder / named(run))
    assert [found.kept(f"step {n}") for n in range(4)] == [{"number": n} for n in range(4)]


# --- how a run ends


def test_a_run_is_running_until_it_ends_and_then_says_how(tmp_path: Path) -> None:
    run = begun(tmp_path, steps=2)
    found = runs.load(tmp_path, named(run))
    assert (found.status, found.label, found.options) == ("running", "mine", {"k": 3})
    assert (found.steps, found.result) == (2, None)
    assert found.started.startswith(f"{named(run)[:4]}-")
    for status in (runs.INTERRUPTED, runs.FAILED):
        run.end(status)
        assert runs.load(tmp_path, named(run)).status == status


def test_a_finished_run_has_its_result(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.finish(result())
    found = runs.load(tmp_path, named(run))
    assert found.status == "finished"
    assert found.result == json.loads(json.dumps(result().as_dict()))
    assert {path.name for path in (tmp_path / named(run)).iterdir()} == {"run.json", "result.json"}


def test_an_unfinished_run_is_resumed_and_a_finished_one_is_not(tmp_path: Path) -> None:
    run = begun(tmp_path, steps=1)
    run.end(runs.INTERRUPTED)
    again = runs.resume(tmp_path, named(run))
    assert again.kept("step 0") == {"number": 0}
    assert runs.load(tmp_path, named(run)).status == "running"
    again.finish(result())
    with pytest.raises(ExperimentError, match="has finished; there is nothing to resume"):
        runs.resume(tmp_path, named(run))


@pytest.mark.parametrize(
    "name", ["", "nonsense", "../x", "20260213-120000-abcd", "20260213-120000-abcd/../.."]
)
def test_a_name_of_no_run_is_told(tmp_path: Path, name: str) -> None:
    begun(tmp_path)
    with pytest.raises(ExperimentError, match=r"There is no run .*\n.*resume-lab runs"):
        runs.load(tmp_path, name)
    with pytest.raises(ExperimentError, match="There is no run"):
        runs.resume(tmp_path, name)


def test_without_a_name_the_newest_finished_run_is_meant(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="There is no finished run"):
        runs.load(tmp_path)
    for number, name in enumerate(("20260101-000000-0000", "20260301-000000-0000")):
        begun(tmp_path / "new", label=str(number)).finish(result())
        (made,) = (tmp_path / "new").iterdir()
        made.rename(tmp_path / name)
    begun(tmp_path)
    assert runs.load(tmp_path).label == "1"
    assert [run.name[:6] for run in runs.saved(tmp_path)][1:] == ["202603", "202601"]


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert runs.saved(tmp_path / "none") == []


def test_what_is_no_run_or_cannot_be_read_is_left_out_of_the_list(tmp_path: Path) -> None:
    good, broken, unfinished = begun(tmp_path), begun(tmp_path), begun(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "20260213-120000-abcd").mkdir()
    (tmp_path / named(broken) / "run.json").write_text('{"status": "fin')
    unfinished.end(runs.FINISHED)  # without a result
    assert [run.name for run in runs.saved(tmp_path)] == [good.name]
    with pytest.raises(DataError, match=r"run\.json cannot be read"):
        runs.load(tmp_path, named(broken))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"Runs cannot be kept in .*\n.*LAB_DIR"):
        begun(tmp_path / "file")


def test_two_runs_begun_in_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    names = {begun(tmp_path).name for _ in range(20)}
    assert len(names) == len(runs.saved(tmp_path)) == 20


# --- which experiment it was


def test_one_run_holds_one_experiment(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.check("this")
    run.check("this")
    with pytest.raises(ExperimentError, match="made on other vectors or with other options"):
        Run(tmp_path / named(run)).check("that")


def test_the_fingerprint_tells_queries_answers_metric_and_options_apart() -> None:
    four = workload()
    same = fingerprint(four, {"target": 0.9})
    assert same == fingerprint(workload(), {"target": 0.9})
    rows = four.vectors[::-1].copy()
    others = [
        fingerprint(four, {"target": 0.95}),
        fingerprint(workload(metric="l2"), {"target": 0.9}),
        fingerprint(replace(four, queries=-four.queries), {"target": 0.9}),
        fingerprint(type(four).of(rows, four.queries, k=2), {"target": 0.9}),
        fingerprint(four.part(slice(1)), {"target": 0.9}),
    ]
    assert len({same, *others}) == 6


# --- records as JSON and back


def test_a_point_and_an_exact_scan_come_back_as_they_were() -> None:
    samples = np.array([0.1, 1 / 3, 7.0])
    made = replace(point(10, 2, 1 / 3, 1.0), latency=Latency.of(samples), predicted_recall=0.1)
    back = point_of(json.loads(json.dumps(plain(made))))
    assert back == made
    assert np.array_equal(back.latency.samples_ms, samples)
    scan = exact(3.0)
    assert exact_of(json.loads(json.dumps(plain(scan)))) == scan


def test_a_speed_up_that_is_not_known_yet_stays_unknown() -> None:
    alone = replace(point(10, 2, 0.9, 1.0), speedup_vs_exact=float("nan"))
    assert math.isnan(point_of(json.loads(json.dumps(plain(alone)))).speedup_vs_exact)
