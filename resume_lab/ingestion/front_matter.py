"""The YAML at the start of a Markdown file, as plain JSON values."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import yaml
from frontmatter.default_handlers import YAMLHandler
from yaml import CSafeLoader

from resume_lab.errors import DataError

MAX_CHARS = 100_000
"""Characters of a front matter, which is kept with every chunk of its file."""

MAX_VALUES = 10_000
"""Values of a front matter; what an alias stands for is counted each time.

A text counts once more for every 50 characters, so that aliases cannot multiply a long one.
"""

MAX_DEPTH = 50
"""Lists and mappings within one another."""

RESERVED = "resume_lab"
"""The key of `metadata_json` under which the lab keeps its own."""

# The handler's own boundary would take blank lines of the body with it, and rules of any length.
_HANDLER = YAMLHandler(fm_boundary=re.compile(r"^---[ \t]*$", re.MULTILINE))

_LONGEST_INT = 10_000
"""Bits of an integer that is kept as a number: Python writes no more than 4,300 digits."""


class UnreadableFile(DataError):
    """A file whose text or front matter cannot be used: why, and on which line of the file."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        where = "" if line is None else f" (line {line})"
        super().__init__(
            f"The file cannot be read: {reason}{where}.", hint="Mend it and try again."
        )
        self.reason = reason
        self.line = line


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Return the front matter of `text` and the body after it, white space and all.

    Dates become ISO text, sets lists, bytes base64, NaN and infinities text, keys text. Raises
    UnreadableFile.
    """
    if not _HANDLER.detect(text):
        return {}, text
    try:
        front, body = _HANDLER.split(text)
    except ValueError:  # no closing line: a body that begins with a rule
        return {}, text
    return _read(front), body.removeprefix("\n")


def text_of(scalar: object) -> str:
    """Return a plain JSON scalar as text: null is empty, true is "true"."""
    if scalar is None:
        return ""
    return scalar if isinstance(scalar, str) else json.dumps(scalar)


def _read(front: str) -> dict[str, Any]:
    if len(front) > MAX_CHARS:
        raise UnreadableFile(
            f"the front matter has {len(front):,} characters, at most {MAX_CHARS:,}"
        )
    with _translated_errors(front):
        _check_size(front)
        values = _HANDLER.load(front, Loader=_Loader)
    if values is None:
        return {}
    if not isinstance(values, dict):
        found = "a list" if isinstance(values, list) else "text"
        raise UnreadableFile(f"the front matter is {found}, not key: value", 1)
    plain: dict[str, Any] = _plain(values)
    if RESERVED in plain:
        line = 1 + front.count("\n", 0, max(front.find(RESERVED), 0))
        raise UnreadableFile(f"the key {RESERVED} is reserved", line)
    return plain


class _Loader(CSafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Name the value that does not fit its type, where PyYAML lets any error through."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            shown = f"{str(node.value)[:50]!r} is not a valid {kind}"
            raise yaml.constructor.ConstructorError(None, None, shown, node.start_mark) from error


@contextmanager
def _translated_errors(front: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        parts = [part for part in (error.context, error.problem) if part]
        if error.problem and error.problem.startswith("mapping values are not allowed"):
            parts.append("put a value that holds a colon and a space in quotes")
        line = 1 + error.problem_mark.line if error.problem_mark else None
        raise UnreadableFile(f"bad YAML: {': '.join(parts)}", line) from error
    except yaml.reader.ReaderError as error:
        line = 1 + front.encode()[: error.position].count(b"\n")
        character = f"the character {error.character:#04x}"
        raise UnreadableFile(f"bad YAML: {character} is not allowed", line) from error


def _check_size(front: str) -> None:
    """Refuse what is too deep or too much with its aliases, before any of it is built.

    The C loader recurses for each level, and merge keys copy what they name.
    """
    sizes: dict[str, tuple[int, int]] = {}  # of what has an anchor: values, depth
    stack: list[tuple[str | None, int, int]] = [(None, 0, 0)]
    for event in yaml.parse(front, Loader=CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            sizes[event.anchor or ""] = (1, MAX_DEPTH)  # until it ends: it would hold itself
            stack.append((event.anchor, 1, 0))
            _check_limits(1, len(stack) - 1, event)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, values, depth = stack.pop()
            sizes[anchor or ""] = (values, depth + 1)
            depth += 1
        elif isinstance(event, yaml.AliasEvent):
            values, depth = sizes.get(event.anchor or "", (1, 0))
        elif isinstance(event, yaml.ScalarEvent):
            values, depth = 1 + len(event.value) // 50, 0
            sizes[event.anchor or ""] = (values, 0)
        else:
            continue
        anchor, outer_values, outer_depth = stack[-1]
        stack[-1] = (anchor, outer_values + values, max(outer_depth, depth))
        _check_limits(outer_values + values, len(stack) - 1 + depth, event)


def _check_limits(values: int, depth: int, event: yaml.Event) -> None:
    line = event.start_mark.line + 1 if event.start_mark else None
    if depth > MAX_DEPTH:
        raise UnreadableFile(f"the front matter is nested deeper than {MAX_DEPTH} levels", line)
    if values > MAX_VALUES:
        raise UnreadableFile(f"the front matter has more than {MAX_VALUES:,} values", line)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        if "\0" in value:
            raise UnreadableFile("the front matter holds a NUL character")
        return value
    if isinstance(value, dict):
        return {text_of(_plain(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, set):
        return sorted((_plain(inner) for inner in value), key=text_of)
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
        return hex(value)
    return value
