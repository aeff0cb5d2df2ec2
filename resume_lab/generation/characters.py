"""Whole characters from a stream that cuts some in two."""

from __future__ import annotations

import re

_FIRST_HALF = re.compile(r"[\ud800-\udbff]\Z")


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
