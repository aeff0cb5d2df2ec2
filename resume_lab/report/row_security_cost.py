"""What row level security costs a search, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from resume_lab.report import facts
from resume_lab.report.tables import Format, frame_table
from resume_lab.retrieval.row_security_cost import Found, VisibleRows
from resume_lab.tuning.results import WorkloadInfo

FORMATS: dict[str, Format] = {
    "rows it may read": "{:,.0f}",
    "rows returned": "{:.0%}",
    "index alone: rows returned": "{:.0%}",
}


def visible_table(measured: Sequence[VisibleRows], workload: WorkloadInfo) -> Styler:
    """Return rows and recall of each reader for each k, by search and by its index alone."""
    rows = [
        {
            "a reader of": rows.source,
            "rows it may read": rows.visible,
            "k": rows.k,
            "rows returned": rows.found.rows,
            "recall": _recall(rows.found),
            "by": "the index" if rows.explanation.startswith("Tuned") else "comparing all",
            "index alone: rows returned": rows.once.rows,
            "index alone: recall": _recall(rows.once),
        }
        for rows in measured
    ]
    caption = (
        f"{facts.data_text(workload)}\n"
        "Recall among the rows that a reader may read; rows returned are the share of those that "
        "there were to return. Index alone: the same probes, without reading on. "
        f"In brackets: {facts.INTERVAL}."
    )
    return frame_table(pd.DataFrame(rows), caption, FORMATS)


def _recall(found: Found) -> str:
    recall = found.recall
    return f"{recall.mean:.3f} ({recall.low:.3f} to {recall.high:.3f})"
