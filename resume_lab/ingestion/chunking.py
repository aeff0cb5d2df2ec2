"""A text in chunks of a given number of tokens, cut where Markdown allows it best."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resume_lab.embedding.tokens import token_ends
from resume_lab.errors import ConfigError
from resume_lab.ingestion.blocks import Blocks, read_blocks

MIN_CHUNK_SIZE = 32
MAX_CHUNK_SIZE = 5_000
"""With title, headings and overlap a chunk then stays below the 8,192 tokens of a request."""

_EDGE_TOKENS = 2
"""A piece has so many tokens more or fewer by itself than in the text: cuts go through some."""

_WORD_TOKENS = 10
"""Tokens more that are repeated at most so that the overlap begins with a whole word."""

_SENTENCE = re.compile(
    r"(?:[.!?…][\"'”’)\]*_]{0,9}\s|[。！？][”’」』）]{0,9})\s*(?=\S)"  # noqa: RUF001
)
_WORD = re.compile(r"\s(?=\S)")
_TEXT = re.compile(r"\S")
_JOINER = "\u200d"

_Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """A piece of a text.

    The first `overlap` characters of `text` are the end of what is before it; `headings` is the
    path to what follows them. `tokens` is counted in the whole text, and may differ by two from
    what the piece has by itself.
    """

    index: int
    text: str
    overlap: int
    headings: tuple[str, ...]
    tokens: int


def check_sizes(chunk_size: int, overlap: int) -> None:
    """Refuse sizes (tokens) that cannot be kept; raises ConfigError."""
    if not MIN_CHUNK_SIZE <= chunk_size <= MAX_CHUNK_SIZE:
        raise ConfigError(
            f"A chunk cannot have {chunk_size} tokens.",
            hint=f"Permitted: {MIN_CHUNK_SIZE} to {MAX_CHUNK_SIZE}; 512 is a good start.",
        )
    if not 0 <= overlap <= chunk_size // 2:
        raise ConfigError(
            f"Chunks of {chunk_size} tokens cannot overlap by {overlap}.",
            hint=f"Permitted: 0 to {chunk_size // 2}, half a chunk.",
        )


def split_body(body: str, *, chunk_size: int = 512, overlap: int = 50) -> list[Chunk]:
    """Split a text into chunks of at most `chunk_size` tokens that overlap by `overlap` or more.

    A cut is best before a heading, then between blocks, list items, lines, sentences, words.
    A code block or table row of at most `chunk_size` tokens is never cut: its chunk may be larger
    than that by the overlap. White space stays with the text before it, however long it is. A
    text of nothing else has no chunks. Raises ConfigError.
    """
    check_sizes(chunk_size, overlap)
    if not body or body.isspace():
        return []
    return list(_Splitter(body, chunk_size, overlap).chunks())


def join_chunks(chunks: Iterable[Chunk]) -> str:
    """Return the text that was split."""
    return "".join(chunk.text[chunk.overlap :] for chunk in chunks)


@dataclass(frozen=True)
class _Ruler:
    """How many tokens of a text, `counts`, end within its first characters, `places`."""

    places: _Offsets
    counts: _Offsets

    def count(self, place: int) -> int:
        """Return the tokens that end at `place` or before."""
        return int(self.counts[self.places.searchsorted(place, "right") - 1])

    def place(self, count: int) -> int:
        """Return the farthest place with at most `count` tokens before it."""
        return int(self.places[self.counts.searchsorted(count, "right") - 1])

    def between(self, starts: _Offsets, ends: _Offsets) -> _Offsets:
        """Return the tokens of each range."""
        first, last = (self.places.searchsorted(places, "right") - 1 for places in (starts, ends))
        return self.counts[last] - self.counts[first]


def _ruler(body: str) -> _Ruler:
    ends = token_ends(body)
    if not body.isascii():  # bytes to characters; a token that ends inside one, to its end
        is_first = (np.frombuffer(body.encode(), dtype=np.uint8) & 0xC0) != 0x80
        ends = np.cumsum(is_first)[ends - 1]
    last = np.flatnonzero(np.diff(ends, append=len(body) + 1))  # of those that end at one place
    return _Ruler(np.append(0, ends[last]), np.append(0, last + 1))


@dataclass(frozen=True)
class _Whole:
    """Ranges of characters that are not cut, in order."""

    starts: list[int]
    ends: list[int]

    def end_around(self, place: int) -> int | None:
        """Return the end of the range that has `place` inside."""
        i = bisect_left(self.starts, place) - 1
        return self.ends[i] if i >= 0 and place < self.ends[i] else None


def _whole(blocks: Blocks, ruler: _Ruler, chunk_size: int) -> _Whole:
    """Keep code blocks and rows whole that fit into a chunk, if they can with their headings.

    Of larger ones, the lines are kept whole that fit.
    """
    starts = np.array(blocks.starts)
    with_heading, first, last = np.array(blocks.whole, dtype=np.int64).reshape(-1, 3).T

    def fits(first: _Offsets, last: _Offsets) -> NDArray[np.bool_]:
        return ruler.between(starts[first], starts[last] - 1) <= chunk_size

    small = fits(first, last)
    large = zip(first[~small], last[~small], strict=True)
    lines = np.concatenate([np.empty(0, np.int64), *(np.arange(*ends) for ends in large)])
    lines = lines[fits(lines, lines + 1)]
    first = np.where(fits(with_heading, last), with_heading, first)
    kept_first = np.concatenate([first[small], lines])
    kept_last = np.concatenate([last[small], lines + 1])
    order = np.lexsort((kept_last, kept_first))
    return _Whole(starts[kept_first[order]].tolist(), starts[kept_last[order]].tolist())


class _Splitter:
    """A text and all that is needed to find the next place to cut it."""

    def __init__(self, body: str, chunk_size: int, overlap: int) -> None:
        blocks = read_blocks(body)
        self._body = body
        self._overlap = overlap
        self._word_tokens = min(_WORD_TOKENS, chunk_size // 8)
        self._ruler = _ruler(body)
        fits = self._ruler.counts[-1] <= chunk_size
        self._room = chunk_size if fits else chunk_size - _EDGE_TOKENS
        self._whole = _whole(blocks, self._ruler, chunk_size)
        breaks = [b for b in zip(blocks.breaks, blocks.ranks, strict=True) if self._may_cut(b[0])]
        self._breaks, self._ranks = [place for place, _ in breaks], [rank for _, rank in breaks]
        self._headings, self._paths = blocks.paths()

    def chunks(self) -> Iterator[Chunk]:
        start = text_start = index = 0
        while start < len(self._body):
            first_word = self._text_from(start)
            stop = self._stop(first_word, text_start)
            yield Chunk(
                index=index,
                text=self._body[text_start:stop],
                overlap=start - text_start,
                headings=self._path(first_word),
                tokens=self._ruler.count(stop) - self._ruler.count(text_start),
            )
            start = stop
            text_start = self._overlap_start(start)
            index += 1

    def _text_from(self, start: int) -> int:
        """Return where the white space ends that may be at `start`."""
        text = _TEXT.search(self._body, start)
        return text.start() if text else len(self._body)

    def _path(self, place: int) -> tuple[str, ...]:
        """Return the headings in force at `place`."""
        above = bisect_right(self._headings, place)
        return self._paths[above - 1] if above else ()

    def _overlap_start(self, start: int) -> int:
        """Return where the overlap of a chunk begins whose own text begins at `start`."""
        if not self._overlap:
            return start
        count = self._ruler.count(start) - self._overlap - _EDGE_TOKENS
        if count <= 0:
            return 0
        place = self._ruler.place(count)
        lowest = self._ruler.place(max(count - self._word_tokens, 0))
        words = _WORD.finditer(self._body, max(lowest - 1, 0), place + 2)
        for word in reversed([match.end() for match in words]):
            if self._ruler.count(word) <= count:
                return word
        if not lowest:
            return 0
        while place > lowest and self._is_inside_character(place):
            place -= 1
        return place

    def _stop(self, start: int, text_start: int) -> int:
        """Return where the chunk ends whose own text begins at `start`; always farther on."""
        count = self._ruler.count
        last = max(self._ruler.place(count(text_start) + self._room), start + 1)
        if last >= len(self._body):
            return len(self._body)
        middle = max(self._ruler.place((count(start) + count(last)) // 2), start)
        for low in (middle, start):
            for find in (self._last_break, self._last_sentence, self._last_word):
                if place := find(low, last):
                    return place
        return self._last_token(start, last) or self._next(last)

    def _last_break(self, low: int, high: int) -> int | None:
        """Return the last of the best breaks above `low`, up to `high`."""
        first, stop = bisect_right(self._breaks, low), bisect_right(self._breaks, high)
        best = min(range(first, stop), key=lambda i: (self._ranks[i], -i), default=None)
        return None if best is None else self._breaks[best]

    def _last_sentence(self, low: int, high: int) -> int | None:
        return self._last(_SENTENCE, low, high)

    def _last_word(self, low: int, high: int) -> int | None:
        return self._last(_WORD, low, high)

    def _last(self, pattern: re.Pattern[str], low: int, high: int) -> int | None:
        """Return the last end of a match above `low`, up to `high`, that is a place to cut."""
        places = [match.end() for match in pattern.finditer(self._body, low, high + 1)]
        return next((place for place in reversed(places) if self._may_cut(place)), None)

    def _last_token(self, low: int, high: int) -> int | None:
        """Return the last place within a word above `low`, up to `high`."""
        first, stop = self._ruler.places.searchsorted((low, high), "right")
        for place in reversed(self._ruler.places[first:stop].tolist()):
            is_space = self._body[place].isspace()
            if not is_space and not self._is_inside_character(place) and self._may_cut(place):
                return int(place)
        return None

    def _next(self, place: int) -> int:
        """Return the first place to cut from `place` on: after what is whole, and white space."""
        place = self._whole.end_around(place) or place
        text = self._text_from(place)
        newline = self._body.rfind("\n", place - 1, text)
        return text if newline < 0 or text == len(self._body) else newline + 1

    def _may_cut(self, place: int) -> bool:
        return self._whole.end_around(place) is None

    def _is_inside_character(self, place: int) -> bool:
        """Say whether the character at `place` is shown as one with that before it."""
        before, after = self._body[place - 1], self._body[place]
        is_mark = unicodedata.category(after).startswith("M")
        return is_mark or _JOINER in (before, after) or "\U0001f3fb" <= after <= "\U0001f3ff"
