"""The predicted surface to move over with two sliders; without widgets it is a picture."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from resume_lab.database.indexes import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.printable import plain
from resume_lab.report import facts
from resume_lab.report.forecast import Surface, share
from resume_lab.report.paper import ACCENT, Picture
from resume_lab.report.surface import draw_surface
from resume_lab.tuning.predict import Prediction
from resume_lab.tuning.results import TuningResult
from resume_lab.vectors import Curve

PLACE: dict[str, Any] = {
    "linestyle": "none", "marker": "o", "markersize": 15, "markerfacecolor": "none",
}  # fmt: skip
HALOES: tuple[dict[str, Any], ...] = (
    {"markeredgecolor": "white", "markeredgewidth": 5},
    {"markeredgecolor": ACCENT, "markeredgewidth": 2.5},
)
"""The setting of the sliders: a ring with a white border, seen on light and dark."""


class Explorer:
    """Two sliders, `lists` and `probes`, over the predicted surface; nothing is asked of a server.

    The picture is drawn once; moving a slider moves a ring over it and rewrites the figures below.
    """

    def __init__(self, surface: Surface) -> None:
        """Start at the recommended setting, or at the one predicted to be best."""
        self._surface = surface
        lists, probes = _start(surface)
        self._picture, self._axes = draw_surface(surface)
        self.lists = widgets.SelectionSlider(
            options=[(f"{curve.lists:,}", curve.lists) for curve in surface.curves],
            value=lists,
            description="lists",
            layout={"width": "26em"},
        )
        self.probes = widgets.IntSlider(
            value=probes, min=1, max=lists, description="probes", layout={"width": "26em"}
        )
        self.readout = widgets.HTML()
        self._ring = widgets.HTML(layout={"grid_area": "1 / 1 / 2 / 2", "margin": "0"})
        self.widget = widgets.VBox(
            [widgets.HBox([self.lists, self.probes]), self._map(), self.readout]
        )
        self.lists.observe(self._lists_moved, "value")
        self.probes.observe(self._moved, "value")
        self._moved()

    def picture(self) -> Picture:
        """Return the surface as a figure, the setting of the sliders marked and described."""
        (_, setting), *known = self._facts()
        reading = f"Ring: {setting}: {'; '.join(f'{name} {value}' for name, value in known)}."
        figure, axes = draw_surface(self._surface, reading)
        for halo in HALOES:
            axes.plot(*self._position(), **PLACE, **halo)
        return figure

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Offer the widget, and for places without widgets the picture."""
        shown: dict[str, Any] = dict(self.widget._repr_mimebundle_() or {})
        shown["image/png"] = base64.b64encode(self.picture().png()).decode("ascii")
        shown["text/plain"] = "\n".join(f"{name}: {value}" for name, value in self._facts())
        return shown

    def _map(self) -> widgets.Box:
        """Return the picture with the ring on top of it."""
        sheet = widgets.Image(
            value=self._picture.sheet(),
            layout={"grid_area": "1 / 1 / 2 / 2", "margin": "0", "width": "100%"},
        )
        return widgets.GridBox(
            [sheet, self._ring], layout={"grid_template_columns": "100%", "max_width": "900px"}
        )

    def _lists_moved(self, _: object) -> None:
        self.probes.max = self.lists.value  # a greater value is set to it, which calls _moved
        self._moved()

    def _moved(self, _: object = None) -> None:
        width, height = self._picture.get_size_inches() * self._picture.dpi
        x, from_below = self._axes.transData.transform(self._position())
        self._ring.value = (
            f'<svg viewBox="0 0 {width:.0f} {height:.0f}" '
            'style="display: block; width: 100%; pointer-events: none">'
            f'<g transform="translate({x:.1f} {height - from_below:.1f})" fill="none">'
            '<circle r="11" stroke="white" stroke-width="6"/>'
            f'<circle r="11" stroke="{ACCENT}" stroke-width="3"/></g></svg>'
        )
        self.readout.value = _as_html(self._facts())

    def _curve(self) -> Curve:
        curve = self._surface.curve(self.lists.value)
        if curve is None:
            raise ExperimentError(f"No curve of lists = {self.lists.value} was predicted.")
        return curve

    def _position(self) -> tuple[float, float]:
        curve = self._curve()
        row = self._surface.curves.index(curve)
        return 100 * float(share(curve)[self.probes.value - 1]), float(row)

    def _facts(self) -> list[tuple[str, str]]:
        return describe(self._surface, self._curve(), self.probes.value)


def explorer(found: TuningResult | Prediction, *, target_recall: float | None = None) -> Explorer:
    """Return sliders over what was predicted; raises ExperimentError where nothing was."""
    return Explorer(Surface.of(found, target_recall))


def describe(surface: Surface, curve: Curve, probes: int) -> list[tuple[str, str]]:
    """Return what is predicted of one setting, and measured if it was, as names and texts."""
    at = probes - 1
    memory = IVFFlat(curve.lists).build_memory_bytes(surface.workload.dim) / facts.MIB
    found = [
        ("setting", facts.setting_text(curve.lists, probes)),
        (f"predicted recall@{surface.workload.k}", f"{curve.recall[at]:.3f}"),
        ("rows read", f"{curve.rows_scanned[at]:,.0f}, {share(curve)[at]:.2%} of all"),
    ]
    if surface.cost is not None:
        time = facts.ms_text(float(surface.cost.p50_ms(curve)[at]))
        error = surface.cost.error
        known = "" if error is None else f" (model error {error:.0%})"
        found.append(("predicted p50", f"{time}{known}"))
    found.append(("build memory", f"{memory:,.0f} MiB"))
    point = surface.measured(curve.lists, probes)
    if point is None:
        return [*found, ("measured", "no")]
    how = "" if point.shuffled else ", timed alone"
    measured = (
        f"recall {point.recall:.3f} ({facts.interval_text(point)}), "
        f"p50 {facts.ms_text(point.latency.p50_ms)}{how}"
    )
    return [*found, ("measured", measured)]


def _start(surface: Surface) -> tuple[int, int]:
    if surface.chosen is not None and surface.curve(surface.chosen.lists) is not None:
        return surface.chosen.lists, surface.chosen.probes
    best = surface.cheapest()
    if best is not None and best.probes is not None:
        return best.lists, best.probes
    return surface.curves[len(surface.curves) // 2].lists, 1


def _as_html(pairs: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f'<div style="margin: 0 2em .4em 0"><div style="opacity: .7">{_escaped(name)}</div>'
        f"<b>{_escaped(value)}</b></div>"
        for name, value in pairs
    )
    return f'<div style="display: flex; flex-wrap: wrap; line-height: 1.4">{cells}</div>'


def _escaped(text: str) -> str:
    return html.escape(plain(text))
