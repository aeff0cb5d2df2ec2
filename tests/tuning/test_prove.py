"""The fewest probes that hold: the search, what counts as holding, how many queries it takes."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from resume_lab.database import IVFFlat
from resume_lab.tuning import Scratch, Workload, scratch_copy, trial
from resume_lab.tuning.measure import recalls
from resume_lab.tuning.prove import (
    FIRST_QUERIES,
    GUESSES,
    Proof,
    Target,
    expected_margin,
    first_that_holds,
    look,
    prove_recall,
    prove_time,
    queries_for_perfect,
    queries_needed,
)
from resume_lab.tuning.trial import Answers, BuiltIndex, Setting
from resume_lab.vectors import RecallSummary, summarise

from .factory import curve, point

LISTS = 30


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.generated("spectrum", 1500, n_queries=200, dim=32)


# --- the search


@given(st.integers(1, 3000), st.data())
def test_the_first_that_holds_is_found_with_few_tries_whatever_is_guessed(
    most: int, data: st.DataObject
) -> None:
    above = data.draw(st.just(0) | st.integers(0, most))
    first = data.draw(st.integers(above + 1, most + 1))  # most + 1: none holds
    tried = []

    def holds(value: int) -> bool:
        tried.append(value)
        return value >= first

    def guess() -> int:
        return data.draw(st.integers(-10, 2 * most))

    assert first_that_holds(most, holds, guess, above=above) == first
    assert all(above < value <= most for value in tried)
    assert len(tried) == len(set(tried)) <= 2 * math.log2(most) + GUESSES + 2


@pytest.mark.parametrize(
    ("first", "guess", "asked"),
    [(7, 7, [7, 6]), (1, 1, [1]), (1, 5, [5, 4, 3, 1]), (101, 40, [40, 41, 42, 84, 100])],
    ids=["good", "first", "all hold", "none holds"],
)
def test_a_good_guess_needs_two_tries(first: int, guess: int, asked: list[int]) -> None:
    guesses, tried = iter([guess, guess - 1, guess - 2, guess - 3]), []

    def holds(value: int) -> bool:
        tried.append(value)
        return value >= first

    assert first_that_holds(100, holds, lambda: next(guesses, 0)) == first
    assert tried == asked


# --- what counts as reached


@pytest.mark.parametrize(
    ("recall", "queries"), [(0.95, 60), (0.9, 30), (0.99, 300), (0.5, 6), (0.999, 3000)]
)
def test_perfect_answers_show_a_recall_from_three_over_what_is_left(
    recall: float, queries: int
) -> None:
    assert queries_for_perfect(recall) == queries
    assert summarise(np.ones(queries)).low >= recall - 1e-12
    assert summarise(np.ones(queries - 1)).low < recall


def test_nothing_shows_a_recall_of_one() -> None:
    assert queries_for_perfect(1.0) == math.inf
    assert not Target.of(1.0, 10**9).certain


@pytest.mark.parametrize(("queries", "certain"), [(59, False), (60, True)])
def test_a_target_is_certain_from_the_queries_that_can_show_it(queries: int, certain: bool) -> None:
    assert Target.of(0.95, queries) == Target(0.95, certain)


def test_the_queries_needed_are_those_of_the_normal_interval_or_the_rule_of_three() -> None:
    # (1.96 * .1 / .02)^2 = 96.04, against 3 * .97 / .02 = 145.5
    assert queries_needed(0.97, 0.1, 0.95) == 146
    # (1.96 * .2 / .02)^2 = 384.16
    assert queries_needed(0.97, 0.2, 0.95) == 385
    assert queries_needed(1.0, 0.0, 0.95) == 60 == queries_for_perfect(0.95)


@pytest.mark.parametrize("recall", [0.94, 0.95, 0.95 + 1e-12])
def test_no_number_of_queries_shows_more_than_there_is(recall: float) -> None:
    assert queries_needed(recall, 0.1, 0.95) == math.inf


def test_so_many_queries_do_put_the_lower_bound_at_the_target() -> None:
    rng = np.random.default_rng(0)
    recall = 1 - rng.beta(1, 20, 20_000)  # about .952, spread .045
    needed = int(queries_needed(recall.mean(), recall.std(), 0.945))
    low = [summarise(rng.choice(recall, needed)).low for _ in range(50)]
    assert np.median(low) == pytest.approx(0.945, abs=0.002)


def test_with_certainty_the_lower_bound_counts_without_it_the_mean() -> None:
    sure, near, short = (
        point(10, 1, recall, 1.0, low=low)
        for recall, low in ((0.97, 0.95), (0.97, 0.94), (0.94, 0.9))
    )
    assert [Target(0.95, True).holds(p) for p in (sure, near, short)] == [True, False, False]
    assert [Target(0.95, False).holds(p) for p in (sure, near, short)] == [True, True, False]


@pytest.mark.parametrize("certain", [True, False])
def test_a_bound_that_misses_the_target_by_rounding_holds(certain: bool) -> None:
    tenths = sum([0.1] * 9) / 1.0 + 0.05  # .9499999999999998
    assert Target(0.95, certain).holds(point(10, 1, tenths, 1.0))


@pytest.mark.parametrize(
    ("low", "high", "is_open"),
    [(0.9, 0.94, False), (0.9, 0.95, True), (0.94, 0.97, True), (0.95, 0.97, False),
     (0.96, 0.99, False)],
)  # fmt: skip
def test_the_answer_is_open_while_the_interval_straddles_the_target(
    low: float, high: float, is_open: bool
) -> None:
    found = RecallSummary((low + high) / 2, low, high, 0.5, 0.1, 64)
    assert Target(0.95, True).is_open(found) is is_open


@given(st.floats(0.01, 1.0), st.integers(1, 10**6))
def test_the_expected_margin_leaves_a_recall_that_can_be_reached(
    recall: float, queries: int
) -> None:
    target = Target.of(recall, queries)
    margin = expected_margin(target, queries)
    assert 0 <= margin <= 1 - recall + 1e-12
    assert (margin > 0) is (target.certain and recall < 1)
    assert margin >= expected_margin(target, 10 * queries)


# --- looking at one setting


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The probes and the number of queries of every time that queries were asked."""
    real, noted = trial.answer, []

    def answer(
        scratch: Scratch, workload: Workload, setting: Setting, queries: slice = slice(None)
    ) -> Answers:
        found = real(scratch, workload, setting, queries)
        noted.append((setting.probes, len(found.ids)))
        return found

    monkeypatch.setattr(trial, "answer", answer)
    return noted


