"""`resume-lab tune`: which vectors to measure, how, and where the result goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.cli.console import print_json, progress
from resume_lab.config import AppEnv, Settings
from resume_lab.database import IVFFlat, open_engine, schema
from resume_lab.errors import ConfigError, DataError
from resume_lab.tuning import Recommendation, Storage, TuningResult, Workload, stored_models, tune
from resume_lab.tuning.run import DEFAULT_TARGET_RECALL
from resume_lab.tuning.workload import DEFAULT_K, DEFAULT_QUERIES
from resume_lab.vectors import Kind

DEFAULT_ROWS = 20_000
DEFAULT_KIND = Kind.CLUSTERED
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
    queries: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Held-out queries; of given vectors at most a fifth."
        ),
    ] = DEFAULT_QUERIES,
    k: Annotated[
        int, typer.Option(min=1, metavar="N", help="Neighbours a query asks for.")
    ] = DEFAULT_K,
    lists: Annotated[
        str | None, typer.Option(metavar="N,N", help="IVFFlat lists to build, such as 50,100,200.")
    ] = None,
    probes: Annotated[
        str | None, typer.Option(metavar="N,N", help="Probes to measure with each, such as 1,4,16.")
    ] = None,
    target_recall: Annotated[
        float, typer.Option(min=0.01, max=1, metavar="SHARE", help="The recall that is needed.")
    ] = DEFAULT_TARGET_RECALL,
    storage: Annotated[
        Storage, typer.Option(help="Where the table keeps vectors: in TOAST or in its rows.")
    ] = Storage.EXTERNAL,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Seed of all random choices.")
    ] = 0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write JSON; - for the terminal."),
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with figures.")
    ] = None,
) -> None:
    """Measure IVFFlat lists and probes against exact search, and recommend the cheapest that do.

    Works on the vectors of a file, on generated ones, or on those stored (a default set is seeded
    if there are none). Without --lists and --probes, what common guidance names is tried. All of it
    happens on a scratch copy that is dropped at the end.
    """
    _check_one_source(vectors, rows is not None or kind is not None, model)
    wanted_lists, wanted_probes = _numbers("--lists", lists), _numbers("--probes", probes)
    for value in wanted_lists or ():
        IVFFlat(value)  # refuses what pgvector would, before the work
    _check_outputs(json_file, html_file)
    settings = Settings()
    workload = None  # what needs no database is made first: a wrong file starts no server
    if vectors is not None:
        workload = Workload.from_file(vectors, n_queries=queries, seed=seed, k=k)
    elif rows is not None or kind is not None:
        workload = Workload.generated(
            kind or DEFAULT_KIND, rows or DEFAULT_ROWS, n_queries=queries, seed=seed, k=k
        )
    engine = open_engine(settings)
    schema.upgrade(engine)
    if workload is None:
        if model is None:
            _seed_if_empty(settings, engine, to_stderr=json_file == TERMINAL)
        workload = Workload.stored(engine, embedding_model=model, n_queries=queries, seed=seed, k=k)
    result = tune(
        engine,
        workload,
        lists=wanted_lists,
        probes=wanted_probes,
        target_recall=target_recall,
        seed=seed,
        storage=storage,
        progress=progress(),
    )
    _deliver(result, json_file, html_file)


def _check_one_source(vectors: Path | None, generated: bool, model: str | None) -> None:
    if sum([vectors is not None, generated, model is not None]) > 1:
        raise ConfigError(
            "--vectors, --rows with --kind, and --model exclude each other.",
            hint="Give one of them, or none to measure the stored embeddings.",
        )


def _seed_if_empty(settings: Settings, engine: Engine, *, to_stderr: bool) -> None:
    if stored_models(engine):
        return
    if settings.app_env is AppEnv.PROD:
        raise DataError(
            "No embeddings are stored, and APP_ENV is prod, where none are made up.",
            hint="Give --vectors FILE or --rows N.",
        )
    typer.echo("No embeddings are stored yet; seeding a default set.", err=to_stderr)
    report = seeding.seed(engine, rows=DEFAULT_ROWS, kind=DEFAULT_KIND, progress=progress())
    typer.echo(str(report), err=to_stderr)


def _deliver(result: TuningResult, json_file: Path | None, html_file: Path | None) -> None:
    from resume_lab.report import text_table, write_html  # slow to import: pandas, matplotlib

    to_stderr = json_file == TERMINAL
    if to_stderr:
        print_json(result.as_dict())
    else:
        typer.echo(text_table(result))
        if result.recommendation is not None:
            typer.echo(_how_to_use(result.recommendation))
    if html_file is not None:
        typer.echo(f"Report: {write_html(result, html_file)}", err=to_stderr)
    if json_file is not None and json_file != TERMINAL:
        _write_json(result, json_file)
        typer.echo(f"JSON: {json_file.resolve()}")


def _how_to_use(recommendation: Recommendation) -> str:
    ddl = recommendation.ddl.replace("\n", "\n  ")
    return (
        f"\nBuild the index:\n  {ddl};\n"
        f"Each query, in a transaction of its own:\n  BEGIN; {recommendation.query_settings}\n"
        f"  {recommendation.query}\n  COMMIT;\n"
    )


def _write_json(result: TuningResult, path: Path) -> None:
    try:
        path.write_text(json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


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
