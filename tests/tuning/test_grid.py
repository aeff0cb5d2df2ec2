import pytest
from hypothesis import given
from hypothesis import strategies as st

from resume_lab.tuning.grid import default_lists, default_probes, probes_within


@pytest.mark.parametrize(
    ("rows", "lists"),
    [
        (1, [1]),
        (100, [2]),  # sqrt = 10 and 100 would leave fewer than 50 rows a list
        (2_400, [2, 48]),  # rows / 1000, sqrt; 100 lists would hold 24 rows each
        (20_000, [20, 100, 141]),
        (100_000, [100, 316]),
        (1_000_000, [100, 1000]),
    ],
)
def test_the_lists_are_those_that_guidance_names(rows: int, lists: list[int]) -> None:
    assert default_lists(rows) == lists


@given(st.integers(1, 10**10))
def test_any_number_of_rows_gets_lists_that_can_be_built(rows: int) -> None:
    lists = default_lists(rows)
    assert lists == sorted(set(lists))
    assert 1 <= lists[0] <= lists[-1] <= min(32_768, max(1, rows // 50))


@pytest.mark.parametrize(
    ("lists", "probes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 3]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 20])],
)
def test_probes_double_and_end_with_all_of_the_lists(lists: int, probes: list[int]) -> None:
    assert default_probes(lists) == probes


def test_given_probes_are_sorted_each_once_and_none_beyond_the_lists() -> None:
    assert probes_within([16, 1, 4, 4, 40], 16) == [1, 4, 16]


def test_where_all_given_probes_are_beyond_the_lists_every_list_is_read() -> None:
    assert probes_within([40, 50], 16) == [16]
