"""The tokens that PostgreSQL sees in a statement, by its lexical rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_RULES = {
    "space": r"\s+",
    "comment": r"--[^\r\n]*",
    "dollar": r"\$(?P<tag>(?:[^\W\d]\w*)?)\$(?P<inside>.*?)\$(?P=tag)\$",
    "escaped": r"[eE]'(?P<with_escapes>(?:[^'\\]|\\.|'')*)'",
    "other": r"(?:[bBxXnN]|[uU]&)['\"]",
    "string": r"'(?P<plain>(?:[^']|'')*)'",
    "quoted": r'"(?P<identifier>(?:[^"]|"")*)"',
    "number": r"\d+",
    "word": r"[^\W\d][\w$]*",
    "sign": r".",
}
_TOKEN = re.compile("|".join(f"(?P<{kind}>{rule})" for kind, rule in _RULES.items()), re.DOTALL)


@dataclass(frozen=True)
class Token:
    """`kind` is name, string, number or comment; of a keyword or a sign it is the text itself."""

    kind: str
    value: str


def tokens(statement: str) -> list[Token]:
    """Return the tokens; those of a block of DO stand after it."""
    found: list[Token] = []
    for token in _tokens(statement):
        found.append(token)
        if token.kind == "string" and found[-2:-1] == [Token("DO", "DO")]:
            found += tokens(token.value)
    return found


def _tokens(statement: str) -> Iterator[Token]:
    at = 0
    while at < len(statement):
        if statement.startswith("/*", at):
            yield Token("comment", statement[at:])
            return
        match = _TOKEN.match(statement, at)
        assert match is not None
        at = match.end()
        kind = next(k for k in _RULES if match[k] is not None)
        if kind != "space":
            yield _token(kind, match)


def _token(kind: str, match: re.Match[str]) -> Token:
    text = match[0]
    if kind == "dollar":
        return Token("string", match["inside"])
    if kind == "escaped":
        text = match["with_escapes"].replace("''", "'")
        return Token("string", re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL))
    if kind == "string":
        return Token("string", match["plain"].replace("''", "'"))
    if kind == "quoted":
        return Token("name", match["identifier"].replace('""', '"'))
    if kind == "word" and not text.isupper():
        return Token("name", text)
    return Token(kind if kind in ("number", "comment") else text, text)
