"""Which vectors `resume-lab tune` measures: those of a file, generated, stored, or of any table."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.cli.asked import Asked
from resume_lab.cli.console import progress, say
from resume_lab.config import AppEnv, Settings
from resume_lab.database import schema
from resume_lab.embedding import make_embedder, stored_model
from resume_lab.errors import ConfigError, DataError
from resume_lab.retrieval.questions import asked_workload
from resume_lab.tuning import Workload, stored_models
from resume_lab.tuning.table import TableSource, read_table
from resume_lab.vectors import Kind, Metric

DEFAULT_ROWS = 20_000
DEFAULT_KIND = Kind.CLUSTERED
LOGGED = "query_logs"
"""Where the questions that people asked are kept."""


def check_one_source(asked: Asked) -> None:
    """Refuse two sources at once, and options of one that was not named."""
    named = {
        "--vectors": asked.vectors is not None,
        "--rows with --kind": asked.rows is not None or asked.kind is not None,
        "--model": asked.model is not None,
        "--table": asked.table is not None,
    }
    if sum(named.values()) > 1:
        both = " and ".join(name for name, is_named in named.items() if is_named)
        raise ConfigError(
            f"{both} exclude each other.",
            hint="Give one of them, or none to measure the stored embeddings.",
        )
    if asked.planted is not None and asked.queries_from is not None:
        raise ConfigError(
            "--planted and --queries-from exclude each other.", hint="Leave out one of them."
        )
    if asked.table is not None and asked.column is None:
        raise ConfigError("--table needs --column.", hint="Add --column NAME: its vector column.")
    of_table = {
        "--column": asked.column,
        "--id": asked.id_column,
        "--where": asked.where,
        "--queries-from": asked.queries_from,
        "--max-rows": asked.max_rows,
    }
    without = [name for name, value in of_table.items() if value is not None]
    if asked.table is None and without == ["--queries-from"]:
        _check_logged(asked, named)
    elif asked.table is None and without:
        raise ConfigError(f"{without[0]} needs --table.", hint="Add --table NAME --column NAME.")
    if asked.metric is not None and asked.table is None and asked.vectors is None:
        raise ConfigError(
            "--metric needs --vectors or --table.",
            hint="The project's own tables and generated vectors are searched by cosine distance.",
        )


def _check_logged(asked: Asked, named: dict[str, bool]) -> None:
    if asked.queries_from != LOGGED:
        raise ConfigError(
            f"--queries-from needs --table, or is {LOGGED}.",
            hint=f"--queries-from {LOGGED} asks the stored embeddings what people asked.",
        )
    if named["--vectors"] or named["--rows with --kind"]:
        raise ConfigError(
            f"--queries-from {LOGGED} asks stored embeddings; "
            "--vectors, --rows and --kind exclude it.",
            hint="Leave out --queries-from, or these.",
        )


def offline_workload(asked: Asked) -> Workload | None:
    """Make what needs no database, so that a wrong file starts no server; None for the rest."""
    if asked.vectors is not None:
        return Workload.from_file(
            Path(asked.vectors),
            n_queries=asked.queries,
            seed=asked.seed,
            k=asked.k,
            metric=_metric(asked),
        )
    if asked.rows is not None or asked.kind is not None:
        return Workload.generated(
            asked.kind or DEFAULT_KIND,
            asked.rows or DEFAULT_ROWS,
            n_queries=asked.queries,
            seed=asked.seed,
            k=asked.k,
        )
    return None


def stored_workload(
    asked: Asked, settings: Settings, engine: Engine, *, to_stderr: bool
) -> Workload:
    """Read the vectors of any table, or of the project's own, seeded if there are none."""
    if asked.table is not None:
        source = TableSource(
            asked.table, asked.column or "", asked.id_column, asked.where, asked.queries_from
        )
        at_most = {} if asked.max_rows is None else {"max_rows": asked.max_rows}
        return read_table(
            engine,
            source,
            metric=_metric(asked),
            k=asked.k,
            n_queries=asked.queries,
            seed=asked.seed,
            **at_most,
        )
    schema.make_current(engine)
    if asked.queries_from == LOGGED:
        embedder = make_embedder(asked.model, settings)
        return asked_workload(engine, embedder, n_queries=asked.queries, k=asked.k, seed=asked.seed)
    if asked.model is None:
        _seed_if_empty(settings, engine, to_stderr=to_stderr)
    return Workload.stored(
        engine,
        embedding_model=asked.model and stored_model(asked.model),
        n_queries=asked.queries,
        seed=asked.seed,
        k=asked.k,
    )


def _metric(asked: Asked) -> Metric:
    return Metric(asked.metric or Metric.COSINE)


def _seed_if_empty(settings: Settings, engine: Engine, *, to_stderr: bool) -> None:
    if stored_models(engine):
        return
    if settings.app_env is AppEnv.PROD:
        raise DataError(
            "No embeddings are stored, and APP_ENV is prod, where none are made up.",
            hint="Give --vectors FILE or --rows N.",
        )
    say("No embeddings are stored yet; seeding a default set.", err=to_stderr)
    report = seeding.seed(engine, rows=DEFAULT_ROWS, kind=DEFAULT_KIND, progress=progress())
    say(str(report), err=to_stderr)
