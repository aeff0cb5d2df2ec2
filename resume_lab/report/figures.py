"""A result as figures that read in grey, on paper and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from resume_lab.report import facts
from resume_lab.report.paper import (
    ACCENT,
    FRONTIER,
    HOUSE,
    INK,
    MUTED,
    Look,
    Picture,
    canvas,
    key,
    legend,
    log_axis,
    looks,
    recall_axis,
    side,
    wrap,
)
from resume_lab.tuning.results import Latency, Point, TuningResult, pareto_frontier


@HOUSE
def recall_latency(result: TuningResult) -> Picture:
    """Draw recall against p50 latency, with the frontier, the target and the exact scan."""
    k = result.workload.k
    reading = f"Bars: {facts.INTERVAL} of the recall. Latency: {facts.samples_text(result)}."
    figure, axes = canvas(
        f"recall@{k} against latency", facts.data_text(result.workload), reading, gap_in=0.4
    )
    exact_ms = result.exact.latency.p50_ms
    log_axis(axes, [exact_ms, *(p.latency.p50_ms for p in result.points)])
    recall_axis(axes, result.points, result.target_recall, k)
    axes.set_xlabel("p50 latency of a query, client time (ms, log scale)")
    _draw_frontier(axes, result)
    handles = [_draw_latency_series(axes, *series) for series in _series(result)]
    _draw_target(axes, result.target_recall)
    _draw_exact(axes, exact_ms)
    handles += _latency_keys(result)
    chosen = facts.recommended_point(result)
    if chosen:
        handles.append(_ring(axes, chosen.latency.p50_ms, chosen))
    legend(axes, handles)
    return figure


@HOUSE
def recall_probes(result: TuningResult) -> Picture:
    """Draw recall against probes, one line for each lists."""
    k = result.workload.k
    figure, axes = canvas(
        f"recall@{k} against probes",
        facts.data_text(result.workload),
        f"Bands: {facts.INTERVAL} of the recall.",
    )
    log_axis(axes, [p.probes for p in result.points], whole=True)
    recall_axis(axes, result.points, result.target_recall, k)
    axes.set_xlabel("probes: lists scanned by a query (count, log scale)")
    handles = [_draw_probes_series(axes, *series) for series in _series(result)]
    _draw_target(axes, result.target_recall)
    chosen = facts.recommended_point(result)
    if chosen:
        handles.append(_ring(axes, chosen.probes, chosen))
    legend(axes, handles)
    return figure


@HOUSE
def latency_distribution(result: TuningResult, points: Sequence[Point] | None = None) -> Picture:
    """Draw the share of queries answered within a time, for the exact scan and a few points.

    Without `points` these are the recommended one and both ends of the Pareto frontier.
    """
    shown = telling_points(result) if points is None else tuple(points)
    figure, axes = canvas(
        "Latency of a query, from the quickest to the slowest",
        facts.data_text(result.workload),
        f"Marks: p50, and p95 where samples suffice. {facts.samples_text(result).capitalize()}.",
        width_in=5.75,
    )
    chosen = facts.recommended_point(result)
    curves = [(_curve_label(p, p is chosen), p.latency) for p in shown]
    handles = [
        _draw_ecdf(axes, label, latency, look)
        for (label, latency), look in zip(curves, looks(len(curves)), strict=True)
    ]
    exact = result.exact.latency
    label = f"exact scan\nrecall 1, p50 {facts.ms_text(exact.p50_ms)}"
    handles.append(_draw_ecdf(axes, label, exact, Look("#000000", "*", "-")))
    every = [latency.samples_ms for latency in (exact, *(p.latency for p in shown))]
    log_axis(axes, np.concatenate(every).tolist())
    axes.set_xlabel("latency of a query, client time (ms, log scale)")
    axes.set_ylabel("share of queries answered")
    axes.set_ylim(-0.02, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.95], ["0", "0.25", "p50", "0.75", "p95"])
    legend(axes, handles)
    return figure


@HOUSE
def recall_by_data(results: Mapping[str, TuningResult]) -> Picture:
    """Draw recall against the share of the lists probed, for several data sets by name."""
    ks = ", ".join(str(k) for k in sorted({r.workload.k for r in results.values()}))
    figure, axes = canvas(
        f"recall@{ks} against the share of the lists probed",
        f"One line for each lists; bars: {facts.INTERVAL} of the recall. "
        "Chance: reading that share of the rows at random.",
        width_in=5.75,
    )
    points = [point for result in results.values() for point in result.points]
    shares = [100 * point.probes / point.lists for point in points]
    recall_axis(axes, points, 1.0, ks)
    axes.set_xlabel("share of the lists probed (%, log scale)")
    low, high = log_axis(axes, [*shares, 100.0])
    handles = [
        _draw_data(axes, name, result, look)
        for (name, result), look in zip(results.items(), looks(len(results)), strict=True)
    ]
    chance = np.geomspace(low, min(high, 100.0), 200)
    axes.plot(chance, chance / 100, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    handles.append(Line2D([], [], color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="chance"))
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, -0.03), top)
    legend(axes, handles)
    return figure


def _series(result: TuningResult) -> list[tuple[str, tuple[Point, ...], Look]]:
    groups = facts.by_index(result)
    return [
        (label, points, look)
        for (label, points), look in zip(groups.items(), looks(len(groups)), strict=True)
    ]


def _draw_frontier(axes: Axes, result: TuningResult) -> None:
    points = pareto_frontier(result.points)
    axes.plot(
        [p.latency.p50_ms for p in points], [p.recall for p in points],
        color=FRONTIER, linewidth=8, solid_capstyle="round", solid_joinstyle="round", zorder=1.5,
    )  # fmt: skip


def _draw_latency_series(axes: Axes, label: str, points: Sequence[Point], look: Look) -> Line2D:
    x = [p.latency.p50_ms for p in points]
    y = [p.recall for p in points]
    axes.plot(x, y, color=look.color, linestyle=look.dash, linewidth=1.3, zorder=2.5)
    axes.errorbar(
        x, y, yerr=_whiskers(points), fmt="none", ecolor=look.color, elinewidth=1, capsize=2.5,
        zorder=2.6,
    )  # fmt: skip
    for free, fill in ((True, look.color), (False, "white")):
        some = [p for p in points if p.used_index is free]
        axes.plot(
            [p.latency.p50_ms for p in some], [p.recall for p in some], linestyle="none",
            marker=look.marker, markersize=6.5, color=look.color, markerfacecolor=fill,
            markeredgewidth=1.3, zorder=3,
        )  # fmt: skip
    return key(label, look)


def _whiskers(points: Sequence[Point]) -> NDArray[np.float64]:
    below = [p.recall - p.recall_low for p in points]
    above = [p.recall_high - p.recall for p in points]
    return np.clip(np.array([below, above], dtype=np.float64), 0, None)


def _draw_probes_series(axes: Axes, label: str, points: Sequence[Point], look: Look) -> Line2D:
    x = [p.probes for p in points]
    low, high = [p.recall_low for p in points], [p.recall_high for p in points]
    axes.fill_between(x, low, high, color=look.color, alpha=0.18, linewidth=0)
    axes.plot(
        x, [p.recall for p in points], color=look.color, linestyle=look.dash, linewidth=1.5,
        marker=look.marker, markersize=6,
    )  # fmt: skip
    return key(label, look)


def _latency_keys(result: TuningResult) -> list[Line2D]:
    keys = [Line2D([], [], color=FRONTIER, linewidth=8, label="Pareto frontier")]
    if not all(p.used_index for p in result.points):
        label = "hollow: left free, the\nplanner picks\nanother plan"
        hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.3}
        keys.append(Line2D([], [], color=INK, linestyle="none", marker="o", label=label, **hollow))
    return keys


def _draw_target(axes: Axes, target: float) -> None:
    axes.axhline(target, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    axes.annotate(
        f"target\n{target:g}", (1, target), xycoords=axes.get_yaxis_transform(),
        xytext=(5, 0), textcoords="offset points", va="center", fontsize=9.5,
    )  # fmt: skip


def _draw_exact(axes: Axes, exact_ms: float) -> None:
    axes.axvline(exact_ms, color=INK, linewidth=1.4, zorder=2)
    axes.annotate(
        f"exact scan {facts.ms_text(exact_ms)}", (exact_ms, 1),
        xycoords=axes.get_xaxis_transform(), xytext=(0, 4), textcoords="offset points",
        ha=side(axes, exact_ms), va="bottom", fontsize=9.5,
    )  # fmt: skip


def _ring(axes: Axes, x: float, point: Point) -> Line2D:
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
    ring: dict[str, Any] = {
        "linestyle": "none", "marker": "o", "markersize": 14, "markerfacecolor": "none",
        "markeredgecolor": ACCENT, "markeredgewidth": 2,
    }  # fmt: skip
    axes.plot([x], [point.recall], zorder=4, **ring)
    return Line2D([], [], label="recommended", **ring)


def telling_points(result: TuningResult) -> tuple[Point, ...]:
    ends = pareto_frontier(result.points)
    candidates = [*ends[:1], facts.recommended_point(result), *ends[-1:]]
    found = {point: None for point in candidates if point is not None}
    return tuple(sorted(found, key=lambda p: p.latency.p50_ms))


def _curve_label(point: Point, recommended: bool) -> str:
    lines = [
        facts.setting_text(point.lists, point.probes),
        f"recall {point.recall:.3f}, p50 {facts.ms_text(point.latency.p50_ms)}",
    ]
    return "\n".join([*lines, "recommended"] if recommended else lines)


def _draw_ecdf(axes: Axes, label: str, latency: Latency, look: Look) -> Line2D:
    values = np.sort(latency.samples_ms)
    shares = np.arange(1, len(values) + 1) / max(len(values), 1)
    axes.step(values, shares, where="post", color=look.color, linestyle=look.dash, linewidth=1.8)
    marks = [(latency.p50_ms, 0.5), (latency.p95_ms, 0.95)]
    known = [(x, y) for x, y in marks if x is not None]
    axes.plot(
        [x for x, _ in known], [y for _, y in known], linestyle="none", marker=look.marker,
        markersize=9 if look.marker == "*" else 7, color=look.color, markeredgecolor="white",
        zorder=3,
    )  # fmt: skip
    return key(label, look)


def _draw_data(axes: Axes, name: str, result: TuningResult, look: Look) -> Line2D:
    for points in facts.by_index(result).values():
        shares = [100 * p.probes / p.lists for p in points]
        axes.errorbar(
            shares, [p.recall for p in points], yerr=_whiskers(points), color=look.color,
            linestyle=look.dash, linewidth=1.4, marker=look.marker, markersize=5.5,
            elinewidth=1, capsize=2,
        )  # fmt: skip
    data = result.workload
    size = (
        f"{data.rows:,} rows {facts.TIMES} {data.dim} d\n{data.distance}, k = {data.k}\n"
        f"{data.n_queries:,} queries"
    )
    return key("\n".join([*wrap(name, 24, most=3), size]), look)
