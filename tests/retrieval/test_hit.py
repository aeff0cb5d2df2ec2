"""A result as text and as a table: content is data, whatever it holds."""

import json

from resume_lab.retrieval import Hit, SearchResult

EVIL = "\x1b[31mred\x07 <script>alert('x')</script> & \u202eright to left\r\n\nend"


def hit(content: str = "Text.", **fields: object) -> Hit:
    values = {
        "chunk_id": 1, "source_file": "content/a.md", "category": None, "title": "Work",
        "headings": "", "chunk_index": 0, "metadata": {}, "score": 0.5, "vector_rank": None,
        "word_rank": None,
    }  # fmt: skip
    return Hit(content=content, **(values | fields))


def result(*hits: Hit, explanation: str | None = None) -> SearchResult:
    return SearchResult("Who?", "lexical", hits, explanation)


def test_text_numbers_the_hits_with_score_place_and_content() -> None:
    text = str(result(hit("First\n\ntext."), hit("Second.", score=-0.25, headings="Navy > 1944")))
    assert text == (
        "1. 0.500  Work (content/a.md)\n   First text.\n\n"
        "2. -0.250  Work > Navy > 1944 (content/a.md)\n   Second."
    )


def test_text_shows_the_ranks_of_a_hybrid_search_and_the_explanation() -> None:
    text = str(result(hit(vector_rank=3, word_rank=1), hit(word_rank=2), explanation="Exact."))
    assert "1. 0.500 (vector 3, words 1)  Work" in text
    assert "2. 0.500 (words 2)  Work" in text
    assert text.endswith("Text.\n\nExact.")


def test_long_content_is_cut_and_wrapped() -> None:
    lines = str(result(hit("word " * 1000))).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) == 5
    assert lines[-1].endswith("…")


def test_no_control_character_reaches_the_terminal() -> None:
    text = str(result(hit(EVIL, title=EVIL, source_file=f"a{EVIL}.md"), explanation=EVIL))
    assert text.replace("\n", "").isprintable()
    assert text.count("[31mred <script>") == 4


def test_everything_is_escaped_in_a_notebook() -> None:
    shown = hit(EVIL, title=EVIL, headings=EVIL, source_file=EVIL)
    page = SearchResult(EVIL, EVIL, (shown,), EVIL)._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)") == 6
    assert "<td>0.500</td>" in page


def test_an_empty_result_says_so() -> None:
    assert str(result()) == "No chunk was found."
    assert "No chunk was found." in result()._repr_html_()


def test_a_result_is_counted_iterated_and_written_as_json() -> None:
    found = result(hit(metadata={"year": 1947}), explanation="Exact.")
    assert len(found) == 1
    assert [one.content for one in found] == ["Text."]
    again = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert again["explanation"] == "Exact."
    assert again["hits"][0]["metadata"] == {"year": 1947}
    assert again["hits"][0]["score"] == 0.5


def test_a_place_without_title_is_the_file() -> None:
    assert hit(title=None).place == "content/a.md"
    assert hit(title=None, headings="Navy").place == "Navy (content/a.md)"


def test_an_empty_chunk_shows_the_values_of_its_front_matter() -> None:
    empty = hit(" ", metadata={"company": "Apple\x1b[31m", "tech": ["<b>JS</b>"]})
    assert "   company: Apple[31m; tech: <b>JS</b>" in str(result(empty))
    assert "tech: &lt;b&gt;JS&lt;/b&gt;" in result(empty)._repr_html_()


def test_no_score_is_minus_zero() -> None:
    assert "1. 0.000 " in str(result(hit(score=-0.0001)))


def test_a_fused_order_is_explained() -> None:
    assert str(result(hit(word_rank=1))).startswith("In the order of the fused ranks")
    assert "In the order of the fused ranks" in result(hit(word_rank=1))._repr_html_()
    assert "fused" not in str(result(hit()))
