"""The embedder that needs no server: lexical, so it matches words and letters, not meaning.

A text is near another that has the same words, inflected or misspelt too, since the pieces of
words count as well. Synonyms and other languages are far apart. On labelled questions, words with
pieces of three and four letters, without English stop words and with damped counts, found more of
the answers than words alone, pairs of words, or plain counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import (
    ENGLISH_STOP_WORDS,
    HashingVectorizer,
    strip_accents_unicode,
)

from resume_lab.embedding.embedder import DIM, LEXICAL_MODEL
from resume_lab.embedding.texts import check_texts

BATCH = 256
PIECE_LETTERS = (3, 4)

_WORD = re.compile(r"\b[a-z](?:\+\+|#)(?!\w)|\w+")
"""C++ and C# are words of their own, not the letter C."""

_CACHED_CHARS = 40
"""Longer words are rare, and have so many pieces that keeping them would fill the memory."""


class LexicalEmbedder:
    """Hashed words and pieces of words; the same text always gives the same vector."""

    model = LEXICAL_MODEL
    is_remote = False

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the unit vectors of `texts` in their order, at most (256, 1536) each.

        Raises DataError for a text that is blank.
        """
        check_texts(texts)
        for start in range(0, len(texts), BATCH):
            yield _unit_vectors(texts[start : start + BATCH])


def features(text: str) -> list[str]:
    """Return what is counted of `text`: its words but for stop words, and their pieces.

    A text of stop words alone keeps them; one without letters counts by its other characters.
    """
    plain = strip_accents_unicode(text.casefold())
    words = _WORD.findall(plain) or plain.split()
    kept = [word for word in words if word not in ENGLISH_STOP_WORDS] or words
    found = list(kept)
    for word in kept:
        found += _pieces(word) if len(word) > _CACHED_CHARS else _cached_pieces(word)
    return found


def _pieces(word: str) -> list[str]:
    """Return the pieces of a word between blanks, which mark where it starts and ends."""
    padded = f" {word} "
    return [padded[i : i + n] for n in PIECE_LETTERS for i in range(len(padded) - n + 1)]


_cached_pieces = lru_cache(maxsize=50_000)(_pieces)


def _unit_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    vectorizer = HashingVectorizer(analyzer=features, n_features=DIM, norm=None)
    counts = vectorizer.transform(texts).toarray()
    rows = np.sign(counts) * np.log1p(np.abs(counts))
    # Accents alone are no feature, and two that share a place may have opposite signs.
    rows[~rows.any(axis=1), 0] = 1.0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows, dtype=np.float32)
