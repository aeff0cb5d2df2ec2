"""A result as plain text for a terminal, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from resume_lab.printable import plain
from resume_lab.report import facts, sentences
from resume_lab.report.forecast import Forecast, Surface
from resume_lab.report.tables import mark
from resume_lab.tuning.results import Point, TuningResult

TEXT_WIDTH = 100
MOST_FORECASTS = 9
MISSING = "-"

Row = list[str]


def text_table(result: TuningResult) -> str:
    """Return what was predicted, measured and decided as plain text, at most 100 columns wide."""
    parts = [_head(result), *_predicted(result), _measured(result), _verdict(result)]
    return plain(_ascii("\n\n".join("\n".join(part) for part in parts if part)))


def _head(result: TuningResult) -> list[str]:
    lines = [
        f"IVFFlat settings for {result.workload.source}",
        facts.size_text(result.workload),
        f"{facts.aim_text(result.target_recall, result.max_ms)}; exact scan p50 "
        f"{facts.ms_text(result.exact.latency.p50_ms)}",
    ]
    return _wrapped(lines)


def _predicted(result: TuningResult) -> list[list[str]]:
    """Return how hard the vectors are, and what was predicted of them."""
    said = [result.expectation] if result.expectation else []
    if result.difficulty is not None and result.difficulty.verdict not in result.expectation:
        said.insert(0, result.difficulty.verdict)
    about = _wrapped(said)
    if not result.curves:
        return [about]
    surface = Surface.of(result)
    title = f"PREDICTED before any index exists, in {result.timings.predict_s:.1f} s"
    best = sentences.best_forecast(surface)
    legend = [
        f"{sentences.predicted_table(surface)} {f'* {best}. ' if best else ''}Imbalance: 1 for "
        "lists of one size; uneven ones are longer to read. Memory: maintenance_work_mem that the "
        "build needs.",
        sentences.cost(result.cost),
    ]
    rows = _aligned(_forecast_rows(surface))
    return [about, [title, *rows], _wrapped([line for line in legend if line])]


def _forecast_rows(surface: Surface) -> list[Row]:
    best = surface.cheapest()
    timed = surface.cost is not None
    built = {point.lists for point in surface.points}
    heading = ["", "lists", "probes", "recall", "rows read", "of all", "imbalance", "memory MiB"]
    heading += [*(["p50 ms"] if timed else []), "built"]
    rows = []
    for forecast in _telling(surface.forecasts(), built, best):
        star = "*" if best is not None and forecast.lists == best.lists else ""
        rows.append(
            [star, *_forecast_row(forecast, timed), "yes" if forecast.lists in built else ""]
        )
    return [heading, *rows]


def _forecast_row(forecast: Forecast, timed: bool) -> Row:
    return [
        str(forecast.lists),
        _number(forecast.probes, "{:d}"),
        _number(forecast.recall, "{:.3f}"),
        _number(forecast.rows_scanned, "{:,.0f}"),
        _number(forecast.share, "{:.2%}"),
        f"{forecast.imbalance:.2f}",
        f"{forecast.build_memory_bytes / facts.MIB:,.0f}",
        *([_number(forecast.p50_ms, "{:.2f}")] if timed else []),
    ]


def _telling(
    forecasts: Sequence[Forecast], built: set[int], best: Forecast | None
) -> list[Forecast]:
    """Return the forecasts to print: those built, the best, and others that read few rows."""
    wanted = sorted(
        forecasts,
        key=lambda f: (
            f.lists not in built and f != best,
            float("inf") if f.share is None else f.share,
        ),
    )
    return sorted(wanted[:MOST_FORECASTS], key=lambda f: f.lists)


def _measured(result: TuningResult) -> list[str]:
    searched = bool(result.curves)
    title = ["MEASURED in PostgreSQL"] if searched else []
    legend = ["> recommended   * Pareto frontier: no other setting is both faster and more exact"]
    legend += [f"low-high: {facts.INTERVAL} of the recall. {facts.latency_text(result)}"]
    legend += [*facts.notes(result), sentences.prediction_error(result)]
    rows = _aligned(_rows(result, searched=searched))
    return [*title, *rows, "", *_wrapped([line for line in legend if line])]


def _verdict(result: TuningResult) -> list[str]:
    if not result.curves:
        return _wrapped([result.why])
    said = [result.why, f"{sentences.foretold(result.recommendation)} {_index(result)}".strip()]
    return ["DECIDED", *_wrapped([line for line in said if line])]


def _index(result: TuningResult) -> str:
    chosen = facts.recommended_point(result)
    if chosen is None:
        return ""
    size = chosen.size_bytes / facts.MIB
    return f"The index takes {size:,.1f} MiB and was built in {chosen.build_s:.1f} s."


def _rows(result: TuningResult, *, searched: bool) -> list[Row]:
    """Return the points; a search shows what was predicted, a grid the size and build of each."""
    points = facts.in_order(result)
    if searched:
        heading = ["", "lists", "probes", "predicted", "recall", "low-high", "queries"]
        heading += ["p50 ms", "p95 ms", "speed-up", "used index"]
        return [heading, *(_searched_row(result, point) for point in points)]
    heading = ["", "lists", "probes", "recall", "low-high", "p50 ms", "p95 ms", "p99 ms"]
    heading += ["speed-up", "MiB", "build s", "used index"]
    return [heading, *(_grid_row(result, point) for point in points)]


def _searched_row(result: TuningResult, point: Point) -> Row:
    return [
        mark(result, point, recommended=">", frontier="*"),
        str(point.lists),
        str(point.probes),
        _number(point.predicted_recall, "{:.3f}"),
        f"{point.recall:.3f}",
        facts.interval_text(point),
        str(facts.queries_of(result, point)),
        *(_time(point, ms) for ms in (point.latency.p50_ms, point.latency.p95_ms)),
        facts.speedup_text(point.speedup_vs_exact) if point.shuffled else MISSING,
        facts.used_index_text(point),
    ]


def _grid_row(result: TuningResult, point: Point) -> Row:
    latency = point.latency
    return [
        mark(result, point, recommended=">", frontier="*"),
        str(point.lists),
        str(point.probes),
        f"{point.recall:.3f}",
        facts.interval_text(point),
        *(_time(point, ms) for ms in (latency.p50_ms, latency.p95_ms, latency.p99_ms)),
        facts.speedup_text(point.speedup_vs_exact),
        _short(point.size_bytes / facts.MIB, 1),
        _short(point.build_s, 1),
        facts.used_index_text(point),
    ]


def _time(point: Point, ms: float | None) -> str:
    if ms is None:
        return MISSING
    return _short(ms, 2) if point.shuffled else f"{facts.ALONE}{_short(ms, 2)}"


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else form.format(value)


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
