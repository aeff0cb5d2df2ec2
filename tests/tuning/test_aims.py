"""Which index to build next, and which point is best, on curves made by hand."""

import pytest

from resume_lab.tuning import Prediction
from resume_lab.tuning.aims import PRIOR, WITHIN_COST, RecallAim, TimeAim
from resume_lab.tuning.prove import Target
from resume_lab.tuning.results import CostModel

from .factory import curve, point, prediction

RECALL = RecallAim(Target(0.9, certain=False), 10)
ROW_MS = CostModel(fixed_ms=0.0, list_ms=0.0, row_ms=0.01, error=0.0, n_points=9)


def three() -> Prediction:
    """To recall .9 they read 502, 254 and 110 rows and centroids."""
    return prediction(
        curve([0.9, 1.0]), curve([0.9, 0.9, 0.95, 1.0]), curve([0.9, *[0.95] * 8, 1.0])
    )


def order(aim: RecallAim | TimeAim, found: Prediction, cost: CostModel) -> list[int]:
    """Return the lists in the order in which they would be built."""
    built: list[int] = []
    choice = [one.lists for one in found.curves]
    while (lists := aim.next_index(found, choice, built, cost)) is not None:
        assert lists not in built
        built.append(lists)
    return built


# --- recall


def test_the_index_that_reads_least_is_built_first_and_those_near_to_it_after_it() -> None:
    assert 220 / 210 < WITHIN_COST < 254 / 110
    near = prediction(
        curve([0.9, 1.0]),  # 502
        curve([0.8, 0.9, *[1.0] * 8]),  # 210
        curve([0.8, 0.8, 0.8, 0.9, *[1.0] * 16]),  # 220
    )
    assert order(RECALL, near, PRIOR) == [10, 20]
    assert order(RECALL, three(), PRIOR) == [10]


def test_where_centroids_are_dear_fewer_lists_are_ahead() -> None:
    dear = CostModel(fixed_ms=0.0, list_ms=100.0, row_ms=1.0, error=0.0, n_points=9)
    assert order(RECALL, three(), dear) == [4, 2]  # 650, 700; 1100 for 10 lists


def test_the_second_index_is_the_one_of_the_fewest_lists_that_may_be_as_fast() -> None:
    fixed = CostModel(fixed_ms=1.0, list_ms=0.0, row_ms=1e-9, error=0.0, n_points=9)
    assert order(RECALL, three(), fixed) == [10, 2]


def test_a_third_is_built_only_if_it_is_predicted_to_be_faster_than_both() -> None:
    dear = CostModel(fixed_ms=0.0, list_ms=100.0, row_ms=1.0, error=0.0, n_points=9)
    assert RECALL.next_index(three(), [2, 4, 10], [2, 10], dear) == 4  # 650 against 700 and 1100
    assert RECALL.next_index(three(), [2, 4, 10], [2, 4], dear) is None


def test_only_the_lists_that_were_chosen_are_built() -> None:
    assert RECALL.next_index(three(), [2], (), PRIOR) == 2
    assert RECALL.next_index(three(), [2], [2], PRIOR) is None
    assert RECALL.next_index(three(), [2, 4], [2], PRIOR) == 4  # it is the best of the two
    assert RECALL.next_index(three(), [2, 4], [4], PRIOR) is None  # 2 reads twice as much


def test_certainty_asks_for_more_than_the_target_when_indexes_are_compared() -> None:
    # 60 queries show .95 only if all are perfect, which takes 2 lists here but 9 of the 10.
    found = prediction(curve([0.96, 1.0, 1.0, 1.0]), curve([0.97] * 8 + [1.0, 1.0]))
    by_mean = RecallAim(Target(0.95, certain=False), 60)
    by_bound = RecallAim(Target(0.95, certain=True), 60)
    assert by_mean.next_index(found, [4, 10], (), PRIOR) == 10  # 110 against 254
    assert by_bound.next_index(found, [4, 10], (), PRIOR) == 4  # 504 against 910


def test_a_target_that_no_curve_reaches_is_compared_at_all_of_the_lists() -> None:
    short = prediction(curve([0.3, 0.5]), curve([0.3, 0.4, 0.5, 0.6]))
    assert order(RECALL, short, PRIOR) == [2, 4]  # 1002 and 1004


def test_the_best_is_the_fastest_that_reaches_the_target() -> None:
    points = [
        point(10, 1, 0.85, 1.0),
        point(10, 4, 0.95, 3.0, low=0.89),
        point(20, 4, 0.99, 4.0, low=0.95),
    ]
    assert RECALL.best(points) == points[1]
    assert RecallAim(Target(0.9, certain=True), 200).best(points) == points[2]
    assert RECALL.best(points[:1]) is None
    assert RECALL.best(iter(())) is None


def test_over_builds_recall_takes_the_most_probes_and_time_the_fewest() -> None:
    assert RECALL.over_builds([4, 7, 5]) == 7
    assert TimeAim(1.0).over_builds([4, 7, 5]) == 4


# --- time


def test_the_first_index_of_a_budget_is_the_one_nearest_to_the_root_of_the_rows() -> None:
    found = three()  # four rows: the root is 2
    assert TimeAim(1.0).next_index(found, [2, 4, 10], (), PRIOR) == 2
    assert TimeAim(1.0).next_index(found, [4, 10], (), PRIOR) == 4


def test_while_the_cost_of_a_row_is_not_known_no_second_index_is_built() -> None:
    assert TimeAim(1.0).next_index(three(), [2, 4, 10], [2], PRIOR) is None


def test_within_a_budget_the_index_of_the_highest_recall_is_built() -> None:
    # .95 * 3.2 ms is time for 304 rows: no list of 500, one of 250, three of 100.
    found = prediction(curve([0.9, 1.0]), curve([0.9, 0.9, 0.95, 1.0]),
                       curve([0.5, 0.8, 0.95, *[1.0] * 7]))  # fmt: skip
    assert order(TimeAim(3.2), found, ROW_MS) == [10]
    assert TimeAim(3.2).next_index(found, [2, 4], (), ROW_MS) == 4


def test_indexes_within_a_hundredth_of_the_best_recall_are_built_too() -> None:
    found = prediction(curve([0.944, 1.0, 1.0, 1.0]), curve([0.5, 0.8, 0.95, *[1.0] * 7]))
    assert order(TimeAim(3.2), found, ROW_MS) == [10, 4]


def test_a_budget_that_nothing_keeps_leaves_every_index_as_good() -> None:
    assert sorted(order(TimeAim(1e-6), three(), ROW_MS)) == [2, 4, 10]


def test_the_best_within_a_budget_is_the_highest_recall() -> None:
    points = [point(10, 1, 0.85, 1.0), point(10, 4, 0.95, 3.0), point(20, 4, 0.99, 4.0)]
    assert TimeAim(3.0).best(points) == points[1]
    assert TimeAim(0.5).best(points) is None


def test_an_aim_names_itself_in_the_verdict() -> None:
    assert (str(RECALL), str(TimeAim(2.5))) == ("recall 0.9", "a p50 of 2.5 ms")


@pytest.mark.parametrize("aim", [RECALL, TimeAim(3.0)])
def test_when_all_are_built_there_is_none_left(aim: RecallAim | TimeAim) -> None:
    assert aim.next_index(three(), [2, 4, 10], [4, 2, 10], ROW_MS) is None
