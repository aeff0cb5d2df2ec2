"""The card of a set of vectors: figures of its neighbourhoods, what each means, and a verdict."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, fields
from typing import Any

from resume_lab.vectors.metric import Metric

# Thresholds of the verdict. Measured at 20,000 rows: the contrast of row 11 by cosine distance, and
# in brackets its nearness 1 - 1 / contrast as a multiple of that of random vectors; then the share
# of the rows that IVFFlat (lists = sqrt(rows)) is predicted to read for recall@10 .95. "+ noise z":
# to each row of unit length a random vector of length z is added.
#   random 1536-d    1.09 (1.0) .89    spectrum + noise 2  1.10 (1.1) .83    spectrum   1.58 .24
#   random 768-d     1.13 (1.0) .88    clustered + noise 2 1.13 (1.3) .38    clustered  2.22 .02
#   random 384-d     1.20 (1.0) .85    spectrum + noise 1  1.14 (1.4) .57    560 real   1.69 .32
#   random 128-d     1.40 (1.0) .74    spectrum + noise .5 1.25 (2.4) .29
#                                      clustered + noise 1 1.31 (2.8) .05
#   Gaussian in a subspace of 256 / 128 / 64 / 32 / 16 / 8 dimensions:
#                    1.35 .67   1.48 .57   1.74 .48   2.28 .33   3.67 .17   9.70 .06
# Below 1.25 and no nearer than random, an index reads four fifths of the table or more. From 1.5 on
# half of it was enough for all. Between the two everything from 5 % to 74 % was seen.
_FLAT_CONTRAST = 1.25
_FLAT_MULTIPLE = 1.25
_CLEAR_CONTRAST = 1.5
_ALONE_MULTIPLE = 2.0  # the nearest row, against the last: 1.2 to 1.6 for random vectors
_MOST = 0.5

UNIT_TOLERANCE = 1e-5
"""A row this close to length 1 is of unit length: float32 rounding of 1536 values moves 1e-7."""


@dataclass(frozen=True)
class Trait:
    """One line of the table: its name, its value as text, and how to read it."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Difficulty:
    """What the vectors, and the queries asked of them, are like. nan: not defined for them.

    `contrast` is the mean distance from a query to all rows divided by that to its nearest row,
    the median over queries; 1 is hopeless, higher is easier, inf means that the nearest row equals
    the query. `mean_contrast` is the ratio of the two means over queries, which no single query can
    make infinite (both: He, Kumar & Chang, On the difficulty of nearest neighbor search, ICML
    2012). `last_contrast` takes the last of the `n_neighbours` neighbours instead of the nearest,
    so that one planted or copied row does not hide an empty neighbourhood; `random_contrast` is
    what independent random directions, as many and of as many dimensions, would give there.

    `intrinsic_dimension`: in how many dimensions the rows spread around a query. `hubness`:
    skewness of how often a row is among the 10 nearest of others; 0 is even, above 1 a few rows are
    in many answers. `unresolved_share`: share of queries whose last two neighbours float32
    arithmetic cannot order. `duplicate_share`: share of rows that equal an earlier row. Lengths are
    Euclidean.
    """

    metric: Metric
    n_rows: int
    dim: int
    n_queries: int
    n_neighbours: int
    contrast: float
    mean_contrast: float
    last_contrast: float
    random_contrast: float
    intrinsic_dimension: float
    hubness: float
    unresolved_share: float
    duplicate_share: float
    zero_rows: int
    min_length: float
    median_length: float
    max_length: float

    @property
    def unit_length(self) -> bool:
        """Say whether all rows have length 1, so that all three metrics order them alike."""
        return abs(self.min_length - 1.0) <= UNIT_TOLERANCE >= abs(self.max_length - 1.0)

    @property
    def verdict(self) -> str:
        """Say in one sentence what the neighbourhoods are like."""
        if math.isnan(self.last_contrast):
            return "No query has a distance to a row: the rows, or the queries, are zero vectors."
        if self.n_rows > 1 and self.duplicate_share * self.n_rows > self.n_rows - 1.5:
            return "All rows are equal: none is nearer than another."
        if self.unresolved_share > _MOST:
            return (
                f"For {_percent(self.unresolved_share)} of the queries rows {self.n_neighbours - 1}"
                f" and {self.n_neighbours} by distance are equally near within float32 rounding: "
                "which of them is found is chance."
            )
        if math.isinf(self.contrast):
            return (
                "Most queries equal a stored row and find themselves: they say little about "
                "questions not yet asked."
            )
        return self._flat_verdict() if self._flat() else self._neighbourhood_verdict()

    @property
    def is_hopeless(self) -> bool:
        """Say whether no row is near enough for an index to tell it from the others."""
        equal = self.n_rows > 1 and self.duplicate_share * self.n_rows > self.n_rows - 1.5
        unclear = math.isnan(self.last_contrast) or self.unresolved_share > _MOST
        return equal or unclear or self._flat()

    def _cosine_scale(self, contrast: float) -> float:
        return contrast**2 if self.metric == Metric.L2 else contrast

    def _flat(self) -> bool:
        last = self._cosine_scale(self.last_contrast)
        by_chance = 1.0 - 1.0 / self._cosine_scale(self.random_contrast)
        limit = max(0.0, by_chance) * _FLAT_MULTIPLE
        return last < _FLAT_CONTRAST and 1.0 - 1.0 / last <= limit

    def _flat_verdict(self) -> str:
        nearest, last = (1.0 - 1.0 / c for c in (self.contrast, self.last_contrast))
        if nearest <= _ALONE_MULTIPLE * last:
            return (
                f"The nearest row is only {_number(self.contrast)} times nearer than the average "
                "one: there is no neighbourhood for an index to find."
            )
        return (
            f"The nearest row is {_number(self.contrast)} times nearer than the average one, row "
            f"{self.n_neighbours} only {_number(self.last_contrast)} times: beyond the nearest "
            "there is no neighbourhood for an index to find."
        )

    def _neighbourhood_verdict(self) -> str:
        clear = self._cosine_scale(self.last_contrast) >= _CLEAR_CONTRAST
        known = math.isfinite(self.intrinsic_dimension)
        dimension = f", intrinsic dimension {self.intrinsic_dimension:.0f}" if known else ""
        return (
            f"{'Clear' if clear else 'Faint'} neighbourhoods: contrast {_number(self.contrast)}"
            f"{dimension}."
        )

    def rows(self) -> tuple[Trait, ...]:
        """Return the lines of a small table."""
        last = self.n_neighbours
        return (
            Trait(
                "contrast",
                _number(self.contrast),
                "mean distance / nearest distance, median over queries; 1 is hopeless",
            ),
            Trait(
                f"contrast of row {last}",
                _number(self.last_contrast),
                f"mean distance / distance of row {last}; random vectors would have "
                f"{_number(self.random_contrast)}",
            ),
            Trait(
                "intrinsic dimension",
                _number(self.intrinsic_dimension),
                f"dimensions in which the rows spread around a query, of {self.dim:,}; lower is "
                "easier, and high values are too low",
            ),
            Trait(
                "hubness",
                _number(self.hubness),
                "0: rows are answers equally often; above 1 a few rows are in many answers",
            ),
            Trait(
                "unresolved",
                _percent(self.unresolved_share),
                f"queries whose rows {last - 1} and {last} float32 rounding cannot tell apart",
            ),
            Trait("duplicates", _percent(self.duplicate_share), "rows that equal an earlier row"),
            Trait(
                "zero vectors",
                f"{self.zero_rows:,}",
                "rows without a direction; an index under cosine leaves them out",
            ),
            Trait(
                "length",
                " / ".join(map(_number, (self.min_length, self.median_length, self.max_length))),
                "min / median / max; "
                + ("all 1: every metric orders alike" if self.unit_length else "not all 1"),
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; None where a figure is not finite."""
        values = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        return values | {"unit_length": self.unit_length, "verdict": self.verdict}

    def __str__(self) -> str:
        """Write one line a figure, then the verdict."""
        lines = [f"{t.name:<20} {t.value:>20}  {t.meaning}" for t in self.rows()]
        return "\n".join([*lines, self.verdict])

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th scope='row' {left}>{html.escape(t.name)}</th>"
            f"<td style='text-align:right'>{html.escape(t.value)}</td>"
            f"<td {left}>{html.escape(t.meaning)}</td></tr>"
            for t in self.rows()
        )
        return (
            f"<table><caption {left}>{html.escape(self.verdict)}</caption><thead><tr>"
            f"<th scope='col' {left}>figure</th><th scope='col'>value</th>"
            f"<th scope='col' {left}>what it means</th></tr></thead><tbody>{rows}</tbody></table>"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Metric):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else "infinite"
    return f"{value:,.0f}" if abs(value) >= 100.0 else f"{value:.3g}"


def _percent(share: float) -> str:
    return "not defined" if math.isnan(share) else f"{100.0 * share:.3g} %"
