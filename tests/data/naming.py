"""Names of all kinds, and the statements that they get into."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from resume_lab.database.indexes import literal
from resume_lab.rollout import swap
from resume_lab.rollout.finding import StandingIndex
from resume_lab.tuning.results import TableInfo, WorkloadInfo
from tests.rollout.kept_runs import finding

EVIL = (
    '"; DROP TABLE items; --',
    "$$; DROP TABLE items; --",
    "'; DROP TABLE items; --",
    "E'\\' /* \" */ %(x)s :y {z} $1",
    "two\nlines\tand\r\\",
    "日本語 Größe %",
)
_PARTS = (
    '"', '"""', "'", ";", "--", "/*", "*/", "$$", "$a$", "\\", "%", "%s", "{", "}", "\n",
    'U&"', "E'", ":a", "é", " ", "DROP",
)  # fmt: skip

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=15
) | st.lists(st.sampled_from(_PARTS), min_size=1, max_size=12).map("".join)
"""At most 60 bytes: PostgreSQL cuts a name at 63."""


@dataclasses.dataclass(frozen=True)
class Names:
    """Every name that a person can choose."""

    schema: str
    table: str
    column: str
    id_column: str
    index: str
    model: str

    @property
    def info(self) -> TableInfo:
        where = f"embedding_model = {literal(self.model)}"
        return TableInfo((self.schema, self.table), self.column, self.id_column, where, True)


PLAIN = Names("my_schema", "my_table", "my_column", "my_id", "my_index", "my_model")
all_names = st.builds(Names, *[names] * 6)


def workload(table: TableInfo) -> WorkloadInfo:
    return WorkloadInfo(100, 3, 10, 5, "cosine", "mine", table=table)


def steps(of: Names) -> tuple[swap.Steps, swap.Steps]:
    """The statements of a rollout that an index of this name gives way to, and the way back."""
    opclass, comment = "vector_cosine_ops", f"on {of.model}"
    old = StandingIndex(of.index, f"t USING hnsw (v {opclass})", opclass, False, True, 7, comment)
    found = finding(where=of.info.where)
    return (
        swap.forth(workload(of.info), of.info, found, "lab_new", [old], "abc123"),
        swap.back(workload(of.info), of.info, "lab_new", [old], "abc123"),
    )
