"""What queries say about the queries not asked: how recall is spread, and how sure its mean is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from resume_lab.report import facts
from resume_lab.report.paper import (
    HOUSE,
    INK,
    MUTED,
    Look,
    Picture,
    canvas,
    key,
    legend,
    log_axis,
    log_ticks,
    looks,
    wrap,
)
from resume_lab.tuning.results import INTERVAL_LEVEL

RESAMPLES = 4000
FEWEST_QUERIES, MOST_QUERIES = 10, 10_000
RULE_OF_THREE = 3.0
"""Of n queries that were all answered alike, up to 3/n of all others may be answered otherwise."""

Floats = NDArray[np.float64]


@HOUSE
def recall_distribution(recalls: Mapping[str, Floats], about: str) -> Picture:
    """Draw the share of queries with at most some recall, one line for each name.

    Each array holds the recall of every query, shape (n_queries,); `about` says what was measured.
    """
    figure, axes = canvas(
        "Recall of a query, from the worst to the best",
        about,
        "A line that stays low until recall 1 is even: few queries are answered badly.",
        width_in=5.75,
    )
    handles = []
    for (name, values), look in zip(recalls.items(), looks(len(recalls)), strict=True):
        ordered = np.sort(np.asarray(values, dtype=np.float64))
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        axes.step(
            [0, *ordered, 1], [0, *shares, 1], where="post", color=look.color,
            linestyle=look.dash, linewidth=1.8,
        )  # fmt: skip
        mean = float(ordered.mean())
        axes.plot(
            [mean], [np.searchsorted(ordered, mean, side="right") / len(ordered)],
            linestyle="none", marker=look.marker, markersize=7, color=look.color,
            markeredgecolor="white", zorder=3,
        )  # fmt: skip
        label = f"mean {mean:.3f}, worst {ordered[0]:.2f}\n{len(ordered):,} queries"
        handles.append(key("\n".join([*wrap(name, 24, most=3), label]), look))
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlabel("recall of a query (share of the exact neighbours); marks: the mean")
    axes.set_ylabel("share of queries at or below it")
    legend(axes, handles)
    return figure


@HOUSE
def query_certainty(
    recalls: Mapping[str, Floats], about: str, *, target_recall: float | None = None, seed: int = 0
) -> Picture:
    """Draw how far the interval of a recall reaches below its mean, against the queries asked.

    Each array holds the recall of every query, shape (n_queries,); other numbers of queries are
    drawn from them with replacement. A ring shows from how many queries on the interval stays
    above `target_recall`.
    """
    figure, axes = canvas(
        "How sure a recall is, by the number of queries",
        about,
        f"How far the {facts.INTERVAL} reaches below the mean. Marks: the queries asked.",
        width_in=5.75,
    )
    counts = np.unique(np.geomspace(FEWEST_QUERIES, MOST_QUERIES, 40).round().astype(int))
    series = {
        name: np.array([half_width(values, int(n), seed=seed) for n in counts])
        for name, values in recalls.items()
    }
    floor = RULE_OF_THREE / counts * min((float(np.mean(v)) for v in recalls.values()), default=1)
    handles = [
        _draw_certainty(axes, name, recalls[name], counts, half_widths, look, target_recall)
        for (name, half_widths), look in zip(series.items(), looks(len(series)), strict=True)
    ]
    axes.plot(counts, floor, color=MUTED, linewidth=1.2, linestyle=(0, (1, 2)))
    handles.append(
        Line2D([], [], color=MUTED, linewidth=1.2, linestyle=(0, (1, 2)),
               label="rule of three: no\ninterval is narrower")
    )  # fmt: skip
    if target_recall is not None:
        handles.append(_ring(axes, [], [], f"sure of recall {target_recall:g}"))
    log_axis(axes, counts.tolist(), whole=True)
    _log_y(axes, [*floor, *(value for widths in series.values() for value in widths)])
    axes.set_xlabel("queries asked (count, log scale)")
    axes.set_ylabel("mean recall minus lower bound (share, log scale)")
    legend(axes, handles)
    return figure


def half_width(per_query: Floats, n_queries: int, *, seed: int = 0) -> float:
    """Return how far the interval of `n_queries` such queries reaches below their mean recall.

    The bootstrap over queries and the rule of three, as `vectors.summarise` has them for the
    queries given.
    """
    values, times = np.unique(np.asarray(per_query, dtype=np.float64), return_counts=True)
    mean = float(np.average(values, weights=times))
    rng = np.random.default_rng(seed)
    means = rng.multinomial(n_queries, times / times.sum(), size=RESAMPLES) @ values / n_queries
    low = float(np.quantile(means, (1 - INTERVAL_LEVEL) / 2))
    return max(mean - low, min(1.0, RULE_OF_THREE / n_queries) * mean)


def _draw_certainty(
    axes: Axes, name: str, per_query: Floats, counts: NDArray[np.int64], widths: Floats,
    look: Look, target_recall: float | None,
) -> Line2D:  # fmt: skip
    axes.plot(counts, widths, color=look.color, linestyle=look.dash, linewidth=1.5)
    asked = len(per_query)
    axes.plot(
        [asked], [np.interp(asked, counts, widths)], linestyle="none", marker=look.marker,
        markersize=8, color=look.color, markeredgecolor="white", zorder=3,
    )  # fmt: skip
    mean = float(np.mean(per_query))
    label = f"mean {mean:.3f}, {asked:,} asked"
    sure = _enough(counts, widths, mean - (target_recall or 1.0))
    if sure is not None:
        _ring(axes, [counts[sure]], [widths[sure]], "")
        label += f"\n{counts[sure]:,} would be sure"
    return key("\n".join([*wrap(name, 24, most=3), label]), look)


def _enough(counts: NDArray[np.int64], widths: Floats, margin: float) -> int | None:
    """Return the place of the fewest queries whose interval stays within the margin."""
    within = np.flatnonzero(widths <= margin)
    return int(within[0]) if len(within) else None


def _ring(axes: Axes, x: list[float], y: list[float], label: str) -> Line2D:
    (line,) = axes.plot(
        x, y, linestyle="none", marker="o", markersize=13, markerfacecolor="none",
        markeredgecolor=INK, markeredgewidth=1.5, label=label, zorder=4,
    )  # fmt: skip
    return line


def _log_y(axes: Axes, values: list[float]) -> None:
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 1.1, max(positive) * 1.1
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = log_ticks(low, high)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
