"""The words and digits that tables, figures and pages share."""

from __future__ import annotations

import dataclasses

import pytest

from resume_lab.report import facts

from .factory import grid, measured, point, result, tuned


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123 ms"), (1.234, "1.23 ms"), (12.34, "12.3 ms"), (1234.5, "1,234 ms")],
)
def test_milliseconds_keep_three_digits(value: float, text: str) -> None:
    assert facts.ms_text(value) == text


def test_a_missing_percentile_is_a_dash() -> None:
    assert facts.ms_text(None) == "\N{EN DASH}"


def test_a_speed_up_that_nobody_measured_is_a_dash() -> None:
    assert facts.speedup_text(float("nan")) == "\N{EN DASH}"


def test_the_aim_is_a_recall_or_a_latency() -> None:
    assert facts.aim_text(0.95, None) == "target recall 0.95"
    assert facts.aim_text(None, 5.0) == "p50 latency at most 5 ms"


def test_points_timed_alone_are_not_compared_with_others() -> None:
    alone, again, other = (
        measured(100, 8, shuffled=False),
        measured(100, 8),
        measured(80, 8, shuffled=False),
    )
    found = result((alone, again, other))
    assert facts.compared(found) == (again,)
    assert facts.alone(found) == (other,)
    assert facts.frontier(found) == {again}
    assert any(note.startswith("~") for note in facts.notes(found))


def test_where_all_were_timed_alone_they_are_all_there_is() -> None:
    points = (measured(100, 8, shuffled=False), measured(80, 8, shuffled=False))
    assert facts.compared(result(points)) == points
    assert facts.alone(result(points)) == ()


def test_the_recommended_point_is_the_one_timed_in_turn() -> None:
    chosen = facts.recommended_point(tuned())
    assert chosen is not None
    assert chosen.shuffled


def test_queries_that_confirm_and_a_sample_are_told() -> None:
    data = dataclasses.replace(tuned().workload, sampled_from=2_000_000)
    assert "10,000 rows sampled from 2,000,000" in facts.size_text(data)
    assert "100 + 100 queries" in facts.size_text(data)


def test_recommended_point_is_one_of_the_measured_points() -> None:
    found = result()
    chosen = facts.recommended_point(found)
    assert found.recommendation is not None
    assert chosen in found.points
    assert chosen.probes == found.recommendation.probes


def test_of_two_kinds_of_index_the_recommended_one_is_told_by_its_latency() -> None:
    slow = point(recall=0.99, p50_ms=9.0, index="ivfflat")
    fast = point(recall=0.99, p50_ms=3.0, index="ivfflat halfvec")
    assert facts.recommended_point(result((slow, fast))) is fast


def test_a_recommendation_without_its_point_marks_nothing() -> None:
    assert facts.recommended_point(dataclasses.replace(result(), points=())) is None


def test_an_index_is_named_only_where_lists_do_not_tell() -> None:
    assert list(facts.by_index(grid((20, 50)))) == ["lists 20", "lists 50"]
    both = (point(index="ivfflat"), point(index="halfvec"))
    assert list(facts.by_index(both)) == ["lists 100, halfvec", "lists 100, ivfflat"]


def test_nothing_unusual_needs_no_note() -> None:
    assert facts.notes(result((point(),))) == ()


def test_what_is_unusual_is_explained() -> None:
    notes = " ".join(
        facts.notes(
            result((point(used_index=False, rows_returned=0.65, n=60), point(forced=False)))
        )
    )
    assert "p99 needs 299" in notes
    assert "Used index 'no'" in notes
    assert "Used index 'never'" in notes
    assert "Fewer than 10 rows came back at 1 of 2 settings" in notes
    assert "6.5 on average" in notes


def test_sample_counts_are_given_as_a_range_where_they_differ() -> None:
    assert "40 to 400 samples" in facts.samples_text(result((point(n=40),), n=400))
