"""The paper that figures are drawn on: style, layout, axes and looks, with no pyplot behind it."""

from __future__ import annotations

import io
import struct
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resume_lab.printable import plain, printable

INK, MUTED, FAINT, ACCENT = "#1f2328", "#57606a", "#e4e7eb", "#b3261e"
FRONTIER = "#c9cfd6"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
DPI = 144

# The defaults first, so that nobody's matplotlibrc (dark, usetex) reaches a figure. Names of
# data may hold a '$': no text is read as mathematics.
HOUSE = style.context(
    [
        "default",
        {
            "font.family": "DejaVu Sans",
            "font.size": 10.5,
            "text.parse_math": False,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": FAINT,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "legend.frameon": False,
            "legend.borderaxespad": 0,
            "legend.labelspacing": 0.7,
        },
    ]
)


class Picture(Figure):
    """A figure that a notebook shows by itself: no pyplot, no inline backend."""

    @HOUSE
    def draw(self, renderer: RendererBase) -> None:
        """Draw in the house style, whatever is in force when it is saved."""
        super().draw(renderer)

    def png(self, *, dpi: float = DPI) -> bytes:
        """Return the figure as PNG."""
        return self._saved("png", dpi=dpi)

    def sheet(self, *, dpi: float = DPI) -> bytes:
        """Return the figure as PNG with all of its margins, so that places on it are known."""
        return self._saved("png", dpi=dpi, bbox_inches=None)

    def svg(self) -> bytes:
        """Return the figure as SVG, its letters as outlines."""
        return self._saved("svg", metadata={"Date": None, "Creator": None})

    def _saved(self, form: str, *, bbox_inches: str | None = "tight", **options: Any) -> bytes:
        buffer = io.BytesIO()
        self.savefig(
            buffer, format=form, bbox_inches=bbox_inches, pad_inches=0.1, facecolor="white",
            **options,
        )  # fmt: skip
        return buffer.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        data = self.png()
        width, height = struct.unpack(">II", data[16:24])
        shown = 100 / DPI  # 100 screen pixels an inch, sharp on dense screens too
        return data, {"width": round(width * shown), "height": round(height * shown)}


class Look(NamedTuple):
    """How a series is told from the others, in colour and in grey."""

    color: str
    marker: str
    dash: Any


def looks(n: int) -> list[Look]:
    """Return `n` looks, from dark to light."""
    shades = [to_hex(shade) for shade in colormaps["viridis"](np.linspace(0.02, 0.64, n))]
    return [
        Look(shade, MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, shade in enumerate(shades)
    ]


def canvas(
    title: str, *subtitle: str, width_in: float = 6.25, gap_in: float = 0.2
) -> tuple[Picture, Axes]:
    """Return a figure 9 inches wide with title, subtitle and one pair of axes."""
    lines = [line for text in subtitle for line in wrap(text, 120, most=2)]
    above_in, axes_in, below_in = 0.42 + gap_in + 0.19 * len(lines), 3.75, 0.65
    height_in = above_in + axes_in + below_in
    figure = Picture(figsize=(9, height_in), facecolor="white")
    top = 1 - 0.1 / height_in
    figure.text(0.01, top, printable(title), fontsize=13.5, fontweight="bold", va="top")
    figure.text(
        0.01, top - 0.3 / height_in, "\n".join(lines), fontsize=9.5, color=MUTED, va="top",
        linespacing=1.4,
    )  # fmt: skip
    box = (0.8 / 9, below_in / height_in, width_in / 9, axes_in / height_in)
    return figure, figure.add_axes(box)


def log_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return round numbers from low to high, as many as can be read, at most nine."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks: list[float] = []
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        ticks = [t for t in ticks if low <= t <= high and not (whole and t % 1)]
        if len(ticks) <= 9:
            break
    return ticks


def log_axis(axes: Axes, values: Iterable[float], *, whole: bool = False) -> tuple[float, float]:
    """Scale x by the logarithm, with room around the values and round ticks; return the limits."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    pad = max((high / low) ** 0.05, (3 / min(high / low, 3)) ** 0.5, 1.05)
    low, high = low / pad, high * pad
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = log_ticks(low, high, whole=whole)
    axes.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    return low, high


def recall_axis(axes: Axes, seen: Iterable[float], k: int | str) -> None:
    """Scale to the recalls seen, with headroom above 1 for the label of the recommended point."""
    low = min(np.floor(min(seen, default=1.0) * 10 - 1e-9) / 10, 0.9)
    low = max(float(low), 0.0)
    span = 1 - low
    step = 0.2 if span > 0.75 else 0.1 if span > 0.35 else 0.05 if span > 0.15 else 0.02
    ticks = np.arange(round(1 / step), round(low / step) - 1, -1) * step
    axes.set_ylim(low - 0.04 * span, 1 + 0.13 * span)
    axes.set_yticks([float(t) for t in ticks if t > low - 1e-9])
    axes.yaxis.set_major_formatter("{x:.2f}" if step < 0.1 else "{x:.1f}")
    axes.spines["left"].set_bounds(low - 0.04 * span, 1)
    axes.set_ylabel(f"recall@{k} (share of the exact neighbours)")


def side(axes: Axes, x: float) -> str:
    """Return the alignment that keeps a label at x inside the axes."""
    low, high = np.log(axes.get_xlim())
    place = (np.log(max(x, 1e-12)) - low) / (high - low)
    return "left" if place < 0.25 else "right" if place > 0.75 else "center"


def key(label: str, look: Look) -> Line2D:
    """Return the sample of a look for the legend."""
    return Line2D(
        [], [], color=look.color, linestyle=look.dash, linewidth=1.4, marker=look.marker,
        markersize=6.5, label=plain(label),
    )  # fmt: skip


def legend(axes: Axes, handles: Sequence[Line2D], *, gap_in: float = 0.62) -> None:
    """Put the legend right of the axes and clear of the label of the target."""
    if handles:
        figure = axes.get_figure(root=True)
        width_in = axes.get_position().width * (figure.get_figwidth() if figure else 9.0)
        axes.legend(
            handles=list(handles), loc="upper left", bbox_to_anchor=(1 + gap_in / width_in, 1),
            fontsize=9.5, handlelength=2.6, alignment="left",
        )  # fmt: skip


def wrap(text: str, width: int, *, most: int) -> list[str]:
    """Break a text into lines, at most so many; what no font can show is left out."""
    return textwrap.wrap(printable(text), width, max_lines=most, placeholder=" …")
