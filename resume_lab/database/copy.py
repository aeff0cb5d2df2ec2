"""Rows into PostgreSQL as binary COPY, straight from arrays, a batch at a time.

psycopg2 has no binary adaptation, so the stream is built here. Its format is that of the
PostgreSQL manual, "COPY, Binary Format"; that of a vector is pgvector's `vector_recv`: int16
dimensions, int16 zero, then each element as big-endian float4.
"""

from __future__ import annotations

import contextlib
import queue
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import psycopg2
from numpy.typing import NDArray
from psycopg2 import sql
from psycopg2.extensions import QueryCanceledError
from psycopg2.extensions import connection as RawConnection  # noqa: N812

from resume_lab.database.failures import translated_driver_errors
from resume_lab.database.interrupt import is_cancelled
from resume_lab.errors import DataError

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
NULL = struct.pack(">i", -1)
_READ_BYTES = 1 << 20

_HELD = ("pg_temp", "lab_rows_to_insert")
_HOLD = sql.SQL("CREATE TEMPORARY TABLE {held} AS SELECT {columns} FROM {table} WITH NO DATA")
_INSERT_HELD = sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {held}")
_DROP_HELD = sql.SQL("DROP TABLE {held}")

T = TypeVar("T")

Column = NDArray[Any] | bytes
"""One column of a batch: int32 (n,), float32 (n, dim) for vectors, or one value for all rows."""


def copy_rows(
    connection: RawConnection,
    table: Sequence[str],
    columns: Sequence[str],
    batches: Iterable[bytes],
) -> int:
    """Stream encoded batches into `table` (schema and name, or name); return the rows written.

    Runs in the connection's transaction; memory holds one batch at a time. Where row level security
    holds this role PostgreSQL takes no COPY, so the rows go through a temporary table.
    """
    names = {
        "table": sql.Identifier(*table),
        "held": sql.Identifier(*_HELD),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
    }
    with translated_driver_errors(), connection.cursor() as cursor:
        cursor.execute("SELECT row_security_active(%s)", [names["table"].as_string(cursor)])
        if cursor.fetchone() == (False,):
            return _copy(connection, table, columns, batches)
        cursor.execute(_HOLD.format(**names))
        _copy(connection, _HELD, columns, batches)
        cursor.execute(_INSERT_HELD.format(**names))
        rows = int(cursor.rowcount)
        cursor.execute(_DROP_HELD.format(**names))
        return rows


