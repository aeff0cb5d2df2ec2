"""Room on the disk: measured against what is really taken, and looked at only where it is."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from small_disk import filled, small_disk
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.database import disk
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.indexes import IVFFlat, allow_build, execute
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError
from resume_lab.tuning.scratch import COLUMN, scratch_copy
from resume_lab.vectors import generate

DIM = 1536
ROWS = 1500


def size_of(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.text(f"SELECT pg_total_relation_size('{table}')"))


@contextmanager
def log_bytes(engine: Engine) -> Iterator[list[int]]:
    """Count what is written to the log."""
    counted: list[int] = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        before = connection.scalar(sa.text("SELECT pg_current_wal_insert_lsn()"))
        yield counted
        now = sa.text("SELECT pg_current_wal_insert_lsn() - CAST(:before AS pg_lsn)")
        counted.append(int(connection.scalar(now, {"before": before})))


def test_seeding_takes_about_what_is_said(database: Engine) -> None:
    empty = size_of(database, "document_chunks") + size_of(database, "chunk_embeddings")
    with log_bytes(database) as log:
        seeding.seed(database, rows=ROWS)
    tables = size_of(database, "document_chunks") + size_of(database, "chunk_embeddings") - empty
    assert tables + log[0] == pytest.approx(disk.seed_bytes(ROWS, DIM), rel=0.15)


def test_a_row_more_takes_the_index_of_all_of_them(database: Engine) -> None:
    seeding.seed(database, rows=ROWS)
    built = size_of(database, "ix_chunk_embeddings_embedding")
    assert disk.seed_bytes(1, DIM) < built / 100
    assert disk.seed_bytes(1, DIM, present=ROWS) == pytest.approx(built, rel=0.2)


@pytest.mark.parametrize("dim", [384, 1000, 1536])
def test_a_scratch_copy_takes_about_what_is_said(database: Engine, dim: int) -> None:
    vectors = generate("random", ROWS, dim=dim, seed=1)
    with log_bytes(database) as log, scratch_copy(database, vectors) as scratch:
        index = IVFFlat(10)
        with database.begin() as connection:
            allow_build(connection, index, dim)
            execute(connection, index.ddl(scratch.table, COLUMN, "cosine", name="one"))
        copy = size_of(database, f"{scratch.schema}.items")
    taken = copy + log[0]
    assert 0.8 * taken < disk.scratch_bytes(ROWS, dim, 1) < 1.4 * taken


def test_a_large_build_needs_room_to_sort() -> None:
    small, large = 10_000, 1_000_000
    assert disk.seed_bytes(small, DIM) == small * 25_000
    assert disk.seed_bytes(large, DIM) == large * (25_000 + 4 * DIM + 8)
    assert disk.scratch_bytes(large, DIM, 4) - disk.scratch_bytes(large, DIM, 1) == (
        3 * large * disk.PAGE_BYTES  # one vector a page
    )


def test_the_figures_are_shown_in_units_that_fit(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=412_000_000))
    with database.connect() as connection:
        disk.check_space(connection, 412_000_000, "Seeding 7 rows")
        with pytest.raises(DatabaseError) as raised:
            disk.check_space(connection, 1_310_000_000, "Seeding 7 rows")
    said = "Seeding 7 rows needs about 1.3 GB; 412 MB are free on the disk of "
    assert raised.value.message.startswith(said)
    assert raised.value.state == "Nothing was changed."
    assert "Free space" in raised.value.hint


def test_a_disk_without_room_is_told_before_the_work() -> None:
    with small_disk("100m") as folder:
        server = EmbeddedServer(folder / "lab", extra_settings={"shared_buffers": "16MB"})
        engine = engine_for(server.use())
        try:
            with filled(folder, leaving=20_000_000), engine.connect() as connection:
                assert disk.data_folder(connection) == server.data_dir
                disk.check_space(connection, 15_000_000, "This")
                with pytest.raises(DatabaseError, match="needs about 25 MB; 20 MB are free"):
                    disk.check_space(connection, 25_000_000, "This")
        finally:
            engine.dispose()
            server.leave()


def test_a_role_that_may_not_know_the_folder_goes_on(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("CREATE ROLE knows_nothing LOGIN"))
    engine = engine_for(database.url.set(username="knows_nothing"))
    try:
        with engine.begin() as connection:
            disk.check_space(connection, 10**18, "This")
            assert connection.scalar(sa.text("SELECT 1")) == 1  # the transaction goes on
    finally:
        engine.dispose()
        with database.begin() as connection:
            connection.execute(sa.text("DROP ROLE knows_nothing"))


def test_nothing_is_said_of_the_disk_of_another_machine(tmp_path: Path) -> None:
    """A tunnel's end has a loopback address, and the folder behind it may exist here as well."""
    started = 1_700_000_000

    def here(folder: Path, **address: object) -> bool:
        url = sa.URL.create("postgresql+psycopg2", **address)
        return disk.is_here(url, folder, started)

    away = tmp_path / "not here"
    assert not here(tmp_path, host="127.0.0.1")
    for server_started, expected in ((started + 60, False), (started, True)):
        (tmp_path / "postmaster.pid").write_text(f"1\n/data\n{server_started}\n5432\n")
        assert here(tmp_path, host="127.0.0.1") is expected
        assert not here(tmp_path, host="db.example.com")
        assert not here(tmp_path, query={"host": "/run", "hostaddr": "10.1.2.3"})
        assert not here(away, host="127.0.0.1")
    assert here(tmp_path, query={"host": "/run"})
    assert not here(away, query={"host": "/run"})
