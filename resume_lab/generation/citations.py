"""The numbered citations of a streamed answer, checked against the passages it was given."""

from __future__ import annotations

import re

_DASH = r"\-\u2010-\u2015\u2212"  # models write ranges with any of them
_BETWEEN = rf",;&{_DASH}"
_SPACE = r"[^\S\n]"
_WORD = r"(?:passages?|sources?|and|to|pp?\.?)(?![a-z])"
_STARTS = {word[:end] for word in ("passages", "sources", "and", "to") for end in range(1, 8)}
_OPEN = rf"[\[【](?!{_SPACE}*[{_BETWEEN}])"
_INSIDE = rf"(?:[\d#†{_BETWEEN}]|{_SPACE}|{_WORD})"
_CITATION = re.compile(rf"{_OPEN}{_INSIDE}+[\]】]", re.IGNORECASE)
_MAYBE_CITATION = re.compile(rf"{_OPEN}{_INSIDE}*(?:{'|'.join(sorted(_STARTS))})?\Z", re.IGNORECASE)
_RANGE = re.compile(rf"(\d+)(?:\s*(?:[{_DASH}]|to)\s*(\d+))?", re.IGNORECASE)
_MAX_DIGITS = 9
"""Python refuses to turn thousands of digits into a number; so many name no passage anyway."""


class CitationFilter:
    """Lets [1], [2, 3] and [1-3] through where they name a passage; else writes ? for the number.

    [passage 1], [#1], [1 and 2], [1, p. 2] and 【1】 are citations too, wherever they stand: right
    after a word, as the text of a link, in code. Other brackets stay as they are.
    `cited` holds the numbers that were let through, `astray` what was not, as the model wrote it.
    """

    def __init__(self, n_passages: int) -> None:
        self.cited: set[int] = set()
        self.astray: list[str] = []
        self._n_passages = n_passages
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return the text that can be shown by now; what may become a citation is held back."""
        text = self._held + piece
        unfinished = _MAYBE_CITATION.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._held = text[end:]
        return _CITATION.sub(self._checked, text[:end])

    def close(self) -> str:
        """Return what was still held back: it became no citation."""
        held, self._held = self._held, ""
        return held

    def _checked(self, citation: re.Match[str]) -> str:
        checked = _RANGE.sub(self._checked_range, citation[0])
        if checked != citation[0]:
            self.astray.append(citation[0])
        return checked

    def _checked_range(self, named: re.Match[str]) -> str:
        first, last = (int(number[:_MAX_DIGITS]) for number in (named[1], named[2] or named[1]))
        if not 1 <= first <= last <= self._n_passages:
            return "?"
        self.cited.update(range(first, last + 1))
        return named[0]
