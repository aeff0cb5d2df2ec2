"""A recommendation as an Alembic migration.

Nothing here changes a table: the migration is written, read, and run by its user.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from resume_lab.database import schema
from resume_lab.database.failures import translated_driver_errors
from resume_lab.database.indexes import DISTANCES, quoted, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.vector_column import dotted
from resume_lab.errors import ExperimentError, SchemaError
from resume_lab.rollout import script, swap
from resume_lab.rollout.finding import Finding, StandingIndex, standing_indexes
from resume_lab.rollout.swap import Steps
from resume_lab.tuning import advice
from resume_lab.tuning.results import TableInfo, WorkloadInfo
from resume_lab.tuning.table import check_rows


@dataclass(frozen=True)
class Rollout:
    """What the migration does. `gives_way` are the indexes that it drops, and `downgrade` restores.

    `digest` tells the result that it came from, `revision` is that of the migration.
    """

    revision: str
    digest: str
    run: str | None
    index: str
    finding: Finding
    gives_way: tuple[StandingIndex, ...]
    partial: bool
    upgrade: Steps
    downgrade: Steps

    @property
    def title(self) -> str:
        """Return the title of the migration, which its file is named after."""
        return f"ivfflat index with {self.finding.lists} lists"

    @property
    def consequences(self) -> list[str]:
        """Return in sentences what else changes with the index."""
        found = [f"{index.name} gives way; going back restores it." for index in self.gives_way]
        if self.partial and any(not index.partial for index in self.gives_way):
            found.append("Queries for other rows of the table then read all of these, exactly.")
        return found


def prepare(
    engine: Engine,
    result: dict[str, Any],
    *,
    run: str | None = None,
    after: str | None = None,
    keep: bool = False,
) -> Rollout:
    """Turn the result of a run, as TuningResult.as_dict gives it, into a rollout.

    Reads which indexes stand on the table. With `keep` those that compete are left there, though
    the planner may then take one of them. A database that is not at the newest migration is
    refused, unless the rollout comes `after` a revision of another project. Raises ExperimentError,
    SchemaError.
    """
    info, table = _measured(result)
    if after is None:
        _check_current(engine)
    if info.sampled_from is not None:
        raise ExperimentError(
            f"The run measured {info.rows:,} of about {info.sampled_from:,} rows: on all of them "
            "lists and probes will differ.",
            hint="Tune again with --max-rows at least as many as the table has.",
        )
    if table.embedding_model is not None:  # others may come, and would be filtered after the scan
        table = dataclasses.replace(table, partial=True)
        info = dataclasses.replace(info, table=table)
    with translated_driver_errors(), engine.connect() as connection:
        _check_table(connection, table)
        check_rows(connection, table)
        standing = standing_indexes(connection, table.table, table.column)
        finding = _finding(result, info, _rows(connection, table))
    name = advice.index_name(finding.lists, info)
    gives_way = tuple(
        index
        for index in standing
        if index.name == name or (not keep and _competes(index, finding, table))
    )
    revision, digest = schema.new_revision(), _digest(result)
    return Rollout(
        revision,
        digest,
        run,
        name,
        finding,
        gives_way,
        table.partial,
        upgrade=swap.forth(info, table, finding, name, gives_way, revision),
        downgrade=swap.back(info, table, name, gives_way, revision),
    )


def write(rollout: Rollout, output: Path | None = None, *, after: str | None = None) -> Path:
    """Write the migration among the project's, or to a file or folder; return the file.

    Refuses a second one of the same result, and to overwrite a file. Raises SchemaError.
    """
    if after is not None and not re.fullmatch(r"[\w.]+", after):
        raise SchemaError(
            f"{after!r} is not a revision.",
            hint="Name the newest one of that project, as `alembic heads` shows it there.",
        )
    file = output
    if output is not None and output.is_dir():
        file = output / f"{rollout.revision}_{rollout.title.replace(' ', '_')}.py"
    folder = schema.versions_folder() if file is None else file.parent
    for other in sorted(folder.glob("*.py")):
        if f"result {rollout.digest}" in other.read_text(errors="replace"):
            raise SchemaError(
                f"This run was rolled out already: {other}.",
                hint="`resume-lab migrate` runs it. Delete the file first to write it again.",
            )
    if file is not None and file.exists():
        raise SchemaError(f"{file} is there already.", hint="Name another file, or a folder.")
    run = f"run {rollout.run}, " if rollout.run else ""
    found = rollout.finding
    about = (
        "Build the tuned index beside the others, then let it take their place.\n\n"
        "What a run that was cut short left invalid is dropped; what it finished is kept.\n"
        f"Measured in {run}result {rollout.digest}:\n"
        f"recall@{found.k} is {found.recall:.3f}, at least {found.recall_low:.3f}, "
        f"with {found.probes} of {found.lists} lists probed."
    )
    return schema.write_revision(
        rollout.revision,
        rollout.title,
        upgrade=script.body(about, rollout.upgrade),
        downgrade=script.body("Build what stood before, then drop the index.", rollout.downgrade),
        file=file,
        after=after,
    )


def _measured(result: dict[str, Any]) -> tuple[WorkloadInfo, TableInfo]:
    """Return what was measured, and on which table; raises ExperimentError without advice."""
    try:
        workload, recommended = result["workload"], result["recommendation"]
        distance = workload["distance"]
    except (KeyError, TypeError):
        distance = None
    if distance not in DISTANCES:
        raise ExperimentError(
            "This is not the result of a run, or of one by another version.",
            hint="Run `resume-lab tune` again.",
        )
    if recommended is None:
        raise ExperimentError(
            f"This run recommends no index. {result['why']}",
            hint="Stay with exact search, or tune for a lower --target-recall.",
        )
    if workload["table"] is None:
        raise ExperimentError(
            f"This run measured {workload['source']}, so there is no table to put an index on.",
            hint="Run `resume-lab tune` on a table that holds these vectors.",
        )
    table = TableInfo(**workload["table"] | {"table": tuple(workload["table"]["table"])})
    return WorkloadInfo(**workload | {"table": table}), table


def _check_current(engine: Engine) -> None:
    at, head = schema.current(engine), schema.head()
    if at not in (None, head):
        raise SchemaError(
            f"The database is at migration {at}, and the newest one here is {head}.",
            hint="Run `resume-lab migrate` first. For the migrations of another project, name "
            "its newest one with --after, and a place with --output.",
        )


def _check_table(connection: Connection, table: TableInfo) -> None:
    name = dotted(table.table)
    kind = connection.scalar(
        sa.text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)"), {"name": name}
    )
    if kind is None:
        raise SchemaError(
            f"There is no table {name} in this database.",
            hint="Set DATABASE_URL to the database that the run was measured on.",
        )
    if kind not in ("r", "m"):
        what = "partitioned" if kind == "p" else "no table"
        raise ExperimentError(
            f"{name} is {what}: PostgreSQL cannot build an index on it concurrently.",
            hint="Tune and roll out a single partition, or the table behind it.",
        )


def _rows(connection: Connection, table: TableInfo) -> int:
    """Count the vectors that were meant."""
    where = f" WHERE {table.where}" if table.where else ""
    statement = f"SELECT count({quoted(table.column)}) FROM {dotted(table.table)}{where}"  # noqa: S608 - quoted names, the user's condition
    raw = raw_connection(connection)
    with raw.cursor() as cursor:
        interruptible(raw, lambda: cursor.execute(statement))
        return int(cursor.fetchone()[0])


def _finding(result: dict[str, Any], info: WorkloadInfo, rows: int) -> Finding:
    recommended, environment = result["recommendation"], result["environment"]
    confirmed = recommended["confirmed_recall"]
    return Finding(
        lists=recommended["lists"],
        probes=recommended["probes"],
        k=info.k,
        distance=info.distance,
        target_recall=result["target_recall"],
        recall=round(recommended["recall"], 6),
        recall_low=round(recommended["recall_low"], 6),
        confirmed_recall=None if confirmed is None else round(confirmed, 6),
        rows=rows,
        where=None if info.table is None else info.table.where,
        pgvector_version=environment["pgvector_version"],
        date=environment["date"],
        needs=_needs(info, recommended["query_settings"]),
    )


def _needs(info: WorkloadInfo, query_settings: str) -> dict[str, str]:
    """Return what makes the planner take the index; among other rows it may prefer to sort."""
    said = dict(re.findall(r"SET LOCAL (enable_\w+) = (\w+)", query_settings))
    partial = info.table is not None and info.table.partial
    return {"enable_sort": "off"} | said if partial else said


def _competes(index: StandingIndex, finding: Finding, table: TableInfo) -> bool:
    """Say whether the planner may take this index for the queries of the tuned one."""
    for_same_rows = index.finding is not None and index.finding.where == table.where
    answers = index.opclass == DISTANCES[finding.distance].opclass
    return answers and (not index.partial or for_same_rows)


def _digest(result: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()[:12]
