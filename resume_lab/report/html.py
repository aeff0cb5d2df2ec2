"""A result as one page that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from resume_lab.errors import DataError
from resume_lab.report import facts, figures
from resume_lab.report.paper import Picture
from resume_lab.tuning.results import Point, TuningResult, pareto_frontier

TEMPLATE = "report.html.jinja"


class Shown(NamedTuple):
    """A figure on the page: its image as a data URI, its text alternative, how to read it."""

    uri: str
    alt: str
    caption: str


def html_report(result: TuningResult) -> str:
    """Return the whole report as one HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ms=facts.ms_text, cell=_cell)
    return environment.get_template(TEMPLATE).render(_context(result))


def write_html(result: TuningResult, path: str | os.PathLike[str]) -> Path:
    """Write the report and return where it is; a report that stood there stays until it is done."""
    page = html_report(result)
    target = Path(path).expanduser().resolve()
    if not target.parent.is_dir():
        raise DataError(
            f"The report cannot be written to {target}: there is no folder {target.parent}.",
            hint=f"Make it first: mkdir -p {shlex.quote(str(target.parent))}",
        )
    try:
        _replace(target, page)
    except OSError as error:
        raise DataError(
            f"The report cannot be written to {target}: {error.strerror or error}.",
            hint="Give the path of a file in a folder that you can write to.",
        ) from error
    return target


def _replace(target: Path, text: str) -> None:
    """Write beside the target, then take its place in one step."""
    draft = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _context(result: TuningResult) -> dict[str, Any]:
    best = max(result.points, key=lambda p: (p.recall, -p.latency.p50_ms), default=None)
    return {
        "result": result,
        "facts": facts,
        "title": f"IVFFlat settings for {result.workload.source}",
        "chosen": facts.recommended_point(result),
        "best": best,
        "reached": any(p.meets(result.target_recall) for p in result.points),
        "points": facts.in_order(result),
        "frontier": facts.frontier(result),
        "figures": _figures(result) if result.points else [],
        "notes": facts.notes(result),
    }


def _cell(value: float | None, decimals: int = 2) -> str:
    """Write a number with the decimals of its column."""
    return facts.MISSING if value is None else f"{value:,.{decimals}f}"


def _figures(result: TuningResult) -> list[Shown]:
    return [
        Shown(
            _uri(figures.recall_latency(result)),
            _latency_alt(result),
            "Up and to the left is better; a point off the grey frontier is beaten by one that is "
            "at least as exact and faster.",
        ),
        Shown(
            _uri(figures.recall_probes(result)),
            _probes_alt(result),
            "Each line is one index: it is built once, then probes is set for each query; read off "
            "the fewest probes whose band is above the target.",
        ),
        Shown(
            _uri(figures.latency_distribution(result)),
            _distribution_alt(result),
            "A curve further to the left is faster, a steep one is even; a long way from p50 "
            "to p95 means that some queries wait much longer than most.",
        ),
    ]


def _uri(figure: Picture) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg()).decode("ascii")


def _latency_alt(result: TuningResult) -> str:
    ends = pareto_frontier(result.points)
    parts = [
        f"Scatter plot of recall@{result.workload.k} against p50 latency for "
        f"{len(result.points)} settings of {len(facts.by_index(result))} indexes.",
        f"The frontier runs from {_point_text(ends[0])} to {_point_text(ends[-1])}.",
        f"The exact scan takes {facts.ms_text(result.exact.latency.p50_ms)}.",
    ]
    chosen = facts.recommended_point(result)
    return " ".join([*parts, f"Recommended: {_point_text(chosen)}."] if chosen else parts)


def _probes_alt(result: TuningResult) -> str:
    ranges = [
        f"{label}: from {points[0].recall:.3f} at probes {points[0].probes} "
        f"to {points[-1].recall:.3f} at probes {points[-1].probes}"
        for label, points in facts.by_index(result).items()
    ]
    return f"Line plot of recall@{result.workload.k} against probes. {'; '.join(ranges)}."


def _distribution_alt(result: TuningResult) -> str:
    curves = [_point_text(point) for point in figures.telling_points(result)]
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
