"""An answer that a model writes from the passages, its citations checked while it streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from resume_lab.config import Settings
from resume_lab.errors import ServiceError
from resume_lab.generation.answer import Answer, joined, says_unknown
from resume_lab.generation.characters import WholeCharacters
from resume_lab.generation.citations import CitationFilter
from resume_lab.generation.prompt import fitting, messages
from resume_lab.printable import plain
from resume_lab.retrieval.hit import SearchResult, excerpt

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam

_ENDINGS = {
    "length": "The model stopped at its length limit: the answer is not complete.",
    "content_filter": "The server's content filter ended the answer.",
    None: "The server did not say that the answer is finished: it may not be complete.",
}


def answer_by_model(
    found: SearchResult, client: OpenAI, settings: Settings, say: Callable[[str], object]
) -> Answer:
    """Return what the model answers; `say` gets each piece of its text, already checked.

    Raises ServiceError where the server fails or gives no text.
    """
    hits = fitting(found.hits)
    citations = CitationFilter(len(hits))
    text, ending = "", None
    with contextlib.closing(_streamed(client, settings, messages(found.question, hits))) as stream:
        for piece, stopped in _checked(stream, citations):
            say(piece)
            text += piece
            ending = stopped or ending
    if not text.strip():
        raise _failure(settings, f"it wrote no text (it stopped by {ending}).")
    is_known = not says_unknown(text)
    cut_short = _ENDINGS.get(ending)
    return Answer(
        question=found.question,
        text=text,
        hits=found.hits,
        cited=tuple(sorted(citations.cited)),
        by=settings.chat_model,
        is_known=is_known,
        note=joined(
            cut_short,
            _left_out(len(hits), len(found.hits)),
            _on_citations(citations, is_known),
        ),
        cut_short=cut_short,
    )


def _streamed(
    client: OpenAI, settings: Settings, asked: Sequence[ChatCompletionMessageParam]
) -> Generator[tuple[str, str | None]]:
    """Yield each piece of text, and with the last why the model stopped.

    No tools are offered, and no temperature is set: some models refuse one.
    """
    from resume_lab.embedding.service import translated_service_errors  # slow to import: openai

    whole = WholeCharacters()
    with translated_service_errors(settings, f"Asking {settings.chat_model}"):
        try:
            chunks = client.chat.completions.create(
                model=settings.chat_model, messages=asked, stream=True
            )
            with chunks:
                for chunk in chunks:
                    for choice in chunk.choices or ():
                        text = choice.delta.content or choice.delta.refusal or ""
                        yield plain(whole.feed(text)), _ending(choice.finish_reason)
            yield plain(whole.close()), None
        except (AttributeError, TypeError):  # openai passes on unchecked what a server sends
            raise _failure(settings, "what came is no part of an answer.") from None


def _ending(reason: object) -> str | None:
    """Return why the model stopped, printable: a server may send anything."""
    return None if reason is None else excerpt(str(reason))


def _checked(
    stream: Iterable[tuple[str, str | None]], citations: CitationFilter
) -> Iterator[tuple[str, str | None]]:
    for piece, stopped in stream:
        yield citations.feed(piece), stopped
    yield citations.close(), None


def _failure(settings: Settings, why: str) -> ServiceError:
    return ServiceError(
        f"Asking {settings.chat_model} failed: {why}",
        hint="Ask again, or name another model in CHAT_MODEL.",
    )


def _left_out(n_sent: int, n_found: int) -> str | None:
    if n_sent == n_found:
        return None
    return f"Only the first {n_sent} of {n_found} passages were sent: a request takes no more."


def _on_citations(citations: CitationFilter, is_known: bool) -> str | None:
    if citations.astray:
        named = excerpt(", ".join(dict.fromkeys(citations.astray)))
        return f"The answer cited a passage that was not retrieved: {named}."
    if is_known and not citations.cited:
        return "The answer cites no passage: check it yourself."
    return None
