"""The lexical embedder: the same words are near, no text is without a vector."""

import numpy as np
import pytest

from resume_lab.embedding import embed, lexical
from resume_lab.embedding.lexical import LexicalEmbedder
from resume_lab.errors import DataError

LEXICAL = LexicalEmbedder()


def similarity(one: str, other: str) -> float:
    a, b = embed(LEXICAL, [one, other])
    return float(a @ b)


@pytest.mark.parametrize(
    "text",
    [
        "compiler",
        "to be or not to be",
        "???",
        "北京",
        "🤷‍♀️",
        "\u0301",
        "\u200b",
        "\x00",
        "a" * 50_000,
    ],
)
def test_every_text_has_a_vector_of_unit_length(text: str) -> None:
    vectors = embed(LEXICAL, [text])
    assert vectors.shape == (1, 1536)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("one", "other"),
    [("???", "!!!"), ("北京", "東京"), ("🤷", "🎉"), ("who are you", "to be or not to be")],
)
def test_texts_without_letters_or_of_stop_words_are_told_apart(one: str, other: str) -> None:
    assert similarity(one, other) < 0.9


def test_the_vector_of_a_text_never_changes() -> None:
    """Stored vectors are compared with new ones: another way to embed needs another model name."""
    vector = embed(LEXICAL, ["Grace's cat"])[0]
    twice = [295]  # "cat" is a word and a piece of itself
    minus = [241, 456, 674, 783, 807, 836]
    plus = [13, 120, 407, 1068, 1151, 1313, 1379, 1449, 1491, 1500]
    expected = np.zeros(1536)
    expected[plus], expected[minus], expected[twice] = np.log(2), -np.log(2), np.log(3)
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the compiler about?", "COMPILER"),
        ("Ma résumé, à Orléans", "ma resume a orleans"),
        ("flow-matic", "Flow Matic!"),
    ],
)
def test_case_accents_punctuation_and_stop_words_make_no_difference(one: str, other: str) -> None:
    assert similarity(one, other) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("other", ["the compilers", "compiling", "a compiller"])
def test_inflected_and_misspelt_words_are_near(other: str) -> None:
    assert similarity("compiler", other) > 0.5 > 2 * abs(similarity("submarine", other))


def test_a_language_of_one_letter_is_not_that_letter() -> None:
    question = "Does he know C++?"
    assert similarity(question, "knows C++ well") > similarity(question, "knows C well")
    assert similarity("C#", "C++") < 0.5


def test_a_word_said_often_does_not_drown_the_others() -> None:
    assert similarity("relay " * 50 + "moth", "moth") > 0.1


def test_a_text_has_the_same_vector_in_any_company() -> None:
    texts = [f"chunk {i} of a résumé" for i in range(257)]
    blocks = list(LEXICAL.batches(texts))
    assert [len(block) for block in blocks] == [256, 1]
    np.testing.assert_array_equal(blocks[1], embed(LEXICAL, texts[256:]))


def test_features_that_cancel_leave_a_vector_of_unit_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lexical, "features", str.split)
    texts = [str(i) for i in range(200)]
    vectors = embed(LEXICAL, texts)
    one, other = np.argwhere(vectors @ vectors.T == -1)[0]
    both = embed(LEXICAL, [f"{texts[one]} {texts[other]}"])
    assert np.linalg.norm(both) == 1.0


@pytest.mark.parametrize("text", ["", " \n\t", "\u2003"])
def test_a_blank_text_is_refused_by_its_number(text: str) -> None:
    with pytest.raises(DataError, match="Text 2 of 2 is blank"):
        embed(LEXICAL, ["fine", text])


def test_half_a_character_is_refused() -> None:
    with pytest.raises(DataError, match="Text 1 of 1 holds half a character"):
        embed(LEXICAL, ["\ud83e"])
