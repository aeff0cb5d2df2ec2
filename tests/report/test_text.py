"""The text for a terminal says what was predicted, measured and decided, in 100 columns."""

from __future__ import annotations

import dataclasses

import pytest

from resume_lab.report import text_table
from resume_lab.tuning.results import TuningResult

from .factory import curve, grid, point, result, tuned


@pytest.mark.parametrize(
    "found",
    [
        result(),
        result(recommend=False),
        result(n=40),
        result((point(),)),
        result((point(recall=0.0), point(probes=100, recall=1.0))),
        result(grid((10, 20, 50, 100, 200, 500, 1000), n=60)),
        result((point(10_000, 10_000, p50_ms=98_765.4, exact_ms=9e6),), rows=10_000_000),
        result(source="a-very-long-name/" * 20),
        tuned(),
        tuned(target=None, max_ms=3.0),
        tuned(recommend=False),
        dataclasses.replace(tuned(), cost=None, difficulty=None, expectation=""),
    ],
)
def test_text_is_at_most_100_columns_wide(found: TuningResult) -> None:
    lines = text_table(found).splitlines()
    assert max(len(line) for line in lines) <= 100
    assert not any(line.endswith(" ") for line in lines)


def test_text_says_data_exact_scan_and_verdict() -> None:
    found = result()
    text = text_table(found)
    assert "synthetic/clustered/seed=0" in text
    assert "10,000 rows x 1536 d, cosine distance, 200 queries, k = 10" in text
    assert "exact scan p50 18.0 ms" in text
    assert "400 samples a setting" in text
    assert found.why.split(":")[0][:60] in text.replace("\n", " ")


def test_text_marks_the_recommended_point_and_the_frontier() -> None:
    on = point(100, 8, recall=0.99, p50_ms=2.0)
    off = point(50, 8, recall=0.90, p50_ms=3.0)
    rows = [line for line in text_table(result((on, off))).splitlines() if line.endswith(" yes")]
    assert [(row[:2], row.split()[-11:-9]) for row in rows] == [
        ("  ", ["50", "8"]),
        (">*", ["100", "8"]),
    ]


def test_text_shows_a_dash_for_a_missing_percentile_and_says_why() -> None:
    text = text_table(result((point(n=40),), n=40))
    row = next(line for line in text.splitlines() if "0.6" in line and "yes" in line)
    assert row.split().count("-") == 2
    assert "p95 needs 59, p99 needs 299" in text


def section(text: str, title: str) -> str:
    return text.split(title)[1].split("\n\n")[0]


def test_a_search_says_what_to_expect_and_what_was_predicted() -> None:
    text = text_table(tuned())
    assert "Clear neighbourhoods: contrast 2.51" in text
    assert "Expect recall 0.95 from about 3 % of the rows." in text
    rows = [line.split() for line in section(text, "PREDICTED").splitlines()[2:]]
    assert len(rows) == 8
    probes = curve(400).probes_for(0.95)
    assert rows[-1][:4] == ["*", "400", str(probes), f"{curve(400).recall[probes - 1]:.3f}"]
    assert [row[0] for row in rows if row[-1] == "yes"] == ["80", "100", "160", "250"]


def test_of_many_forecasts_those_built_and_the_best_are_shown() -> None:
    many = tuple(curve(lists) for lists in (2, 3, 4, 5, 6, 7, 8, 9, 80, 100, 160, 250, 400))
    text = text_table(dataclasses.replace(tuned(), curves=many))
    shown = [line.split() for line in section(text, "PREDICTED").splitlines()[2:]]
    assert len(shown) == 9
    assert {"80", "100", "160", "250"} <= {row[0] for row in shown}
    assert shown[-1][1] == "400"


def test_measured_recall_stands_beside_the_predicted() -> None:
    lines = section(text_table(tuned()), "MEASURED").splitlines()
    assert lines[1].split()[2:6] == ["predicted", "recall", "low-high", "queries"]
    recommended = next(line for line in lines if line.startswith(">")).split()
    assert recommended[1:5] == ["250", "21", "0.966", "0.960"]


def test_latency_taken_alone_is_marked_and_explained() -> None:
    text = text_table(tuned())
    rows = [line.split() for line in section(text, "MEASURED").splitlines()[2:]]
    assert {row[-4][0] == "~" for row in rows if row[-5] == "40"} == {True}
    assert {row[-4][0] == "~" for row in rows if row[-5] == "100"} == {False}
    assert "~ stands before a latency taken on the way to the decision" in text
    assert "~" not in text_table(result())


def test_the_decision_ends_the_text() -> None:
    end = text_table(tuned()).split("DECIDED")[1]
    assert "is the cheapest proven setting." in end
    assert "Predicted recall 0.966, measured 0.960." in end
    assert "The index takes 83.0 MiB" in end


def test_a_latency_can_be_the_aim() -> None:
    text = text_table(tuned(target=None, max_ms=3.0))
    assert "p50 latency at most 3 ms; exact scan p50 18.0 ms" in text
    assert "most probes predicted to take at most 3 ms. * highest recall." in text


def test_nothing_measured_is_still_text() -> None:
    assert "recommended" in text_table(result(()))
