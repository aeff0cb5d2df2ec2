"""What was measured as figures that read in grey, on paper and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from resume_lab.report import facts
from resume_lab.report.marks import (
    draw_budget,
    draw_frontier,
    draw_points,
    draw_target,
    draw_time,
    planner_key,
    recalls_of,
    ring,
    series_of,
    whiskers,
)
from resume_lab.report.paper import (
    HOUSE,
    MUTED,
    Look,
    Picture,
    canvas,
    key,
    legend,
    log_axis,
    looks,
    recall_axis,
    wrap,
)
from resume_lab.tuning.results import Latency, Point, TuningResult, WorkloadInfo, pareto_frontier


@HOUSE
def recall_latency(result: TuningResult) -> Picture:
    """Draw recall against p50 latency, with the frontier, the aim and the exact scan.

    Points timed alone on the way to a decision stay out; their latency is not compared.
    """
    points = facts.compared(result)
    figure, axes = _latency_paper(
        result.workload,
        f"Bars: {facts.INTERVAL} of the recall. Latency: {facts.samples_text(result)}.",
        points,
        (result.exact.latency.p50_ms, result.max_ms),
        result.target_recall,
    )
    band = draw_frontier(axes, points)
    handles = [_draw_latency_series(axes, *series) for series in series_of(points)]
    draw_time(axes, "exact scan", result.exact.latency.p50_ms)
    draw_budget(axes, result.max_ms)
    handles += [band, *planner_key(points)]
    chosen = facts.recommended_point(result)
    if chosen:
        handles.append(ring(axes, chosen.latency.p50_ms, chosen))
    legend(axes, handles)
    return figure


@HOUSE
def indexes_compared(
    indexes: Mapping[str, Sequence[Point]],
    workload: WorkloadInfo,
    *,
    target_recall: float | None = None,
    exact_ms: float | None = None,
) -> Picture:
    """Draw recall against p50 latency of several indexes by name, one line for each.

    Of two indexes on the same rows the better one has its line further up and to the left, such as
    one built on the rows of today beside one built when the table was empty.
    """
    points = [point for group in indexes.values() for point in group]
    figure, axes = _latency_paper(
        workload,
        f"One line for each index. Bars: {facts.INTERVAL} of the recall.",
        points,
        (exact_ms,),
        target_recall,
    )
    handles = [
        _draw_latency_series(axes, "\n".join(wrap(name, 24, most=3)), _by_time(group), look)
        for (name, group), look in zip(indexes.items(), looks(len(indexes)), strict=True)
    ]
    if exact_ms is not None:
        draw_time(axes, "exact scan", exact_ms)
    legend(axes, [*handles, *planner_key(points)])
    return figure


@HOUSE
def recall_probes(result: TuningResult) -> Picture:
    """Draw recall against probes, one line for each lists."""
    k = result.workload.k
    points = (*facts.alone(result), *facts.compared(result))
    figure, axes = canvas(
        f"recall@{k} against probes",
        facts.data_text(result.workload),
        f"Bands: {facts.INTERVAL} of the recall.",
    )
    log_axis(axes, [p.probes for p in points], whole=True)
    recall_axis(axes, recalls_of(points, result.target_recall), k)
    axes.set_xlabel("probes: lists scanned by a query (count, log scale)")
    handles = [_draw_probes_series(axes, *series) for series in series_of(points)]
    draw_target(axes, result.target_recall)
    chosen = facts.recommended_point(result)
    if chosen:
        handles.append(ring(axes, chosen.probes, chosen))
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
    recall_axis(axes, recalls_of(points, 1.0), ks)
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


def _latency_paper(
    workload: WorkloadInfo,
    reading: str,
    points: Sequence[Point],
    times_ms: Sequence[float | None],
    target_recall: float | None,
) -> tuple[Picture, Axes]:
    """Return paper with the axes of recall against latency, wide enough for some times too."""
    k = workload.k
    figure, axes = canvas(
        f"recall@{k} against latency", facts.data_text(workload), reading, gap_in=0.4
    )
    log_axis(axes, [*(p.latency.p50_ms for p in points), *(ms for ms in times_ms if ms)])
    recall_axis(axes, recalls_of(points, target_recall), k)
    axes.set_xlabel("p50 latency of a query, client time (ms, log scale)")
    draw_target(axes, target_recall)
    return figure, axes


def _by_time(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda p: p.latency.p50_ms))


def _draw_latency_series(axes: Axes, label: str, points: Sequence[Point], look: Look) -> Line2D:
    x = [p.latency.p50_ms for p in points]
    axes.plot(
        x, [p.recall for p in points], color=look.color, linestyle=look.dash, linewidth=1.3,
        zorder=2.5,
    )  # fmt: skip
    draw_points(axes, points, look, x=x, hollow=[not p.used_index for p in points])
    return key(label, look)


def _draw_probes_series(axes: Axes, label: str, points: Sequence[Point], look: Look) -> Line2D:
    x = [p.probes for p in points]
    low, high = [p.recall_low for p in points], [p.recall_high for p in points]
    axes.fill_between(x, low, high, color=look.color, alpha=0.18, linewidth=0)
    axes.plot(
        x, [p.recall for p in points], color=look.color, linestyle=look.dash, linewidth=1.5,
        marker=look.marker, markersize=6,
    )  # fmt: skip
    return key(label, look)


def telling_points(result: TuningResult) -> tuple[Point, ...]:
    ends = pareto_frontier(facts.compared(result))
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
    for points in facts.by_index(result.points).values():
        shares = [100 * p.probes / p.lists for p in points]
        axes.errorbar(
            shares, [p.recall for p in points], yerr=whiskers(points), color=look.color,
            linestyle=look.dash, linewidth=1.4, marker=look.marker, markersize=5.5,
            elinewidth=1, capsize=2,
        )  # fmt: skip
    data = result.workload
    size = (
        f"{data.rows:,} rows {facts.TIMES} {data.dim} d\n{data.distance}, k = {data.k}\n"
        f"{data.n_queries:,} queries"
    )
    return key("\n".join([*wrap(name, 24, most=3), size]), look)
