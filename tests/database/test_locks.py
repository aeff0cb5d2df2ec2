"""Who is in the way: sessions with locks or an open transaction, as any role may see them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from resume_lab.database.locks import SHOWN, Holder, advisory_holders, holders
from resume_lab.database.session import engine_for

Hold = Callable[..., int]


@pytest.fixture
def hold(database: Engine) -> Iterator[Hold]:
    """Open a transaction in a session of its own, with locks; return the session's pid."""
    with ExitStack() as opened:

        def start(*statements: str, application: str = "notebook") -> int:
            engine = sa.create_engine(
                database.url, poolclass=sa.NullPool, connect_args={"application_name": application}
            )
            connection: Connection = opened.enter_context(engine.connect())
            for statement in statements:
                connection.execute(sa.text(statement))
            return int(connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)

        yield start


def test_nobody_in_the_way_is_nobody(database: Engine) -> None:
    with database.connect() as idle:
        idle.execute(sa.text("SELECT 1"))
        idle.commit()
        assert holders(database) == []


def test_a_holder_is_named_with_its_locks_before_a_transaction_that_holds_none(
    database: Engine, hold: Hold
) -> None:
    idle = hold()
    locking = hold("LOCK TABLE query_logs IN ROW EXCLUSIVE MODE", "SELECT count(*) FROM query_logs")
    first, second = holders(database)
    assert (first.pid, second.pid) == (locking, idle)
    assert first.user == database.url.username
    assert first.application == "notebook"
    assert first.state == "idle in transaction"
    assert first.modes == "AccessShareLock, RowExclusiveLock"
    assert first.open_s is not None
    assert 0 <= first.open_s < 60
    assert second.modes is None
    assert str(first).startswith(f"pid {locking}: user postgres, application notebook, idle in ")


def test_whoever_only_reads_other_tables_is_not_taken_for_who_is_in_the_way(
    database: Engine, hold: Hold
) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("CREATE TABLE other_app (n integer)"))
    innocent = hold("SELECT * FROM other_app")
    reader = hold("SELECT count(*) FROM document_chunks", application="reader")
    culprit = hold("LOCK TABLE chunk_embeddings IN ACCESS EXCLUSIVE MODE")
    assert [holder.pid for holder in holders(database)] == [culprit, reader, innocent]
    assert holders(database)[2].modes is None


def test_only_a_few_are_named(database: Engine, hold: Hold) -> None:
    for _ in range(SHOWN + 1):
        hold()
    assert len(holders(database)) == SHOWN


def test_locks_on_another_database_are_in_nobodys_way(
    database: Engine, hold: Hold, empty_database: Engine
) -> None:
    hold("LOCK TABLE query_logs")
    assert holders(empty_database) == []


def test_a_role_that_may_not_see_others_still_gets_pid_and_locks(
    database: Engine, hold: Hold
) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("CREATE ROLE sees_nothing LOGIN"))
    locking, idle = hold("LOCK TABLE query_logs"), hold()
    engine = engine_for(database.url.set(username="sees_nothing"))
    try:
        found = holders(engine)
    finally:
        engine.dispose()
        with database.begin() as connection:
            connection.execute(sa.text("DROP ROLE sees_nothing"))
    assert [holder.pid for holder in found] == [locking, idle]
    assert found[0].modes == "AccessExclusiveLock"
    assert found[0].application == "notebook"
    assert found[0].state is None
    assert found[0].open_s is None


def test_the_holder_of_an_advisory_lock_is_found_by_its_key(database: Engine, hold: Hold) -> None:
    key = 0x7265_6C61_62
    pid = hold(f"SELECT pg_advisory_lock({key})", application="other")
    hold(f"SELECT pg_advisory_lock({key + 1})")
    with database.connect() as connection:
        (holder,) = advisory_holders(connection, key)
        assert advisory_holders(connection, key + 2) == []
    assert (holder.pid, holder.application, holder.modes) == (pid, "other", None)


def test_a_name_cannot_write_to_the_terminal() -> None:
    holder = Holder(7, "me\x1b[2J", "a\nb", None, None, None)
    assert "\x1b" not in str(holder)
    assert "\n" not in str(holder)


def test_where_asking_fails_nobody_is_named(database: Engine) -> None:
    nowhere = engine_for(database.url.set(database="nowhere"))
    assert holders(nowhere) == []
    nowhere.dispose()
