"""Passwords that must be found nowhere, and the search for them."""

from __future__ import annotations

import html
import json
import logging
import traceback
from urllib.parse import quote, quote_plus

SECRETS = {
    "plain": "Zk7QxW9vLm2Tqb",
    "reserved": "p@9Q/w#Zd%?:J=&v+8Kq",
    "quoted": "Kw3 \"y'Qz\\9;T$g Vb",
    "foreign": "Pä5Qöß-キーワード7Xz",
}
"""A password each: ordinary; of signs that mean something in a URL; to be quoted; not ASCII."""

PART = 6
"""Characters of a secret that are enough to be called a leak."""


def leaks(text: str, secret: str) -> set[str]:
    """Return the parts of the secret that the text holds, as typed, encoded or escaped."""
    said = text.casefold()
    parts = {secret[at : at + PART] for at in range(len(secret) - PART + 1)}
    return {form for part in parts for form in _forms(part) if form.casefold() in said}


def _forms(part: str) -> set[str]:
    return {
        part,
        quote(part, safe=""),
        quote(part),
        quote_plus(part),
        repr(f'"{part}')[2:-1],
        json.dumps(part)[1:-1],
        html.escape(part),
    }


def everything_said(error: BaseException) -> str:
    """Return all that an error says: itself, its traceback, its causes, in a log, in a notebook."""
    said = [*traceback.format_exception(error)]
    link: BaseException | None = error
    while link is not None:  # what `from None` hides too
        said += [str(link), repr(link), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    exc_info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("lab", logging.ERROR, "", 0, "It failed: %r", (error,), exc_info)
    said.append(logging.Formatter().format(record))
    if hasattr(error, "_render_traceback_"):
        said += error._render_traceback_()
    return "\n".join(said)
