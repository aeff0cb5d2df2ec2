"""Vector and words fused by reciprocal rank: 1 / (60 + rank) from either side."""

import pytest
from sqlalchemy.engine import Engine

from resume_lab.database import schema
from resume_lab.errors import DataError
from resume_lab.retrieval import By, Hit, search_vector
from tests.retrieval.stored import MODEL, axes, store, tune


def ask(engine: Engine, question: str, k: int = 5, **options: object) -> list[Hit]:
    found = search_vector(
        engine, axes(1), model=MODEL, question=question, k=k, by="hybrid", **options
    )
    return list(found)


def fill(engine: Engine) -> None:
    """By words the third is first, the first third; by vector they stand in order."""
    for times in (1, 2, 3):
        store(engine, "moth relay " * times, axes(4, times - 1))
    store(engine, "nothing of it", axes(4, 3))


@pytest.fixture
def filled(database: Engine) -> Engine:
    fill(database)
    return database


def test_ranks_are_fused_as_worked_out_by_hand(filled: Engine) -> None:
    hits = ask(filled, "Which moth, which relay?")
    assert [(hit.chunk_id, hit.vector_rank, hit.word_rank) for hit in hits] == [
        (1, 1, 3),  # 1/61 + 1/63 = .03227
        (3, 3, 1),  # the same: the lower id first
        (2, 2, 2),  # 1/62 + 1/62 = .03226
        (4, 4, None),  # 1/64
    ]
    assert [hit.score for hit in hits] == pytest.approx([1, 4 / 20**0.5, 4 / 17**0.5, 0.8])


def test_k_takes_the_best_of_the_fusion(filled: Engine) -> None:
    assert [hit.chunk_id for hit in ask(filled, "moth relay", k=2)] == [1, 3]


def test_an_exact_rare_word_is_found_where_vectors_miss_it(database: Engine) -> None:
    for number in range(60):
        store(database, f"Chunk {number} of the work on compilers.", axes(1, number / 100))
    rare = store(database, "The part is an XK-4711.", axes(-1))
    plain = search_vector(database, axes(1), model=MODEL)
    assert rare not in [hit.chunk_id for hit in plain]
    hits = ask(database, "What did the work on the XK-4711 cost?")
    (hit,) = [hit for hit in hits if hit.chunk_id == rare]
    assert (hit.vector_rank, hit.word_rank) == (None, 1)
    assert hit.score == pytest.approx(-1)


def test_a_word_counts_the_more_the_rarer_it_is(database: Engine) -> None:
    for number in range(20):
        store(database, "Compilers, compilers, compilers.", axes(1, number))
    store(database, "A moth and compilers.", axes(1, 30))
    ranks = [hit.word_rank for hit in ask(database, "compilers", k=50)]
    assert ranks[-1] == 21
    found = {hit.chunk_id: hit.word_rank for hit in ask(database, "moth of compilers", k=50)}
    assert found.pop(21) == 1
    assert set(found.values()) == {None}  # less than half of the best


def test_title_and_headings_weigh_more_than_content(database: Engine) -> None:
    store(database, "A moth.", axes(0, 1))
    store(database, "An insect.", axes(0, 1), metadata_json={"resume_lab": {"headings": "Moth"}})
    store(database, "An insect.", axes(0, 1), document_title="The moth")
    ranks = {hit.chunk_id: hit.word_rank for hit in ask(database, "moths")}
    assert ranks == {1: 3, 2: 2, 3: 1}


