"""Text of documents and models, made safe to show on a terminal."""

from __future__ import annotations

import re
import unicodedata

_FIRST_HALF = re.compile(r"[\ud800-\udbff]\Z")


def plain(text: str) -> str:
    """Return the printable characters, lines and tabs; every other kind of space becomes one.

    Nothing stays that a terminal obeys, that turns the direction of text, or that is not seen.
    """
    return "".join(c if c in "\n\t" or c.isprintable() else _space(c) for c in text)


class WholeCharacters:
    """Joins characters that a stream sends in two halves; a lone half becomes U+FFFD."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """Return the text that is whole by now; a first half at its end is held back."""
        text = self._half + piece
        half = _FIRST_HALF.search(text)
        self._half = half[0] if half else ""
        return _joined(text.removesuffix(self._half))

    def close(self) -> str:
        """Return what stands for a half that was still held back."""
        half, self._half = self._half, ""
        return _joined(half)


def _joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _space(character: str) -> str:
    return " " if unicodedata.category(character).startswith("Z") else ""
