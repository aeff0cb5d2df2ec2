"""A local server that speaks OpenAI's protocol, on pytest-httpserver's `httpserver` fixture.

The vector of a text counts its words, so texts with words in common are near each other.
"""

from __future__ import annotations

import base64 as b64
import json
import re
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from resume_lab.config import Settings

KEY = "sk-test-0123456789abcdef"
EMBEDDINGS = "/v1/embeddings"
CHAT = "/v1/chat/completions"

Items = list[dict[str, Any]]


def model_settings(httpserver: HTTPServer, key: str | None = KEY, **values: Any) -> Settings:
    """Settings that lead to the local server."""
    return Settings(openai_base_url=httpserver.url_for("/v1"), openai_api_key=key, **values)


def vector_of(text: str, dims: int) -> np.ndarray:
    """What the server answers for `text`, shape (dims,), not of unit length."""
    vector = np.zeros(dims, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()) or [text]:
        vector[zlib.crc32(word.encode()) % dims] += 1
    return vector


def serve_embeddings(
    httpserver: HTTPServer,
    *,
    dims: int = 1536,
    base64: bool = True,
    edit: Callable[[Items], Items] = lambda items: items,
    delay_s: float = 0.0,
) -> None:
    """Answer every request for embeddings; `edit` changes the items of an answer."""

    def answer(request: Request) -> Response:
        time.sleep(delay_s)
        body = request.get_json()
        items = [
            {"object": "embedding", "index": i, "embedding": vector_of(text, dims).tolist()}
            for i, text in enumerate(body["input"])
        ]
        data = [{**item, "embedding": _written(item["embedding"], base64)} for item in edit(items)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return _json({"object": "list", "model": body["model"], "data": data, "usage": usage})

    httpserver.expect_request(EMBEDDINGS, method="POST").respond_with_handler(answer)


def serve_chat(
    httpserver: HTTPServer,
    chunks: Sequence[str | dict[str, object]],
    *,
    finish: object = "stop",
    error: str | None = None,
    broken: bool = False,
    delay_s: float = 0.0,
) -> None:
    """Stream `chunks`, texts or whole deltas, as the answer to every chat request.

    `error` is said by the server after them; `broken` ends the connection there; `finish` None
    leaves out the reason why the answer ends.
    """
    parts = [_part({"content": c} if isinstance(c, str) else c) for c in chunks]
    if error is not None:
        parts.append({"error": {"message": error, "type": "server_error"}})
    elif finish is not None and not broken:
        parts.append(_part({}, finish))
    events = "".join(f"data: {json.dumps(part)}\n\n" for part in parts)

    def answer(request: Request) -> Response:
        time.sleep(delay_s)
        response = Response(
            events + ("" if broken else "data: [DONE]\n\n"), content_type="text/event-stream"
        )
        if broken:  # promises more than it sends
            response.automatically_set_content_length = False
            response.headers["Content-Length"] = str(len(events.encode()) + 100)
        return response

    httpserver.expect_request(CHAT, method="POST").respond_with_handler(answer)


def refuse(
    httpserver: HTTPServer,
    status: int,
    message: str = "",
    *,
    times: int | None = None,
    path: str = EMBEDDINGS,
) -> None:
    """Answer with an error, the first `times` requests or all; retries need not wait."""
    response = _json({"error": {"message": message, "type": "error", "code": None}}, status)
    response.headers["retry-after-ms"] = "1"
    if times is None:
        httpserver.expect_request(path).respond_with_response(response)
    for _ in range(times or 0):
        httpserver.expect_oneshot_request(path).respond_with_response(response)


def asked(httpserver: HTTPServer) -> list[dict[str, Any]]:
    """The bodies of the requests so far, retries among them."""
    return [request.get_json() for request, _ in httpserver.log]


def _written(vector: list[float], as_base64: bool) -> str | list[float]:
    return b64.b64encode(np.array(vector, "<f4").tobytes()).decode() if as_base64 else vector


def _part(delta: dict[str, object], finish: object = None) -> dict[str, Any]:
    return {
        "id": "chat-1", "object": "chat.completion.chunk", "created": 0, "model": "local",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }  # fmt: skip


def _json(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")
