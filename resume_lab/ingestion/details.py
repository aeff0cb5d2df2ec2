"""The values of a front matter as one line of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from resume_lab.printable import printable

MAX_CHARS = 500
_VALUE_CHARS = 200


def details(metadata: Mapping[str, Any]) -> str:
    """Return the short values as `role: Professor; place.city: Boston; tags: a, b`.

    Values within values are named by their path; those of a list stand together. What is long is
    left out, and the line has at most MAX_CHARS characters, all printable.
    """
    values: dict[str, list[str]] = {}
    for name, value in metadata.items():
        for path, text in _flat(name, value):
            values.setdefault(path, []).append(text)
    line = ""
    for path, texts in values.items():
        shown = ", ".join(texts)
        more = f"{'; ' if line else ''}{printable(path)}: {shown}"
        if len(shown) <= _VALUE_CHARS and len(line) + len(more) <= MAX_CHARS:
            line += more
    return line


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(path, inner)
    elif isinstance(value, str | int | float) and (text := printable(str(value))):
        yield path, text
