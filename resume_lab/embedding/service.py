"""The client of a server that speaks OpenAI's protocol, and its errors as sentences.

The key never gets into a message: it is replaced in what a server says, and of a refused key
nothing is repeated at all, since servers echo it in part.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from resume_lab.config import Settings
from resume_lab.errors import ConfigError, ServiceError

TIMEOUT_S = 60.0
"""Longest wait for an answer, or for the next part of one that streams."""

CONNECT_TIMEOUT_S = 10.0
MAX_RETRIES = 5
"""After 429, 5xx or a broken connection; a time-out is tried again once at most.

The pauses come to about 15 s, unless the server asks for longer ones: up to 2 minutes each. So a
server that is silent is given up after 2 * TIMEOUT_S, one that refuses late after 6 of them and the
pauses.
"""

OPENAI_URL = "https://api.openai.com/v1"
_OPENAI_HOST = "api.openai.com"
NO_KEY = "none"
"""Sent where there is no key: the client wants one, servers that need none ignore it."""

_MESSAGE_CHARS = 300
_UNREADABLE = (ValueError, OverflowError, RecursionError)
"""What the client raises for JSON that is none, or holds huge numbers or deep nesting."""

_LONG_KEY = 12
_KEY_PART = 6
_REFUSALS = {
    401: ("refused the key", "Set OPENAI_API_KEY to a key that is valid there."),
    403: ("does not allow this key to do that", "Take another key or another model."),
    404: (
        "has no such model or no such address",
        "Correct the name of the model, or OPENAI_BASE_URL: it mostly ends in /v1.",
    ),
    429: (
        "keeps refusing: too many requests, or the quota is used up",
        "Wait a minute and start again; look at the limits and the credit of the account.",
    ),
}
_SILENT = (401, 403)


class _Client(openai.DefaultHttpxClient):
    """Lets a request run out of time twice, not MAX_RETRIES times: the server computes it anew."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send it; a time-out of one that was sent before is not tried again by the caller."""
        try:
            return super().send(request, **options)
        except httpx2.TimeoutException as error:
            if request.headers.get("x-stainless-retry-count", "0") == "0":
                raise
            raise openai.APITimeoutError(request) from error


def is_openai(settings: Settings) -> bool:
    """Say whether the server is OpenAI's own, not another that speaks its protocol."""
    return urlsplit(_url(settings)).hostname == _OPENAI_HOST


def check_service(settings: Settings) -> None:
    """Raise ConfigError where neither key nor server is given, or one cannot be right."""
    if not settings.has_model_server:
        raise ConfigError(
            "A model on a server needs OPENAI_API_KEY or OPENAI_BASE_URL.",
            hint="Set one of them in .env, or use the model lexical, which needs neither.",
        )
    if not all("!" <= character <= "~" for character in _key(settings)):
        raise ConfigError(
            "OPENAI_API_KEY holds a character that no key has, such as a space or a curly quote.",
            hint="Copy the key again.",
        )
    if not _is_address(_url(settings)):
        raise ConfigError(
            "OPENAI_BASE_URL is not an address of the form http://host:port/v1.",
            hint="Write it without user, password, ? and #; a key goes into OPENAI_API_KEY.",
        )


def openai_client(settings: Settings) -> openai.OpenAI:
    """Return a client of the server in the settings, to be used in a `with`; none is contacted.

    It follows no redirects, which would take the texts to another server. Raises ConfigError.
    """
    check_service(settings)
    client = openai.OpenAI(
        api_key=_key(settings),
        base_url=_url(settings),
        timeout=openai.Timeout(TIMEOUT_S, connect=min(CONNECT_TIMEOUT_S, TIMEOUT_S)),
        max_retries=MAX_RETRIES,
        http_client=_Client(follow_redirects=False),
    )
    # What the client takes from the environment by itself, an Authorization header included.
    client.admin_api_key = client.organization = client.project = None
    client._custom_headers = {}
    return client


@contextlib.contextmanager
def translated_service_errors(settings: Settings, what: str) -> Iterator[None]:
    """Turn an error of the client into a ServiceError: `what` failed, and why, in one line."""
    try:
        yield
    except (openai.OpenAIError, *_UNREADABLE) as error:
        raise service_error(settings, what, *_explained(error, settings)) from None


def service_error(settings: Settings, what: str, did: str, hint: str) -> ServiceError:
    """Return the error that `what` failed since the server `did` so, in one line and keyless."""
    message = f"{what} failed: {urlsplit(_url(settings)).netloc} {did}"
    return ServiceError(_one_line(message, _key(settings)), hint=hint)


def _explained(error: Exception, settings: Settings) -> tuple[str, str]:
    """Return what the server did, as the end of a sentence, and what to do next."""
    if isinstance(error, openai.APIStatusError):
        return _explained_status(error.status_code, _said(error))
    if isinstance(error, openai.APITimeoutError):
        return f"did not answer within {TIMEOUT_S:g} s.", _timeout_hint(settings)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return (
            f"could not be reached, or the connection broke: {cause}",
            "Check the network and OPENAI_BASE_URL; is the server running?",
        )
    if isinstance(error, openai.APIError):  # in the middle of a stream
        return f"broke off: {_said(error)}", "Try again."
    return "gave an answer that cannot be read.", "Does OPENAI_BASE_URL lead to such an API?"


def _timeout_hint(settings: Settings) -> str:
    if is_openai(settings):
        return "Check the network, or try again later."
    return (
        "Is it still loading the model, or busy? Try again when it is not; "
        "a smaller model answers sooner, and any model does on a graphics card."
    )


def _explained_status(status: int, said: str) -> tuple[str, str]:
    if status in _REFUSALS:
        did, hint = _REFUSALS[status]
    elif status in (405, 501):
        did, hint = "failed", "What answers there speaks another protocol: check OPENAI_BASE_URL."
    elif status >= 500:
        did, hint = "failed", "Try again later."
    elif status < 400:
        did, hint = "sends on to another address", "Set OPENAI_BASE_URL to that address."
    else:
        did, hint = "refused the request", "Change what it complains of."
    if status in _SILENT or not said:
        return f"{did} ({status}).", hint
    return f"{did} ({status}): {said}", hint


def _said(error: openai.APIError) -> str:
    """Return the server's own words, wherever it puts them; empty for a page of HTML."""
    body = error.body
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body.get("error")
    text = "" if body is None else str(body)
    return "" if text.lstrip().startswith("<") else text


def _one_line(text: str, key: str) -> str:
    """Return `text` without line breaks, control characters and the key, cut to 300 characters.

    Servers repeat a long key in part or in small letters too: a word goes from where six characters
    of the key begin. Those of its start, such as sk-pro, count at the start of a word only.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if key != NO_KEY:
        line = line.replace(key, "[key]")
        if len(key) >= _LONG_KEY:
            parts = [re.escape(key[at : at + _KEY_PART]) for at in range(len(key) - _KEY_PART + 1)]
            starts, others = "|".join(parts[:_KEY_PART]), "|".join(parts[_KEY_PART:])
            pattern = rf"(?:(?<!\w)(?:{starts})|{others})\S*"
            line = re.sub(pattern, "[key]", line, flags=re.IGNORECASE)
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 3] + "..."


def _key(settings: Settings) -> str:
    key = settings.openai_api_key
    return NO_KEY if key is None else key.get_secret_value().strip()


def _url(settings: Settings) -> str:
    return (settings.openai_base_url or OPENAI_URL).strip()


def _is_address(url: str) -> bool:
    if not all("!" <= character <= "~" for character in url) or set(url) & set("@?#\\"):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is none
        (parts.hostname or "").encode("idna")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
