"""A result as one page that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from resume_lab.errors import DataError
from resume_lab.files import replace_file
from resume_lab.printable import plain
from resume_lab.report import facts, sentences
from resume_lab.report.forecast import Surface
from resume_lab.report.shown import measured_figures, predicted_figures
from resume_lab.tuning.results import TuningResult

TEMPLATE = "report.html.jinja"


def html_report(result: TuningResult) -> str:
    """Return the whole report as one HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
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
        replace_file(target, page)
    except OSError as error:
        raise DataError(
            f"The report cannot be written to {target}: {error.strerror or error}.",
            hint="Give the path of a file in a folder that you can write to.",
        ) from error
    return target


def _context(result: TuningResult) -> dict[str, Any]:
    surface = Surface.of(result) if result.curves else None
    best = max(result.points, key=lambda p: (p.recall, -p.latency.p50_ms), default=None)
    return {
        "result": result,
        "facts": facts,
        "title": f"IVFFlat settings for {result.workload.source}",
        "chosen": facts.recommended_point(result),
        "best": best,
        "reached": _reached(result),
        "points": facts.in_order(result),
        "frontier": facts.frontier(result),
        "predicted_figures": predicted_figures(result),
        "figures": measured_figures(result),
        "surface": surface,
        "forecasts": surface.forecasts() if surface else (),
        "cheapest": surface.cheapest() if surface else None,
        "sentences": sentences,
        "notes": facts.notes(result),
    }


def _reached(result: TuningResult) -> bool:
    """Say whether any measured point met the aim."""
    target, max_ms = result.target_recall, result.max_ms
    if target is not None:
        return any(point.meets(target) for point in result.points)
    return max_ms is None or any(p.latency.p50_ms <= max_ms for p in facts.compared(result))


def _shown(value: Any) -> Any:
    """Take out of a text from data what is not seen, or turns the direction of what is."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return plain(value) if is_text else value


def _cell(value: float | None, decimals: int = 2) -> str:
    """Write a number with the decimals of its column."""
    return facts.MISSING if value is None else f"{value:,.{decimals}f}"
