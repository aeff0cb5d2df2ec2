"""What a caller gives by name or as a number: a wrong one is refused with what is permitted."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NoReturn

from resume_lab.errors import DataError, LabError


class Choice(StrEnum):
    """One of a few names; Choice(name) raises DataError for any other."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        permitted = ", ".join(cls)
        raise DataError(f"{cls.__name__.lower()} is {value!r}; permitted: {permitted}.")


def is_text(value: str) -> bool:
    """Say whether PostgreSQL can hold it: no zero byte, and no half of a character."""
    return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


def whole(
    value: Any, what: str, *, least: int | None = 1, error: type[LabError] = DataError
) -> int:
    """Return a whole number, NumPy's too; raises `error` for another, or one below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise error(f"{what} is {value!r}; permitted: whole numbers.") from None
    if least is not None and number < least:
        raise error(f"{what} is {number}; permitted: {least} or more.")
    return number


def wholes(values: Iterable[Any], what: str, *, error: type[LabError] = DataError) -> list[int]:
    """Return whole numbers in order, each once; raises `error` for anything else."""
    if not isinstance(values, Iterable):
        raise error(f"{what} is {values!r}; permitted: a list.", hint=f"Such as {what}=[10, 50].")
    return sorted({whole(value, what, least=None, error=error) for value in values})
