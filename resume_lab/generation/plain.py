"""Text of documents and models, made safe to show on a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Return the text without control characters, which a terminal obeys; tabs and lines stay."""
    return _CONTROL.sub("", text)
