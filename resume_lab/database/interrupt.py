"""Long statements that Ctrl-C or a notebook's interrupt stops at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
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
    outcome: Future[T] = Future()
    given_up = threading.Event()

    def run() -> None:
        try:
            if given_up.is_set():  # interrupted before it began
                raise KeyboardInterrupt
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()  # an interrupt may come before this returns
        return outcome.result()
    finally:
        given_up.set()
        if thread.is_alive() and not outcome.done():
            _cancel(connection, outcome)


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


def was_interrupted(error: BaseException) -> bool:
    """Say whether an interrupt is behind an error.

    SQLAlchemy, interrupted at the end of a commit, fails an assertion of its own.
    """
    if isinstance(error, AssertionError):
        return isinstance(error.__context__, KeyboardInterrupt)
    return isinstance(error, KeyboardInterrupt)


def is_cancelled(connection: RawConnection) -> bool:
    """Say whether an interrupt is ending the work on `connection`.

    A COPY asks before each part: libpq would send all the rest before it looks at the server's no.
    """
    return connection in _cancelled
