"""What several figures draw: series of points with their intervals, the aim, the recommended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from resume_lab.report import facts
from resume_lab.report.paper import ACCENT, FRONTIER, INK, Look, looks, side
from resume_lab.tuning.results import Point, pareto_frontier

Series = tuple[str, tuple[Point, ...], Look]

RING: dict[str, Any] = {
    "linestyle": "none", "marker": "o", "markersize": 14, "markerfacecolor": "none",
    "markeredgecolor": ACCENT, "markeredgewidth": 2,
}  # fmt: skip


def recalls_of(points: Iterable[Point], target_recall: float | None) -> list[float]:
    """Return the recalls that an axis has to show."""
    seen = [min(point.recall, point.recall_low) for point in points]
    return seen if target_recall is None else [*seen, target_recall]


def series_of(points: Sequence[Point]) -> list[Series]:
    """Return the points of each index with its label and look."""
    groups = facts.by_index(points)
    return [
        (label, group, look)
        for (label, group), look in zip(groups.items(), looks(len(groups)), strict=True)
    ]


def whiskers(points: Sequence[Point]) -> NDArray[np.float64]:
    """Return how far each interval reaches below and above its recall, shape (2, n_points)."""
    below = [p.recall - p.recall_low for p in points]
    above = [p.recall_high - p.recall for p in points]
    return np.clip(np.array([below, above], dtype=np.float64), 0, None)


def draw_points(
    axes: Axes, points: Sequence[Point], look: Look, *, x: Sequence[float], hollow: Sequence[bool]
) -> None:  # fmt: skip
    """Draw points with their intervals, some of them hollow."""
    y = [p.recall for p in points]
    axes.errorbar(
        x, y, yerr=whiskers(points), fmt="none", ecolor=look.color, elinewidth=1, capsize=2.5,
        zorder=2.6,
    )  # fmt: skip
    for at, recall, empty in zip(x, y, hollow, strict=True):
        axes.plot(
            [at], [recall], linestyle="none", marker=look.marker, markersize=6.5, color=look.color,
            markerfacecolor="white" if empty else look.color, markeredgewidth=1.3, zorder=3,
        )  # fmt: skip


def draw_frontier(axes: Axes, points: Sequence[Point]) -> Line2D:
    """Draw the Pareto frontier as a broad band behind the points."""
    best = pareto_frontier(tuple(points))
    return band(
        axes, [p.latency.p50_ms for p in best], [p.recall for p in best], label="Pareto frontier"
    )


def band(axes: Axes, x: Any, y: Any, *, label: str) -> Line2D:
    """Draw a broad grey line behind the others."""
    axes.plot(
        x, y, color=FRONTIER, linewidth=8, solid_capstyle="round", solid_joinstyle="round",
        zorder=1.5,
    )  # fmt: skip
    return Line2D([], [], color=FRONTIER, linewidth=8, label=label)


def hollow_key(label: str) -> Line2D:
    """Return what explains hollow points."""
    look: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.3}
    return Line2D([], [], color=INK, linestyle="none", marker="o", label=label, **look)


def planner_key(points: Iterable[Point]) -> list[Line2D]:
    """Explain points hollow because the planner left free avoids the index; nothing for none."""
    if all(point.used_index for point in points):
        return []
    return [hollow_key("hollow: left free, the\nplanner picks\nanother plan")]


def draw_target(axes: Axes, target: float | None, *, named: bool = True) -> None:
    """Draw the target recall, named right of the axes; nothing without one."""
    if target is None:
        return
    axes.axhline(target, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    if not named:
        return
    axes.annotate(
        f"target\n{target:g}", (1, target), xycoords=axes.get_yaxis_transform(),
        xytext=(5, 0), textcoords="offset points", va="center", fontsize=9.5,
    )  # fmt: skip


def draw_time(axes: Axes, label: str, at_ms: float, *, dash: Any = "-", row: int = 0) -> None:
    """Draw a latency as a vertical line, labelled above the axes in one of two rows."""
    axes.axvline(at_ms, color=INK, linewidth=1.4, linestyle=dash, zorder=2)
    axes.annotate(
        f"{label} {facts.ms_text(at_ms)}", (at_ms, 1),
        xycoords=axes.get_xaxis_transform(), xytext=(0, 4 + 15 * row), textcoords="offset points",
        ha=side(axes, at_ms), va="bottom", fontsize=9.5,
    )  # fmt: skip


def draw_budget(axes: Axes, max_ms: float | None) -> None:
    """Draw the latency not to exceed, above the label of the exact scan; nothing without one."""
    if max_ms is not None:
        draw_time(axes, "at most", max_ms, dash=(0, (4, 3)), row=1)


def ring(axes: Axes, x: float, point: Point) -> Line2D:
    """Ring the recommended point and name it in the headroom, where no data can be."""
    low, top = axes.get_ylim()
    label_y = top - 0.03 * (top - low)
    axes.annotate(
        facts.setting_text(point.lists, point.probes), (x, point.recall), xytext=(x, label_y),
        ha=side(axes, x), va="top", fontweight="bold", fontsize=10.5, color=ACCENT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        arrowprops={
            "arrowstyle": "-", "color": ACCENT, "linewidth": 1, "shrinkA": 0, "shrinkB": 7,
            "relpos": ({"left": 0, "center": 0.5, "right": 1}[side(axes, x)], 0),
        },
    )  # fmt: skip
    axes.plot([x], [point.recall], zorder=4, **RING)
    return Line2D([], [], label="recommended", **RING)
