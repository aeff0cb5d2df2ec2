"""Which embedder a model's name stands for; what importing costs."""

import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from resume_lab.config import Settings
from resume_lab.embedding import embed, make_embedder, stored_model
from resume_lab.embedding.lexical import LexicalEmbedder
from resume_lab.embedding.remote import RemoteEmbedder
from resume_lab.errors import ConfigError, DataError

LOCAL = "http://127.0.0.1:1/v1"


def test_the_default_is_lexical_and_needs_no_server() -> None:
    embedder = make_embedder()
    assert isinstance(embedder, LexicalEmbedder)
    assert (embedder.model, embedder.is_remote) == ("lexical/hashing-1536", False)


def test_the_settings_name_the_default() -> None:
    settings = Settings(embedding_model="nomic-embed-text", openai_base_url=LOCAL)
    embedder = make_embedder(settings=settings)
    assert isinstance(embedder, RemoteEmbedder)
    assert (embedder.model, embedder.is_remote) == ("nomic-embed-text", True)
    assert make_embedder("lexical", settings).model == "lexical/hashing-1536"


@pytest.mark.parametrize("name", ["lexical", "lexical/hashing-1536", "nomic-embed-text"])
def test_vectors_are_stored_under_the_name_of_their_embedder(name: str) -> None:
    embedder = make_embedder(name, Settings(openai_base_url=LOCAL))
    assert embedder.model == stored_model(name)


@pytest.mark.parametrize("name", ["synthetic/clustered/seed=0", "file/vectors.npy", "lexical/old"])
def test_vectors_that_were_made_up_embed_no_text(name: str) -> None:
    with pytest.raises(ConfigError, match="no text can be embedded into"):
        make_embedder(name)


def test_a_model_on_a_server_needs_a_key_or_an_address() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY or OPENAI_BASE_URL"):
        make_embedder("text-embedding-3-small")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is blank"),
        (" \n", "is blank"),
        ("m" * 201, "has 201 characters, at most 200"),
        ("nomic\nembed", "cannot be printed"),
        ("nomic\udcff", "cannot be printed"),
        ("nomic\0", "cannot be printed"),
    ],
)
def test_a_name_that_cannot_be_stored_is_refused(name: str, said: str) -> None:
    for refuse in (stored_model, make_embedder):
        with pytest.raises(ConfigError, match=f"The model's name .*{said}"):
            refuse(name)


def test_a_name_may_have_200_characters() -> None:
    name = "é" * 200
    assert make_embedder(name, Settings(openai_base_url=LOCAL)).model == name


def test_no_texts_give_no_vectors() -> None:
    assert embed(make_embedder(), []).shape == (0, 1536)


def test_importing_the_package_loads_neither_scikit_learn_nor_openai() -> None:
    code = "import sys, resume_lab.embedding; print({'sklearn', 'openai'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


class Narrow:
    model = "narrow"
    is_remote = False

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        yield np.ones((len(texts), 3), np.float32)


def test_vectors_of_another_dimension_are_refused() -> None:
    with pytest.raises(DataError, match=r"narrow gives vectors of shape \(3,\)"):
        embed(Narrow(), ["a"])
