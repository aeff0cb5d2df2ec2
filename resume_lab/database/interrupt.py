"""Long statements that Ctrl-C or a notebook's interrupt stops at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar
from weakref import WeakSet

import psycopg2
from psycopg2.extensions import connection as RawConnection  # noqa: N812

T = TypeVar("T")

_CANCEL_EVERY_S = 0.1
_cancelled: WeakSet[RawConnection] = WeakSet()


def interruptible(connection: RawConnection, work: Callable[[], T]) -> T:
    """Run `work`, which uses `connection`, on a thread; an interrupt cancels it on the server.

    A statement under way in psycopg2 does not notice signals. The main thread waits here, where it
    does, and cancels until the work has ended, in case a cancel falls between two statements.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        finally:
            if not future.done():
                _cancel(connection, future)


def _cancel(connection: RawConnection, work: Future[T]) -> None:
    """Cancel until the work has ended, however often the user presses Ctrl-C meanwhile."""
    try:
        _cancelled.add(connection)
        while not work.done():
            with contextlib.suppress(KeyboardInterrupt):
                with contextlib.suppress(psycopg2.Error):
                    connection.cancel()
                wait([work], timeout=_CANCEL_EVERY_S)
    finally:
        _cancelled.discard(connection)


def is_cancelled(connection: RawConnection) -> bool:
    """Say whether an interrupt is ending the work on `connection`.

    A COPY asks before each part: libpq would send all the rest before it looks at the server's no.
    """
    return connection in _cancelled