@pytest.mark.parametrize("question", ["Who is it, and what of the other?", "???", "& | ! <->"])
def test_without_words_to_look_for_the_vectors_decide(filled: Engine, question: str) -> None:
    hits = ask(filled, question)
    assert [(hit.chunk_id, hit.word_rank) for hit in hits] == [
        (1, None), (2, None), (3, None), (4, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "question",
    ["'moth' & \\", "it's a moth's", "moth:* | !relay", "a.b/c?x=1&y=2 moth", "%s %(k)s moth"],
)
def test_signs_of_the_query_language_are_only_text(filled: Engine, question: str) -> None:
    assert {hit.chunk_id for hit in ask(filled, question) if hit.word_rank} >= {1, 2, 3}


def test_both_sides_keep_to_the_model_and_the_filter(filled: Engine) -> None:
    store(filled, "moth", axes(1), model="fake/other")
    store(filled, "moth", axes(1), category="navy")
    assert [hit.chunk_id for hit in ask(filled, "moth", category="navy")] == [6]
    assert 5 not in [hit.chunk_id for hit in ask(filled, "moth")]


def test_an_index_gives_the_same_fusion(any_empty_database: Engine) -> None:
    schema.upgrade(any_empty_database)
    fill(any_empty_database)
    before = ask(any_empty_database, "moth relay")
    tune(any_empty_database, MODEL, lists=2, probes=2)
    assert ask(any_empty_database, "moth relay") == before
    found = search_vector(
        any_empty_database, axes(1), model=MODEL, question="moth", by="hybrid", explain=True
    )
    assert str(found.explanation).startswith("Tuned index ")
    assert str(found.explanation).endswith("3 of the 4 hits share words with the question.")


def test_a_question_of_the_greatest_length_is_answered(filled: Engine) -> None:
    question = "moth " + " ".join(f"w{number}" for number in range(3_400))
    assert len(question) > 19_000
    assert {hit.chunk_id for hit in ask(filled, question) if hit.word_rank} == {1, 2, 3}


def test_rows_without_search_words_are_found_by_vector(database: Engine) -> None:
    store(database, "moth", axes(1), metadata_json={"lab": True})
    (hit,) = ask(database, "moth")
    assert (hit.vector_rank, hit.word_rank) == (1, None)


def test_a_blank_question_is_refused(database: Engine) -> None:
    with pytest.raises(DataError, match="question is blank"):
        ask(database, "")


def test_words_alone_leave_out_what_only_the_vector_is_near_to(database: Engine) -> None:
    store(database, "Relays and tape.", axes(1))
    far = store(database, "A moth between the contacts.", axes(0, 1))
    found = search_vector(database, axes(1), model=MODEL, question="a moth?", by="words")
    assert [(hit.chunk_id, hit.vector_rank, hit.word_rank) for hit in found] == [(far, None, 1)]
    assert found.hits[0].score == 0.0
    said = search_vector(
        database, axes(1), model=MODEL, question="a moth?", by="words", explain=True
    ).explanation
    assert said == "Full-text search: hits that share words with the question: 1."


@pytest.mark.parametrize("by", list(By))
def test_a_source_limits_the_search_to_one_folder_and_those_below(database: Engine, by: By) -> None:
    for file in ("mine/a.md", "mine/work/b.md", "mine-too/c.md", "other/mine/d.md"):
        store(database, "A moth.", axes(1), source_file=file)

    def files(source: str) -> set[str]:
        found = search_vector(
            database, axes(1), model=MODEL, question="moth", by=by, source=source, k=9
        )
        return {hit.source_file for hit in found}

    assert files("mine") == files("mine/") == {"mine/a.md", "mine/work/b.md"}
    assert files("mine/work") == {"mine/work/b.md"}
    assert files("mi%") == set()


def test_another_way_to_search_is_refused(database: Engine) -> None:
    with pytest.raises(DataError, match="vectors, words, hybrid"):
        search_vector(database, axes(1), model=MODEL, question="moth", by="magic")


def test_words_alone_give_every_chunk_that_shares_one(database: Engine) -> None:
    for number in range(30):
        store(database, f"Compilers and paper {number}.", axes(1))
    found = search_vector(
        database, axes(1), model=MODEL, question="compilers 7?", by="words", k=100
    )
    assert len(found) == 30
    assert found.hits[0].content == "Compilers and paper 7."


def test_the_values_of_the_front_matter_are_words_of_the_first_chunk(database: Engine) -> None:
    metadata = {"company": "Apple", "lab": "Bell", "tech": ["React"], "resume_lab": {"tokens": 3}}
    first = store(database, "Wrote code.", axes(1), metadata_json=metadata)
    store(database, "Wrote more.", axes(1), metadata_json=metadata, chunk_index=1)
    for word in ("apple", "react", "bell"):
        found = search_vector(database, axes(1), model=MODEL, question=word, by="words")
        assert [hit.chunk_id for hit in found] == [first]
    found = search_vector(database, axes(1), model=MODEL, question="tokens", by="words")
    assert len(found) == 0


def test_a_text_of_any_length_can_be_stored(any_empty_database: Engine) -> None:
    schema.upgrade(any_empty_database)
    letters = [chr(code) for code in range(0x10D0, 0x10F0)]
    words = "-".join("".join(letters[n % 32] + letters[n // 32 % 32]) for n in range(84_000))
    store(any_empty_database, words, axes(1), metadata_json={"long": words})
