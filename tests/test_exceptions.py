"""Every exception from ruff's rules about security says why it is one."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator

import pytest

from resume_lab.config import project_root

FOLDERS = ("resume_lab", "migrations", "benchmarks", "tests")
NOQA = re.compile(
    r"# (?:ruff: )?noqa(?P<codes>: *[A-Z]+\d+(?:[, ]+[A-Z]+\d+)*)?(?P<reason>.*)", re.I
)
SECURITY = re.compile(r"\bS\d+", re.I)
REASON = re.compile(r" - \w.*")
RULE = re.compile(r'"[A-Z]+\d+"')
RULE_WITH_REASON = re.compile(r'"[A-Z]+\d+",  # \w.*')


def is_unexplained(comment: str) -> bool:
    """Say whether a comment lets a rule about security, or every rule, go without a reason."""
    found = NOQA.match(comment)
    if found is None:
        return False
    codes = found["codes"] or ""
    return not codes or (bool(SECURITY.search(codes)) and not REASON.fullmatch(found["reason"]))


def comments() -> Iterator[tuple[str, str]]:
    """Yield where each comment of the project stands, and the comment."""
    for folder in FOLDERS:
        for file in sorted((project_root() / folder).rglob("*.py")):
            with file.open("rb") as source:
                for token in tokenize.tokenize(source.readline):
                    if token.type == tokenize.COMMENT:
                        yield f"{file}:{token.start[0]}", token.string


def test_each_exception_in_the_code_gives_its_reason() -> None:
    found = list(comments())
    assert sum("noqa: S" in comment for _, comment in found) > 5
    assert [place for place, comment in found if is_unexplained(comment)] == []


def test_each_rule_that_is_ignored_everywhere_gives_its_reason() -> None:
    text = (project_root() / "pyproject.toml").read_text()
    ignored = text.partition("\nignore = [")[2].partition("\n[tool.mypy]")[0]
    lines = [line.strip() for line in ignored.splitlines() if RULE.search(line)]
    assert len(lines) > 5
    assert [line for line in lines if not RULE_WITH_REASON.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("# noqa", True),
        ("# noqa: S608", True),
        ("# noqa: S608 -", True),
        ("# noqa: E501, S608", True),
        ("# ruff: noqa: S101", True),
        ("# noqa: S608 - shown, never run", False),
        ("# noqa: E501, S608 - shown, never run", False),
        ("# noqa: N812", False),
        ("# no reason", False),
    ],
)
def test_a_missing_reason_is_found(comment: str, expected: bool) -> None:
    assert is_unexplained(comment) == expected
