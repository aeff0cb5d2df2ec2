"""The sliders move over the predictions at once; without widgets there is a picture."""

from __future__ import annotations

import base64
import re
import time

import pytest
from IPython.core.formatters import DisplayFormatter

from resume_lab.errors import ExperimentError
from resume_lab.report import Explorer, explorer

from .factory import COST, curve, result, tuned


@pytest.fixture
def found() -> Explorer:
    return explorer(tuned())


def text(found: Explorer) -> str:
    return re.sub(r"<[^>]+>", " ", found.readout.value)


def test_it_starts_at_the_recommended_setting(found: Explorer) -> None:
    assert (found.lists.value, found.probes.value) == (250, 21)
    assert "lists 250, probes 21" in text(found)


def test_without_a_recommendation_it_starts_at_the_best_forecast() -> None:
    found = explorer(tuned(recommend=False))
    assert (found.lists.value, found.probes.value) == (400, curve(400).probes_for(0.95))


def test_the_most_probes_follow_lists(found: Explorer) -> None:
    found.lists.value = 20
    assert (found.probes.max, found.probes.value) == (20, 20)
    found.lists.value = 400
    assert (found.probes.max, found.probes.value) == (400, 20)


def test_a_move_shows_what_is_predicted_there(found: Explorer) -> None:
    found.lists.value = 100
    found.probes.value = 10
    said = text(found)
    assert f"{curve(100).recall[9]:.3f}" in said
    assert f"{curve(100).rows_scanned[9]:,.0f}" in said
    assert f"{COST.p50_ms(curve(100))[9]:.2f} ms" in said
    assert "64 MiB" in said


def test_a_setting_that_was_measured_says_what_was_found(found: Explorer) -> None:
    assert "recall 0.960" in text(found)
    found.lists.value, found.probes.value = 80, 8
    assert "timed alone" in text(found)
    found.probes.value = 9
    assert re.search(r"measured\s+no", text(found))


def test_the_ring_moves_to_the_right_with_probes_and_up_with_lists(found: Explorer) -> None:
    def place() -> tuple[float, float]:
        match = re.search(r"translate\(([\d.]+) ([\d.]+)\)", found._ring.value)
        assert match
        return float(match[1]), float(match[2])

    before = place()
    found.probes.value += 30
    assert place()[0] > before[0]
    assert place()[1] == before[1]
    found.lists.value = 400
    assert place()[1] < before[1]


def test_a_move_draws_nothing_anew(found: Explorer) -> None:
    start = time.perf_counter()
    for probes in range(1, 101):
        found.probes.value = probes
    assert (time.perf_counter() - start) / 100 < 0.05


def test_without_widgets_it_is_a_picture_and_a_text(found: Explorer) -> None:
    data, _ = DisplayFormatter().format(found)
    assert "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "predicted recall@10: 0.966" in data["text/plain"]


def test_without_predictions_there_is_nothing_to_explore() -> None:
    with pytest.raises(ExperimentError, match="Nothing is predicted"):
        explorer(result())
