"""Text on one line, without what a terminal would obey."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text on one line, without the characters that cannot be shown."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def escaped(text: str) -> str:
    """Return the text with escapes for the characters that cannot be shown, line breaks too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
