"""How sure a recall is follows from the spread over queries, and never from fewer than three."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from resume_lab.report import query_certainty, recall_distribution
from resume_lab.report.certainty import half_width
from resume_lab.report.paper import Picture
from resume_lab.vectors import summarise

HALF = np.array([0.0, 1.0] * 100)
PERFECT = np.ones(200)
ABOUT = "$random: 1,000 rows, 200 queries"


def words(figure: Picture) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(Text) if t.get_visible())


def test_a_coin_flip_has_the_half_width_of_the_textbook() -> None:
    for n in (100, 400):
        assert half_width(HALF, n) == pytest.approx(1.96 * 0.5 / np.sqrt(n), rel=0.08)


def test_perfect_queries_leave_the_rule_of_three() -> None:
    assert half_width(PERFECT, 200) == pytest.approx(3 / 200)
    assert half_width(PERFECT, 2) == 1.0


@pytest.mark.parametrize("per_query", [HALF, PERFECT, np.linspace(0.8, 1.0, 200)])
def test_for_the_queries_asked_it_is_the_interval_of_the_summary(per_query: np.ndarray) -> None:
    found = summarise(per_query)
    assert half_width(per_query, 200) == pytest.approx(found.mean - found.low, rel=0.1)


def test_the_figure_says_from_how_many_queries_on_a_target_is_sure() -> None:
    said = words(query_certainty({"all found": PERFECT}, ABOUT, target_recall=0.95))
    assert "rule of three" in said
    assert "would be sure" in said
    assert ABOUT in said
    below = words(query_certainty({"half": HALF}, ABOUT, target_recall=0.95))
    assert "would be sure" not in below


def test_the_distribution_names_mean_and_worst() -> None:
    said = words(recall_distribution({"half": HALF, "all": PERFECT}, ABOUT))
    assert "mean 0.500, worst 0.00" in said
    assert "mean 1.000, worst 1.00" in said


def test_no_data_is_still_a_figure() -> None:
    assert query_certainty({}, ABOUT).png().startswith(b"\x89PNG")
    assert recall_distribution({}, ABOUT).png().startswith(b"\x89PNG")
