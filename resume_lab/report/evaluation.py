"""How well searches find the files of labelled questions: a figure and a table."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler

from resume_lab.report import facts
from resume_lab.report.paper import HOUSE, INK, Picture, canvas, key, legend, looks, wrap
from resume_lab.report.tables import frame_table
from resume_lab.retrieval import Evaluation

_APART = 0.14
"""How far the two marks of a row lie above and below its middle, in rows."""


@HOUSE
def evaluation_chart(found: Mapping[str, Evaluation], title: str) -> Picture:
    """Draw recall@k and MRR of each search with their intervals, the first at the top."""
    first = next(iter(found.values()))
    figure, axes = canvas(
        title,
        f"{first.n_questions} labelled questions, one file answers each. Bars: {facts.INTERVAL}.",
    )
    handles = []
    for (label, side), look in zip(((f"recall@{first.k}", -1), ("MRR", 1)), looks(2), strict=True):
        for row, evaluation in enumerate(found.values()):
            value, low, high = _values(evaluation, is_recall=side < 0)
            axes.errorbar(
                [value], [row + side * _APART], xerr=[[value - low], [high - value]], capsize=2.5,
                color=look.color, marker=look.marker, markersize=6.5, elinewidth=1,
            )  # fmt: skip
        handles.append(key(label, look._replace(dash="none")))
    axes.set_yticks(range(len(found)), ["\n".join(wrap(name, 24, most=2)) for name in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter("{x:.1f}")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("higher is better", color=INK)
    box = axes.get_position()
    axes.set_position((0.22, box.y0, box.x1 - 0.22, box.height))
    legend(axes, handles, gap_in=0.25)
    return figure


def _values(evaluation: Evaluation, *, is_recall: bool) -> tuple[float, float, float]:
    if is_recall:
        return evaluation.recall, evaluation.recall_low, evaluation.recall_high
    return evaluation.mrr, evaluation.mrr_low, evaluation.mrr_high


def evaluation_table(found: Mapping[str, Evaluation], caption: str) -> Styler:
    """Return recall@k and MRR of each search with their intervals, one row each."""
    rows = [
        {
            "search": name,
            f"recall@{of.k}": f"{of.recall:.3f} ({of.recall_low:.3f} to {of.recall_high:.3f})",
            "MRR": f"{of.mrr:.3f} ({of.mrr_low:.3f} to {of.mrr_high:.3f})",
            "found first": f"{sum(rank == 1 for rank in of.ranks)} of {of.n_questions}",
            "not found": sum(rank is None for rank in of.ranks),
        }
        for name, of in found.items()
    ]
    return frame_table(pd.DataFrame(rows), f"{caption}\nIn brackets: {facts.INTERVAL}.")
