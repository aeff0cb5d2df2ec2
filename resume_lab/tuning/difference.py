"""The difference of two finished runs, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resume_lab.errors import ExperimentError
from resume_lab.tuning.runs import SavedRun

_WORKLOAD = ("source", "rows", "dim", "distance", "k", "n_queries", "n_confirming")
_ENVIRONMENT = ("date", "machine", "server_version", "pgvector_version", "conditions")
_ADVICE = ("lists", "probes", "recall", "recall_low", "confirmed_recall", "p50_ms")


@dataclass(frozen=True)
class Line:
    """One thing that two runs say: its name, and what each says; None where one says nothing."""

    what: str
    first: Any
    second: Any

    @property
    def differs(self) -> bool:
        """Say whether they say different things."""
        return bool(self.first != self.second)


def difference(first: SavedRun, second: SavedRun) -> list[Line]:
    """Compare what was asked, where, what came out, and every setting that both measured.

    Of what was asked and where only what differs is returned. Raises ExperimentError for a run
    without a result.
    """
    a, b = _result(first), _result(second)
    asked = [
        *_lines("", a["workload"], b["workload"], _WORKLOAD),
        *_lines("", a, b, ("target_recall", "max_ms")),
        *_lines("", a["environment"], b["environment"], _ENVIRONMENT),
        *_lines("", a["environment"]["settings"], b["environment"]["settings"]),
    ]
    found = [
        *_lines("exact ", a["exact"], b["exact"], ("p50_ms",)),
        *_lines("recommended ", a["recommendation"], b["recommendation"], _ADVICE),
        *_points(a, b),
    ]
    return [line for line in asked if line.differs] + found


def _result(run: SavedRun) -> dict[str, Any]:
    if run.result is None:
        raise ExperimentError(
            f"Run {run.name} has no result: it is {run.status}.",
            hint=f"resume-lab tune --resume {run.name}",
        )
    return run.result


def _lines(
    before: str, a: dict[str, Any] | None, b: dict[str, Any] | None, names: tuple[str, ...] = ()
) -> Iterator[Line]:
    a, b = a or {}, b or {}
    for name in names or sorted({*a, *b}):
        yield Line(before + name, a.get(name), b.get(name))


def _points(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Line]:
    first, second = ({(p["lists"], p["probes"]): p for p in r["points"]} for r in (a, b))
    for setting in sorted(first.keys() & second.keys()):
        name = f"lists {setting[0]}, probes {setting[1]}: "
        yield from _lines(name, first[setting], second[setting], ("recall", "p50_ms"))
