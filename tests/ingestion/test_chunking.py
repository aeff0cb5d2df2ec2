"""Chunks join to the text again, overlap, have a size, and keep whole what belongs together."""

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resume_lab.embedding.tokens import count_tokens
from resume_lab.errors import ConfigError
from resume_lab.ingestion.chunking import Chunk, check_sizes, join_chunks, split_body

WORDS = [
    "the",
    "navy",
    "asked",
    "for",
    "a",
    "compiler",
    "that",
    "nobody",
    "believed",
    "would",
    "run",
]
SENTENCE = "The navy asked for a compiler and got one. "


def prose(sentences: int) -> str:
    return SENTENCE * sentences


def new_texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text[chunk.overlap :] for chunk in chunks]


def code(lines: int, fence: str = "```") -> str:
    return "\n".join([fence, *(f"value_{i} = {i}" for i in range(lines)), fence])


words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)
strange = st.text(
    st.one_of(
        st.sampled_from(
            "汉字。!?👩\u200d👧\U0001f3fd\u0301\u1200\u3000\xa0\x0b\x1c\u2028\r\t#`|>-*[]<"
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)
blocks = st.one_of(
    words,
    strange,
    st.builds("{} {}".format, st.sampled_from(["#", "##", "######"]), words),
    st.builds("{}\n===".format, words),
    st.lists(words, max_size=8).map(lambda items: "\n".join(f"- {item}" for item in items)),
    st.lists(words, max_size=4).map(lambda items: "\n".join(f"  > {item}" for item in items)),
    st.lists(words, max_size=5).map(
        lambda rows: "\n".join(["|a|", "|-|", *(f"|{r}|" for r in rows)])
    ),
    st.integers(0, 40).map(code),
    st.integers(0, 9).map(lambda n: "\n".join(["    indented"] * n)),
    st.sampled_from(
        ["<div>\n<b>x</b>\n</div>", "<!-- open", "```", "---", "[^1]: Note", "x" * 300]
    ),
)
markdown = st.lists(
    st.tuples(blocks, st.sampled_from(["\n", "\n\n", "\n \n\n", "", "  ", "\n\n\n\n\n"])),
    max_size=14,
).map(lambda parts: "".join(block + gap for block, gap in parts))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markdown, st.sampled_from([(32, 0), (32, 16), (48, 10), (120, 50)]))
@example("\n" * 50 + "x" + " \n" * 50 + "y", (32, 16))
@example("\n" * 3_000 + "x" * 500, (32, 0))
@example("\n" + "    indented\n" * 8, (32, 0))
@example("👩\u200d👩\u200d👧" * 60, (32, 16))
@example("a" + "\u0301" * 300, (32, 16))
def test_no_text_is_lost_and_every_chunk_is_sound(body: str, sizes: tuple[int, int]) -> None:
    chunk_size, overlap = sizes
    chunks = split_body(body, chunk_size=chunk_size, overlap=overlap)
    assert join_chunks(chunks) == (body if body.strip() else "")
    done = ""
    for index, chunk in enumerate(chunks):
        repeated, new = chunk.text[: chunk.overlap], chunk.text[chunk.overlap :]
        assert chunk.index == index
        assert new.strip()
        assert done.endswith(repeated)
        enough = min(overlap, count_tokens(done))
        assert repeated == done or enough <= count_tokens(repeated) <= overlap + 16
        most = chunk_size + count_tokens(repeated) + 2
        assert chunk.tokens <= most or count_tokens(chunk.text.strip()) <= most
        done += new


def test_a_short_text_is_one_chunk() -> None:
    assert split_body("# One\n\nText\n") == [Chunk(0, "# One\n\nText\n", 0, ("One",), 5)]


@pytest.mark.parametrize("body", ["", " \n\t\n\u3000"])
def test_white_space_has_no_chunks(body: str) -> None:
    assert split_body(body) == []


@pytest.mark.parametrize(
    "body", [prose(600), "\n\n".join([prose(3)] * 200), "- " + "item\n- " * 4_000]
)
def test_chunks_have_their_size_and_overlap_in_the_models_own_tokens(body: str) -> None:
    chunks = split_body(body)
    assert len(chunks) > 3
    assert all(abs(chunk.tokens - count_tokens(chunk.text)) <= 2 for chunk in chunks)
    assert all(count_tokens(chunk.text) <= 512 for chunk in chunks)
    assert all(count_tokens(chunk.text) >= 256 for chunk in chunks[:-1])
    assert all(50 <= count_tokens(chunk.text[: chunk.overlap]) <= 64 for chunk in chunks[1:])
    assert chunks[0].overlap == 0


def test_an_overlap_begins_with_a_word() -> None:
    for chunk in split_body(prose(300), chunk_size=64, overlap=20)[1:]:
        assert chunk.text.split()[0].strip(".") in SENTENCE.replace(".", "").split()


def test_without_overlap_nothing_is_repeated() -> None:
    chunks = split_body(prose(300), overlap=0)
    assert {chunk.overlap for chunk in chunks} == {0}


def test_a_cut_is_before_a_heading_where_it_can_be() -> None:
    section = f"\n\n{prose(4)}\n\n{prose(4)}\n\n"
    chunks = split_body(f"# A{section}## B{section}## C{section}", chunk_size=120, overlap=10)
    assert [text.split("\n")[0] for text in new_texts(chunks)] == ["# A", "## B", "## C"]


def test_a_cut_is_between_sentences_where_there_are_no_lines() -> None:
    assert all(text.startswith("The navy") for text in new_texts(split_body(prose(300))))


def test_a_cut_is_between_words_where_there_are_no_sentences() -> None:
    texts = new_texts(split_body("compiler navy " * 800))
    assert all(text.startswith(("compiler ", "navy ")) for text in texts)


def test_a_cut_is_between_list_items_not_within() -> None:
    body = "\n".join(f"- {prose(2)}\n  {prose(2)}" for _ in range(30))
    texts = new_texts(split_body(body, chunk_size=128, overlap=20))
    assert all(text.startswith("- ") for text in texts)


@pytest.mark.parametrize("fence", ["```", "~~~~"])
@pytest.mark.parametrize("before", range(0, 12, 3))
def test_a_code_block_that_fits_is_never_cut(fence: str, before: int) -> None:
    block = code(16, fence)
    assert 96 < count_tokens(block) <= 128
    body = f"{prose(before)}\n\n{block}\n\n{prose(10)}\n\n{block}\n"
    chunks = split_body(body, chunk_size=128, overlap=30)
    assert sum(block in text for text in new_texts(chunks)) == 2
    assert all(chunk.tokens <= 128 + 30 + 10 for chunk in chunks)


def test_indented_code_and_code_in_a_list_stay_whole() -> None:
    indented = "\n".join(f"    value_{i} = {i}" for i in range(15))
    in_list = "- item\n\n" + "\n".join(f"  {line}" for line in code(15).split("\n"))
    for block in (indented, in_list.partition("\n\n")[2]):
        start = "- item\n\n" if block.startswith("  `") else ""
        body = f"{prose(8)}\n\n{start}{block}\n\n{prose(8)}"
        texts = new_texts(split_body(body, chunk_size=128, overlap=10))
        assert any(block in text for text in texts)


def test_a_code_block_larger_than_a_chunk_is_cut_between_lines() -> None:
    body = f"{prose(3)}\n\n{code(200)}\n\n{prose(3)}"
    for text in new_texts(split_body(body, chunk_size=64, overlap=10)):
        assert text.startswith(("The", "value_", "```"))


def test_a_code_block_keeps_its_heading() -> None:
    body = f"{prose(12)}\n\n## Code\n\n{code(15)}\n\n{prose(5)}"
    texts = new_texts(split_body(body, chunk_size=128, overlap=60))
    assert any(f"## Code\n\n{code(15)}" in text for text in texts)


def test_table_rows_are_never_cut_and_the_header_keeps_its_dashes() -> None:
    rows = [f"| {n} | {prose(4)}|" for n in range(20)]
    body = "\n".join([f"{prose(5)}\n", "| n | text |", "|---|---|", *rows])
    texts = new_texts(split_body(body, chunk_size=64, overlap=10))
    assert all(any(row in text for text in texts) for row in [*rows, "| n | text |\n|---|---|"])


def test_a_row_larger_than_a_chunk_is_cut_like_a_paragraph() -> None:
    body = f"| n |\n|---|\n| {prose(40)}|\n"
    chunks = split_body(body, chunk_size=64, overlap=0)
    assert max(chunk.tokens for chunk in chunks) <= 64
    assert join_chunks(chunks) == body


def test_a_character_keeps_its_marks() -> None:
    for cluster in ("e\u0301\u0327", "👩\u200d👩\u200d👧", "👍\U0001f3fd"):
        texts = new_texts(split_body(cluster * 200, chunk_size=32, overlap=10))
        assert all(text.startswith(cluster[0]) for text in texts)
        assert all(text.replace(cluster, "") == "" for text in texts)


def test_headings_are_those_in_force_where_the_new_text_begins() -> None:
    body = (
        f"{prose(9)}\n\n# Work *at* `Harvard`\n\n{prose(9)}\n\n"
        f"Mark [one](http://x)\n---\n\n{prose(9)}\n\n```\n# no heading\n```\n\n{prose(9)}\n\n"
        f"> # nor this\n\n{prose(9)}\n\n# Later #\n\n{prose(9)}\n"
    )
    chunks = split_body(body, chunk_size=100, overlap=20)
    assert list(dict.fromkeys(chunk.headings for chunk in chunks)) == [
        (),
        ("Work at Harvard",),
        ("Work at Harvard", "Mark one"),
        ("Later",),
    ]
    for chunk, text in zip(chunks, new_texts(chunks), strict=True):
        if text.startswith("# Later"):
            assert chunk.headings == ("Later",)


def test_a_level_left_out_and_a_blank_heading_leave_no_gap() -> None:
    body = f"# A\n\n### C\n\n{prose(9)}\n\n##\n\n{prose(9)}\n"
    chunks = split_body(body, chunk_size=100, overlap=0)
    assert [chunk.headings for chunk in chunks] == [("A",), ("A",)]
    assert split_body("# A\n\n### C\n")[0].headings == ("A",)


def test_a_very_long_heading_is_cut() -> None:
    assert len(split_body("# " + "[" * 50_000)[0].headings[0]) == 200


def test_blank_lines_stay_with_the_text_before_them() -> None:
    texts = new_texts(split_body("x\n" + "\n \n" * 200 + "y " * 100, chunk_size=32, overlap=0))
    assert texts[0].startswith("x\n")
    assert all(text.strip() for text in texts)


def test_windows_newlines_are_kept() -> None:
    body = f"# A\r\n\r\n{prose(30)}\r\n\r\n# B\r\n\r\n{prose(30)}\r\n"
    assert join_chunks(split_body(body, chunk_size=64, overlap=10)) == body


SLOW = {
    "one paragraph": "compiler " * 50_000,
    "one word": "abcdefgh" * 12_500,
    "list": "- item\n" * 10_000,
    "quotes": "> " * 1_000 + "x\n",
    "lists in lists": "\n".join("  " * (i % 500) + "- a" for i in range(2_000)),
    "dashes": ("- " * 500 + "x\n") * 20,
    "brackets": "[" * 50_000,
    "heading": "# " + "[" * 50_000,
    "open brackets": "[a\n" * 10_000,
    "table": "a|b\n-|-\n" + "x|y\n" * 5_000,
    "columns": "a|" * 20_000 + "\n" + "-|" * 20_000,
    "open comment": "<!-- \n" * 10_000,
    "fences": "~~~\n```\n" * 5_000,
    "spaces": " " * 200_000 + "x" + " " * 200_000 + "y",
    "blank lines": "\n" * 50_000 + "x" + "\n \n" * 50_000,
    "marks": "a" + "\u0301" * 50_000,
    "Chinese": "汉字测试。" * 10_000,
}


@pytest.mark.parametrize("body", SLOW.values(), ids=SLOW)
def test_no_text_takes_long(body: str) -> None:
    start = time.perf_counter()
    chunks = split_body(body)
    assert time.perf_counter() - start < 30  # the slowest take about 0.3 s
    assert join_chunks(chunks) == body


@pytest.mark.parametrize("sizes", [(31, 0), (5_001, 50), (0, 0), (512, -1), (512, 257), (33, 17)])
def test_sizes_that_cannot_be_kept_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_sizes(*sizes)
    assert "Permitted" in str(caught.value.hint)
    with pytest.raises(ConfigError):
        split_body("text", chunk_size=sizes[0], overlap=sizes[1])


def test_sizes_at_the_limits_are_kept() -> None:
    check_sizes(32, 16)
    check_sizes(5_000, 0)
