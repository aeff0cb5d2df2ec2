"""The decision as a figure: the settings that came to it, and what confirms the winner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
)
from resume_lab.report.paper import (
    ACCENT,
    HOUSE,
    INK,
    MARKERS,
    Picture,
    canvas,
    key,
    legend,
    log_axis,
    looks,
    recall_axis,
)
from resume_lab.tuning.results import Point, Recommendation, TuningResult

FAR_OFF = 3.0
"""An exact scan this many times as slow as the slowest setting is named, but not drawn."""

NARROW_IN, PROOF_IN, GAP_IN = 3.75, 2.1, 0.35


class Evidence(NamedTuple):
    """One recall of the winner: on what, at which probes, and its bounds; None is unknown."""

    name: str
    probes: int | None
    recall: float
    low: float
    high: float | None


@HOUSE
def decision(result: TuningResult) -> Picture:
    """Draw the settings that were compared, the winner, and beside them what confirms it."""
    points = facts.compared(result)
    evidence = evidence_of(result.recommendation)
    k = result.workload.k
    figure, axes = canvas(
        f"The decision: recall@{k} against latency"
        + (", and the winner again" if evidence else ""),
        facts.data_text(result.workload),
        f"Bars: {facts.INTERVAL} of the recall. Latency: {facts.samples_text(result)}.",
        width_in=NARROW_IN if evidence else 6.25,
        gap_in=0.55,
    )
    recall_axis(axes, _recalls(points, evidence, result.target_recall), k)
    exact_ms = result.exact.latency.p50_ms
    times = [p.latency.p50_ms for p in points]
    near = exact_ms <= FAR_OFF * max(times, default=exact_ms)
    log_axis(axes, [*times, *([exact_ms] if near else []), result.max_ms or 0.0])
    axes.set_xlabel("p50 latency, client time (ms, log scale)")
    handles = _draw_settings(axes, points)
    if near:
        draw_time(axes, "exact scan", exact_ms)
    else:
        _name_exact(axes, exact_ms)
    draw_budget(axes, result.max_ms)
    chosen = facts.recommended_point(result)
    if chosen:
        handles.append(ring(axes, chosen.latency.p50_ms, chosen))
    last = _draw_evidence(figure, axes, evidence) if evidence else axes
    for part in {axes, last}:
        draw_target(part, result.target_recall, named=part is last)
    legend(last, handles)
    return figure


def evidence_of(advice: Recommendation | None) -> tuple[Evidence, ...]:
    """Return the recalls of the winner: as chosen, confirmed and built again; none if only one."""
    if advice is None:
        return ()
    found = [
        Evidence("as\nchosen", advice.probes, advice.recall, advice.recall_low, advice.recall_high)
    ]
    if advice.confirmed_recall is not None and advice.confirmed_low is not None:
        recall, low, high = advice.confirmed_recall, advice.confirmed_low, advice.confirmed_high
        found.append(Evidence("held\nout", advice.probes, recall, low, high))
    for number, build in enumerate(advice.rebuilds, start=2):
        name = f"build\n{number}"
        found.append(Evidence(name, build.probes, build.recall, build.recall_low, None))
    return tuple(found) if len(found) > 1 else ()


def _recalls(
    points: Sequence[Point], evidence: Sequence[Evidence], target_recall: float | None
) -> list[float]:
    return [*recalls_of(points, target_recall), *(one.low for one in evidence)]


def _draw_settings(axes: Axes, points: Sequence[Point]) -> list[Line2D]:
    """Draw each setting with a look of its own, or where they are many each lists."""
    several = len(points) > len(MARKERS)
    groups: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda p: p.latency.p50_ms):
        name = (
            f"lists {point.lists:,}" if several else facts.setting_text(point.lists, point.probes)
        )
        groups.setdefault(name, []).append(point)
    handles = []
    for (name, group), look in zip(groups.items(), looks(len(groups)), strict=True):
        alone = look._replace(dash="none")
        x = [p.latency.p50_ms for p in group]
        draw_points(axes, group, alone, x=x, hollow=[not p.used_index for p in group])
        handles.append(key(name, alone))
    return [*handles, draw_frontier(axes, points), *planner_key(points)]


def _name_exact(axes: Axes, exact_ms: float) -> None:
    axes.annotate(
        f"exact scan {facts.ms_text(exact_ms)} \N{RIGHTWARDS ARROW}", (1, 1),
        xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", ha="right",
        va="bottom", fontsize=9.5,
    )  # fmt: skip


def _draw_evidence(figure: Picture, beside: Axes, evidence: Sequence[Evidence]) -> Axes:
    """Draw the recalls of the winner on axes of their own, right of the others."""
    box = beside.get_position()
    left = box.x1 + GAP_IN / figure.get_figwidth()
    axes = figure.add_axes((left, box.y0, PROOF_IN / figure.get_figwidth(), box.height))
    axes.set_ylim(*beside.get_ylim())
    axes.set_yticks(beside.get_yticks(), [""] * len(beside.get_yticks()))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for at, one in enumerate(evidence):
        below = max(one.recall - one.low, 0.0)
        above = 0.0 if one.high is None else max(one.high - one.recall, 0.0)
        axes.errorbar(
            [at], [one.recall], yerr=[[below], [above]], color=INK, linewidth=1.2,
            marker="o" if at == 0 else "D", markersize=6, capsize=3,
            markerfacecolor=ACCENT if at == 0 else "white", markeredgecolor=ACCENT,
            markeredgewidth=1.5,
        )  # fmt: skip
    axes.set_xlim(-0.6, len(evidence) - 0.4)
    labels = [f"{one.name}\n{one.probes or 'none'}" for one in evidence]
    axes.set_xticks(range(len(evidence)), labels, fontsize=8.5)
    axes.set_xlabel("the winner again; below: probes", labelpad=1, fontsize=9.5)
    return axes
