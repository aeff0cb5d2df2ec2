"""Figures name their units and data, keep their labels apart and need no pyplot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import combinations

import matplotlib
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from resume_lab.report import (
    decision,
    indexes_compared,
    latency_distribution,
    recall_by_data,
    recall_latency,
    recall_probes,
)
from resume_lab.report.paper import Picture, log_ticks, looks
from resume_lab.tuning.results import TuningResult

from .factory import grid, point, result, tuned

Draw = Callable[[TuningResult], Picture]

RESULTS = {
    "usual": result(),
    "no recommendation": result(recommend=False),
    "one point": result((point(),)),
    "one point, as slow as the scan": result((point(p50_ms=18.0, recall=0.97),)),
    "nothing and everything found": result((point(recall=0.0), point(probes=100, recall=1.0))),
    "all exact": result((point(recall=1.0, p50_ms=1.0), point(probes=9, recall=1.0, p50_ms=2.0))),
    "few samples": result(n=40),
    "60 points": result(tuple(grid((10, 20, 50, 100, 200, 500, 1000, 2000), n=60)[:60])),
    "low target": result(target=0.3),
    "long name": result(source="very-long-name-of-data/" * 12),
    "a search": tuned(),
    "a search within a time": tuned(target=None, max_ms=3.0),
    "five decades": result((point(p50_ms=0.2, recall=0.96), point(probes=9, p50_ms=20_000.0))),
}

SEARCHES = {
    "a search": tuned(),
    "a search within a time": tuned(target=None, max_ms=3.0),
    "a time shorter than the scan takes": tuned(target=None, max_ms=17.0),
    "a search without proof": tuned(confirmed=None, rebuilds=()),
    "a search in vain": tuned(recommend=False),
    "a build that never held": tuned(rebuilds=(None, 7)),
    "one point": result((point(),)),
    "many points": result(n=60),
    "nothing": result(()),
}


@pytest.fixture(params=list(RESULTS))
def found(request: pytest.FixtureRequest) -> TuningResult:
    return RESULTS[request.param]


@pytest.fixture(params=[recall_latency, recall_probes, latency_distribution])
def draw(request: pytest.FixtureRequest) -> Draw:
    return request.param


def texts(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def legend_labels(figure: Figure) -> list[str]:
    legend = figure.axes[-1].get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def clashes(figure: Figure) -> list[tuple[str, str]]:
    FigureCanvasAgg(figure).draw()
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in texts(figure)]
    return [(a, b) for (a, one), (b, two) in combinations(boxes, 2) if one.overlaps(two)]


def test_no_label_lies_on_another(draw: Draw, found: TuningResult) -> None:
    assert clashes(draw(found)) == []


@pytest.mark.parametrize("name", list(SEARCHES))
def test_no_label_of_a_decision_lies_on_another(name: str) -> None:
    assert clashes(decision(SEARCHES[name])) == []


def test_axes_have_labels_with_units(draw: Draw) -> None:
    axes = draw(result()).axes[0]
    x, y = axes.get_xlabel(), axes.get_ylabel()
    assert "ms" in x or "count" in x
    assert "share" in y
    assert axes.get_xscale() == "log"


def test_figures_say_what_was_measured(draw: Draw) -> None:
    words = " ".join(text.get_text() for text in texts(draw(result())))
    for fact in ("synthetic/clustered/seed=0", "10,000 rows", "1536 d", "200 queries", "k = 10"):
        assert fact in words


@pytest.mark.parametrize("draw", [recall_latency, recall_probes])
def test_there_are_as_many_series_as_lists(draw: Draw) -> None:
    labels = legend_labels(draw(result()))
    assert [label for label in labels if label.startswith("lists ")] == [
        "lists 20",
        "lists 50",
        "lists 100",
        "lists 141",
    ]


@pytest.mark.parametrize("draw", [recall_latency, recall_probes])
def test_the_recommended_point_and_the_target_are_named(draw: Draw) -> None:
    words = [text.get_text() for text in texts(draw(result()))]
    assert "lists 50, probes 16" in words
    assert "target\n0.95" in words
    without = [text.get_text() for text in texts(draw(result(recommend=False)))]
    assert not any(word.startswith("lists 50, probes") for word in without)
    assert "recommended" not in without


def test_the_exact_scan_is_a_labelled_line() -> None:
    assert "exact scan 18.0 ms" in [text.get_text() for text in texts(recall_latency(result()))]


def test_hollow_points_are_explained_where_there_are_any() -> None:
    assert any("hollow" in label for label in legend_labels(recall_latency(result())))
    assert not any("hollow" in label for label in legend_labels(recall_latency(result((point(),)))))


def test_series_differ_by_more_than_colour() -> None:
    first = looks(8)
    assert len({(look.marker, str(look.dash)) for look in first}) == 8


def test_the_distribution_shows_the_scan_the_recommended_and_both_ends() -> None:
    labels = legend_labels(latency_distribution(result()))
    assert len(labels) == 4
    assert labels[-1].startswith("exact scan")
    assert sum("recommended" in label for label in labels) == 1


def test_the_distribution_shows_the_points_asked_for() -> None:
    found = result()
    labels = legend_labels(latency_distribution(found, found.points[:2]))
    assert [label.splitlines()[0] for label in labels] == [
        "lists 20, probes 1",
        "lists 20, probes 2",
        "exact scan",
    ]


def test_points_timed_alone_stay_out_of_a_comparison() -> None:
    labels = legend_labels(recall_latency(tuned()))
    assert sum(label.startswith("lists ") for label in labels) == 4
    settings = [label for label in legend_labels(decision(tuned())) if "probes" in label]
    assert len(settings) == 4


def test_the_decision_shows_what_confirms_the_winner() -> None:
    _, again = decision(tuned()).axes
    labels = [label.get_text().split("\n") for label in again.get_xticklabels()]
    assert [" ".join(label[:-1]) for label in labels] == [
        "as chosen",
        "held out",
        "build 2",
        "build 3",
        "build 4",
    ]
    assert [label[-1] for label in labels] == ["21", "21", "6", "8", "7"]


def test_without_proof_the_decision_has_one_pair_of_axes() -> None:
    assert len(decision(tuned(confirmed=None, rebuilds=())).axes) == 1
    assert len(decision(tuned(recommend=False)).axes) == 1


def test_a_scan_far_off_is_named_but_does_not_squeeze_the_points() -> None:
    figure = decision(tuned())
    assert figure.axes[0].get_xlim()[1] < 18
    assert any("exact scan 18.0 ms" in text.get_text() for text in texts(figure))


def test_a_time_not_to_exceed_is_a_labelled_line() -> None:
    for draw in (recall_latency, decision):
        words = [text.get_text() for text in texts(draw(tuned(target=None, max_ms=3.0)))]
        assert "at most 3.00 ms" in words
        assert not any("target" in word for word in words)


def test_indexes_are_compared_by_name() -> None:
    old, new = grid((50,)), grid((100,))
    names = {"built on an empty table": old, "built on today's rows": new}
    found = result(grid((50, 100)))
    figure = indexes_compared(names, found.workload, target_recall=0.95, exact_ms=18.0)
    assert [label.replace("\n", " ") for label in legend_labels(figure)][:2] == list(names)
    assert "exact scan 18.0 ms" in [text.get_text() for text in texts(figure)]


def test_data_sets_stand_side_by_side_with_chance() -> None:
    figure = recall_by_data({"random": result(grid((100,))), "$clustered": result()})
    labels = legend_labels(figure)
    assert [label.splitlines()[0] for label in labels] == ["random", "$clustered", "chance"]
    assert "10,000 rows" in labels[0]
    assert "%" in figure.axes[0].get_xlabel()
    assert figure.png().startswith(b"\x89PNG")


def test_nothing_measured_is_still_a_figure(draw: Draw) -> None:
    assert draw(result(())).png().startswith(b"\x89PNG")
    assert recall_by_data({}).png().startswith(b"\x89PNG")


def test_a_dollar_in_a_name_is_a_dollar(draw: Draw) -> None:
    assert draw(result(source="$\\frac{1}{ $x_")).svg().startswith(b"<?xml")


def test_a_dark_style_does_not_reach_a_figure() -> None:
    with matplotlib.rc_context({"text.color": "white", "axes.facecolor": "black"}):
        dark = recall_latency(result()).png()
    assert dark == recall_latency(result()).png()


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(matplotlib.rcParams)
    recall_latency(result()).png()
    assert dict(matplotlib.rcParams) == before


def test_a_notebook_shows_a_figure_without_a_backend() -> None:
    data, metadata = DisplayFormatter().format(recall_latency(result()))
    assert data["image/png"]
    assert 850 <= metadata["image/png"]["width"] <= 1050


def test_importing_and_drawing_leave_pyplot_out() -> None:
    code = "import sys, resume_lab.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 11, [1, 1.5, 2, 3, 5, 7, 10]),
        (0.9, 150, [1, 2, 5, 10, 20, 50, 100]),
        (1.1, 1.9, [1.2, 1.5]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == ticks


def test_counts_have_whole_ticks() -> None:
    assert all(tick % 1 == 0 for tick in log_ticks(0.8, 6, whole=True))
