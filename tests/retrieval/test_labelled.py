"""Recall@k and MRR over questions whose answering file is known."""

from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from resume_lab.errors import DataError
from resume_lab.retrieval import By, LabelledQuestion, evaluate, evaluate_search, read_questions
from tests.retrieval.stored import FakeEmbedder, axes, store

FOUND = {
    "one": ["a.md", "b.md"],
    "two": ["a.md", "x/b.md", "b.md"],
    "three": ["a.md", "a.md", "a.md", "c.md"],
    "four": [],
}
ASKED = [
    LabelledQuestion("one", "a.md"),
    LabelledQuestion("two", "b.md"),
    LabelledQuestion("three", "c.md"),
    LabelledQuestion("four", "d.md"),
]


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "questions.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_recall_and_mrr_as_worked_out_by_hand() -> None:
    found = evaluate(lambda question, k: FOUND[question], ASKED, k=3)
    assert found.ranks == (1, 3, None, None)  # the fourth hit is beyond k
    assert found.recall == 0.5
    assert found.mrr == pytest.approx((1 + 1 / 3) / 4)
    assert (found.n_questions, found.k) == (4, 3)
    assert 0 <= found.recall_low < found.recall < found.recall_high <= 1
    assert 0 <= found.mrr_low < found.mrr < found.mrr_high <= 1
    assert str(found).startswith("recall@3 0.500 (")


def test_k_is_handed_on_and_what_cannot_be_counted_is_refused() -> None:
    asked: list[int] = []
    evaluate(lambda question, k: asked.append(k) or [], ASKED[:1], k=7)
    assert asked == [7]
    with pytest.raises(DataError, match="k is 0"):
        evaluate(lambda question, k: [], ASKED, k=0)
    with pytest.raises(DataError, match="no questions"):
        evaluate(lambda question, k: [], [])


def test_questions_are_read_with_quotes_bom_and_blank_lines(tmp_path: Path) -> None:
    text = '\ufeffquestion,file\r\n"Who, and why?",work/harvard.md\r\n\r\nWhat?, a b.md \r\n'
    assert read_questions(written(tmp_path, text)) == [
        LabelledQuestion("Who, and why?", "work/harvard.md"),
        LabelledQuestion("What?", "a b.md"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the header is ''"),
        ("question;file\nWho?;a.md\n", "line 1: the header is 'question;file'"),
        ("question\nWho?\n", "line 1"),
        ("question,file\n", "holds no question"),
        ("question,file\nWho?,a.md\n ,b.md\n", "line 3: the question is blank"),
        ("question,file\nWho?,\n", "line 2: the file is blank"),
        ("question,file\nWho, and why?,a.md\n", "line 2: 3 fields instead of 2"),
        ("question,file\nWho?\n", "line 2: 1 fields instead of 2"),
        ('question,file\n"Who?,a.md\n', "line 2: "),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_questions(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv cannot be read: No such file"):
        read_questions(tmp_path / "none.csv")
    with pytest.raises(DataError, match="not UTF-8"):
        read_questions(written(tmp_path, "question,file\nWer fährt?,a.md", "latin-1"))


def test_a_search_is_evaluated_among_the_chunks_of_one_folder(database: Engine) -> None:
    store(database, "Relays.", axes(1), source_file="some/folder/relays.md")
    store(database, "A moth.", axes(0, 1), source_file="some/folder/bugs/moth.md")
    store(database, "A moth.", axes(1), source_file="elsewhere/bugs/moth.md")
    asked = [LabelledQuestion("Which moth?", "bugs/moth.md")]
    embedder = FakeEmbedder({"Which moth?": axes(1)})
    ranks = {
        by: evaluate_search(database, asked, source="some/folder", by=by, embedder=embedder).ranks
        for by in By
    }
    assert ranks == {By.VECTORS: (2,), By.WORDS: (1,), By.HYBRID: (1,)}
