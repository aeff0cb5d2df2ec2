"""Texts that would do something where they are not taken as text, and the search for traces."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any, TypeVar

TEXTS = {
    "script": "<script>alert(1)</script>",
    "attribute": "\"'><img src=x onerror=alert(1)>",
    "end of the element": "</td></table></pre></title></style><h1>&lt;b&gt;&#x27;",
    "template": "{{7*7}}{% raw %}{# <%!x%> ${x}",
    "format": "%s %(x)s {0} {x!r} {",
    "terminal": "\x1b[2J\x1b[31m\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil\x1b\\link\x9b2J\x9d0;x\x9c",
    "direction": "abc\u202egpj.exe\u2066\u200b\u200e\ufeff",
    "lines": "one\r\ntwo\u2028three\x85four\x0bfive\x08six\rseven",
    "markdown": "[x](javascript:alert(1)) **b** `c` ![i](http://evil/x.png)",
    "mathematics": "$\\frac{1}{ $x_$ $$ \\href{javascript:alert(1)}{x}",
    "underscore": "_hidden_",
    "long": "<b>very long " * 2_000,
}
TOGETHER = " ".join(TEXTS.values())
HARMLESS = "harmless"

T = TypeVar("T")


def poisoned(value: T, text: str) -> T:
    """Return the value with `text` in place of every text in it."""
    return _poisoned(value, text)


def _poisoned(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, enum.Enum) else text
    if isinstance(value, tuple | list):
        return type(value)(_poisoned(inner, text) for inner in value)
    if isinstance(value, Mapping):
        return {_poisoned(name, text): _poisoned(inner, text) for name, inner in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **_values(fields, text))
    return value


def _values(fields: dict[str, Any], text: str) -> dict[str, Any]:
    return {name: _poisoned(value, text) for name, value in fields.items()}


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "br":  # a line break, which some texts may bring, does nothing
            self.found.append((tag, *sorted(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}",))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))


def elements(page: str) -> list[tuple[str, ...]]:
    """Return the tags of a page in their order, each with the names of its attributes."""
    parser = _Elements()
    parser.feed(page)
    parser.close()
    return parser.found


def obeyed(text: str) -> set[str]:
    """Return the characters that a terminal obeys or does not show."""
    return {c for c in text if c not in "\n\t" and not c.isprintable()}
