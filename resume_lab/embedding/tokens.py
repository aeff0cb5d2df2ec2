"""Tokens of OpenAI's embedding models (cl100k_base), counted without fetching a vocabulary.

Models of other servers have tokenizers of their own; for these the count is an estimate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bpe_openai import Encoding

_PIECE_CHARS = 40_000
"""The encoder takes 200,000 tokens at most; a character is four at most."""

_SEAMS = re.compile(r"\n(?=[ \t]*\S)"), re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")
"""Where a text can be cut without changing its tokens: there are more words, but fewer lines do."""


def count_tokens(text: str) -> int:
    """Return how many tokens `text` has."""
    return sum(len(tokens) for tokens in _encoded(text))


def token_ends(text: str) -> NDArray[np.int64]:
    """Return where each token of `text` ends, in bytes of its UTF-8, shape (n_tokens,)."""
    lengths = _lengths()[np.fromiter(chain.from_iterable(_encoded(text)), dtype=np.int64)]
    return np.cumsum(lengths)


def _encoded(text: str) -> Iterator[list[int]]:
    for piece in _pieces(text):
        yield _encoding().encode_ordinary(piece)


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE_CHARS:
        stop = _seam(text, start + 1, start + _PIECE_CHARS)
        yield text[start:stop]
        start = stop
    yield text[start:]


def _seam(text: str, first: int, last: int) -> int:
    """Return the last seam; without any, as in Chinese, a cut at `last` adds a token or two."""
    for pattern in _SEAMS:
        seams = [match.end() for match in pattern.finditer(text, first, last)]
        if seams:
            return seams[-1]
    return last


@cache
def _encoding() -> Encoding:
    import bpe_openai  # slow to import: it reads the vocabulary

    return bpe_openai.get_encoding("cl100k_base")


@cache
def _lengths() -> NDArray[np.int64]:
    """Return the bytes of every token by its number."""
    encoding = _encoding()
    return np.array([len(value) for value in encoding.token_byte_values()], dtype=np.int64)
