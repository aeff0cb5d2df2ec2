"""Embeddings by a model on a server that speaks OpenAI's protocol: OpenAI, Ollama, vLLM.

Shorter vectors are padded with zeros to the 1536 that the column holds, which leaves their
distances as they are. Longer ones are refused.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import openai
from numpy.typing import NDArray

from resume_lab.config import Settings
from resume_lab.embedding.embedder import DIM
from resume_lab.embedding.service import (
    check_service,
    is_openai,
    openai_client,
    service_error,
    translated_service_errors,
)
from resume_lab.embedding.texts import check_texts
from resume_lab.embedding.tokens import count_tokens
from resume_lab.errors import ConfigError, DataError


@dataclass(frozen=True)
class Limits:
    """What goes into a request at most."""

    texts: int
    tokens: int


OPENAI_LIMITS = Limits(texts=2048, tokens=250_000)
"""OpenAI takes 2,048 texts and 300,000 tokens, which it counts a little differently."""

OTHER_LIMITS = Limits(texts=64, tokens=16_000)
"""Other servers may run on a processor, which does not answer more within TIMEOUT_S."""

MAX_TEXT_TOKENS = 8192
"""Tokens that OpenAI's models take of one text."""

CUTTABLE = "text-embedding-3-"
"""Start of the names of the models that can be asked for fewer dimensions than they have."""


class _Unusable(ValueError):
    """What a server sent instead of the vectors of the texts."""


class RemoteEmbedder:
    """A model on the server of the settings; it is asked for nothing until vectors are drawn."""

    is_remote = True

    def __init__(self, model: str, settings: Settings) -> None:
        """Raise ConfigError where neither key nor server is given, or one cannot be right."""
        check_service(settings)
        self._model = model
        self._settings = settings

    @property
    def model(self) -> str:
        """Return the name that the server knows, under which the vectors are stored."""
        return self._model

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the unit vectors of `texts` in their order, (n, 1536) each, one a request.

        Raises DataError for a text that is blank or too long, before the first request;
        ServiceError where the server fails; ConfigError where its vectors are too long.
        """
        check_texts(texts)
        tokens = [count_tokens(text) for text in texts]
        limits = OPENAI_LIMITS if is_openai(self._settings) else OTHER_LIMITS
        with openai_client(self._settings) as client:
            for start, stop in requests(tokens, limits):
                yield self._embedded(client, texts[start:stop])

    def _embedded(self, client: openai.OpenAI, texts: Sequence[str]) -> NDArray[np.float32]:
        what = f"Embedding {len(texts)} texts with {self._model}"
        cuttable = self._model.rpartition("/")[2].startswith(CUTTABLE)
        with translated_service_errors(self._settings, what):
            answer = client.embeddings.create(
                model=self._model,
                input=list(texts),
                dimensions=DIM if cuttable else openai.omit,
                encoding_format="base64",  # the client's own choice, which it would decode slowly
            )
        try:
            return padded(_rows(answer, len(texts)))
        except _Unusable as error:
            raise service_error(
                self._settings,
                what,
                f"answered with {error}.",
                "Is it a model for embeddings? Try another one, or a newer server.",
            ) from None


def requests(tokens: Sequence[int], limits: Limits) -> Iterator[tuple[int, int]]:
    """Yield from where to where each request goes, for texts of so many `tokens`.

    Raises DataError for a text that no request can hold.
    """
    for number, n in enumerate(tokens, 1):
        if n > MAX_TEXT_TOKENS:
            raise DataError(
                f"Text {number} of {len(tokens)} has {n:,} tokens; "
                f"a model takes at most {MAX_TEXT_TOKENS:,}.",
                hint="Shorten it, or split it into smaller chunks.",
            )
    start = total = 0
    for i, n in enumerate(tokens):
        if i - start == limits.texts or total + n > limits.tokens:
            yield start, i
            start, total = i, 0
        total += n
    if start < len(tokens):
        yield start, len(tokens)


def padded(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return `rows` (n, dim) at unit length, zeros added up to 1536 dimensions.

    Raises ConfigError for longer ones, ValueError for one that is zero or not finite.
    """
    n, dim = rows.shape
    if dim > DIM:
        raise ConfigError(
            f"The model gives vectors of {dim:,} dimensions; the column holds {DIM:,}.",
            hint="Choose a model of fewer, such as text-embedding-3-small or nomic-embed-text.",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise _Unusable("a vector that is zero or not finite")
    unit = np.zeros((n, DIM), dtype=np.float32)
    unit[:, :dim] = rows / lengths
    return unit


def _rows(answer: object, n: int) -> NDArray[np.float64]:
    """Return the vectors of an answer in the order of the `n` texts, shape (n, dim)."""
    data = getattr(answer, "data", None)
    if not isinstance(data, list):
        raise _Unusable("no list of vectors")
    if len(data) != n:
        raise _Unusable(f"{len(data)} vectors for {n} texts")
    numbers = [getattr(item, "index", None) for item in data]
    if not all(isinstance(i, int) for i in numbers) or set(numbers) != set(range(n)):
        raise _Unusable("vectors that are not numbered as the texts are")
    in_order = sorted(data, key=lambda item: item.index)
    rows = [_vector(getattr(item, "embedding", None)) for item in in_order]
    if len({row.shape for row in rows}) > 1:
        raise _Unusable("vectors of different lengths")
    return np.stack(rows)


def _vector(value: object) -> NDArray[np.float64]:
    """Return a vector that is written in base64, as bytes of float32, or as a list of numbers."""
    try:
        if isinstance(value, str):
            value = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
        vector = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise _Unusable("a vector that cannot be read") from None
    if vector.ndim != 1:
        raise _Unusable("a vector that cannot be read")
    return vector