def with_index(engine: Engine, workload: Workload, work: Callable[..., object]) -> object:
    with scratch_copy(engine, workload.vectors) as scratch:
        return work(scratch, trial.build(scratch, workload, IVFFlat(LISTS)))


def recall_of_all(scratch: Scratch, workload: Workload, built: BuiltIndex) -> list[float]:
    """Return the recall of all queries at every probes, by asking them all."""
    found = (trial.answer(scratch, workload, Setting(built, n + 1)) for n in range(LISTS))
    return [recalls(workload, answers).mean for answers in found]


def test_a_clear_answer_takes_the_first_queries_only(
    database: Engine, workload: Workload, asked: list[tuple[int, int]]
) -> None:
    def work(scratch: Scratch, built: BuiltIndex) -> None:
        none = look(scratch, workload, built, 1, Target(0.999, True))
        all_ = look(scratch, workload, built, LISTS, Target(0.9, True))
        untold = look(scratch, workload, built, 2)
        assert [p.n_queries for p in (none, all_, untold)] == [FIRST_QUERIES] * 3
        assert [p.shuffled for p in (none, all_, untold)] == [False] * 3
        assert all_.recall == 1.0

    with_index(database, workload, work)
    assert asked == [(1, 64), (LISTS, 64), (2, 64)]


def test_an_open_answer_takes_as_many_more_each_time_and_none_twice(
    database: Engine, workload: Workload, asked: list[tuple[int, int]]
) -> None:
    def work(scratch: Scratch, built: BuiltIndex) -> None:
        whole = recalls(workload, trial.answer(scratch, workload, Setting(built, 5))).mean
        asked.clear()
        found = look(scratch, workload, built, 5, Target(whole, True))
        assert (found.n_queries, found.recall) == (200, pytest.approx(whole))
        assert len(found.latency.samples_ms) == 200

    with_index(database, workload, work)
    assert asked == [(5, 64), (5, 64), (5, 72)]


def test_queries_stop_as_soon_as_the_interval_has_left_the_target(
    database: Engine, workload: Workload, asked: list[tuple[int, int]]
) -> None:
    def work(scratch: Scratch, built: BuiltIndex) -> None:
        for probes in range(1, 11):
            answers = trial.answer(scratch, workload, Setting(built, probes), slice(128))
            first = recalls(workload, Answers(answers.ids[:64], answers.samples_ms[:64]))
            second = recalls(workload, answers)
            if first.low < second.low:  # with more queries it is narrower, at most probes
                break
        asked.clear()
        between = Target((first.low + second.low) / 2, True)
        assert look(scratch, workload, built, probes, between).n_queries == 128
        assert asked == [(probes, 64), (probes, 64)]

    with_index(database, workload, work)


