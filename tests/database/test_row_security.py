"""Row level security: what a reader sees, that nothing is seen without being let, and its plan."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.indexes import execute
from resume_lab.database.role_migration import lacking
from resume_lab.database.role_rights import find_rights
from resume_lab.database.roles import OWNER, READER, READS, TABLES, WRITER
from resume_lab.database.row_security import (
    FORCED,
    let_read,
    source_role,
    state,
    still_lacking,
    taking_back,
)
from resume_lab.errors import ConfigError, DatabaseError, DataError
from resume_lab.generation import ask
from resume_lab.retrieval import search
from tests.database.made_roles import (
    count,
    drop_roles,
    ingest,
    logged_in,
    make_roles,
    run,
    settings,
    tuned,
)

QUESTION = "Who wrote the first compiler?"


@pytest.fixture
def secured(database: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A database with row level security and three files under each of two names."""
    ingest(database, tmp_path / "content")
    ingest(database, tmp_path / "other", name="team's/other")
    tuned(database)
    make_roles(database, with_row_security=True)
    yield database
    drop_roles(database)


def let(engine: Engine, role: str, *sources: str) -> None:
    with engine.begin() as connection:
        for source in sources:
            let_read(connection, role, source)


def seen(engine: Engine, role: str) -> tuple[int, ...]:
    """Return how many rows of chunks and embeddings a role sees."""
    with logged_in(engine, role) as own:
        return tuple(count(own, table) for table in TABLES[:2])


# --- who sees what


def test_a_reader_sees_the_sources_that_it_was_let_to_read(secured: Engine, tmp_path: Path) -> None:
    assert seen(secured, READER) == (0, 0)
    with (
        logged_in(secured, READER) as reader,
        pytest.raises(DataError, match="none that this role may read") as raised,
    ):
        search(QUESTION, engine=reader, settings=settings(tmp_path))
    assert "resume-lab roles --let" in str(raised.value.hint)
    let(secured, READER, "content/")
    assert seen(secured, READER) == (3, 3)
    with logged_in(secured, READER) as reader:
        for by in ("vectors", "words", "hybrid"):
            found = search(QUESTION, engine=reader, k=9, by=by, settings=settings(tmp_path))
            assert {hit.source_file.partition("/")[0] for hit in found} == {"content"}, by
        answer = ask(QUESTION, engine=reader, answer_by="passages", settings=settings(tmp_path))
        assert (answer.is_known, answer.note) == (True, None)
    assert count(secured, "query_logs") == 1
    let(secured, READER, "team's/other")
    assert seen(secured, READER) == (6, 6)
    run(secured, taking_back(READER, "content"))
    assert seen(secured, READER) == (3, 3)


SOURCES = [
    ("content/a.md", "content", True),
    ("contents/a.md", "content", False),
    ("content/work/a.md", "content/work", True),
    ("content/a.md", "content/work", False),
    ("/srv/docs/a.md", "/srv/docs", True),
    ("synthetic/random/seed=0", "synthetic/random/seed=0", True),
    ("100%_/a.md", "100%_", True),
    ("1000_/a.md", "100%_", False),
    ("\"o'; DROP\\/a.md", "\"o'; DROP\\", True),
    ("naïve/é.md", "naïve", True),
]
"""A file's name, the source that a reader is let to read, and whether it then sees the file."""


def test_a_source_is_a_name_and_what_is_below_it(secured: Engine) -> None:
    for source_file, source, is_seen in SOURCES:
        with secured.begin() as connection:
            renamed = sa.text("UPDATE document_chunks SET source_file = :name")
            connection.execute(renamed, {"name": source_file})
        let(secured, READER, source)
        assert seen(secured, READER) == ((6, 6) if is_seen else (0, 0)), source_file
        run(secured, taking_back(READER, source))


def test_a_login_of_ones_own_reads_through_the_reader(secured: Engine) -> None:
    run(secured, "CREATE ROLE trial_alice LOGIN", f"GRANT {READER} TO trial_alice")
    assert seen(secured, "trial_alice") == (0, 0)
    let(secured, "trial_alice", "content")
    assert seen(secured, "trial_alice") == (3, 3)
    assert seen(secured, READER) == (0, 0)
    with secured.connect() as connection:
        assert find_rights(connection).sources == {"content": ["trial_alice"]}


def test_a_writer_and_the_owner_see_and_change_every_row(secured: Engine) -> None:
    for role in (OWNER, WRITER):
        assert seen(secured, role) == (6, 6)
        with logged_in(secured, role) as engine:
            run(engine, "INSERT INTO query_logs (query_text) VALUES ('a')")
    with logged_in(secured, WRITER) as writer:
        assert count(writer, "query_logs") == 2
        run(writer, "DELETE FROM document_chunks WHERE source_file = 'content/wire.md'")
    assert count(secured, "chunk_embeddings") == 5


# --- failing closed


def test_whoever_no_policy_lets_sees_no_row(secured: Engine) -> None:
    every = ", ".join(TABLES)
    run(
        secured,
        "INSERT INTO query_logs (query_text) VALUES ('secret')",
        "CREATE ROLE trial_other LOGIN",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {every} TO trial_other",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO trial_other",
    )
    let(secured, "trial_other", "content")  # the name of a source is not enough
    with logged_in(secured, "trial_other") as other:
        assert [count(other, table) for table in TABLES] == [0, 0, 0]
        run(other, "UPDATE document_chunks SET content = 'x'", "DELETE FROM query_logs")
        with pytest.raises(DatabaseError, match="row-level security"):
            run(other, "INSERT INTO query_logs (query_text) VALUES ('a')")
    assert [count(secured, table) for table in TABLES] == [6, 6, 1]


