"""The real client against a local server: what is asked, and what is made of the answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from model_server import (
    EMBEDDINGS,
    KEY,
    Items,
    asked,
    model_settings,
    refuse,
    serve_embeddings,
    vector_of,
)
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from resume_lab.config import Settings
from resume_lab.embedding import embed, remote, service
from resume_lab.embedding.remote import (
    OPENAI_LIMITS,
    OTHER_LIMITS,
    Limits,
    RemoteEmbedder,
    requests,
)
from resume_lab.errors import ConfigError, DataError, LabError, ServiceError

MODEL = "text-embedding-3-small"
TEXTS = ["Grace Hopper wrote a compiler", "the moth in the relay", "COBOL, and the compiler"]


def embedder(httpserver: HTTPServer, model: str = MODEL, **settings: object) -> RemoteEmbedder:
    return RemoteEmbedder(model, model_settings(httpserver, **settings))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def failure(httpserver: HTTPServer, **settings: object) -> LabError:
    with pytest.raises(LabError) as raised:
        embed(embedder(httpserver, **settings), TEXTS)
    return raised.value


@pytest.mark.parametrize("base64", [True, False])
def test_vectors_come_back_at_unit_length_whether_in_base64_or_as_numbers(
    httpserver: HTTPServer, base64: bool
) -> None:
    serve_embeddings(httpserver, base64=base64)
    vectors = embed(embedder(httpserver), TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, unit(np.stack([vector_of(t, 1536) for t in TEXTS])), 1e-6)


def test_the_request_holds_the_texts_the_model_and_the_key(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver)
    embed(embedder(httpserver), TEXTS)
    assert asked(httpserver) == [
        {"input": TEXTS, "model": MODEL, "dimensions": 1536, "encoding_format": "base64"}
    ]
    assert httpserver.log[0][0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [
        ("text-embedding-3-large", 1536),
        ("openai/text-embedding-3-large", 1536),
        ("text-embedding-ada-002", None),
        ("nomic-embed-text", None),
    ],
)
def test_only_models_that_can_be_cut_are_asked_for_1536_dimensions(
    httpserver: HTTPServer, model: str, dimensions: int | None
) -> None:
    serve_embeddings(httpserver)
    embed(embedder(httpserver, model), TEXTS)
    assert asked(httpserver)[0].get("dimensions") == dimensions


def test_a_server_that_needs_no_key_gets_a_placeholder(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver)
    embed(embedder(httpserver, key=None), TEXTS)
    assert httpserver.log[0][0].headers["Authorization"] == "Bearer none"


def test_nothing_is_taken_from_the_environment_but_the_settings(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = model_settings(httpserver, key=None)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-other")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-other")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-third\nX-Mine: 1")
    serve_embeddings(httpserver)
    embed(RemoteEmbedder(MODEL, settings), TEXTS)
    headers = httpserver.log[0][0].headers
    assert headers["Authorization"] == "Bearer none"
    assert not {"Openai-Organization", "Openai-Project", "X-Mine"} & set(headers.keys())


def test_an_answer_in_another_order_is_put_back_by_its_numbers(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver, edit=lambda items: items[::-1])
    vectors = embed(embedder(httpserver), TEXTS)
    np.testing.assert_allclose(vectors, unit(np.stack([vector_of(t, 1536) for t in TEXTS])), 1e-6)


def test_short_vectors_are_padded_and_keep_their_cosines(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver, dims=48)
    vectors = embed(embedder(httpserver, "nomic-embed-text"), TEXTS)
    short = unit(np.stack([vector_of(text, 48) for text in TEXTS]))
    assert vectors.shape == (3, 1536)
    assert not vectors[:, 48:].any()
    np.testing.assert_allclose(vectors @ vectors.T, short @ short.T, atol=1e-6)


def test_too_long_vectors_are_refused(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver, dims=3072)
    with pytest.raises(ConfigError, match=r"3,072 dimensions; the column holds 1,536"):
        embed(embedder(httpserver, "qwen"), TEXTS)


def test_nothing_is_asked_before_vectors_are_drawn(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver, dims=2)
    batches = embedder(httpserver).batches(["a"] * 66)
    assert asked(httpserver) == []
    assert next(batches).shape == (64, 1536)
    assert len(asked(httpserver)) == 1
    assert [len(batch) for batch in batches] == [2]


def test_no_texts_need_no_request(httpserver: HTTPServer) -> None:
    assert embed(embedder(httpserver), []).shape == (0, 1536)
    assert asked(httpserver) == []


@pytest.mark.parametrize(
    ("limits", "tokens", "bounds"),
    [
        (OPENAI_LIMITS, [], []),
        (OPENAI_LIMITS, [5], [(0, 1)]),
        (OPENAI_LIMITS, [1] * 4097, [(0, 2048), (2048, 4096), (4096, 4097)]),
        (OPENAI_LIMITS, [8000] * 32, [(0, 31), (31, 32)]),
        (OTHER_LIMITS, [1] * 129, [(0, 64), (64, 128), (128, 129)]),
        (OTHER_LIMITS, [8000, 8000, 1, 8192, 8192], [(0, 2), (2, 4), (4, 5)]),
    ],
)
def test_requests_keep_to_the_limits_of_the_server(
    limits: Limits, tokens: list[int], bounds: list[tuple[int, int]]
) -> None:
    assert list(requests(tokens, limits)) == bounds


def test_a_server_of_ones_own_gets_few_texts_and_tokens_at_once(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver, dims=2)
    embed(embedder(httpserver), ["a"] * 64 + ["word " * 6000] * 3)
    assert [len(body["input"]) for body in asked(httpserver)] == [64, 2, 1]


def test_openai_gets_its_own_limits_however_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def count(self: RemoteEmbedder, client: object, texts: list[str]) -> np.ndarray:
        sizes.append(len(texts))
        return np.empty((len(texts), 1536), np.float32)

    monkeypatch.setattr(RemoteEmbedder, "_embedded", count)  # nothing may reach the real server
    for url in (None, "https://api.openai.com/v1/"):
        settings = Settings(openai_api_key=KEY, openai_base_url=url)
        embed(RemoteEmbedder(MODEL, settings), ["a"] * 2049)
    assert sizes == [2048, 1, 2048, 1]


def test_every_text_is_in_exactly_one_request() -> None:
    tokens = np.random.default_rng(0).integers(1, remote.MAX_TEXT_TOKENS + 1, 500).tolist()
    bounds = list(requests(tokens, OTHER_LIMITS))
    assert (bounds[0][0], bounds[-1][1]) == (0, 500)
    assert all(before[1] == after[0] for before, after in pairwise(bounds))
    assert max(sum(tokens[a:b]) for a, b in bounds) <= OTHER_LIMITS.tokens


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" \n", "Text 2 of 2 is blank"),
        ("word " * 8193, "Text 2 of 2 has 8,19"),
        ("half \udcff", "Text 2 of 2 holds half a character"),
    ],
)
def test_a_text_that_cannot_be_embedded_is_named_before_anything_is_paid(
    httpserver: HTTPServer, text: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        embed(embedder(httpserver), ["fine", text])
    assert asked(httpserver) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(httpserver: HTTPServer, status: int) -> None:
    refuse(httpserver, status, "busy", times=3)
    serve_embeddings(httpserver)
    assert embed(embedder(httpserver), TEXTS).shape == (3, 1536)
    assert len(asked(httpserver)) == 4


def test_a_server_that_stays_busy_is_asked_six_times(httpserver: HTTPServer) -> None:
    refuse(httpserver, 429, "Rate limit reached")
    error = failure(httpserver)
    assert isinstance(error, ServiceError)
    assert "Embedding 3 texts with text-embedding-3-small failed" in error.message
    assert "(429): Rate limit reached" in error.message
    assert len(asked(httpserver)) == 6


def late(_: Request) -> Response:
    time.sleep(0.3)
    return Response(status=500)


def test_after_a_time_out_it_is_tried_again(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TIMEOUT_S", 0.2)
    httpserver.expect_oneshot_request(EMBEDDINGS).respond_with_handler(late)
    serve_embeddings(httpserver)
    assert embed(embedder(httpserver), TEXTS).shape == (3, 1536)


def test_after_two_time_outs_it_is_given_up(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TIMEOUT_S", 0.2)
    for _ in range(2):
        httpserver.expect_oneshot_request(EMBEDDINGS).respond_with_handler(late)
    serve_embeddings(httpserver)
    error = failure(httpserver)
    assert "did not answer within 0.2 s" in error.message
    assert "a smaller model" in str(error.hint)
    time.sleep(0.5)  # its late answer belongs to no other test
    assert len(asked(httpserver)) == 2


def with_values(value: object) -> Callable[[Items], Items]:
    return lambda items: [{**items[0], "embedding": value}, *items[1:]]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda items: items[:2], "2 vectors for 3 texts"),
        (lambda items: [], "0 vectors for 3 texts"),
        (lambda items: [items[0], items[0], items[1]], "not numbered as the texts are"),
        (lambda items: [{**item, "index": None} for item in items], "not numbered"),
        (lambda items: [{**item, "index": [0]} for item in items], "not numbered"),
        (with_values([1.0, 2.0]), "different lengths"),
        (with_values([0.0] * 8), "zero or not finite"),
        (with_values([1.0] * 7 + [float("nan")]), "zero or not finite"),
        (with_values([1.0] * 7 + [float("inf")]), "zero or not finite"),
        (with_values([1e300] * 8), "zero or not finite"),
        (with_values(None), "cannot be read"),
        (with_values([10**400] * 8), "cannot be read"),
        (with_values([[10**400] * 8]), "cannot be read"),
        (with_values(["key", KEY]), "cannot be read"),
        (with_values([[1.0] * 8]), "cannot be read"),
        (with_values("no base64!"), "cannot be read"),
    ],
)
def test_an_answer_that_is_no_vector_for_each_text_is_refused(
    httpserver: HTTPServer, edit: Callable[[Items], Items], said: str
) -> None:
    serve_embeddings(httpserver, dims=8, base64=False, edit=edit)
    error = failure(httpserver)
    assert isinstance(error, ServiceError)
    assert said in error.message
    assert KEY not in str(error)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<html>Welcome</html>", "text/html"),
        ("{not json", "application/json"),
        ("\udcff", "application/json"),
        ("[]", "application/json"),
        ("{}", "application/json"),
        ("null", "application/json"),
        (f'{{"data": [{"9" * 5000}]}}', "application/json"),
        ("[" * 100_000, "application/json"),
    ],
)
def test_a_page_that_is_no_answer_is_refused(
    httpserver: HTTPServer, body: str, content_type: str
) -> None:
    httpserver.expect_request(EMBEDDINGS).respond_with_data(
        body.encode(errors="surrogateescape"), content_type=content_type
    )
    assert isinstance(failure(httpserver), ServiceError)


def test_what_is_kept_survives_a_later_failure(httpserver: HTTPServer) -> None:
    serve_embeddings(httpserver, dims=2)
    batches = embedder(httpserver).batches(["a"] * 65)
    assert next(batches).shape == (64, 1536)
    httpserver.clear()
    refuse(httpserver, 400, "no more")
    with pytest.raises(ServiceError, match=r"Embedding 1 texts .* no more"):
        next(batches)


def test_neither_key_nor_server_is_said_before_anything_is_embedded() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY or OPENAI_BASE_URL") as raised:
        RemoteEmbedder(MODEL, Settings())
    assert "lexical" in str(raised.value)
