"""`resume-lab rollout` and `drift`: a recommendation as a migration, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resume_lab.cli.console import Json, print_json, say
from resume_lab.config import Settings
from resume_lab.database import open_engine
from resume_lab.embedding import stored_model
from resume_lab.errors import ConfigError, ExperimentError
from resume_lab.rollout import drift, migration
from resume_lab.tuning import runs


def rollout_command(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run of tune (the newest finished one)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write to this file or folder (migrations/versions)."),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="Follow this revision of another project."),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep indexes that compete; the planner may take one of them."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the SQL; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the SQL of a run's recommendation, then write it as an Alembic migration.

    Nothing is run: `resume-lab migrate` does that, and `resume-lab migrate --to -1` goes back. The
    index is built concurrently beside the others, which then give way to it; the finding goes into
    its comment, where searches take their probes from.
    """
    if after is not None and output is None:
        raise ConfigError("--after needs --output.", hint="Name a file or folder to write to.")
    settings = Settings()
    saved = runs.load(settings.lab_dir / "runs", run)
    if saved.result is None:
        raise ExperimentError(
            f"Run {saved.name} is {saved.status}, so it recommends nothing.",
            hint=f"`resume-lab tune --resume {saved.name}` goes on with it.",
        )
    _check_place(saved.result["workload"]["table"], output, dry_run=dry_run)
    engine = open_engine(settings)
    planned = migration.prepare(engine, saved.result, run=saved.name, after=after, keep=keep)
    if not as_json:
        say(_shown(planned))
    file = None if dry_run else migration.write(planned, output, after=after)
    if as_json:
        print_json(_as_dict(planned, file))
    elif file is not None:
        say(f"\nWritten: {file}\nRead it, then {_next_step(output)}")


def _check_place(table: dict[str, Any] | None, output: Path | None, *, dry_run: bool) -> None:
    """Keep the migrations of this project for its own tables."""
    if table is None or table["embedding_model"] is not None or output or dry_run:
        return
    raise ConfigError(
        f"{'.'.join(table['table'])} is not a table of this project.",
        hint="Write the migration among those of its own: --output FOLDER --after REVISION; "
        "--dry-run only shows it.",
    )


def _next_step(output: Path | None) -> str:
    return "resume-lab migrate" if output is None else "run it with the migrations beside it"


def _shown(planned: migration.Rollout) -> str:
    notes = "".join(f"-- {sentence}\n" for sentence in planned.consequences)
    return (
        f"-- Run {planned.run}: {planned.title}\n{notes}\n{planned.upgrade.sql}\n"
        f"-- The way back:\n{planned.downgrade.sql}".rstrip()
    )


def _as_dict(planned: migration.Rollout, file: Path | None) -> dict[str, Any]:
    return {
        "run": planned.run,
        "revision": planned.revision,
        "index": planned.index,
        "upgrade": planned.upgrade.sql,
        "downgrade": planned.downgrade.sql,
        "consequences": planned.consequences,
        "file": None if file is None else str(file),
    }


def drift_command(
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The stored embeddings of this model (the most rows)."),
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of stored embeddings, any table.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its column of type vector.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Its rows (those that the tuned index is for)."),
    ] = None,
    queries: Annotated[
        int, typer.Option(min=1, metavar="N", help="Stored rows to ask for the neighbours of.")
    ] = drift.DEFAULT_QUERIES,
    k: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Neighbours asked for (those of the finding)."),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, metavar="SHARE", help="Recall needed (the finding's)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the recall of the index in use today, on stored rows, against exact search.

    Only reads. Exit code 1 if the recall is below the target; 0 if it reaches it, even where the
    interval goes below, which is said. 0 also where no index is used, since answers are exact then.

    In CI: DATABASE_URL=postgresql://user@host/name resume-lab drift --target 0.95
    """
    if model is not None and table is not None:
        raise ConfigError("--model and --table exclude each other.", hint="Leave out one of them.")
    if (table is None) != (column is None) or (where is not None and table is None):
        raise ConfigError(
            "--table and --column need each other, and --where needs both.",
            hint="Give --table NAME --column NAME, or neither to look at the stored embeddings.",
        )
    engine = open_engine()
    if table is not None and column is not None:
        measured = drift.own_table(engine, table, column, where)
    else:
        measured = drift.stored_table(engine, model and stored_model(model))
    found = drift.measure_drift(engine, measured, n_queries=queries, k=k, target_recall=target)
    print_json(found.as_dict()) if as_json else say(str(found))
    raise typer.Exit(1 if found.is_below_target else 0)