def test_it_is_forced_on_an_owner_without_a_policy(secured: Engine) -> None:
    run(
        secured,
        "CREATE ROLE trial_owner LOGIN",
        *(f"ALTER TABLE {table} OWNER TO trial_owner" for table in TABLES),
    )
    with logged_in(secured, "trial_owner") as owner:
        assert [count(owner, table) for table in TABLES] == [0, 0, 0]


def test_nobody_lets_themselves_read(secured: Engine) -> None:
    let(secured, WRITER, "content")  # so that the role of the source is there
    with logged_in(secured, READER) as reader:
        for statement in (
            f'GRANT "{READS}content" TO {READER}',
            f'CREATE ROLE "{READS}other"',
            f'ALTER ROLE {WRITER} RENAME TO "{READS}writer"',
            f'SET ROLE "{READS}content"',
            "ALTER TABLE document_chunks NO FORCE ROW LEVEL SECURITY",
            "DROP POLICY resume_lab_read ON document_chunks",
        ):
            with (
                pytest.raises(psycopg2.errors.InsufficientPrivilege),
                reader.connect() as connection,
            ):
                connection.connection.cursor().execute(statement)
        with reader.connect() as connection:
            for setting in ("resume_lab.source", "resume_lab.reads"):
                connection.execute(sa.text(f"SET {setting} = 'content'"))
            assert connection.scalar(sa.text("SELECT count(*) FROM document_chunks")) == 0
            connection.execute(sa.text("SET row_security = off"))  # then it refuses to answer
            with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
                connection.scalar(sa.text("SELECT count(*) FROM document_chunks"))


# --- names


@pytest.mark.parametrize("name", ["", " ", "/", "a\0b", "a\nb", "x" * 47, "é" * 24])
def test_a_source_that_cannot_name_a_role_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        source_role(name)
    assert raised.value.hint


def test_the_longest_name_is_kept_whole(secured: Engine) -> None:
    longest = "x" * 46
    run(secured, f"UPDATE document_chunks SET source_file = '{longest}/a.md'")
    let(secured, READER, longest)
    assert seen(secured, READER) == (6, 6)
    with pytest.raises(ConfigError, match="longer than the 63 bytes"):
        let(secured, "r" * 64, "content")


def test_who_is_not_there_is_said(secured: Engine) -> None:
    with pytest.raises(ConfigError, match="There is no role nobody") as raised:
        let(secured, "nobody", "content")
    assert raised.value.hint.endswith("CREATE ROLE nobody LOGIN IN ROLE resume_lab_reader;")


def test_what_else_is_lacking_is_said(secured: Engine, database: Engine) -> None:
    run(database, "CREATE ROLE trial_alice LOGIN")
    try:
        with secured.connect() as connection:
            assert still_lacking(connection, READER, "content/") == ()
            (what,) = still_lacking(connection, "trial_alice", "content")
            assert what == "It is no reader yet: GRANT resume_lab_reader TO trial_alice;"
            (what,) = still_lacking(connection, READER, "conten")
            assert what.startswith("Nothing is stored under conten/ yet")
            execute(connection, "ALTER TABLE query_logs NO FORCE ROW LEVEL SECURITY")
            (what,) = still_lacking(connection, READER, "content")
            assert what.startswith("Row level security is off")
    finally:
        run(database, "DROP ROLE trial_alice")


def test_what_was_undone_by_hand_is_made_again(secured: Engine) -> None:
    run(
        secured,
        "ALTER TABLE query_logs NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY resume_lab_read ON document_chunks",
    )
    with secured.begin() as connection:
        for statement in lacking(connection, with_row_security=True).upgrade:
            execute(connection, statement)
        assert set(state(connection).values()) == {FORCED}
    let(secured, READER, "content")
    assert seen(secured, READER) == (3, 3)


# --- how it is asked


def test_sources_are_looked_up_once_and_chunks_only_where_needed(secured: Engine) -> None:
    run(
        secured,
        "INSERT INTO document_chunks (content, source_file, chunk_index) "
        "SELECT 'a', 'many/a.md', n FROM generate_series(1, 20000) n",
        "INSERT INTO chunk_embeddings (chunk_id, embedding, embedding_model) "
        "SELECT chunk_id, (SELECT embedding FROM chunk_embeddings LIMIT 1), 'lexical' "
        "FROM document_chunks WHERE source_file = 'many/a.md' LIMIT 2000",
        "ANALYZE document_chunks, chunk_embeddings",
    )
    with logged_in(secured, READER) as reader, reader.begin() as connection:
        execute(connection, "SET LOCAL enable_seqscan = off")
        plan = "\n".join(
            connection.scalars(
                sa.text(
                    "EXPLAIN SELECT chunk_id FROM chunk_embeddings ORDER BY embedding <=> "
                    "(array_fill(1, ARRAY[1536]))::vector LIMIT 5"
                )
            )
        )
    assert "InitPlan" in plan  # the sources
    assert "Index Scan using pk_document_chunks" in plan
    assert "hashed" not in plan


def test_it_is_said_who_reads_what(secured: Engine) -> None:
    let(secured, READER, "content")
    run(secured, f'CREATE ROLE "{READS}team"')
    with secured.connect() as connection:
        rights = find_rights(connection)
    assert set(rights.row_security.values()) == {FORCED}
    assert str(rights).endswith(
        "Row level security is forced; without a source a reader sees no row.\n"
        "  content: resume_lab_reader\n  team: nobody"
    )
