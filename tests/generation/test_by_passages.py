"""Questions answered by the passages as they stand, where no model is asked."""

from collections.abc import Callable
from typing import Any

import pytest
from model_server import asked
from pytest_httpserver import HTTPServer

from resume_lab.generation.answer import PASSAGES, UNKNOWN

from .factory import QUESTION, Ask, Logged


def test_without_a_model_the_passages_stand_as_they_are(
    by_passages: Ask, passages: list[int], logged: Logged
) -> None:
    pieces: list[str] = []
    answer = by_passages(k=2, on_text=pieces.append)
    first, second = answer.hits
    assert answer.text == (
        "No model is set up, so these are the best passages as they stand.\n\n"
        f"[1] {first.place}\n{first.content}\n\n[2] {second.place}\n{second.content}"
    )
    assert pieces == [answer.text]
    assert (answer.by, answer.cited, answer.is_known) == (PASSAGES, (1, 2), True)
    assert answer.note is None
    assert logged() == [(QUESTION, [first.chunk_id, second.chunk_id], answer.text)]


def test_passages_can_be_asked_for_although_there_is_a_model(
    by_model: Ask, passages: list[int], httpserver: HTTPServer
) -> None:
    answer = by_model(answer_by="passages")
    assert answer.text.startswith("No model was asked: these are the best passages as they stand.")
    assert asked(httpserver) == []


def test_a_passage_of_front_matter_alone_shows_that(
    by_passages: Ask, store: Callable[..., int]
) -> None:
    store("computer Harvard", chunk_index=1)
    store(" ", metadata_json={"role": "programmer", "tags": ["navy"]})
    assert "(content/life.md)\nrole: programmer; tags: navy" in by_passages().text


def test_only_of_the_lexical_embedder_is_known_which_score_is_low(
    by_passages: Ask, embedder: Any, store: Callable[..., int]
) -> None:
    embedder.model = "lexical/other"
    store("A moth was found.")
    assert by_passages("Quantum chromodynamics?").is_known


@pytest.mark.parametrize("by", ["vectors", "hybrid"])
def test_passages_that_have_nothing_of_the_question_do_not_fit(
    by_passages: Ask, passages: list[int], by: str
) -> None:
    answer = by_passages("Quantum chromodynamics?", by=by)
    assert (answer.text, answer.is_known, answer.cited) == (UNKNOWN, False, ())
    assert answer.note == "No stored passage fits the question."
