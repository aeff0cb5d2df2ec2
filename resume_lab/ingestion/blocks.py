"""The blocks of a Markdown text: its headings, where it may be cut, and what is to stay whole."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.token import Token

LINE = 1_000
"""Rank of a cut between two lines of a block; cuts between blocks rank lower, which is better."""

_BLOCK = 10  # above the levels of headings
_MAX_NESTING = 100
"""A list or quote in another is two levels; text deeper than that is lines without blocks."""

_HEADING_CHARS = 200
_PARSED_CHARS = 1_000  # of a heading: brackets within brackets take quadratic time

_WHOLE = frozenset(("fence", "code_block", "thead_open", "tr_open"))
_MARKS = re.compile(r"[\\*_`\[\]<>&!]")
_REFERENCE = re.compile(r"\[([^\[\]]+)\]\[[^\[\]]*\]")
_FIRST_LINES = 64


@dataclass(frozen=True)
class Heading:
    """A heading outside lists and quotes: lines first to last (exclusive), level, plain text."""

    first: int
    last: int
    level: int
    text: str


@dataclass(frozen=True)
class Blocks:
    """What is known of the lines of a text.

    `starts` are the first characters of the lines and, last, the end of the text. `breaks` are
    those of lines that are not blank, `ranks` beside them: the lower, the better a cut there.
    `whole` are code blocks and table rows: the line of the heading they stand under, if there is
    nothing between, or again their first line; their first line; and the line after their last.
    """

    starts: list[int]
    breaks: list[int]
    ranks: list[int]
    whole: list[tuple[int, int, int]]
    headings: list[Heading]

    def paths(self) -> tuple[list[int], list[tuple[str, ...]]]:
        """Return where each heading starts, and the headings in force from there on."""
        path: list[Heading] = []
        paths = []
        for heading in self.headings:
            path = [*(above for above in path if above.level < heading.level), heading]
            paths.append(tuple(above.text for above in path if above.text))
        return [self.starts[heading.first] for heading in self.headings], paths


def read_blocks(text: str) -> Blocks:
    """Find the blocks of `text`, whose lines end in newlines."""
    lines = text.split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    starts[-1] = len(text)
    tokens = _parser().parse(text)
    headings = list(_headings(tokens))
    filled = [i for i, line in enumerate(lines) if line and not line.isspace()]
    ranks = _ranks(len(lines), tokens)
    under: dict[int, int] = {}  # the lines below headings, and where these begin
    for heading in headings:
        is_under = heading.first in under
        ranks[heading.first] = LINE if is_under else heading.level
        below = bisect_left(filled, heading.last)
        if below < len(filled):
            under[filled[below]] = under.get(heading.first, heading.first)
            ranks[filled[below]] = LINE
    return Blocks(
        starts=starts,
        breaks=[starts[i] for i in filled],
        ranks=[ranks[i] for i in filled],
        whole=[(under.get(first, first), first, last) for first, last in _whole(tokens)],
        headings=headings,
    )


def _ranks(n_lines: int, tokens: list[Token]) -> list[int]:
    """Return a rank for each line: that of the outermost block that begins with it."""
    ranks = [LINE] * n_lines
    for token in reversed(tokens):
        if token.map is not None and token.nesting >= 0 and token.type != "inline":
            ranks[token.map[0]] = _BLOCK + token.level
    return ranks


def _whole(tokens: list[Token]) -> Iterator[tuple[int, int]]:
    for token in tokens:
        if token.type in _WHOLE and token.map is not None:
            first, last = token.map
            yield first, last + (token.type == "thead_open")  # and the line of dashes below it


def first_heading(text: str) -> str:
    """Return the first heading of `text` that says something, as plain text; "" without one."""
    lines = text.split("\n")
    stop = _FIRST_LINES  # most have it near the top
    while True:
        tokens = _parser().parse("\n".join(lines[:stop]))
        found = next((heading.text for heading in _headings(tokens) if heading.text), "")
        if found or stop >= len(lines):
            return found
        stop *= 8


def plain_text(markdown: str) -> str:
    """Return the text of one line of Markdown without its marks; of a link, what is clicked on."""
    text = markdown[:_PARSED_CHARS]
    if _MARKS.search(text):
        (inline,) = _inline_parser().parseInline(_REFERENCE.sub(r"\1", text))
        text = "".join(_shown(token) for token in inline.children or [])
    return " ".join(text.split())[:_HEADING_CHARS]


def _shown(token: Token) -> str:
    if token.type in ("softbreak", "hardbreak"):
        return " "
    return "" if token.type == "html_inline" else token.content


def _headings(tokens: list[Token]) -> Iterator[Heading]:
    for i, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            first, last = token.map
            yield Heading(first, last, int(token.tag[1:]), plain_text(tokens[i + 1].content))


@cache
def _parser() -> MarkdownIt:
    # Definitions of links are text like any other here; the rule would only cost time.
    rules = ["normalize", "inline", "text_join", "reference"]
    options = {"maxNesting": _MAX_NESTING}
    return MarkdownIt("commonmark", options).enable("table").disable(rules)


@cache
def _inline_parser() -> MarkdownIt:
    return MarkdownIt("commonmark")
