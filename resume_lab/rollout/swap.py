"""Statements that put one vector index in the place of others, and back, blocking nobody.

The new index is built under a name of its own while the others still answer. Statements that cannot
run in a transaction commit one by one, and each can run again after an interruption; the names
change in the transaction that also records the migration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from resume_lab.database.indexes import MIB, literal, quoted
from resume_lab.database.schema import LAB_PREFIX
from resume_lab.database.session import LOCK_WAIT
from resume_lab.rollout.finding import Finding, StandingIndex
from resume_lab.tuning import advice
from resume_lab.tuning.results import TableInfo, WorkloadInfo


@dataclass(frozen=True)
class Steps:
    """Statements that commit one by one, then those in the transaction of the migration itself."""

    alone: tuple[str, ...]
    together: tuple[str, ...]

    @property
    def sql(self) -> str:
        """Return them as a script for people to read, and for psql."""
        together = ("BEGIN", *self.together, "COMMIT") if self.together else ()
        return "".join(f"{statement};\n" for statement in (*self.alone, *together))


def forth(
    info: WorkloadInfo,
    table: TableInfo,
    finding: Finding,
    name: str,
    gives_way: Sequence[StandingIndex],
    revision: str,
) -> Steps:
    """Build the tuned index, drop those that give way, give it its name."""
    draft = f"{LAB_PREFIX}{revision}"
    create = advice.create_index(finding.lists, info, name=draft)
    dropped = dict.fromkeys([*(index.name for index in gives_way), name])
    return Steps(
        (
            *_settings(advice.build_memory_mib(finding.lists, info.dim)),
            *_build(table, draft, create, finding.as_text()),
            *_drops(table, dropped),
            *_RESET,
        ),
        (_rename(table, draft, name),),
    )


def back(
    info: WorkloadInfo,
    table: TableInfo,
    name: str,
    gives_way: Sequence[StandingIndex],
    revision: str,
) -> Steps:
    """Build what gave way as it was, drop the tuned index, give them their names."""
    before = {
        f"{LAB_PREFIX}{revision}_before_{number}": index
        for number, index in enumerate((i for i in gives_way if i.valid), start=1)
    }
    memory = max((advice.build_memory_mib(i.lists or 1, info.dim) for i in gives_way), default=0)
    builds = [
        statement
        for draft, index in before.items()
        for statement in _build(
            table, draft, f"CREATE INDEX {draft} ON {index.target}", index.comment
        )
    ]
    return Steps(
        (*_settings(memory), *builds, *_drops(table, [name]), *_RESET),
        tuple(_rename(table, draft, index.name) for draft, index in before.items()),
    )


def _settings(memory_mib: int) -> Iterator[str]:
    """Build for as long as it takes, wait for others as long as every migration does."""
    yield "SET statement_timeout = 0"
    yield (
        f"SELECT set_config('lock_timeout', '{LOCK_WAIT}', false) "
        "WHERE current_setting('lock_timeout') = '0'"
    )
    if memory_mib:
        yield (
            f"SELECT set_config('maintenance_work_mem', '{memory_mib}MB', false) "
            "WHERE pg_size_bytes(current_setting('maintenance_work_mem')) "
            f"< {memory_mib * MIB}"
        )


_RESET = ("RESET maintenance_work_mem", "RESET statement_timeout")


def _build(table: TableInfo, name: str, create: str, comment: str | None) -> Iterator[str]:
    """Build an index under a name of its own; one that a cancelled run left invalid goes first.

    Renamed out of the way, it can be dropped without a lock that readers would wait behind. Only
    a run of the same migration can have left an index of this name, so a valid one is kept.
    """
    own, invalid = advice.qualified(table, name), f"{name}_invalid"
    block = (
        "BEGIN IF EXISTS (SELECT FROM pg_index WHERE NOT indisvalid "
        f"AND indexrelid = to_regclass({literal(own).strip()})) "
        f"THEN ALTER INDEX {own} RENAME TO {invalid}; END IF; END"
    )
    # A name may hold the dollars that would end the block.
    yield f"DO $$ {block} $$" if "$" not in block else f"DO {literal(block).strip()}"
    yield from _drops(table, [invalid])
    yield create.replace("INDEX", "INDEX CONCURRENTLY IF NOT EXISTS", 1)
    if comment is not None:
        yield f"COMMENT ON INDEX {own} IS {literal(comment).strip()}"


def _drops(table: TableInfo, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield f"DROP INDEX CONCURRENTLY IF EXISTS {advice.qualified(table, name)}"


def _rename(table: TableInfo, name: str, to: str) -> str:
    return f"ALTER INDEX {advice.qualified(table, name)} RENAME TO {quoted(to)}"
