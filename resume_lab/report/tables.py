"""A result as tables: plain numbers, and styled for notebooks."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from resume_lab.printable import plain
from resume_lab.report import facts, sentences
from resume_lab.report.forecast import Surface
from resume_lab.tuning.predict import Prediction
from resume_lab.tuning.results import Point, TuningResult

RECOMMENDED_CSS = "font-weight: bold; background-color: rgba(46, 125, 50, 0.18)"
ALONE_CSS = "opacity: 0.5; font-style: italic"
TIMES = ("p50 ms", "p95 ms", "p99 ms", "speed-up")
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
NO_FORMULAS = "mathjax_ignore"
"""Class of a table whose $ are no mathematics to a notebook."""

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
    """Return a frame as a notebook table; all of its texts are escaped, lines of the caption kept.

    `formats` gives the format string or function of a column; a missing value shows as a dash.
    """
    styler = frame.map(_shown).style.format(
        dict(formats or {}), na_rep=facts.MISSING, escape="html"
    )
    styler = styler.format_index(lambda name: html.escape(str(_shown(name))), axis="columns")
    styler = styler.hide(axis="index").set_table_styles(TABLE_CSS)
    styler = styler.set_table_attributes(f'class="{NO_FORMULAS}"')
    return styler.set_caption(html.escape(plain(caption)).replace("\n", "<br>"))


def _shown(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value


def points_table(result: TuningResult) -> Styler:
    """Return the points as a notebook table, the recommended one emphasised."""
    points = facts.in_order(result)
    frame = pd.DataFrame([_table_row(result, point) for point in points])
    formats: dict[str, Format] = {
        "predicted": "{:.3f}",
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
    pale = [ALONE_CSS if not point.shuffled else "" for point in points]
    times: list[Hashable] = [name for name in TIMES if name in frame.columns]
    styler = styler.apply(lambda column: pale[: len(column)], axis=0, subset=times)
    return styler.apply(lambda column: styles[: len(column)], axis=0)


def predictions_frame(
    found: TuningResult | Prediction, *, target_recall: float | None = None
) -> pd.DataFrame:
    """Return one row a number of lists, its setting predicted to meet the aim, as plain numbers."""
    return _forecast_frame(Surface.of(found, target_recall))


def predictions_table(
    found: TuningResult | Prediction, *, target_recall: float | None = None
) -> Styler:
    """Return for each lists the setting predicted to meet the aim, the best of them emphasised."""
    surface = Surface.of(found, target_recall)
    frame = _forecast_frame(surface)
    best = surface.cheapest()
    bold = f" Bold: {sentences.best_forecast(surface)}." if best else ""
    frame["share"] *= 100
    frame["build_memory_bytes"] /= facts.MIB
    names = {
        "recall": f"predicted recall@{surface.workload.k}",
        "rows_scanned": "rows read",
        "share": "of all rows",
        "build_memory_bytes": "build memory MiB",
        "p50_ms": "predicted p50 ms",
    }
    if surface.cost is None:
        frame = frame.drop(columns="p50_ms")
    formats: dict[str, Format] = {
        "probes": "{:,.0f}",
        names["recall"]: "{:.3f}",
        "rows read": "{:,.0f}",
        "of all rows": "{:.2f} %",
        "imbalance": "{:.2f}",
        "build memory MiB": "{:,.0f}",
        "predicted p50 ms": "{:,.2f}",
    }
    shown = frame.rename(columns=names)
    styler = frame_table(
        shown,
        f"{facts.data_text(surface.workload)}\n{sentences.predicted_table(surface)}{bold}",
        {name: how for name, how in formats.items() if name in shown.columns},
    )
    styles = [RECOMMENDED_CSS if best and best.lists == n else "" for n in frame["lists"]]
    return styler.apply(lambda column: styles[: len(column)], axis=0)


def _forecast_frame(surface: Surface) -> pd.DataFrame:
    frame = pd.DataFrame([dataclasses.asdict(forecast) for forecast in surface.forecasts()])
    order = ["lists", "probes", "recall", "rows_scanned", "share", "p50_ms"]
    frame = frame[[*order, "imbalance", "build_memory_bytes"]]
    return frame.astype(dict.fromkeys(order[1:], "float64"))


def _table_row(result: TuningResult, point: Point) -> dict[str, object]:
    index = {"index": point.index} if _several_kinds(result) else {}
    predicted = {"predicted": _number(point.predicted_recall)} if result.curves else {}
    queries = {"queries": facts.queries_of(result, point)} if result.curves else {}
    return {
        " ": mark(result, point, recommended="▶", frontier="●"),
        **index,
        "lists": point.lists,
        "probes": point.probes,
        **predicted,
        f"recall@{result.workload.k}": point.recall,
        facts.INTERVAL: facts.interval_text(point),
        **queries,
        "p50 ms": point.latency.p50_ms,
        "p95 ms": _number(point.latency.p95_ms),
        "p99 ms": _number(point.latency.p99_ms),
        "speed-up": point.speedup_vs_exact,
        "size MiB": point.size_bytes / facts.MIB,
        "build s": point.build_s,
        "used index": facts.used_index_text(point),
    }


def _several_kinds(result: TuningResult) -> bool:
    return len(facts.by_index(result.points)) > len({point.lists for point in result.points})


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def mark(result: TuningResult, point: Point, *, recommended: str, frontier: str) -> str:
    """Return the marks of a point: is it recommended, is it on the frontier."""
    chosen = recommended if point is facts.recommended_point(result) else ""
    return chosen + (frontier if point in facts.frontier(result) else "")


def _caption(result: TuningResult) -> str:
    lines = [
        facts.data_text(result.workload),
        f"{facts.aim_text(result.target_recall, result.max_ms).capitalize()}; the exact scan "
        f"takes {facts.ms_text(result.exact.latency.p50_ms)} (p50). "
        "▶ recommended, ● Pareto frontier.",
        facts.latency_text(result),
    ]
    return "\n".join([*lines, *facts.notes(result)])
