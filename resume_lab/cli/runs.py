"""`resume-lab runs`: the runs that are kept, and the difference of two."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from resume_lab.cli.console import Json, print_json, say
from resume_lab.config import Settings
from resume_lab.errors import ConfigError
from resume_lab.tuning import runs
from resume_lab.tuning.difference import difference
from resume_lab.tuning.runs import SavedRun

MISSING = "-"
MAX_WIDTH = 44


def runs_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Two runs to compare.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the runs of `tune`, newest first, or show the difference of two.

    They are kept in `runs` under LAB_DIR, a folder each; delete a folder to forget its run.
    """
    folder = Settings().lab_dir / "runs"
    if not names:
        found = runs.saved(folder)
        if as_json:
            print_json([_listed(run) for run in found])
        else:
            say(_list_text(found))
        return
    if len(names) != 2:
        raise ConfigError(
            f"{len(names)} run is no pair to compare."
            if len(names) == 1
            else f"{len(names)} runs are too many to compare.",
            hint="Give two runs to compare, or none to list them all.",
        )
    first, second = (runs.load(folder, name) for name in names)
    lines = difference(first, second)
    if as_json:
        print_json([dataclasses.asdict(line) for line in lines])
        return
    rows = [("", first.name, second.name)]
    rows += [(line.what, _shown(line.first), _shown(line.second)) for line in lines]
    say(_aligned(rows))


def _listed(run: SavedRun) -> dict[str, Any]:
    advice = (run.result or {}).get("recommendation") or {}
    kept = ("lists", "probes", "recall", "recall_low", "confirmed_recall", "p50_ms")
    head = {"name": run.name, "started": run.started, "status": run.status, "label": run.label}
    return head | {name: advice.get(name) for name in kept}


def _list_text(found: Sequence[SavedRun]) -> str:
    if not found:
        return "There are no runs yet; `resume-lab tune` makes one."
    heading = ("run", "status", "measured on", "lists", "probes", "recall", "low", "p50 ms")
    rows: list[Sequence[str]] = [heading]
    for run in found:
        listed = _listed(run)
        numbers = ("lists", "probes", "recall", "recall_low", "p50_ms")
        rows.append((run.name, run.status, run.label, *(_shown(listed[name]) for name in numbers)))
    open_run = next((run for run in found if run.status == runs.INTERRUPTED), None)
    hint = f"\n\nTo go on with one: resume-lab tune --resume {open_run.name}" if open_run else ""
    return _aligned(rows) + hint


def _shown(value: Any) -> str:
    if value is None:
        return MISSING
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + "..."


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)
