"""An answer, with what it rests on and what must be said of it."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

from resume_lab.printable import plain, printable
from resume_lab.retrieval.hit import Hit

PASSAGES = "passages"
"""What `by` says where no model wrote the answer."""

UNKNOWN = "I don't know."
_UNKNOWN = re.compile(r"i(dont|donot)know")


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    `cited` are the numbers, from 1, of the hits that `text` cites. `by` is the model that wrote it,
    or "passages". `is_known` is False where the hits do not hold the answer. `note` says what the
    reader must know of the answer, None if nothing; `cut_short` is the part of it that says why the
    text is not complete.
    """

    question: str
    text: str
    hits: tuple[Hit, ...]
    cited: tuple[int, ...]
    by: str
    is_known: bool
    note: str | None
    cut_short: str | None = None

    @property
    def sources(self) -> tuple[tuple[int, Hit], ...]:
        """Return the hits that are cited, each with its number."""
        return tuple((number, self.hits[number - 1]) for number in self.cited)

    def after_text(self) -> str:
        """Return what follows the text on a terminal: its sources, then the note."""
        return plain("".join(f"\n\n{part}" for part in (self._source_lines, self.note) if part))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "question": self.question,
            "text": self.text,
            "by": self.by,
            "is_known": self.is_known,
            "note": self.note,
            "hits": [
                {"number": number, "is_cited": number in self.cited, **hit.as_dict()}
                for number, hit in enumerate(self.hits, start=1)
            ],
        }

    def __str__(self) -> str:
        """Return text, sources and note for a terminal, without control characters."""
        return plain(self.text) + self.after_text()

    def _repr_html_(self) -> str:
        """Return the same for a notebook, everything escaped; in <pre> no $ starts a formula."""
        parts = [html.escape(plain(self.text))]
        if self._source_lines:
            parts.append(f"<small>{html.escape(self._source_lines)}</small>")
        if self.note:
            parts.append(f"<i>{html.escape(plain(self.note))}</i>")
        font = "monospace" if self.by == PASSAGES else "inherit"  # tables of passages line up
        return (
            f"<pre style='white-space:pre-wrap;font-family:{font}'>" + "\n\n".join(parts) + "</pre>"
        )

    @property
    def _source_lines(self) -> str:
        if self.by == PASSAGES:
            return ""  # each passage stands below its source
        return "\n".join(source_line(number, hit) for number, hit in self.sources)


def source_line(number: int, hit: Hit) -> str:
    """Return `[1] title > headings (source_file)`."""
    return f"[{number}] {printable(hit.place)}"


def joined(*notes: str | None) -> str | None:
    """Return the notes that say something as one, None if none does."""
    return " ".join(note for note in notes if note) or None


def says_unknown(text: str) -> bool:
    """Say whether a model's answer is "I don't know", however it is written."""
    letters = re.sub(r"[^a-z]", "", text.lower())
    return _UNKNOWN.fullmatch(letters) is not None
