"""`resume-lab tune`: which vectors to measure, for what aim, and where the result goes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from resume_lab.cli.asked import Asked
from resume_lab.cli.console import print_json, progress, say
from resume_lab.cli.sources import (
    DEFAULT_KIND,
    DEFAULT_ROWS,
    check_one_source,
    offline_workload,
    stored_workload,
)
from resume_lab.config import Settings
from resume_lab.database import IVFFlat, open_engine
from resume_lab.database.extension import ensure_extension
from resume_lab.errors import ConfigError, DataError, ExperimentError, LabError
from resume_lab.files import replace_file
from resume_lab.tuning import (
    Recommendation,
    Storage,
    TuningResult,
    Workload,
    runs,
    tune,
    tune_grid,
)
from resume_lab.tuning.measure import ROUNDS
from resume_lab.tuning.run import DEFAULT_TARGET_RECALL, REBUILDS, check_options
from resume_lab.tuning.workload import DEFAULT_K, DEFAULT_QUERIES
from resume_lab.vectors import Kind, Metric

TERMINAL = Path("-")


def tune_command(
    rows: Annotated[
        int | None,
        typer.Option(min=20, metavar="N", help=f"Generate this many rows ({DEFAULT_ROWS:,})."),
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help=f"How generated rows are distributed ({DEFAULT_KIND}).")
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Measure the vectors of a .npy, .npz or .parquet file."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Measure the stored embeddings of this model."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Measure the vectors of any table; only reads it."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its column of type vector.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="NAME", help="Its key (the primary key).")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only the rows for which this holds.")
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Distance, for --table and --vectors (cosine).")
    ] = None,
    queries_from: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE.COLUMN",
            help="Ask these vectors instead of held-out rows; query_logs asks what people asked.",
        ),
    ] = None,
    max_rows: Annotated[
        int | None,
        typer.Option(min=20, metavar="N", help="Of a larger table measure a sample of N rows."),
    ] = None,
    queries: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Queries laid aside: half choose, half confirm. Of given vectors at most a fifth.",
        ),
    ] = DEFAULT_QUERIES,
    planted: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="DISTANCE",
            help="Ask rows turned away by this cosine distance instead, 0 to 1.",
        ),
    ] = None,
    k: Annotated[
        int, typer.Option(min=1, metavar="N", help="Neighbours a query asks for.")
    ] = DEFAULT_K,
    target_recall: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            metavar="SHARE",
            help=f"The recall that is needed ({DEFAULT_TARGET_RECALL:g}).",
        ),
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Instead of a recall: the p50 that must be kept."),
    ] = None,
    lists: Annotated[
        str | None, typer.Option(metavar="N,N", help="Build no other lists than these.")
    ] = None,
    rebuilds: Annotated[
        int, typer.Option(min=0, metavar="N", help="Build the winner so many more times.")
    ] = REBUILDS,
    grid: Annotated[
        bool, typer.Option("--grid", help="Predict nothing; measure every --lists and --probes.")
    ] = False,
    probes: Annotated[
        str | None, typer.Option(metavar="N,N", help="Probes of the grid, such as 1,4,16.")
    ] = None,
    storage: Annotated[
        Storage, typer.Option(help="Where the table keeps vectors: in TOAST or in its rows.")
    ] = Storage.EXTERNAL,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, metavar="N", help="Seed of all but pgvector's own k-means."),
    ] = 0,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with a run that was interrupted."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write JSON; - for the terminal."),
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with figures.")
    ] = None,
) -> None:
    """Find the IVFFlat lists and probes that reach a recall in the least time, and prove it.

    Predicts the recall of every setting, builds the few indexes that are ahead, measures them
    against exact search, and confirms the winner on queries that had no part in choosing it. Works
    on the vectors of a file, of a table, on generated ones, or on those stored (a default set is
    seeded if there are none). All of it happens on a scratch copy that is dropped at the end.
    """
    asked = Asked(
        rows=rows,
        kind=kind and kind.value,
        vectors=None if vectors is None else str(vectors.resolve()),
        model=model,
        table=table,
        column=column,
        id_column=id_column,
        where=where,
        metric=metric and metric.value,
        queries_from=queries_from,
        max_rows=max_rows,
        queries=queries,
        planted=planted,
        k=k,
        lists=_numbers("--lists", lists),
        probes=_numbers("--probes", probes),
        grid=grid,
        target_recall=target_recall,
        max_ms=max_ms,
        rebuilds=rebuilds,
        storage=storage.value,
        seed=seed,
    )
    settings = Settings()
    folder = settings.lab_dir / "runs"
    if resume is not None:
        asked = _resumed(folder, resume, asked)
    _check(asked)
    _check_outputs(json_file, html_file)
    workload = offline_workload(asked)
    engine = open_engine(settings)
    to_stderr = json_file == TERMINAL
    if workload is None:
        workload = stored_workload(asked, settings, engine, to_stderr=to_stderr)
    else:
        ensure_extension(engine)
    if asked.planted is not None:
        workload = workload.asked_near(asked.planted, seed=asked.seed)
    if resume is not None:
        run = runs.resume(folder, resume)
    else:
        options = dataclasses.asdict(asked)
        run = runs.start(folder, label=workload.source, options=options)
    try:
        result = _tuned(engine, workload, asked, run)
    except ExperimentError:  # what cannot be run as asked is not to be gone on with
        raise
    except (KeyboardInterrupt, LabError, SQLAlchemyError):
        say(f"\nTo go on: resume-lab tune --resume {run.name}", err=True)
        raise
    _deliver(result, json_file, html_file)
    say(f"Run: {run.name}", err=to_stderr)


def _resumed(folder: Path, name: str, given: Asked) -> Asked:
    if given != Asked():
        raise ConfigError(
            "--resume takes its options from the run.",
            hint="Only --json and --html can be given with it.",
        )
    saved = runs.load(folder, name)
    runs.check_unfinished(saved)
    try:
        return Asked(**saved.options)
    except TypeError:
        raise ConfigError(
            f"Run {name} was made by another version, with options that this one lacks.",
            hint="Start a new run.",
        ) from None


def _check(asked: Asked) -> None:
    """Refuse, before the work, what does not go together."""
    check_one_source(asked)
    check_options(asked.target_recall, asked.max_ms, ROUNDS, asked.rebuilds)
    if asked.grid and (asked.max_ms is not None or asked.rebuilds != REBUILDS):
        raise ConfigError(
            "--grid excludes --max-ms and --rebuilds.", hint="Leave out --grid, or these."
        )
    if asked.probes and not asked.grid:
        raise ConfigError(
            "--probes needs --grid.", hint="The tuner finds the probes of an index by itself."
        )
    for value in asked.lists or ():
        IVFFlat(value)  # refuses what pgvector would


def _tuned(engine: Engine, workload: Workload, asked: Asked, run: runs.Run) -> TuningResult:
    if asked.grid:
        return tune_grid(
            engine,
            workload,
            lists=asked.lists,
            probes=asked.probes,
            target_recall=asked.target_recall or DEFAULT_TARGET_RECALL,
            seed=asked.seed,
            storage=asked.storage,
            run=run,
            progress=progress(),
        )
    return tune(
        engine,
        workload,
        target_recall=asked.target_recall,
        max_ms=asked.max_ms,
        lists=asked.lists,
        rebuilds=asked.rebuilds,
        seed=asked.seed,
        storage=asked.storage,
        run=run,
        progress=progress(),
    )


def _deliver(result: TuningResult, json_file: Path | None, html_file: Path | None) -> None:
    from resume_lab.report import text_table, write_html  # slow to import: pandas, matplotlib

    to_stderr = json_file == TERMINAL
    if to_stderr:
        print_json(result.as_dict())
    else:
        say(text_table(result))
        if result.recommendation is not None:
            say(_how_to_use(result.recommendation))
    if html_file is not None:
        say(f"Report: {write_html(result, html_file)}", err=to_stderr)
    if json_file is not None and json_file != TERMINAL:
        _write_json(result, json_file)
        say(f"JSON: {json_file.resolve()}")


def _how_to_use(recommendation: Recommendation) -> str:
    ddl = recommendation.ddl.replace("\n", "\n  ")
    return (
        "\nBuild the index (writers wait meanwhile; `resume-lab rollout` lets them go on):\n"
        f"  {ddl};\n"
        f"Each query, in a transaction of its own:\n  BEGIN; {recommendation.query_settings}\n"
        f"  {recommendation.query}\n  COMMIT;\n"
    )


def _write_json(result: TuningResult, path: Path) -> None:
    try:
        replace_file(path, json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}.",
            hint="The run is kept: `resume-lab runs` lists it.",
        ) from None


def _check_outputs(json_file: Path | None, html_file: Path | None) -> None:
    """Refuse, before the work, a file that could not be written after it."""
    if html_file == TERMINAL:
        raise ConfigError("--html - is not possible.", hint="Name a file, such as report.html.")
    files = [path for path in (json_file, html_file) if path is not None and path != TERMINAL]
    if len({path.resolve() for path in files}) < len(files):
        raise ConfigError("--json and --html name the same file.", hint="Give each its own.")
    for path in files:
        folder = path.resolve().parent
        writable = os.access(path if path.exists() else folder, os.W_OK)
        if path.is_dir() or not folder.is_dir() or not writable:
            raise ConfigError(
                f"{path} cannot be written.",
                hint="Name a file in a folder that exists and is yours.",
            )


def _numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"{option} is {text!r}.", hint="Write whole numbers, such as 10,50,100.")
    return numbers
