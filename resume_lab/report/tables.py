"""A result as tables: plain numbers, a styled table for notebooks, aligned text for terminals."""

from __future__ import annotations

import dataclasses
import html
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from resume_lab.report import facts
from resume_lab.tuning.results import Point, TuningResult

TEXT_WIDTH = 100
RECOMMENDED_CSS = "font-weight: bold; background-color: rgba(46, 125, 50, 0.18)"
TABLE_CSS: list[Any] = [
    {
        "selector": "caption",
        "props": "caption-side: top; text-align: left; padding: 0 0 0.6em; line-height: 1.45; "
        "font-size: 0.95em",
    },
    {"selector": "th.col_heading", "props": "text-align: right; vertical-align: bottom"},
    {
        "selector": "td",
        "props": "text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums",
    },
]

Format = str | Callable[[Any], str]


def points_frame(result: TuningResult) -> pd.DataFrame:
    """Return one row a point, with the names and plain numbers of the JSON form."""
    columns = [f.name for f in dataclasses.fields(Point) if f.name != "latency"]
    percentiles = ["p50_ms", "p95_ms", "p99_ms"]
    frame = pd.DataFrame(result.as_dict()["points"], columns=[*columns, *percentiles])
    return frame.astype(dict.fromkeys(percentiles, "float64"))


def frame_table(
    frame: pd.DataFrame, caption: str, formats: Mapping[str, Format] | None = None
) -> Styler:
    """Return a frame as a notebook table; cells and caption are escaped, lines of it kept.

    `formats` gives the format string or function of a column; a missing value shows as a dash.
    """
    styler = frame.style.format(dict(formats or {}), na_rep=facts.MISSING, escape="html")
    styler = styler.hide(axis="index").set_table_styles(TABLE_CSS)
    return styler.set_caption(html.escape(caption).replace("\n", "<br>"))


def points_table(result: TuningResult) -> Styler:
    """Return the points as a notebook table, the recommended one emphasised."""
    points = facts.in_order(result)
    frame = pd.DataFrame([_table_row(result, point) for point in points])
    formats: dict[str, Format] = {
        f"recall@{result.workload.k}": "{:.3f}",
        "p50 ms": "{:,.2f}",
        "p95 ms": "{:,.2f}",
        "p99 ms": "{:,.2f}",
        "speed-up": facts.speedup_text,
        "size MiB": "{:,.1f}",
        "build s": "{:,.1f}",
    }
    present = {name: how for name, how in formats.items() if name in frame.columns}
    chosen = facts.recommended_point(result)
    styles = [RECOMMENDED_CSS if point is chosen else "" for point in points]
    styler = frame_table(frame, _caption(result), present)
    return styler.apply(lambda column: styles[: len(column)], axis=0)


def text_table(result: TuningResult) -> str:
    """Return the points as plain text for a terminal, at most 100 columns wide."""
    header = [
        f"IVFFlat settings for {result.workload.source}",
        facts.size_text(result.workload),
        f"target recall {result.target_recall:g}; exact scan p50 "
        f"{facts.ms_text(result.exact.latency.p50_ms)}",
    ]
    legend = ["> recommended   * Pareto frontier: no other setting is both faster and more exact"]
    legend += [f"low-high: {facts.INTERVAL} of the recall. {facts.latency_text(result)}"]
    legend += [*facts.notes(result), result.why]
    lines = [*_wrapped(header), "", *_aligned(_text_rows(result)), "", *_wrapped(legend)]
    return _ascii("\n".join(lines))


def _table_row(result: TuningResult, point: Point) -> dict[str, object]:
    index = {"index": point.index} if _several_kinds(result) else {}
    return {
        " ": _mark(result, point, recommended="▶", frontier="●"),
        **index,
        "lists": point.lists,
        "probes": point.probes,
        f"recall@{result.workload.k}": point.recall,
        facts.INTERVAL: facts.interval_text(point),
        "p50 ms": point.latency.p50_ms,
        "p95 ms": _number(point.latency.p95_ms),
        "p99 ms": _number(point.latency.p99_ms),
        "speed-up": point.speedup_vs_exact,
        "size MiB": point.size_bytes / facts.MIB,
        "build s": point.build_s,
        "used index": facts.used_index_text(point),
    }


def _several_kinds(result: TuningResult) -> bool:
    return len(facts.by_index(result)) > len({point.lists for point in result.points})


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _mark(result: TuningResult, point: Point, *, recommended: str, frontier: str) -> str:
    chosen = recommended if point is facts.recommended_point(result) else ""
    return chosen + (frontier if point in facts.frontier(result) else "")


def _caption(result: TuningResult) -> str:
    lines = [
        facts.data_text(result.workload),
        f"Target recall {result.target_recall:g}; the exact scan takes "
        f"{facts.ms_text(result.exact.latency.p50_ms)} (p50). "
        "▶ recommended, ● Pareto frontier.",
        facts.latency_text(result),
    ]
    return "\n".join([*lines, *facts.notes(result)])


def _text_rows(result: TuningResult) -> list[list[str]]:
    heading = ["", "lists", "probes", "recall", "low-high", "p50 ms", "p95 ms", "p99 ms"]
    heading += ["speed-up", "MiB", "build s", "used index"]
    return [heading, *(_text_row(result, point) for point in facts.in_order(result))]


def _text_row(result: TuningResult, point: Point) -> list[str]:
    latency = point.latency
    percentiles = (latency.p50_ms, latency.p95_ms, latency.p99_ms)
    return [
        _mark(result, point, recommended=">", frontier="*"),
        str(point.lists),
        str(point.probes),
        f"{point.recall:.3f}",
        facts.interval_text(point),
        *("-" if value is None else _short(value, 2) for value in percentiles),
        facts.speedup_text(point.speedup_vs_exact),
        _short(point.size_bytes / facts.MIB, 1),
        _short(point.build_s, 1),
        facts.used_index_text(point),
    ]


def _short(value: float, decimals: int) -> str:
    """Write a number for a narrow column: from 1000 on without decimals."""
    return f"{value:.{decimals if value < 1000 else 0}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    widths[0] = max(widths[0], 2)
    lines = (
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return [line.rstrip() for line in lines]


def _wrapped(paragraphs: Sequence[str]) -> list[str]:
    return [line for text in paragraphs for line in textwrap.wrap(text, TEXT_WIDTH) or [""]]


def _ascii(text: str) -> str:
    """Use signs that every terminal can show; letters stay as they are."""
    return text.replace(facts.DASH, "-").replace(facts.TIMES, "x")
