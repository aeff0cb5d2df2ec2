"""What a tuned index says of itself: the finding, as JSON in the comment of the index."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resume_lab.database.indexes import DISTANCES, MAX_LISTS, raw_connection
from resume_lab.database.schema import FINDING_MARK
from resume_lab.database.vector_column import dotted
from resume_lab.errors import DatabaseError

_VERSION = 1
_PLANNER_SETTING = re.compile("enable_[a-z_]+")


@dataclass(frozen=True)
class Finding:
    """The setting that was proven for an index, and on what.

    Recalls are shares in [0, 1], higher is better. `where` is the SQL of the rows it was measured
    on, None for all; `rows` is how many these were when it was rolled out. `needs` are planner
    settings without which PostgreSQL may not take the index, such as enable_sort off.
    """

    lists: int
    probes: int
    k: int
    distance: str
    target_recall: float | None
    recall: float
    recall_low: float
    confirmed_recall: float | None
    rows: int
    where: str | None
    pgvector_version: str
    date: str
    needs: Mapping[str, str] = field(default_factory=dict)

    def as_text(self) -> str:
        """Return the JSON to put into the comment, plain ASCII."""
        return json.dumps({FINDING_MARK: _VERSION, **dataclasses.asdict(self)})

    @classmethod
    def of_text(cls, comment: str | None) -> Finding | None:
        """Read a comment; None for a comment of somebody else, or a broken one."""
        try:
            held = json.loads(comment or "")
            if held[FINDING_MARK] != _VERSION:
                return None
            found = cls(**{f.name: held[f.name] for f in dataclasses.fields(cls)})
            return found if found._is_sound() else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def _is_sound(self) -> bool:
        """Say whether every value can be trusted; `needs` must not set anything else."""
        return (
            all(_is_whole(value) for value in (self.lists, self.probes, self.k, self.rows + 1))
            and self.probes <= self.lists <= MAX_LISTS
            and all(map(_is_share, (self.recall, self.recall_low)))
            and all(v is None or _is_share(v) for v in (self.target_recall, self.confirmed_recall))
            and self.distance in DISTANCES
            and all(
                isinstance(v, str) for v in (self.where or "", self.pgvector_version, self.date)
            )
            and isinstance(self.needs, dict)
            and all(
                _PLANNER_SETTING.fullmatch(name) and value in ("on", "off")
                for name, value in self.needs.items()
            )
        )


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


@dataclass(frozen=True)
class StandingIndex:
    """A vector index that is there. `target` is its definition after ON: table, columns and all."""

    name: str
    target: str
    opclass: str
    partial: bool
    valid: bool
    lists: int | None
    comment: str | None

    @property
    def finding(self) -> Finding | None:
        """Return what its comment says, None if that is no finding."""
        return Finding.of_text(self.comment)

    @property
    def distance(self) -> str | None:
        """Return the distance it answers: cosine, l2 or ip; None for another."""
        return next((d for d, o in DISTANCES.items() if o.opclass == self.opclass), None)


def standing_indexes(
    connection: Connection, table: tuple[str, ...], column: str
) -> list[StandingIndex]:
    """Return the IVFFlat and HNSW indexes on a column, oldest first; none without the table."""
    found = connection.execute(
        sa.text(
            "SELECT i.relname, c.opcname, x.indpred IS NOT NULL AS partial, x.indisvalid, "
            "substr(pg_get_indexdef(i.oid), "
            "       length('CREATE INDEX ' || quote_ident(i.relname) || ' ON ') + 1) AS target, "
            "(SELECT option_value::int FROM pg_options_to_table(i.reloptions) "
            " WHERE option_name = 'lists') AS lists, "
            "obj_description(i.oid, 'pg_class') AS comment "
            "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
            "JOIN pg_am m ON m.oid = i.relam JOIN pg_opclass c ON c.oid = x.indclass[0] "
            "JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] "
            "WHERE x.indrelid = to_regclass(:table) AND a.attname = :column "
            "AND m.amname IN ('ivfflat', 'hnsw') ORDER BY i.oid"
        ),
        {"table": dotted(table), "column": column},
    )
    return [
        StandingIndex(
            row.relname, row.target, row.opcname, row.partial, row.indisvalid, row.lists,
            row.comment,
        )
        for row in found
    ]  # fmt: skip


def tuned_index(
    connection: Connection, table: tuple[str, ...], column: str, where: str | None
) -> tuple[StandingIndex, Finding] | None:
    """Return the newest valid index with a finding for the rows of `where`, and that finding."""
    for index in reversed(standing_indexes(connection, table, column)):
        finding = index.finding
        if index.valid and finding is not None and finding.where == where:
            return index, finding
    return None


def use(connection: Connection, finding: Finding) -> None:
    """Set what the finding says, until the transaction ends: no session keeps it.

    Works behind a transaction pooler. Raises DatabaseError where every statement is a transaction.
    """
    if raw_connection(connection).autocommit:
        raise DatabaseError(
            "This connection commits each statement by itself, so no setting reaches the query.",
            hint="Search on an engine or connection without isolation level AUTOCOMMIT.",
        )
    settings = {"ivfflat.probes": str(finding.probes), **finding.needs}
    # The constant loads pgvector's library, without which a value is not checked.
    connection.execute(
        sa.select(
            sa.literal_column("'[1]'::vector"),
            *(sa.func.set_config(name, value, True) for name, value in settings.items()),
        )
    )
