"""Text without what a terminal would obey, and without what is not seen."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Return the text on one line, without the characters that cannot be shown."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def plain(text: str) -> str:
    """Return the printable characters, lines and tabs; every other kind of space becomes one.

    Nothing stays that a terminal obeys, that turns the direction of text, or that is not seen.
    """
    return "".join(c if c in "\n\t" or c.isprintable() else _space(c) for c in text)


def escaped(text: str) -> str:
    """Return the text with escapes for the characters that cannot be shown, line breaks too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _space(character: str) -> str:
    return " " if unicodedata.category(character).startswith("Z") else ""
