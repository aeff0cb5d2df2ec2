"""Citations: which are let through, however they are split, and what is left as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resume_lab.generation.citations import CitationFilter


def filtered(*pieces: str, n: int = 3) -> tuple[str, CitationFilter]:
    citations = CitationFilter(n)
    text = "".join(citations.feed(piece) for piece in pieces) + citations.close()
    return text, citations


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Grace [1].", {1}),
        ("Grace [1][2].", {1, 2}),
        ("Grace [2, 3] and [ 1 ].", {1, 2, 3}),
        ("Grace [1-3].", {1, 2, 3}),
        ("Grace [1;\u20092\u20133].", {1, 2, 3}),
        *((f"Grace [1{dash}3].", {1, 2, 3}) for dash in "\u2010\u2011\u2012\u2014\u2015\u2212"),
        ("Grace [1 to 3].", {1, 2, 3}),
        ("Grace 【1】 and 【2†source】.", {1, 2}),
        ("Grace [passage 1], [Passages 2 and 3].", {1, 2, 3}),
        ("Grace [Source 1, p. 2][#3].", {1, 2, 3}),
        ("Grace[1].", {1}),
        ("[2](https://example.org)", {2}),
    ],
)
def test_a_citation_of_a_passage_is_let_through(text: str, cited: set[int]) -> None:
    shown, citations = filtered(text)
    assert shown == text
    assert citations.cited == cited
    assert citations.astray == []


@pytest.mark.parametrize(
    ("text", "shown", "cited", "astray"),
    [
        ("so [9].", "so [?].", set(), ["[9]"]),
        ("so [0].", "so [?].", set(), ["[0]"]),
        ("so [2, 9].", "so [2, ?].", {2}, ["[2, 9]"]),
        ("so [2-4].", "so [?].", set(), ["[2-4]"]),
        ("so [3-1].", "so [?].", set(), ["[3-1]"]),
        ("in [1943].", "in [?].", set(), ["[1943]"]),
        ("so [2\u20149].", "so [?].", set(), ["[2\u20149]"]),
        ("so 【9】.", "so 【?】.", set(), ["【9】"]),
        ("so [passage 9].", "so [passage ?].", set(), ["[passage 9]"]),
        ("so [1 and 9].", "so [1 and ?].", {1}, ["[1 and 9]"]),
        ("so [1, p. 9].", "so [1, p. ?].", {1}, ["[1, p. 9]"]),
        ("so [#9].", "so [#?].", set(), ["[#9]"]),
        ("so[9] a[12].", "so[?] a[?].", set(), ["[9]", "[12]"]),
        (f"so [{'1' * 5000}].", "so [?].", set(), [f"[{'1' * 5000}]"]),
        (f"so [{' ' * 100}9].", f"so [{' ' * 100}?].", set(), [f"[{' ' * 100}9]"]),
    ],
)
def test_a_citation_of_nothing_becomes_a_question_mark(
    text: str, shown: str, cited: set[int], astray: list[str]
) -> None:
    found, citations = filtered(text)
    assert found == shown
    assert citations.cited == cited
    assert citations.astray == astray


@pytest.mark.parametrize(
    "text",
    [
        "[a link](https://example.org/1)",
        "- [ ] to do, - [x] done",
        "a list [] and a note [^1]",
        "an open [",
        "an open [12",
        "[see 9]",
        "[-1] and [ \u22121]",
        "[1\n2]",
        "[passage]",
        "[andy 9] [pages 9] [passage9s]",
        "[1.5]",
        "p" * 5000,
        "[" + "p" * 5000,
        "] 9 [",
        "[",
        "",
    ],
)
def test_other_brackets_stay_as_they_are(text: str) -> None:
    shown, citations = filtered(text)
    assert shown == text
    assert not citations.cited
    assert not citations.astray


def test_a_citation_split_over_pieces_is_checked_as_a_whole() -> None:
    citations = CitationFilter(3)
    assert [citations.feed(p) for p in ("so [", "1", "] and [", "9", "]", ".")] == [
        "so ",
        "",
        "[1] and ",
        "",
        "[?]",
        ".",
    ]


def test_only_what_may_be_a_citation_is_held_back() -> None:
    citations = CitationFilter(3)
    assert citations.feed("see [the ") == "see [the "
    assert citations.feed("[[1") == "["
    assert citations.feed("]]") == "[1]]"


@given(st.text(alphabet="[]【12934,-# \nandptoP.", max_size=40), st.data())
def test_where_the_pieces_part_makes_no_difference(text: str, data: st.DataObject) -> None:
    whole, expected = filtered(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, citations = filtered(*pieces)
    assert shown == whole
    assert citations.cited == expected.cited
    assert citations.astray == expected.astray
