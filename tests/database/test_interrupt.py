"""An interrupt ends a statement on the server, not only the wait for it."""

import signal
import threading
import time

import psycopg2
import pytest
import sqlalchemy as sa
import typer
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.console import EXIT_INTERRUPTED, Group
from resume_lab.database.indexes import raw_connection
from resume_lab.database.interrupt import interruptible, is_cancelled

SLEEP = """
import sys
from resume_lab.config import parse_database_url
from resume_lab.database.indexes import raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.session import engine_for

with engine_for(parse_database_url(sys.argv[1])).connect() as connection:
    raw = raw_connection(connection)
    cursor = raw.cursor()
    try:
        interruptible(raw, lambda: cursor.execute("SELECT pg_sleep(30)"))
    except KeyboardInterrupt:
        raw.rollback()
        cursor.execute("SELECT 'still usable'")
        print(cursor.fetchone()[0])
"""


def sleepers(engine: Engine) -> int:
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = "
        return connection.scalar(sa.text(query + "current_database()"))


def wait_for_sleepers(engine: Engine, number: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while sleepers(engine) != number:
        assert time.monotonic() < deadline, f"{sleepers(engine)} statements run"
        time.sleep(0.02)


def test_ctrl_c_ends_the_statement_here_and_on_the_server(
    empty_database: Engine, start_python
) -> None:
    url = empty_database.url.set(drivername="postgresql").render_as_string()
    process = start_python(SLEEP, url)
    wait_for_sleepers(empty_database, 1, within_s=20)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 2
    assert said.strip() == "still usable", errors
    wait_for_sleepers(empty_database, 0, within_s=1)


def test_without_an_interrupt_the_result_comes_back(empty_database: Engine) -> None:
    with empty_database.connect() as connection:
        raw = raw_connection(connection)
        cursor = raw.cursor()
        interruptible(raw, lambda: cursor.execute("SELECT 6 * 7"))
        assert interruptible(raw, cursor.fetchone) == (42,)


def test_an_error_of_the_statement_comes_back(empty_database: Engine) -> None:
    with empty_database.connect() as connection:
        raw = raw_connection(connection)
        with pytest.raises(psycopg2.errors.DivisionByZero):
            interruptible(raw, lambda: raw.cursor().execute("SELECT 1 / 0"))


class Unwilling:
    """A connection whose first cancels are interrupted and whose work ends at the fourth."""

    def __init__(self) -> None:
        self.cancels = 0
        self.ended = threading.Event()

    def cancel(self) -> None:
        self.cancels += 1
        if self.cancels < 4:
            raise KeyboardInterrupt
        self.ended.set()


def test_further_interrupts_neither_stop_the_cancelling_nor_leave_a_trace() -> None:
    connection = Unwilling()
    main = threading.main_thread().ident

    def work() -> bool:
        time.sleep(0.2)  # until the main thread waits
        signal.pthread_kill(main, signal.SIGINT)
        return connection.ended.wait(10)

    with pytest.raises(KeyboardInterrupt):
        interruptible(connection, work)
    assert connection.cancels >= 4
    assert connection.ended.is_set()
    assert not is_cancelled(connection)


def test_the_server_does_not_work_on_for_a_killed_client(
    empty_database: Engine, start_python
) -> None:
    url = empty_database.url.set(drivername="postgresql").render_as_string()
    process = start_python(SLEEP, url)
    wait_for_sleepers(empty_database, 1, within_s=30)
    process.kill()
    process.communicate()
    wait_for_sleepers(empty_database, 0, within_s=20)


def test_an_interrupt_in_the_middle_of_a_commit_is_an_interrupt(
    empty_database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer(cls=Group)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    @app.command()
    def commit() -> None:
        with empty_database.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            ended = sa.engine.base.RootTransaction
            monkeypatch.setattr(ended, "_deactivate_from_connection", interrupted)

    @app.command()
    def other() -> None: ...

    done = CliRunner().invoke(app, ["commit"])
    monkeypatch.undo()
    assert done.exit_code == EXIT_INTERRUPTED, done.exception
    assert "Interrupted" in done.stderr
