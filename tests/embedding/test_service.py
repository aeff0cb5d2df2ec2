"""The real client against a local server: every failure is a sentence that keeps the key."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from model_server import (
    CHAT,
    EMBEDDINGS,
    KEY,
    asked,
    model_settings,
    refuse,
    serve_chat,
    serve_embeddings,
)
from pytest_httpserver import HTTPServer

from resume_lab.config import Settings
from resume_lab.embedding import service
from resume_lab.embedding.service import check_service, openai_client, translated_service_errors
from resume_lab.errors import ConfigError, ServiceError


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried twice, and no answer is waited for long."""
    monkeypatch.setattr(service, "MAX_RETRIES", 0)
    monkeypatch.setattr(service, "TIMEOUT_S", 0.2)


def embed_one(settings: Settings, model: str = "small") -> None:
    what = f"Embedding with {model}"
    with translated_service_errors(settings, what), openai_client(settings) as client:
        client.embeddings.create(input=["a text"], model=model)


def failure(httpserver: HTTPServer, model: str = "small") -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        embed_one(model_settings(httpserver), model)
    return raised.value


def streamed(settings: Settings) -> Iterator[str]:
    with translated_service_errors(settings, "Answering"), openai_client(settings) as client:
        messages = [{"role": "user", "content": "Who?"}]
        for part in client.chat.completions.create(model="m", messages=messages, stream=True):
            if part.choices and part.choices[0].delta.content:
                yield part.choices[0].delta.content


@pytest.mark.parametrize("status", [401, 403])
def test_of_a_refused_key_nothing_is_repeated(httpserver: HTTPServer, status: int) -> None:
    refuse(httpserver, status, f"Incorrect API key provided: {KEY[:10]}***cdef")
    error = failure(httpserver)
    assert str(status) in error.message
    assert KEY[:10] not in str(error)
    assert "Incorrect" not in str(error)
    assert len(asked(httpserver)) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "refused the request (400): No: key [key], really?"),
        (404, "has no such model or no such address (404): No: key [key], really?"),
        (422, "refused the request (422): No: key [key], really?"),
        (501, "failed (501): No: key [key], really?"),
    ],
)
def test_the_servers_words_are_one_line_without_the_key(
    httpserver: HTTPServer, impatient: None, status: int, said: str
) -> None:
    refuse(httpserver, status, f"No:\n\x1b key {KEY},\u202e\r\nreally?")
    error = failure(httpserver)
    assert error.message.endswith(said)
    assert error.hint


LONG_KEY = "sk-proj-ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize(
    ("key", "words", "said"),
    [
        (LONG_KEY, "sk-proj-ABCDEFGHIJKL... is no key", "[key] is no key"),
        (LONG_KEY, f"Key ({LONG_KEY.lower()} is old", "Key ([key] is old"),
        (LONG_KEY, "the key=SK-PROJ-****wxyz", "the key=[key]"),
        (LONG_KEY, "the task-project sk-1 failed", "the task-project sk-1 failed"),
        ("sk-test", "sk-tester, not sk-test", "[key]er, not [key]"),
        ("a.c*e(123456", "a.c*e(1 but abcdef", "[key] but abcdef"),
    ],
)
def test_a_long_key_is_not_repeated_in_part_either(
    httpserver: HTTPServer, key: str, words: str, said: str
) -> None:
    refuse(httpserver, 400, words)
    with pytest.raises(ServiceError) as raised:
        embed_one(model_settings(httpserver, key=key))
    assert raised.value.message.endswith(f"(400): {said}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": "model not found"}', "(404): model not found"),
        ('{"detail": "Not Found"}', "(404): Not Found"),
        ("<html><h1>nginx</h1></html>", "(404)."),
        ("x" * 5000, "..."),
    ],
)
def test_other_servers_put_their_words_elsewhere(
    httpserver: HTTPServer, body: str, said: str
) -> None:
    httpserver.expect_request(EMBEDDINGS).respond_with_data(body, status=404)
    error = failure(httpserver)
    assert error.message.endswith(said)
    assert len(error.message) <= 300


