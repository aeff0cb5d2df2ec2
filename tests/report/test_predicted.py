"""Predicted curves carry the measured points, before a run they stand alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from resume_lab.errors import ExperimentError
from resume_lab.report import facts, predicted_curves, predicted_frontier
from resume_lab.report.forecast import Surface, envelope, share
from resume_lab.report.paper import Picture
from resume_lab.tuning.predict import Prediction
from resume_lab.tuning.results import TuningResult
from resume_lab.tuning.workload import Workload

from .factory import curve, result, tuned

Draw = Callable[[TuningResult | Prediction], Picture]


@pytest.fixture(params=[predicted_curves, predicted_frontier])
def draw(request: pytest.FixtureRequest) -> Draw:
    return request.param


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    rows = np.eye(12, dtype=np.float32)
    workload = Workload.of(rows, rows[:3] + 0.1, k=2, source="corners")
    return Prediction(workload, tuple(curve(lists, 12) for lists in (2, 4)), 0.1)


def words(figure: Picture) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


@pytest.mark.parametrize(
    "found", [tuned(), tuned(target=None, max_ms=3.0), tuned(recommend=False)], ids=str
)
def test_no_label_lies_on_another(draw: Draw, found: TuningResult) -> None:
    figure = draw(found)
    FigureCanvasAgg(figure).draw()
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in texts]
    assert [(a, b) for (a, one), (b, two) in combinations(boxes, 2) if one.overlaps(two)] == []


def test_there_is_a_line_for_each_lists_and_the_recommended_is_named(draw: Draw) -> None:
    said = words(draw(tuned()))
    assert sum(word.startswith("lists ") and "probes" not in word for word in said) == 8
    assert "lists 250, probes 21" in said
    assert "target\n0.95" in said
    assert any("10,000 rows" in word for word in said)


def test_points_on_the_way_to_the_decision_are_hollow(draw: Draw) -> None:
    found = tuned()
    in_turn = dataclasses.replace(found, points=facts.compared(found))
    assert any("hollow" in word for word in words(draw(found)))
    assert not any("hollow" in word for word in words(draw(in_turn)))


def test_a_prediction_is_drawn_before_anything_is_measured(
    draw: Draw, prediction: Prediction
) -> None:
    said = words(draw(prediction, target_recall=0.9))
    assert "target\n0.9" in said
    assert any("corners" in word for word in said)
    assert not any("measured" in word for word in said)


def test_without_predictions_there_is_no_figure_of_them(draw: Draw) -> None:
    with pytest.raises(ExperimentError, match="Nothing is predicted"):
        draw(result())


def test_the_envelope_is_the_best_of_all_curves() -> None:
    curves = [curve(20), curve(100)]
    shares, recalls = envelope(curves)
    assert (np.diff(recalls) >= 0).all()
    assert shares[-1] == 1.0
    assert recalls[-1] == 1.0
    for one in curves:
        at_least = np.interp(np.log(share(one)), np.log(shares), recalls)
        assert (at_least >= one.recall - 0.01).all()


def test_without_a_cost_model_the_best_reads_fewest_rows_and_centroids() -> None:
    curves = tuple(curve(lists) for lists in (100, 400, 2000))
    found = Surface(tuned().workload, curves, target_recall=0.95)
    effort = {f.lists: f.lists + (f.rows_scanned or 0) for f in found.forecasts()}
    best = found.cheapest()
    assert best is not None
    assert best.lists == min(effort, key=effort.__getitem__) == 400
