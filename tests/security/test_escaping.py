"""Names and texts from data stay text: in pages, tables, figures and on the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from generation.factory import hit
from matplotlib.figure import Figure
from matplotlib.text import Text
from report.factory import point, result, tuned

from resume_lab.database.verification import Check, Verification
from resume_lab.generation import Answer
from resume_lab.ingestion.discovery import FileProblem
from resume_lab.ingestion.outcome import IngestReport
from resume_lab.printable import escaped
from resume_lab.report import (
    decision,
    evaluation_chart,
    evaluation_table,
    explorer,
    frame_table,
    growth_cost,
    growth_table,
    html_report,
    indexes_compared,
    latency_distribution,
    points_table,
    predicted_curves,
    predicted_frontier,
    predictions_table,
    query_certainty,
    recall_by_data,
    recall_distribution,
    recall_latency,
    recall_probes,
    text_table,
)
from resume_lab.retrieval import Evaluation, SearchResult
from resume_lab.tuning.growth import GrownIndex

from .adversarial import HARMLESS, TEXTS, TOGETHER, elements, obeyed, poisoned

EVALUATION = Evaluation(0.5, 0.3, 0.7, 0.375, 0.2, 0.6, 4, 5, (1, 2, None, None))
GROWN = (GrownIndex(100, point(20, 2), None), GrownIndex(1000, point(20, 2), point(20, 2)))
RECALLS = np.array([0.5, 1.0, 1.0, 0.9])
HIT = dataclasses.replace(hit(), category="c", metadata={"tags": ["a", "b"], "role": {"of": "c"}})
FOUND = SearchResult("question", "model", (HIT, HIT), "explanation", "note")
ANSWER = Answer("question", "text [1]", (HIT, HIT), (1, 2), "model", True, "note", "cut short")
CHECKS = Verification((Check("a", True, 1.0, "detail"), Check("b", False, 1.0, "detail", "hint")))
REPORT = IngestReport("name", "model", problems=(FileProblem("file", 3, "reason"),), lost={"m": 1})


PAGES: dict[str, Callable[[str], str]] = {
    "report of a search": lambda text: html_report(poisoned(tuned(), text)),
    "report of a grid": lambda text: html_report(poisoned(result(), text)),
    "report in vain": lambda text: html_report(poisoned(result((), recommend=False), text)),
    "points": lambda text: points_table(poisoned(result(), text)).to_html(),
    "predictions": lambda text: predictions_table(poisoned(tuned(), text)).to_html(),
    "evaluation": lambda text: evaluation_table({text: EVALUATION}, text).to_html(),
    "growth": lambda text: growth_table(
        {text: GROWN}, poisoned(result().workload, text), target_recall=0.9
    ).to_html(),
    "any frame": lambda text: frame_table(
        pd.DataFrame({text: [text, 1]}, index=pd.Index([text, "b"])), text
    ).to_html(),
    "explorer": lambda text: explorer(poisoned(tuned(), text)).readout.value,
    "hits": lambda text: poisoned(FOUND, text)._repr_html_(),
    "no hits": lambda text: dataclasses.replace(poisoned(FOUND, text), hits=())._repr_html_(),
    "answer": lambda text: poisoned(ANSWER, text)._repr_html_(),
    "checks": lambda text: poisoned(CHECKS, text)._repr_html_(),
    "ingestion": lambda text: poisoned(REPORT, escaped(text))._repr_html_(),
}


SLOW = ("report of a search", "report of a grid", "report in vain", "explorer")


@pytest.mark.parametrize("page", PAGES)
def test_no_text_brings_an_element_into_a_page(page: str) -> None:
    write = PAGES[page]
    expected = elements(write(HARMLESS))
    for text in [TOGETHER] if page in SLOW else TEXTS.values():
        written = write(text)
        assert elements(written) == expected
        assert not obeyed(written)


FIGURES: dict[str, Callable[[str], Figure]] = {
    "decision": lambda text: decision(poisoned(tuned(), text)),
    "latency": lambda text: recall_latency(poisoned(result(), text)),
    "probes": lambda text: recall_probes(poisoned(result(), text)),
    "distribution": lambda text: latency_distribution(poisoned(result(), text)),
    "curves": lambda text: predicted_curves(poisoned(tuned(), text)),
    "frontier": lambda text: predicted_frontier(poisoned(tuned(), text)),
    "explorer": lambda text: explorer(poisoned(tuned(), text)).picture(),
    "data": lambda text: recall_by_data({text: poisoned(result(), text)}),
    "indexes": lambda text: indexes_compared(
        {text: poisoned(result(), text).points}, poisoned(result().workload, text)
    ),
    "growth": lambda text: growth_cost({text: GROWN}, poisoned(result().workload, text)),
    "evaluation": lambda text: evaluation_chart({text: EVALUATION}, text),
    "recalls": lambda text: recall_distribution({text: RECALLS}, text),
    "certainty": lambda text: query_certainty({text: RECALLS}, text),
}


@pytest.mark.parametrize("text", ["_$\\frac{1}{ \x1b[2J\u202e$x_$\r\n<b>", TEXTS["long"]])
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_shows_any_text_as_it_is(figure: str, text: str) -> None:
    drawn = FIGURES[figure](text)
    assert drawn.svg().startswith(b"<?xml")
    shown = [one.get_text() for one in drawn.findobj(Text)]
    assert any(text[:4] in one for one in shown)
    assert not any(obeyed(one) for one in shown)


LINES: dict[str, Callable[[str], str]] = {
    "search": lambda text: text_table(poisoned(tuned(), text)),
    "grid": lambda text: text_table(poisoned(result(), text)),
    "hits": lambda text: str(poisoned(FOUND, text)),
    "answer": lambda text: str(poisoned(ANSWER, text)),
    "answer by passages": lambda text: str(
        dataclasses.replace(poisoned(ANSWER, text), by="passages")
    ),
    "checks": lambda text: str(poisoned(CHECKS, text)),
    "ingestion": lambda text: str(poisoned(REPORT, escaped(text))),
}


@pytest.mark.parametrize("lines", LINES)
def test_a_terminal_is_told_nothing_by_a_text(lines: str) -> None:
    for text in TEXTS.values():
        said = LINES[lines](text)
        assert not obeyed(said)


def test_the_signs_of_mathematics_stay_signs_in_a_notebook_table() -> None:
    page = points_table(poisoned(result(), "from $5 to $10")).to_html()
    assert '<table id="' in page
    assert 'class="mathjax_ignore"' in page
