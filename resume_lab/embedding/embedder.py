"""What embeds text: the protocol, and the embedder of a model's name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resume_lab.config import Settings
from resume_lab.errors import ConfigError, DataError

LEXICAL = "lexical"
"""Name of the embedder that needs no server."""

LEXICAL_MODEL = "lexical/hashing-1536"
"""The `embedding_model` under which its vectors are stored; another way to embed needs another."""

MADE_UP = ("synthetic", "file")
"""First parts of the names of vectors that were generated or read from a file."""

MAX_MODEL_CHARS = 200
"""Characters of a model's name that the database keeps."""

DIM = 1536
"""Dimensions of every embedding; the column that keeps them has as many."""


class Embedder(Protocol):
    """Turns text into unit vectors, always the same for the same text and model."""

    @property
    def model(self) -> str:
        """Return the `embedding_model` under which its vectors are stored."""

    @property
    def is_remote(self) -> bool:
        """Say whether each batch is a request to a server, which takes time and may cost money."""

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the unit vectors of `texts` in their order, (n, 1536) each, one a request.

        Raises DataError for a text that cannot be embedded, ServiceError where a server fails.
        """


def embed(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the unit vectors of `texts`, shape (n_texts, 1536); raises DataError for others."""
    batches = list(embedder.batches(texts))
    for batch in batches:
        if batch.shape[1:] != (DIM,):
            raise DataError(
                f"{embedder.model} gives vectors of shape {batch.shape[1:]}; permitted: ({DIM},)."
            )
    return np.concatenate([np.empty((0, DIM), np.float32), *batches])


def stored_model(name: str) -> str:
    """Return the `embedding_model` that a model's name stands for.

    Raises ConfigError for a name that the database or a terminal cannot take.
    """
    _check_name(name)
    return LEXICAL_MODEL if name == LEXICAL else name


def make_embedder(model: str | None = None, settings: Settings | None = None) -> Embedder:
    """Return the embedder of `model`, by default that of the settings; nothing is connected.

    Raises ConfigError for a name that no model can have, and for a model that needs a server where
    neither key nor server is given.
    """
    settings = settings or Settings()
    model = stored_model(settings.embedding_model if model is None else model)
    if model == LEXICAL_MODEL:
        from resume_lab.embedding.lexical import LexicalEmbedder  # slow to import: scikit-learn

        return LexicalEmbedder()
    family = model.partition("/")[0]
    if family in (*MADE_UP, LEXICAL):
        raise ConfigError(
            f"{model} names vectors that no text can be embedded into.",
            hint=f"Name the model that embedded the content, such as {LEXICAL}.",
        )
    from resume_lab.embedding.remote import RemoteEmbedder  # slow to import: openai

    return RemoteEmbedder(model, settings)


def _check_name(name: str) -> None:
    if not name.strip():
        wrong = "is blank"
    elif len(name) > MAX_MODEL_CHARS:
        wrong = f"has {len(name):,} characters, at most {MAX_MODEL_CHARS}"
    elif not name.isprintable():
        wrong = "holds a character that cannot be printed"
    else:
        return
    raise ConfigError(
        f"The model's name {wrong}.",
        hint=f"Name it as its server does, such as text-embedding-3-small, or take {LEXICAL}.",
    )
