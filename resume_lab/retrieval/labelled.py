"""Questions whose answering file is known, and how well a search finds it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy.engine import Engine

from resume_lab.config import Settings
from resume_lab.embedding import Embedder, make_embedder
from resume_lab.errors import DataError
from resume_lab.retrieval.search import search
from resume_lab.retrieval.statements import By
from resume_lab.vectors import summarise

COLUMNS = ("question", "file")

SearchFunction = Callable[[str, int], Sequence[str]]
"""Given a question and k, returns the files of the hits as they are labelled, best first."""


@dataclass(frozen=True)
class LabelledQuestion:
    """A question and the file that answers it, relative to the folder of the content."""

    question: str
    file: str


@dataclass(frozen=True)
class Evaluation:
    """How well a search finds the files of labelled questions, with 95 % intervals.

    `recall` is the share of questions whose file is among the k hits, `mrr` the mean of 1 / rank,
    0 where it is not; both in [0, 1], higher is better. `ranks` are in the order of the questions,
    from 1.
    """

    recall: float
    recall_low: float
    recall_high: float
    mrr: float
    mrr_low: float
    mrr_high: float
    n_questions: int
    k: int
    ranks: tuple[int | None, ...]

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"recall@{self.k} {self.recall:.3f} ({self.recall_low:.3f}-{self.recall_high:.3f}), "
            f"MRR {self.mrr:.3f} ({self.mrr_low:.3f}-{self.mrr_high:.3f}), "
            f"{self.n_questions} questions"
        )


def evaluate(
    search_fn: SearchFunction, questions: Sequence[LabelledQuestion], *, k: int = 5
) -> Evaluation:
    """Ask every question and find the rank of the first hit from its file."""
    if k < 1:
        raise DataError(f"k is {k}; it must be at least 1.")
    if not questions:
        raise DataError("There are no questions to ask.")
    ranks = tuple(_rank(search_fn(asked.question, k)[:k], asked.file) for asked in questions)
    recall = summarise(np.array([float(rank is not None) for rank in ranks]))
    mrr = summarise(np.array([1.0 / rank if rank else 0.0 for rank in ranks]))
    return Evaluation(
        recall.mean, recall.low, recall.high, mrr.mean, mrr.low, mrr.high, len(ranks), k, ranks
    )


def evaluate_search(
    engine: Engine,
    questions: Sequence[LabelledQuestion],
    *,
    source: str,
    by: By | str = By.VECTORS,
    k: int = 5,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Search for every question among the chunks that were ingested under the name `source`.

    Raises what `search` raises.
    """
    embedder = embedder or make_embedder(settings=settings)
    source = source.rstrip("/")

    def files(question: str, k: int) -> list[str]:
        found = search(question, engine=engine, k=k, source=source, by=by, embedder=embedder)
        return [hit.source_file.removeprefix(f"{source}/") for hit in found]

    return evaluate(files, questions, k=k)


def _rank(files: Sequence[str], file: str) -> int | None:
    return files.index(file) + 1 if file in files else None


def read_questions(path: Path) -> list[LabelledQuestion]:
    """Read a CSV file with the header question,file.

    Raises DataError, naming the line, for one that cannot be used.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            questions = list(_questions(path, file))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text.", hint="Save it again as UTF-8.") from None
    if not questions:
        raise DataError(f"{path} holds no question.", hint="Add lines below its header.")
    return questions


def _questions(path: Path, lines: Iterator[str]) -> Iterator[LabelledQuestion]:
    reader = csv.reader(lines, strict=True)
    try:
        header = tuple(name.strip() for name in next(reader, []))
        if header != COLUMNS:
            raise _bad(path, 1, f"the header is {','.join(header)!r}")
        for row in reader:
            if row:
                yield _question(path, reader.line_num, row)
    except csv.Error as error:
        raise _bad(path, reader.line_num, str(error)) from None


def _question(path: Path, line: int, row: Sequence[str]) -> LabelledQuestion:
    values = [value.strip() for value in row]
    if len(values) != len(COLUMNS):
        raise _bad(path, line, f"{len(values)} fields instead of {len(COLUMNS)}")
    for name, value in zip(COLUMNS, values, strict=True):
        if not value:
            raise _bad(path, line, f"the {name} is blank")
    return LabelledQuestion(*values)


def _bad(path: Path, line: int, reason: str) -> DataError:
    return DataError(
        f"{path}, line {line}: {reason}.",
        hint='Write question,file in the first line and "a question",folder/file.md below; '
        "quote a question that holds a comma.",
    )
