"""The rows of a vector column that a condition selects: counted, sampled, read."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg2
from numpy.typing import NDArray
from psycopg2 import sql

from resume_lab.database import copy
from resume_lab.database.vector_column import UNCHANGED, VectorColumn, words
from resume_lab.errors import DatabaseError

_NEVER_IN_WHERE = {";": "a semicolon", "--": "a comment", "/*": "a comment", "\0": "a zero byte"}


@dataclass(frozen=True)
class VectorRows:
    """The rows that meet `where`, all without one, and whose vector is not NULL."""

    column: VectorColumn
    where: str | None = None
    sample: str = ""
    draw: str = ""

    def __str__(self) -> str:
        return f"{self.column} where {self.where}" if self.where else str(self.column)

    def select(self, what: sql.Composable) -> sql.Composed:
        """Return the query for `what`, with the condition in brackets."""
        return sql.SQL(
            "SELECT {what} FROM {table} {sample} "
            "WHERE {column} IS NOT NULL AND (\n{where}\n) {draw}"
        ).format(
            what=what,
            table=sql.Identifier(*self.column.table),
            sample=sql.SQL(self.sample),
            column=sql.Identifier(self.column.column),
            where=sql.SQL("true" if self.where is None else self.where),
            draw=sql.SQL(self.draw),
        )

    def drawn(self, most: int) -> VectorRows:
        """Return at most so many of these rows, at random and in random order."""
        return replace(self, draw=f"ORDER BY random() LIMIT {most}")

    def sampled(self, share: float, seed: int) -> VectorRows:
        """Return each row with probability `share`, the same rows for the same seed.

        By row, not SYSTEM, which takes whole pages: rows stored side by side are often alike.
        """
        sample = f"TABLESAMPLE BERNOULLI ({100 * share}) REPEATABLE ({seed})"
        return replace(self, sample=sample)


def check_condition(cursor: Any, rows: VectorRows, *, comments: bool = False) -> None:
    """Raise DatabaseError unless `where` is one condition by itself; nothing is run.

    With `comments` it may hold them; a line break must follow wherever it is put. What leaves round
    brackets, as in `true) OR (true`, is a syntax error in square ones. Without a semicolon each
    trial is a single statement. Semicolons and comments are refused within strings too: that needs
    no knowledge of PostgreSQL's many ways to quote.
    """
    where = rows.where
    if where is None:
        return
    for mark, name in _NEVER_IN_WHERE.items():
        if mark in where and not (comments and name == "a comment"):
            raise _not_a_condition(where, f"it holds {name}")
    in_square = sql.SQL("ARRAY[\n{}\n]").format(sql.SQL(where))
    try:
        cursor.execute(sql.SQL("EXPLAIN ") + rows.select(sql.SQL("1")))
        cursor.execute(sql.SQL("EXPLAIN ") + VectorRows(rows.column).select(in_square))
    except UnicodeEncodeError:
        raise _not_a_condition(where, "it is not in the database's encoding") from None
    except psycopg2.Error as error:
        if error.pgcode is None:  # the connection
            raise
        raise _not_a_condition(where, words(error)) from None


def _not_a_condition(where: str, reason: str) -> DatabaseError:
    return DatabaseError(
        f"The condition {where!r} cannot be used: {reason}. {UNCHANGED}",
        hint="Write what would follow WHERE, such as: category = 'news' AND id > 100. "
        "In a string, chr(59) stands for a semicolon.",
    )


def count(cursor: Any, rows: VectorRows) -> int:
    """Count the rows; their vectors are not read."""
    cursor.execute(rows.select(sql.SQL("count(*)")))
    ((number,),) = cursor.fetchall()
    return int(number)


def read(cursor: Any, rows: VectorRows, n_rows: int) -> NDArray[np.float32]:
    """Return the vectors (n_rows, dim); `n_rows` was counted in the same snapshot."""
    column = rows.column
    query = rows.select(sql.Identifier(column.column))
    return copy.read_vectors(cursor.connection, query, n_rows, column.dim)


def at_most(
    cursor: Any, rows: VectorRows, most: int, seed: int
) -> tuple[VectorRows, int, int | None]:
    """Return the rows to read, how many they are, and for a sample about how many there are.

    Where the planner expects many, a sample is counted instead of all. Its size is left to chance,
    so slightly fewer than `most` are aimed at. A view, which has no TABLESAMPLE, is counted and
    sorted at random.
    """
    there: float = _expected(cursor, rows)
    aim = max(most / 2, most - 5 * math.sqrt(most))  # five standard deviations below
    for attempt in itertools.count(seed):
        counted = there <= 2 * most or not rows.column.can_be_sampled
        if counted:
            there = count(cursor, rows)
        if there <= most:
            return rows, int(there), None
        if not rows.column.can_be_sampled:
            return rows.drawn(most), most, int(there)
        share = aim / there
        sample = rows.sampled(share, attempt)
        found = count(cursor, sample)
        if most / 4 <= found <= most:
            return sample, found, int(there if counted else found / share)
        there = max(found, 1) / share  # the planner was wrong
    raise AssertionError("the loop has no end")


def _expected(cursor: Any, rows: VectorRows) -> int:
    """Return how many rows the planner expects."""
    cursor.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + rows.select(sql.SQL("1")))
    ((document,),) = cursor.fetchall()
    return int(document[0]["Plan"]["Plan Rows"])
