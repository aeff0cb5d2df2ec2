"""What is predicted of every setting as figures, with the measured points on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from resume_lab.report import facts
from resume_lab.report.forecast import Surface, envelope, share
from resume_lab.report.marks import (
    band,
    draw_points,
    draw_target,
    hollow_key,
    recalls_of,
    ring,
)
from resume_lab.report.paper import (
    HOUSE,
    Look,
    Picture,
    canvas,
    key,
    legend,
    log_axis,
    looks,
    recall_axis,
)
from resume_lab.tuning.predict import Prediction
from resume_lab.tuning.results import TuningResult
from resume_lab.vectors import Curve

LOWEST_SHOWN = 0.501
"""Predicted recall below this is left out of the figures, unless something was measured there."""

OTHER = Look("#000000", "*", "none")
"""How a measured point looks whose lists were not predicted."""


@HOUSE
def predicted_curves(
    found: TuningResult | Prediction, *, target_recall: float | None = None
) -> Picture:
    """Draw predicted recall against probes, one line for each lists, measured points on them."""
    surface = Surface.of(found, target_recall)
    figure, axes = _paper(surface, "probes")
    log_axis(axes, [1, *(curve.lists for curve in surface.curves)], whole=True)
    axes.set_xlabel("probes: lists scanned by a query (count, log scale)")
    handles = [
        _draw_curve(axes, curve, np.arange(1, curve.lists + 1), look)
        for curve, look in _looks(surface)
    ]
    handles += _draw_measured(axes, surface, [float(p.probes) for p in surface.points])
    if surface.chosen:
        handles.append(ring(axes, surface.chosen.probes, surface.chosen))
    legend(axes, handles)
    return figure


@HOUSE
def predicted_frontier(
    found: TuningResult | Prediction, *, target_recall: float | None = None
) -> Picture:
    """Draw predicted recall against the share of the rows read, of all lists, and what is best."""
    surface = Surface.of(found, target_recall)
    figure, axes = _paper(surface, "the share of the rows read")
    shares = [100 * share(curve) for curve in surface.curves]
    log_axis(axes, [100.0, *(float(of_curve[0]) for of_curve in shares)])
    axes.set_xlabel("rows read by a query (% of all, log scale)")
    best_shares, best_recalls = envelope(surface.curves)
    best = band(axes, 100 * best_shares, best_recalls, label="fewest rows\nfor each recall")
    handles = [
        _draw_curve(axes, curve, of_curve, look)
        for (curve, look), of_curve in zip(_looks(surface), shares, strict=True)
    ]
    handles.append(best)
    handles += _draw_measured(axes, surface, [100 * surface.share_read(p) for p in surface.points])
    if surface.chosen:
        handles.append(ring(axes, 100 * surface.share_read(surface.chosen), surface.chosen))
    legend(axes, handles)
    return figure


def _paper(surface: Surface, against: str) -> tuple[Picture, Axes]:
    k = surface.workload.k
    reading = "Lines: predicted before any index exists."
    if surface.points:
        reading += f" Points: measured in PostgreSQL; bars: {facts.INTERVAL} of the recall."
    figure, axes = canvas(
        f"predicted recall@{k} against {against}",
        facts.data_text(surface.workload),
        reading,
    )
    lowest = max(LOWEST_SHOWN, min(float(curve.recall[0]) for curve in surface.curves))
    recall_axis(axes, [lowest, *recalls_of(surface.points, surface.target_recall)], k)
    draw_target(axes, surface.target_recall)
    return figure, axes


def _looks(surface: Surface) -> list[tuple[Curve, Look]]:
    """Return each curve with its look; only what was measured has a marker."""
    built = {point.lists for point in surface.points}
    return [
        (curve, look if curve.lists in built else look._replace(marker=""))
        for curve, look in zip(surface.curves, looks(len(surface.curves)), strict=True)
    ]


def _draw_curve(axes: Axes, curve: Curve, x: NDArray[Any], look: Look) -> Line2D:
    axes.plot(x, curve.recall, color=look.color, linestyle=look.dash, linewidth=1.4)
    return key(f"lists {curve.lists:,}", look)


def _draw_measured(axes: Axes, surface: Surface, x: Sequence[float]) -> list[Line2D]:
    by_lists = {curve.lists: look for curve, look in _looks(surface)}
    for at, point in zip(x, surface.points, strict=True):
        look = by_lists.get(point.lists, OTHER)
        draw_points(axes, [point], look, x=[at], hollow=[not point.shuffled])
    if all(point.shuffled for point in surface.points):
        return []
    return [hollow_key("hollow: on the way\nto the decision")]