def test_a_key_given_as_the_model_is_not_shown(httpserver: HTTPServer) -> None:
    refuse(httpserver, 404, "no such model")
    assert KEY not in str(failure(httpserver, model=KEY))


def test_a_server_that_does_not_answer_is_not_waited_for(
    httpserver: HTTPServer, impatient: None
) -> None:
    serve_embeddings(httpserver, delay_s=0.4)
    assert "did not answer within 0.2 s" in failure(httpserver).message
    while not asked(httpserver):  # its late answer belongs to no other test
        time.sleep(0.01)


def test_a_server_that_is_not_there_is_named(impatient: None) -> None:
    settings = Settings(openai_base_url="http://127.0.0.1:1/v1", openai_api_key=KEY)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1 could not be reached.*refused"):
        embed_one(settings)


def test_a_redirect_is_not_followed(httpserver: HTTPServer) -> None:
    httpserver.expect_request(EMBEDDINGS).respond_with_data(
        status=307, headers={"Location": httpserver.url_for("/elsewhere")}
    )
    assert "sends on to another address (307)" in failure(httpserver).message
    assert len(asked(httpserver)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "localhost:11434/v1", "ftp://localhost/v1", "http://", "http:///v1", "http://a b/v1",
        "http://localhost:99999/v1", "http://a..b/v1", "http://user:secret@localhost/v1",
        "http://localhost/v1?key=secret", "http://localhost/v1#x", "http://[::1/v1",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL") as raised:
        check_service(Settings(openai_base_url=url))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-one two", "“sk-curly”", "sk-line\nbreak"])
def test_a_key_that_cannot_be_one_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as raised:
        check_service(Settings(openai_api_key=key))
    assert key not in str(raised.value)


@pytest.mark.parametrize("url", ["http://localhost:11434/v1/", "https://[::1]:8000/v1"])
def test_addresses_of_local_servers_are_taken(url: str) -> None:
    with openai_client(Settings(openai_base_url=url)) as client:
        assert str(client.base_url).startswith(url.rstrip("/"))


def test_without_an_address_the_server_is_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    with openai_client(Settings(openai_api_key=KEY)) as client:
        assert str(client.base_url) == "https://api.openai.com/v1/"


def test_other_errors_pass_through(httpserver: HTTPServer) -> None:
    with (
        pytest.raises(KeyError),
        translated_service_errors(model_settings(httpserver), "Nothing"),
    ):
        raise KeyError


def test_an_answer_streams_in_its_parts(httpserver: HTTPServer) -> None:
    serve_chat(httpserver, ["Grace ", "Hopper\n", "wrote A-0."])
    assert list(streamed(model_settings(httpserver))) == ["Grace ", "Hopper\n", "wrote A-0."]


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ({"error": f"overloaded, {KEY}"}, "broke off: overloaded, [key]"),
        ({"broken": True}, "the connection broke"),
    ],
)
def test_a_stream_that_fails_in_the_middle_gives_its_parts_and_then_the_error(
    httpserver: HTTPServer, failing: dict[str, object], said: str
) -> None:
    serve_chat(httpserver, ["Grace "], **failing)
    parts = streamed(model_settings(httpserver))
    assert next(parts) == "Grace "
    with pytest.raises(ServiceError) as raised:
        next(parts)
    assert said in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("body", ["{no json", "9" * 5000, "[" * 100_000])
def test_a_stream_that_is_not_json_is_said(httpserver: HTTPServer, body: str) -> None:
    httpserver.expect_request(CHAT).respond_with_data(
        f"data: {body}\n\n", content_type="text/event-stream"
    )
    with pytest.raises(ServiceError, match="cannot be read"):
        list(streamed(model_settings(httpserver)))