def _copy(
    connection: RawConnection,
    table: Sequence[str],
    columns: Sequence[str],
    batches: Iterable[bytes],
) -> int:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(*table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    stream = _Stream(connection, batches)
    with translated_driver_errors(), _last_words(), connection.cursor() as cursor:
        try:
            cursor.copy_expert(statement, stream, size=_READ_BYTES)
        except psycopg2.Error:
            if stream.error is not None:  # psycopg2 made a failed COPY of it
                raise stream.error from None
            raise
        return int(cursor.rowcount)


@contextlib.contextmanager
def _last_words() -> Iterator[None]:
    """Raise what a server says before it dies during a COPY, not that the connection is gone.

    psycopg2 meets both: it raises the second, and prints the first through sys.excepthook.
    """
    printed = _LastWords.listen()
    try:
        yield
    except psycopg2.Error as error:
        raise (printed or [error])[0] from None
    finally:
        _LastWords.leave()


class _LastWords:
    """The hook that hears them, there while any thread copies; each thread hears its own."""

    _lock = threading.Lock()
    _listening = 0
    _before: Callable[..., object] = sys.excepthook
    _own = threading.local()

    @classmethod
    def listen(cls) -> list[psycopg2.Error]:
        printed: list[psycopg2.Error] = []
        cls._own.printed = printed
        with cls._lock:
            if cls._listening == 0:
                cls._before, sys.excepthook = sys.excepthook, cls._hook
            cls._listening += 1
        return printed

    @classmethod
    def leave(cls) -> None:
        cls._own.printed = None
        with cls._lock:
            cls._listening -= 1
            if cls._listening == 0:
                sys.excepthook = cls._before

    @classmethod
    def _hook(cls, kind: Any, error: BaseException, traceback: Any) -> None:
        printed = getattr(cls._own, "printed", None)
        said = error.__cause__ if isinstance(error, SystemError) else None
        if printed is not None and isinstance(said, psycopg2.Error):
            printed.append(said)
        else:
            cls._before(kind, error, traceback)


class _Stream:
    """The file that psycopg2 reads: header, batches, trailer."""

    def __init__(self, connection: RawConnection, batches: Iterable[bytes]) -> None:
        self._connection = connection
        self._parts = self._framed(batches)
        self.error: BaseException | None = None

    @staticmethod
    def _framed(batches: Iterable[bytes]) -> Iterator[bytes]:
        yield HEADER
        yield from batches
        yield TRAILER

    def read(self, size: int = -1, /) -> bytes:
        """Return the next part whole, whatever `size` is asked; empty at the end."""
        try:
            if is_cancelled(self._connection):
                raise QueryCanceledError("interrupted")
            return next((part for part in self._parts if part), b"")
        except BaseException as error:
            self.error = error
            raise

    readline = read


def read_vectors(
    connection: RawConnection, query: sql.Composable, rows: int, dim: int
) -> NDArray[np.float32]:
    """Return the vectors that `query` selects, one column of `rows` vectors, as (rows, dim)."""
    sink = _VectorSink(rows, dim)
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    with translated_driver_errors(), connection.cursor() as cursor:
        cursor.copy_expert(statement, sink)
    return sink.vectors()


class _VectorSink:
    """The file that psycopg2 writes to: whole rows go into the array as they come."""

    def __init__(self, rows: int, dim: int) -> None:
        self._array = np.empty((rows, dim), dtype=np.float32)
        self._filled = 0
        self._intact = True
        self._pending = bytearray()
        self._header_left = len(HEADER)
        self._head = struct.pack(">hihh", 1, 4 + 4 * dim, dim, 0)  # columns, bytes, dim, unused
        self._row = np.dtype([("head", f"S{len(self._head)}"), ("value", ">f4", (dim,))])

    def write(self, data: bytes, /) -> int:
        """Take what the server sent; it need not end at the end of a row."""
        self._pending += data
        if len(self._pending) > _READ_BYTES:
            self._store()
        return len(data)

    def _store(self) -> None:
        start, self._header_left = self._header_left, 0
        rows = (len(self._pending) - start) // self._row.itemsize
        block = np.frombuffer(self._pending, self._row, rows, start)
        self._intact &= bool((block["head"] == self._head).all())
        kept = block["value"][: max(0, len(self._array) - self._filled)]
        self._array[self._filled : self._filled + len(kept)] = kept
        self._filled += rows
        del block, kept  # they hold the buffer
        del self._pending[: start + rows * self._row.itemsize]

    def vectors(self) -> NDArray[np.float32]:
        """Return the array; raises DataError if the server sent other rows than expected."""
        self._store()
        whole = self._intact and bytes(self._pending) == TRAILER
        if not whole or self._filled != len(self._array):
            raise DataError(
                f"Expected {len(self._array)} vectors of {self._array.shape[1]} dimensions, "
                f"read {self._filled}.",
                hint="Were rows written meanwhile? Run the same command again.",
            )
        return self._array


def encode_batch(*columns: Column) -> bytes:
    """Return the rows of one batch, every column of one width, as one block of bytes."""
    rows = {len(column) for column in columns if not isinstance(column, bytes)}
    if len(rows) != 1:
        raise DataError(f"Columns of one batch have different lengths: {sorted(rows)}.")
    fields: list[tuple[Any, ...]] = [("columns", ">i2")]
    for number, column in enumerate(columns):
        fields += [(f"length{number}", ">i4"), *_fields(number, column)]
    batch = np.empty(rows.pop(), dtype=np.dtype(fields))
    batch["columns"] = len(columns)
    for number, column in enumerate(columns):
        _fill(batch, number, column)
    return batch.tobytes()


def _fields(number: int, column: Column) -> list[tuple[Any, ...]]:
    if isinstance(column, bytes):
        return [(f"value{number}", f"V{len(column)}")] if column else []
    if column.ndim == 2:
        head = [(f"dim{number}", ">i2"), (f"unused{number}", ">i2")]
        return [*head, (f"value{number}", ">f4", (column.shape[1],))]
    return [(f"value{number}", ">i4")]


def _fill(batch: NDArray[np.void], number: int, column: Column) -> None:
    if isinstance(column, bytes):
        batch[f"length{number}"] = len(column)
        if column:
            batch[f"value{number}"] = np.void(column)
        return
    batch[f"value{number}"] = column
    if column.ndim == 2:
        batch[f"length{number}"] = 4 + 4 * column.shape[1]
        batch[f"dim{number}"] = column.shape[1]
        batch[f"unused{number}"] = 0
    else:
        batch[f"length{number}"] = 4


@contextlib.contextmanager
def ahead(batches: Iterable[T], *, depth: int = 4) -> Iterator[Iterator[T]]:
    """Make the next batches on a thread while the server takes the last one.

    At most `depth` batches wait, so memory stays flat. An error on the thread is raised here.
    """
    ready: queue.Queue[T | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def produce() -> None:
        try:
            for batch in batches:
                ready.put(batch)
                if stopped.is_set():
                    return
            ready.put(None)
        except BaseException as error:  # handed to the thread that consumes
            ready.put(error)

    def consume() -> Iterator[T]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stopped.set()
        while thread.is_alive():  # it may wait for room in the queue
            with contextlib.suppress(queue.Empty):
                ready.get_nowait()
            thread.join(0.01)


def encode_rows(rows: Iterable[Sequence[bytes | None]]) -> bytes:
    """Return rows of values of any width, already in their binary form, as one block of bytes."""
    parts: list[bytes] = []
    for row in rows:
        parts.append(struct.pack(">h", len(row)))
        parts.extend(
            NULL if value is None else struct.pack(">i", len(value)) + value for value in row
        )
    return b"".join(parts)


def vector_text(vector: NDArray[np.float32]) -> str:
    """Return a vector, shape (dim,), as pgvector reads it; nine digits carry a float32 whole."""
    return f"[{','.join(['%.9g'] * len(vector))}]" % tuple(vector.tolist())


def int4(value: int) -> bytes:
    """Return an integer in the binary form of PostgreSQL's `integer`."""
    return struct.pack(">i", value)


def text(value: str) -> bytes:
    """Return a string in the binary form of `text` and `varchar`; a zero byte is refused."""
    if "\0" in value:
        raise DataError(
            "A text holds a zero byte, which PostgreSQL cannot store.",
            hint="Remove the \\x00 from it.",
        )
    return value.encode()


def jsonb(value: str) -> bytes:
    """Return JSON text in the binary form of `jsonb`: format version 1, then the text."""
    return b"\x01" + text(value)
