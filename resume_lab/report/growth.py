"""What is left of an index whose rows came after it was built, and when a rebuild pays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from resume_lab.report import facts
from resume_lab.report.marks import draw_points, draw_target, recalls_of
from resume_lab.report.paper import HOUSE, Picture, canvas, key, legend, looks, recall_axis, wrap
from resume_lab.report.tables import Format, frame_table
from resume_lab.tuning.growth import GrownIndex, queries_until_rebuild_pays
from resume_lab.tuning.results import WorkloadInfo

FORMATS: dict[str, Format] = {
    "rows at build": "{:,.0f}",
    "share": "{:.0%}",
    "recall": "{:.3f}",
    "probes": "{:.0f}",
    "p50 ms": "{:.2f}",
    "build s": "{:.1f}",
    "a rebuild pays after queries": "{:,.0f}",
}


@HOUSE
def growth_cost(
    grown: Mapping[str, Sequence[GrownIndex]],
    workload: WorkloadInfo,
    *,
    target_recall: float | None = None,
) -> Picture:
    """Draw recall against the share of the rows that were there at the build.

    One line for each name, all at the probes that an index built on all rows needs.
    """
    points = [index.fresh for indexes in grown.values() for index in indexes]
    figure, axes = canvas(
        f"recall@{workload.k} of an index that was built too early",
        facts.data_text(workload),
        f"At the probes that the index built on all rows needs. Bars: {facts.INTERVAL}.",
    )
    axes.set_xlim(-4, 104)
    axes.xaxis.set_major_formatter("{x:.0f} %")
    recall_axis(axes, recalls_of(points, target_recall), workload.k)
    axes.set_xlabel("rows that were in the table when the index was built (share of all)")
    handles = []
    for (name, indexes), look in zip(grown.items(), looks(len(grown)), strict=True):
        shares = [100 * index.rows_at_build / workload.rows for index in indexes]
        fresh = [index.fresh for index in indexes]
        axes.plot(shares, [point.recall for point in fresh], color=look.color, linestyle=look.dash)
        draw_points(axes, fresh, look, x=shares, hollow=[False] * len(fresh))
        probes = fresh[-1].probes
        handles.append(key("\n".join([*wrap(name, 24, most=3), f"probes {probes}"]), look))
    draw_target(axes, target_recall)
    legend(axes, handles)
    return figure


def growth_table(
    grown: Mapping[str, Sequence[GrownIndex]],
    workload: WorkloadInfo,
    *,
    target_recall: float,
) -> Styler:
    """Return what each index gives and needs; the last of each name was built on all rows."""
    rows = [_row(name, index, of[-1], workload) for name, of in grown.items() for index in of]
    caption = (
        f"{facts.data_text(workload)}\n"
        "recall: at the probes that the index built on all rows needs. "
        f"probes, p50: what it takes to reach recall {target_recall:g} with this index. "
        "The last column: after so many queries the time that a rebuild saves has paid for it."
    )
    return frame_table(pd.DataFrame(rows), caption, FORMATS)


def _row(
    name: str, index: GrownIndex, fresh: GrownIndex, workload: WorkloadInfo
) -> dict[str, object]:
    needed = index.needed
    pays = queries_until_rebuild_pays(index, fresh)
    return {
        "rows that come": name,
        "rows at build": index.rows_at_build,
        "share": index.rows_at_build / workload.rows,
        "recall": index.fresh.recall,
        "probes": needed and needed.probes,
        "p50 ms": needed and needed.latency.p50_ms,
        "build s": fresh.fresh.build_s,
        "a rebuild pays after queries": pays if math.isfinite(pays) else None,
    }
