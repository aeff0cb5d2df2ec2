"""The figures of a page: each as an image with its text alternative and how to read it."""

from __future__ import annotations

import base64
from typing import NamedTuple

from resume_lab.report import facts
from resume_lab.report.decision import decision, evidence_of
from resume_lab.report.figures import (
    latency_distribution,
    recall_latency,
    recall_probes,
    telling_points,
)
from resume_lab.report.forecast import Forecast, Surface
from resume_lab.report.paper import Picture
from resume_lab.report.predicted import predicted_curves, predicted_frontier
from resume_lab.tuning.results import Point, TuningResult, pareto_frontier


class Shown(NamedTuple):
    """A figure on the page: its image as a data URI, its text alternative, how to read it."""

    uri: str
    alt: str
    caption: str


def predicted_figures(result: TuningResult) -> list[Shown]:
    """Return the figures of what was predicted; none where nothing was."""
    if not result.curves:
        return []
    return [
        Shown(
            _uri(predicted_curves(result)),
            _curves_alt(Surface.of(result)),
            "Each line is one index, known at every probes before it was built; the points show "
            "how well PostgreSQL agrees.",
        ),
        Shown(
            _uri(predicted_frontier(result)),
            _frontier_alt(Surface.of(result)),
            "The time of a query grows with the rows it reads. Up and to the left is better; the "
            "grey band follows the best of all lists.",
        ),
    ]


def measured_figures(result: TuningResult) -> list[Shown]:
    """Return the figures of what was measured: those of the decision, or of a grid."""
    if not result.points:
        return []
    first = [_decision(result)] if result.curves else _grid(result)
    distribution = Shown(
        _uri(latency_distribution(result)),
        _distribution_alt(result),
        "A curve further to the left is faster, a steep one is even; a long way from p50 "
        "to p95 means that some queries wait much longer than most.",
    )
    return [*first, distribution]


def _decision(result: TuningResult) -> Shown:
    caption = "Left: the settings that were timed in turn; up and to the left is better."
    if evidence_of(result.recommendation):
        kept = "fewest probes that hold" if result.max_ms is None else "most probes within the time"
        caption += (
            " Right: the winner on the queries that chose it, on others held out, and built again, "
            f"there with the {kept} and a bar that reaches down to the lower bound."
        )
    return Shown(_uri(decision(result)), _decision_alt(result), caption)


def _grid(result: TuningResult) -> list[Shown]:
    return [
        Shown(
            _uri(recall_latency(result)),
            _latency_alt(result),
            "Up and to the left is better; a point off the grey frontier is beaten by one that is "
            "at least as exact and faster.",
        ),
        Shown(
            _uri(recall_probes(result)),
            _probes_alt(result),
            "Each line is one index: it is built once, then probes is set for each query; read off "
            "the fewest probes whose band is above the target.",
        ),
    ]


def _uri(figure: Picture) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg()).decode("ascii")


def _curves_alt(surface: Surface) -> str:
    parts = [
        f"lists {curve.lists}: from {curve.recall[0]:.3f} at probes 1 to {curve.recall[-1]:.3f} "
        f"at probes {curve.lists}"
        for curve in surface.curves
    ]
    return (
        f"Line plot of predicted recall@{surface.workload.k} against probes, with "
        f"{len(surface.points)} measured points. {'; '.join(parts)}."
    )


def _frontier_alt(surface: Surface) -> str:
    parts = [_forecast_text(forecast) for forecast in surface.forecasts()]
    aim = facts.aim_text(surface.target_recall, surface.max_ms)
    return (
        f"Line plot of predicted recall@{surface.workload.k} against the share of the rows read. "
        f"For {aim}: {'; '.join(parts)}."
    )


def _forecast_text(forecast: Forecast) -> str:
    if forecast.probes is None or forecast.share is None:
        return f"lists {forecast.lists} at no probes"
    return f"{facts.setting_text(forecast.lists, forecast.probes)} reads {forecast.share:.2%}"


def _decision_alt(result: TuningResult) -> str:
    points = [_point_text(point) for point in facts.compared(result)]
    again = [
        f"{' '.join(one.name.split())} {one.recall:.3f}"
        for one in evidence_of(result.recommendation)
    ]
    proof = f" The winner again: {'; '.join(again)}." if again else ""
    return (
        f"Scatter plot of recall@{result.workload.k} against p50 latency: {'; '.join(points)}. "
        f"The exact scan takes {facts.ms_text(result.exact.latency.p50_ms)}.{proof}"
    )


def _latency_alt(result: TuningResult) -> str:
    ends = pareto_frontier(facts.compared(result))
    parts = [
        f"Scatter plot of recall@{result.workload.k} against p50 latency for "
        f"{len(result.points)} settings of {len(facts.by_index(result.points))} indexes.",
        f"The frontier runs from {_point_text(ends[0])} to {_point_text(ends[-1])}.",
        f"The exact scan takes {facts.ms_text(result.exact.latency.p50_ms)}.",
    ]
    chosen = facts.recommended_point(result)
    return " ".join([*parts, f"Recommended: {_point_text(chosen)}."] if chosen else parts)


def _probes_alt(result: TuningResult) -> str:
    ranges = [
        f"{label}: from {points[0].recall:.3f} at probes {points[0].probes} "
        f"to {points[-1].recall:.3f} at probes {points[-1].probes}"
        for label, points in facts.by_index(result.points).items()
    ]
    return f"Line plot of recall@{result.workload.k} against probes. {'; '.join(ranges)}."


def _distribution_alt(result: TuningResult) -> str:
    curves = [_point_text(point) for point in telling_points(result)]
    exact = facts.ms_text(result.exact.latency.p50_ms)
    return (
        "Cumulative distribution of the latency of a query for "
        f"{'; '.join(curves)}; and for the exact scan, p50 {exact}."
    )


def _point_text(point: Point) -> str:
    return (
        f"{facts.setting_text(point.lists, point.probes)} "
        f"(recall {point.recall:.3f}, p50 {facts.ms_text(point.latency.p50_ms)})"
    )
