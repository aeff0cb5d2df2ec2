"""The predicted surface as a picture: recall of every lists over the share of the rows read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from resume_lab.report import facts
from resume_lab.report.forecast import Surface, share
from resume_lab.report.paper import HOUSE, Picture, canvas, legend, log_axis
from resume_lab.vectors import Curve

LEVELS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
SHADES = colormaps["YlGnBu"]
SHARES = 600
AIM: dict[str, Any] = {
    "linestyle": "none", "marker": "|", "markersize": 20, "markeredgewidth": 2.5, "color": "black",
}  # fmt: skip
MEASURED: dict[str, Any] = {
    "linestyle": "none", "marker": "o", "markersize": 6, "color": "white",
    "markeredgecolor": "black",
}  # fmt: skip


@HOUSE
def draw_surface(surface: Surface, reading: str = "") -> tuple[Picture, Axes]:
    """Draw the recall of every lists, one strip each, over the share of the rows read."""
    curves = surface.curves
    figure, axes = canvas(
        f"predicted recall@{surface.workload.k} of every lists and probes",
        facts.data_text(surface.workload),
        reading
        or "Each strip is one index; further to the right a query probes more of its lists.",
        width_in=5.2,
    )
    lowest = min(float(share(curve)[0]) for curve in curves)
    low, high = log_axis(axes, [100 * lowest, 100.0])
    axes.set_xlabel("rows read by a query (% of all, log scale)")
    axes.set_ylabel("lists")
    axes.grid(visible=False)
    edges = np.geomspace(low, high, SHARES + 1)
    image = axes.pcolormesh(
        edges, np.arange(len(curves) + 1) - 0.5, _recalls(curves, edges),
        cmap=SHADES, norm=BoundaryNorm(LEVELS, SHADES.N), rasterized=True,
    )  # fmt: skip
    axes.set_yticks(range(len(curves)), [f"{curve.lists:,}" for curve in curves])
    axes.hlines(np.arange(1, len(curves)) - 0.5, low, high, color="white", linewidth=2)
    box = axes.get_position()
    beside = figure.add_axes((box.x1 + 0.03, box.y0, 0.016, box.height))
    bar = figure.colorbar(image, cax=beside, spacing="uniform", ticks=LEVELS)
    bar.ax.set_yticklabels([f"{level:g}" for level in LEVELS])
    bar.ax.set_title("recall", fontsize=9.5, loc="left", pad=11)
    legend(axes, _draw_known(axes, surface), gap_in=1.2)
    return figure, axes


def _recalls(curves: Sequence[Curve], edges: NDArray[np.float64]) -> Any:
    """Return what each curve gives for these shares in percent, masked left of probes 1."""
    middles = np.sqrt(edges[:-1] * edges[1:])
    rows = []
    for curve in curves:
        probes = np.searchsorted(100 * share(curve), middles, side="right")
        recall = curve.recall[np.maximum(probes, 1) - 1]
        rows.append(np.where((probes > 0) & (middles <= 100), recall, np.nan))
    return np.ma.masked_invalid(rows)


def _draw_known(axes: Axes, surface: Surface) -> list[Line2D]:
    """Draw where each strip meets the aim, and what was measured."""
    handles = []
    aims = [
        (100 * forecast.share, row)
        for row, forecast in enumerate(surface.forecasts())
        if forecast.share is not None
    ]
    if aims:
        axes.plot(*zip(*aims, strict=True), **AIM)
        aim = facts.aim_text(surface.target_recall, surface.max_ms)
        handles.append(Line2D([], [], label=aim.replace(" ", "\n", 1), **AIM))
    rows = {curve.lists: row for row, curve in enumerate(surface.curves)}
    shown = [
        (100 * surface.share_read(p), rows[p.lists]) for p in surface.points if p.lists in rows
    ]
    if shown:
        axes.plot(*zip(*shown, strict=True), **MEASURED)
        handles.append(Line2D([], [], label="measured", **MEASURED))
    return handles
