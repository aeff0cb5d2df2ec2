"""Statements as the Python text of a migration."""

from __future__ import annotations

import re

import sqlalchemy as sa

from resume_lab.printable import escaped
from resume_lab.rollout.swap import Steps

LINE_LENGTH = 100
_INDENT = "    "


def body(about: str, steps: Steps) -> str:
    """Return the body of upgrade() or downgrade(), for a template that indents its first line."""
    first, *rest = _in_docstring(about).splitlines()
    end = [*rest, '"""'] if rest else []
    lines = [f'"""{first}' + ("" if rest else '"""'), *end]
    lines.append("with op.get_context().autocommit_block():")
    for statement in steps.alone:
        lines += [_INDENT + line for line in _call(statement, 2 * len(_INDENT))]
    for statement in steps.together:
        lines += _call(statement, len(_INDENT))
    return "\n".join([lines[0], *(f"{_INDENT}{line}".rstrip() for line in lines[1:])])


def _in_docstring(text: str) -> str:
    """Return a text that says the same, and does not end the docstring that it stands in."""
    lines = text.replace("\\", "\\\\").replace('"', '\\"').splitlines()
    return "\n".join(map(escaped, lines))


def _call(statement: str, indent: int) -> list[str]:
    """Return the lines that run a statement, formatted as ruff would."""
    if _is_read_as_it_stands(statement):
        return _wrapped(["op.execute"], statement, LINE_LENGTH - indent)
    return _wrapped(["op.execute", "sa.DDL"], statement.replace("%", "%%"), LINE_LENGTH - indent)


def _is_read_as_it_stands(statement: str) -> bool:
    """Say whether SQLAlchemy finds no parameter, such as :a, in a statement given as a string."""
    compiled = sa.text(statement).compile()
    return not compiled.params and str(compiled) == statement


def _wrapped(calls: list[str], text: str, width: int) -> list[str]:
    line = "(".join([*calls, _python(text)]) + ")" * len(calls)
    if len(line) <= width:
        return [line]
    if not calls:
        return [_python(piece) for piece in _pieces(text, width)]
    inner = _wrapped(calls[1:], text, width - len(_INDENT))
    return [f"{calls[0]}(", *(_INDENT + line for line in inner), ")"]


def _pieces(text: str, width: int) -> list[str]:
    """Cut a text after spaces; put together, the pieces are the text."""
    pieces = [""]
    for word in re.findall(r"\S*\s*", text):
        if pieces[-1] and len(_python(pieces[-1] + word)) > width:
            pieces.append("")
        pieces[-1] += word
    return pieces


def _python(text: str) -> str:
    """Return a string as Python writes it, in the quotes that need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    literal = text.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return f"{quote}{escaped(literal)}{quote}"
