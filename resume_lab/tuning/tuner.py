"""Predict every setting, prove a few in PostgreSQL, decide on one, confirm it.

Each step is kept in the run as it ends, so an interrupted run is resumed at the step it was in. The
indexes themselves are not kept: pgvector's k-means draws its seed, so an index built again is
another one, and what a resumed run measures there is measured anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from resume_lab.database.indexes import IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.tuning import trial
from resume_lab.tuning.aims import PRIOR, Aim
from resume_lab.tuning.measure import ROUNDS, measure_in_turn, recalls
from resume_lab.tuning.predict import Prediction, fit_cost
from resume_lab.tuning.prove import Proof
from resume_lab.tuning.results import CostModel, Exact, Point, Rebuild
from resume_lab.tuning.runs import Run, exact_of, plain, point_of
from resume_lab.tuning.scratch import Scratch
from resume_lab.tuning.trial import BuiltIndex, Setting
from resume_lab.tuning.workload import Workload
from resume_lab.vectors import RecallSummary

MAX_BUILDS = 3

Say = Callable[[str], None]


class Tuner:
    """The steps of one run on one scratch copy. Queries that choose never confirm."""

    def __init__(
        self,
        scratch: Scratch,
        choosing: Workload,
        confirming: Workload,
        prediction: Prediction,
        aim: Aim,
        *,
        run: Run,
        say: Say,
        rounds: int = ROUNDS,
        seed: int = 0,
    ) -> None:
        self._scratch = scratch
        self._choosing, self._confirming = choosing, confirming
        self._prediction, self._aim = prediction, aim
        self._run, self._say = run, say
        self._rounds, self._seed = rounds, seed
        self._indexes: dict[int, BuiltIndex] = {}
        self.proofs: dict[int, Proof] = {}
        self.build_s = 0.0

    def prove(self, choice: Sequence[int]) -> None:
        """Build the indexes that the prediction puts ahead, and find the probes of each."""
        while len(self.proofs) < MAX_BUILDS:
            lists = self._aim.next_index(self._prediction, choice, self.proofs, self.cost())
            if lists is None:
                return
            self.proofs[lists] = self._proved(lists)

    def compare(self) -> tuple[tuple[Point, ...], Exact]:
        """Measure what was proven in turn, with the exact scan among it."""
        kept = self._run.step("comparison", self._compared)
        return tuple(map(point_of, kept["points"])), exact_of(kept["exact"])

    def rebuild(self, lists: int, times: int) -> tuple[Rebuild, ...]:
        """Build one index again, a few times, and find the probes of each build."""
        return tuple(
            Rebuild(**self._run.step(f"rebuild {number}", lambda: self._rebuilt(lists)))
            for number in range(1, times + 1)
        )

    def measure_final(self, lists: int, probes: int) -> tuple[Point, Exact]:
        """Measure one setting against the exact scan on the index as it was built last."""
        kept = self._run.step(f"final {lists} {probes}", lambda: self._in_turn([(lists, probes)]))
        return point_of(kept["points"][0]), exact_of(kept["exact"])

    def confirm(self, lists: int, probes: int) -> RecallSummary | None:
        """Measure the recall of queries that had no part in choosing; None without any."""
        if not len(self._confirming.queries):
            return None

        def work() -> Any:
            self._say(f"lists {lists}, probes {probes}: confirming")
            setting = Setting(self._index(lists), probes)
            answers = trial.answer(self._scratch, self._confirming, setting)
            return plain(recalls(self._confirming, answers))

        return RecallSummary(**self._run.step(f"confirmation {lists} {probes}", work))

    def points(self) -> tuple[Point, ...]:
        """Return every point measured on the way to the comparison."""
        return tuple(point for proof in self.proofs.values() for point in proof.points)

    def cost(self, more: Sequence[Point] = ()) -> CostModel:
        """Return the cost model fitted to what was measured, the prior where that is too little."""
        try:
            cost = fit_cost([*self.points(), *more], self._prediction)
        except ExperimentError:
            return PRIOR
        return cost if cost.row_ms > 0 else PRIOR

    def _proved(self, lists: int) -> Proof:
        kept = self._run.step(f"proof {lists}", lambda: plain(self._prove(lists)))
        return Proof(kept["probes"], tuple(map(point_of, kept["points"])))

    def _prove(self, lists: int) -> Proof:
        built = self._index(lists)
        self._say(f"lists {lists}: built in {built.build_s:.1f} s, finding probes")
        proof = self._aim.prove(self._scratch, self._choosing, built, self._prediction)
        if not any(point.used_index_forced for point in proof.points):
            proof = Proof(None, proof.points)  # what was measured is not the index
        return proof

    def _compared(self) -> dict[str, Any]:
        wanted = []
        for lists, proof in self.proofs.items():
            known = lists in self._indexes
            found = proof if known or proof.probes is None else self._prove(lists)
            if found.probes is not None:
                wanted.append((lists, found.probes))
        return self._in_turn(wanted)

    def _in_turn(self, wanted: Sequence[tuple[int, int]]) -> dict[str, Any]:
        self._say("latency, in turn: " + "; ".join(f"lists {n}, probes {p}" for n, p in wanted))
        settings = [(self._index(lists), probes) for lists, probes in wanted]
        points, exact = measure_in_turn(
            self._scratch, self._choosing, settings, rounds=self._rounds, seed=self._seed
        )
        return {"points": list(map(plain, points)), "exact": plain(exact)}

    def _rebuilt(self, lists: int) -> dict[str, Any]:
        for built in self._indexes.values():
            trial.drop(self._scratch, built)
        self._indexes.clear()
        proof = self._prove(lists)
        built = self._indexes[lists]
        found = proof.point or proof.points[-1]
        kept: dict[str, Any] = plain(
            Rebuild(proof.probes, found.recall, found.recall_low, built.build_s)
        )
        return kept

    def _index(self, lists: int) -> BuiltIndex:
        if lists not in self._indexes:
            self._say(f"lists {lists}: building")
            built = trial.build(self._scratch, self._choosing, IVFFlat(lists))
            self._indexes[lists] = built
            self.build_s += built.build_s
        return self._indexes[lists]

    def predicted(self, point: Point) -> Point:
        """Return the point with the recall that was predicted for it."""
        curve = self._prediction.curve(point.lists)
        return replace(point, predicted_recall=float(curve.recall[point.probes - 1]))
