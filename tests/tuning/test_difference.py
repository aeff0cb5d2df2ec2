"""What two runs say differently."""

import json
from typing import Any

import pytest

from resume_lab.errors import ExperimentError
from resume_lab.tuning.difference import difference
from resume_lab.tuning.runs import SavedRun

from .test_results import result


def saved(name: str = "20260213-120000-0000", **changes: Any) -> SavedRun:
    """A finished run; `changes` are merged into its result."""
    kept = json.loads(json.dumps(result().as_dict()))
    for key, value in changes.items():
        kept[key] = kept[key] | value if isinstance(value, dict) else value
    return SavedRun(name, "finished", "mine", "2026-02-13", {}, 5, kept)


def lines(first: SavedRun, second: SavedRun) -> dict[str, tuple[Any, Any]]:
    return {line.what: (line.first, line.second) for line in difference(first, second)}


def test_of_two_equal_runs_only_what_was_found_is_told() -> None:
    found = difference(saved(), saved())
    assert not any(line.differs for line in found)
    assert [line.what for line in found] == [
        "exact p50_ms",
        "recommended lists", "recommended probes", "recommended recall",
        "recommended recall_low", "recommended confirmed_recall", "recommended p50_ms",
        "lists 10, probes 1: recall", "lists 10, probes 1: p50_ms",
        "lists 10, probes 2: recall", "lists 10, probes 2: p50_ms",
    ]  # fmt: skip


def test_what_was_asked_and_where_is_told_where_it_differs() -> None:
    other = saved(
        workload={"rows": 9, "source": "other vectors"},
        target_recall=None,
        max_ms=2.5,
        environment={"server_version": "16.1", "settings": {"jit": "on", "work_mem": "4MB"}},
    )
    found = lines(saved(), other)
    assert found["rows"] == (4, 9)
    assert found["source"] == ("given vectors", "other vectors")
    assert (found["target_recall"], found["max_ms"]) == ((0.95, None), (None, 2.5))
    assert found["server_version"] == ("18.4", "16.1")
    assert (found["jit"], found["work_mem"]) == (("off", "on"), (None, "4MB"))
    assert "machine" not in found
    assert "dim" not in found


def test_settings_that_only_one_run_measured_are_left_out() -> None:
    points = [
        {"lists": 10, "probes": 2, "recall": 0.97, "p50_ms": 1.5},
        {"lists": 50, "probes": 2, "recall": 0.5, "p50_ms": 1.0},
    ]
    found = lines(saved(), saved(points=points))
    assert found["lists 10, probes 2: recall"] == (0.96, 0.97)
    assert found["lists 10, probes 2: p50_ms"] == (2.0, 1.5)
    assert not any(name.startswith(("lists 10, probes 1", "lists 50")) for name in found)


def test_a_run_that_recommended_nothing_says_nothing_there() -> None:
    found = lines(saved(), saved(recommendation=None))
    assert found["recommended lists"] == (10, None)
    both = lines(saved(recommendation=None), saved(recommendation=None))
    assert both["recommended lists"] == (None, None)


def test_a_run_without_a_result_is_refused_naming_how_to_go_on() -> None:
    unfinished = SavedRun("20260213-120000-0001", "interrupted", "mine", "now", {}, 2, None)
    for pair in ((saved(), unfinished), (unfinished, saved())):
        with pytest.raises(ExperimentError) as refused:
            difference(*pair)
        assert refused.value.message == "Run 20260213-120000-0001 has no result: it is interrupted."
        assert refused.value.hint == "resume-lab tune --resume 20260213-120000-0001"
