"""What no embedder can embed."""

from __future__ import annotations

from collections.abc import Sequence

from resume_lab.errors import DataError


def check_texts(texts: Sequence[str]) -> None:
    """Raise DataError for a text that is blank or not Unicode, naming its number."""
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise DataError(
                f"Text {number} of {len(texts)} is blank: there is nothing to embed.",
                hint="Leave it out, or embed its title.",
            )
        if not _is_unicode(text):
            raise DataError(
                f"Text {number} of {len(texts)} holds half a character, which no encoding has.",
                hint="Read it again as UTF-8.",
            )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
