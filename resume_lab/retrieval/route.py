"""How a search finds its rows: through the tuned index or by comparing all of them, and why."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from resume_lab.database.indexes import literal
from resume_lab.retrieval.statements import Query
from resume_lab.retrieval.tuned import Tuned, find_tuned
from resume_lab.tuning.plans import parse

FEW_ROWS = 2_000
"""Where a filter leaves no more, all of them are compared: that is exact, and takes some 12 ms."""

_READABLE = "SELECT count(*) FROM (SELECT FROM document_chunks LIMIT %s) AS readable"


@dataclass(frozen=True)
class Route:
    """The way of one search. `few` is how many rows the filter leaves, where these are few."""

    tuned: Tuned | None
    few: int | None = None

    @property
    def is_exact(self) -> bool:
        """Say whether every row is compared."""
        return self.tuned is None or self.few is not None

    def statements(self, query: Query, *, explain: bool = False) -> str:
        """Return the settings and the search, or its plan, to be sent as one message."""
        search = query.search(exact=self.is_exact)
        if explain:
            search = f"EXPLAIN (FORMAT JSON) {search}"
        if self.tuned is None or self.is_exact:
            return search
        values = (
            f"set_config({literal(name)}, {literal(value)}, true)"
            for name, value in self.tuned.settings.items()
        )
        # The constant loads pgvector's library, without which a value is not checked.
        return f"SELECT '[1]'::vector, {', '.join(values)}; {search}"


def find_route(cursor: Cursor, query: Query) -> Route:
    """Look up the tuned index of the model and, under a filter, whether few rows are left.

    Row level security is a filter, too: it hides rows after the index has found them.
    """
    tuned = find_tuned(cursor, query.model)
    if tuned is None or not (query.is_filtered or tuned.is_secured):
        return Route(tuned)
    few = _count if query.is_filtered else _count_readable
    matching = few(cursor, query, at_most=FEW_ROWS + 1)
    return Route(tuned, matching if matching <= FEW_ROWS else None)


def _count_readable(cursor: Cursor, _query: Query, at_most: int) -> int:
    """Count the chunks that this role may read, of which a model embedded some or all."""
    cursor.execute(_READABLE, [at_most])
    ((count,),) = cursor.fetchall()
    return int(count)


def _count(cursor: Cursor, query: Query, at_most: int | None = None) -> int:
    cursor.execute(query.count(at_most), query.parameters)
    ((count,),) = cursor.fetchall()
    return int(count)


def explain(cursor: Cursor, query: Query, route: Route) -> str:
    """Say what was done with the vector, and why; asks PostgreSQL for its plan."""
    matching = "that match the filter " if query.is_filtered else ""
    is_secured = route.tuned is not None and route.tuned.is_secured
    if is_secured:
        matching = f"that this role may read {'and ' if matching else ''}{matching}"
    if route.tuned is None:
        rows = _count(cursor, query)
        return f"Exact: no tuned index for {query.model}; {rows:,} rows {matching}were compared."
    if route.few is not None:
        if not query.is_filtered:
            return f"Exact: this role may read only {route.few:,} chunks."
        return f"Exact: only {route.few:,} rows match the filter."
    index, finding = route.tuned.name(cursor), route.tuned.finding
    if index is None:
        return "The tuned index was replaced during the search; another search says by which."
    cursor.execute(route.statements(query, explain=True), query.parameters)
    ((document,),) = cursor.fetchall()
    plan = parse(document[0])
    if not plan.uses(index):
        return f"PostgreSQL did not take the tuned index {index} but {plan.summary}."
    when = f"when it was tuned, on {finding.rows:,} rows"
    if query.is_filtered or is_secured:
        when = f"{when} without a filter"
    wanted = query.parameters["n_vectors"]
    needs = "".join(f", {name} {value}" for name, value in finding.needs.items())
    return (
        f"Tuned index {index}, {finding.probes} of {finding.lists} lists probed{needs}, "
        f"more where these hold fewer than {wanted} rows {matching}(iterative scan); "
        f"recall@{finding.k} was {finding.recall:.3f} {when}."
    )
