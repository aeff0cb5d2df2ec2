"""Row level security hides rows after the index has found them: what comes back all the same."""

import pytest
from sqlalchemy.engine import Engine

from resume_lab.database.role_trial import tried
from resume_lab.retrieval import route, row_security_cost
from resume_lab.retrieval.row_security_cost import measure_visible
from resume_lab.tuning import Workload

ROWS, LISTS, TARGET = 2_000, 20, 0.9
KS = (1, 10, 40)
LOST = 0.07
"""Of recall@10, at most, where half of the rows are hidden; measured: 0.02, at most 0.05."""


def test_all_k_rows_come_back_where_the_index_alone_returns_fewer(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "FEW_ROWS", 500)  # half of the rows are then more than a few
    workload = Workload.generated("clustered", ROWS, n_queries=30)
    with tried(database, with_row_security=True) as connection:
        found = measure_visible(connection, workload, LISTS, target_recall=TARGET, ks=KS)
    measured = {(rows.source, rows.k): rows for rows in found}
    assert {rows.visible for rows in found} == {2_000, 1_000, 200, 40}
    assert all(rows.found.rows == 1 for rows in found)
    for source in ("all", "half"):
        assert "Tuned index lab_row_security" in measured[source, 10].explanation
    everything = measured["all", 10].found.recall.mean
    assert everything > TARGET - LOST
    assert measured["half", 10].found.recall.mean > everything - LOST
    for source in ("a tenth", "a fiftieth"):  # all of their rows are compared
        assert {measured[source, k].found.recall.mean for k in KS} == {1}
        assert "this role may read only" in measured[source, 10].explanation
    alone = measured["a fiftieth", 40].once
    assert alone.rows < 0.6
    assert alone.recall.mean < 0.6
    assert measured["a fiftieth", 10].once.recall.mean < TARGET
    assert measured["all", 40].once.rows == 1


def test_the_sources_are_all_rows() -> None:
    assert sum(row_security_cost.SOURCES.values()) == pytest.approx(1)
