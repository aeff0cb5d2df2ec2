"""What the planner does with a query: its plan in a line, the index it uses, server time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql


@dataclass(frozen=True)
class Plan:
    """A query plan. `server_ms` is planning plus execution, None where it was not run."""

    summary: str
    indexes: frozenset[str]
    server_ms: float | None = None

    def uses(self, index: str) -> bool:
        """Say whether the plan reads this index."""
        return index in self.indexes


def explain(cursor: Any, query: sql.Composable, parameter: str, *, analyze: bool = False) -> Plan:
    """Return the plan of a query of one parameter; with `analyze` it is run and timed."""
    options = "ANALYZE, TIMING OFF, BUFFERS OFF, " if analyze else ""
    cursor.execute(sql.SQL(f"EXPLAIN ({options}FORMAT JSON) ") + query, [parameter])
    ((document,),) = cursor.fetchall()
    return parse(document[0])


def parse(document: dict[str, Any]) -> Plan:
    """Read one document of EXPLAIN (FORMAT JSON)."""
    nodes = list(_nodes(document["Plan"]))
    server_ms = None
    if "Execution Time" in document:
        server_ms = document["Planning Time"] + document["Execution Time"]
    return Plan(
        " > ".join(_describe(node) for node in nodes),
        frozenset(node["Index Name"] for node in nodes if "Index Name" in node),
        server_ms,
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _describe(node: dict[str, Any]) -> str:
    target = node.get("Index Name") or node.get("Relation Name")
    where = f" on {target}" if target else ""
    return f"{node['Node Type']}{where} (cost {node['Total Cost']:.0f})"