# --- the probes of one index


def test_the_probes_proven_are_those_that_measuring_every_probes_finds(
    database: Engine, workload: Workload
) -> None:
    everyone = workload.part(slice(FIRST_QUERIES))  # one look asks them all
    some, too_good = np.linspace(0.5, 1, LISTS), np.ones(LISTS)
    too_bad = np.r_[np.zeros(LISTS - 1), 1.0]

    def work(scratch: Scratch, built: BuiltIndex) -> None:
        every = np.array(recall_of_all(scratch, everyone, built))
        for predicted, target in itertools.product((some, too_good, too_bad), (0.5, 0.9, 0.97)):
            aim = Target(target, certain=False)
            found = prove_recall(scratch, everyone, built, aim, curve(predicted))
            fewest = int(np.argmax(every >= target - 1e-9)) + 1
            assert found.probes == fewest
            assert found.point is not None
            assert found.point.recall == pytest.approx(every[fewest - 1])
            probes = [p.probes for p in found.points]
            assert probes == sorted(set(probes))
            assert len(probes) <= 2 * math.log2(LISTS) + GUESSES + 2
            assert fewest == 1 or fewest - 1 in probes  # one fewer was tried and fell short

    with_index(database, everyone, work)


def test_with_certainty_the_lower_bound_of_the_probes_proven_reaches_the_target(
    database: Engine, workload: Workload
) -> None:
    def work(scratch: Scratch, built: BuiltIndex) -> Proof:
        guess = curve(np.linspace(0.5, 1, LISTS))
        return prove_recall(scratch, workload, built, Target(0.9, True), guess)

    found = with_index(database, workload, work)
    assert found.point is not None
    assert found.point.recall_low >= 0.9
    assert found.point.n_queries == 200  # what few queries show is asked of all
    before = [p for p in found.points if p.probes == found.probes - 1]
    assert all(p.recall_low < 0.9 for p in before)


def test_where_no_probes_reach_the_target_there_is_none_and_all_lists_were_tried(
    database: Engine, workload: Workload
) -> None:
    # The first of the true neighbours is another row than any index gives.
    ids = workload.neighbours.ids.copy()
    ids[:, 0] = (workload.neighbours.ids[:, 0] + 700) % 1500
    wrong = dataclasses.replace(
        workload, neighbours=dataclasses.replace(workload.neighbours, ids=ids)
    ).part(slice(20))

    def work(scratch: Scratch, built: BuiltIndex) -> Proof:
        return prove_recall(scratch, wrong, built, Target(0.99, False), curve([1.0] * LISTS))

    found = with_index(database, wrong, work)
    assert (found.probes, found.point) == (None, None)
    assert found.points[-1].probes == LISTS


def test_a_proof_without_probes_has_no_point() -> None:
    points = (point(10, 1, 0.5, 1.0), point(10, 3, 0.9, 2.0))
    assert Proof(None, points).point is None
    assert Proof(3, points).point == points[1]


# --- a latency budget

LATE = curve([*[0.5] * (LISTS - 1), 1.0])
"""Predicts that only reading all of the lists finds everything."""


def test_any_time_is_enough_for_all_lists_and_no_time_for_none(
    database: Engine, workload: Workload
) -> None:
    def work(scratch: Scratch, built: BuiltIndex) -> tuple[Proof, Proof, Proof]:
        return (
            prove_time(scratch, workload, built, 1e6, LATE),
            prove_time(scratch, workload, built, 1e-6, LATE),
            prove_time(scratch, workload, built, 1e6, curve([0.5, 0.9, *[1.0] * (LISTS - 2)])),
        )

    enough, none, found_all = with_index(database, workload, work)
    assert (enough.probes, enough.point.recall) == (LISTS, 1.0)
    assert (none.probes, none.point) == (None, None)
    assert none.points[0].probes == 1  # not even one
    assert found_all.probes == 3  # more would only take longer


def test_the_most_probes_within_a_budget_are_within_it_and_the_next_that_were_tried_are_not(
    database: Engine,
) -> None:
    workload = Workload.generated("clustered", 2000, n_queries=30, dim=512)

    def work(scratch: Scratch, built: BuiltIndex) -> tuple[Proof, float]:
        few, many = (look(scratch, workload, built, n).latency.p50_ms for n in (1, LISTS))
        budget = (few + many) / 2
        return prove_time(scratch, workload, built, budget, LATE), budget

    found, budget = with_index(database, workload, work)
    assert found.probes is not None
    assert 1 <= found.probes < LISTS
    assert found.point.latency.p50_ms <= budget
    assert all(p.latency.p50_ms > budget for p in found.points if p.probes > found.probes)
