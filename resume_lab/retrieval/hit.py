"""What a search found: chunks with their scores, for a terminal, a notebook or a machine."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from resume_lab.ingestion.details import details
from resume_lab.printable import printable

TEXT_WIDTH = 96
SHOWN_CHARS = 300
_NOTHING = "No chunk was found."
_FUSED = "In the order of the fused ranks; the figure is the cosine similarity."


@dataclass(frozen=True)
class Hit:
    """A stored chunk. `score` is its cosine similarity to the question, -1 to 1, higher is nearer.

    `headings` is the path of headings it stands under, as text. In a hybrid search `vector_rank`
    and `word_rank` say at which place either side found it, from 1; None: it did not.
    """

    chunk_id: int
    content: str
    source_file: str
    category: str | None
    title: str | None
    headings: str
    chunk_index: int
    metadata: Mapping[str, Any]
    score: float
    vector_rank: int | None
    word_rank: int | None

    @property
    def place(self) -> str:
        """Return where it stands: title, headings, file."""
        path = " > ".join(part for part in (self.title, self.headings) if part)
        return f"{path} ({self.source_file})" if path else self.source_file

    @property
    def excerpt(self) -> str:
        """Return how it begins, printable; of an empty one the values of its front matter."""
        return excerpt(self.content if self.content.strip() else details(self.metadata))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SearchResult:
    """The hits of a question, best first.

    `explanation` says how they were found, if asked for; `note` why there are none, if known.
    """

    question: str
    model: str
    hits: tuple[Hit, ...]
    explanation: str | None = None
    note: str | None = None

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Number the hits: score, place, and how the content begins."""
        parts = [_text(number, hit) for number, hit in enumerate(self, 1)] or [
            self.note or _NOTHING
        ]
        if self._is_fused:
            parts.insert(0, _FUSED)
        if self.explanation:
            parts.append("\n".join(_wrapped(printable(self.explanation), "")))
        return "\n\n".join(parts)

    @property
    def _is_fused(self) -> bool:
        return any(hit.word_rank is not None for hit in self)

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        head = "".join(f"<th scope='col' {left}>{name}</th>" for name in ("", "score", "chunk"))
        rows = "".join(
            f"<tr><td>{number}</td><td>{_score(hit)}</td><td {left}><b>{_escaped(hit.place)}</b>"
            f"<br>{_escaped(hit.excerpt)}</td></tr>"
            for number, hit in enumerate(self, 1)
        )
        caption = _escaped(self.question if self else self.note or _NOTHING)
        said = "".join(
            f"<p>{_escaped(text)}</p>"
            for text in (_FUSED if self._is_fused else None, self.explanation)
            if text
        )
        return (  # the class keeps $ from being mathematics to a notebook
            f"<table class='mathjax_ignore'><caption {left}>{caption}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{said}"
        )


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def excerpt(text: str) -> str:
    """Return how the text begins, printable, at most SHOWN_CHARS characters."""
    line = printable(text)
    return line if len(line) <= SHOWN_CHARS else f"{line[: SHOWN_CHARS - 1]}…"


def _text(number: int, hit: Hit) -> str:
    place = f"{number}. {_score(hit)}  {printable(hit.place)}"
    return "\n".join([place, *_wrapped(hit.excerpt, "   ")])


def _score(hit: Hit) -> str:
    """Write the score and, after a hybrid search, the ranks."""
    ranks = (("vector", hit.vector_rank), ("words", hit.word_rank))
    named = ", ".join(f"{name} {rank}" for name, rank in ranks if rank is not None)
    score = f"{round(hit.score, 3) + 0:.3f}"  # no -0.000
    return f"{score} ({named})" if named else score


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, TEXT_WIDTH, initial_indent=indent, subsequent_indent=indent)
