"""Seeding: real rows, all or nothing, never twice, with the vector index as it was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from psycopg2 import sql
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from resume_lab import seeding
from resume_lab.database import copy, schema
from resume_lab.database.indexes import raw_connection
from resume_lab.database.models import EMBEDDING_DIM, ChunkEmbedding, DocumentChunk
from resume_lab.database.session import engine_for
from resume_lab.errors import ConfigError, DatabaseError, DataError, SchemaError
from resume_lab.vectors import generate

ROWS = 600
INDEX = "ix_chunk_embeddings_embedding"


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))


def stored(engine: Engine, model: str) -> np.ndarray:
    """The vectors of a model in the order of their chunks."""
    query = sql.SQL(
        "SELECT embedding FROM chunk_embeddings JOIN document_chunks USING (chunk_id) "
        "WHERE embedding_model = {} ORDER BY chunk_index"
    ).format(sql.Literal(model))
    with engine.connect() as connection:
        rows = connection.scalar(
            sa.select(sa.func.count()).where(ChunkEmbedding.embedding_model == model)
        )
        return copy.read_vectors(raw_connection(connection), query, rows, EMBEDDING_DIM)


def indexes(engine: Engine) -> dict[str, tuple[str, bool]]:
    look = (
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid FROM pg_index "
        "WHERE indrelid = 'chunk_embeddings'::regclass"
    )
    with engine.connect() as connection:
        return {name: (ddl, valid) for name, ddl, valid in connection.execute(sa.text(look))}


@pytest.mark.parametrize("kind", ["random", "clustered", "spectrum"])
def test_each_kind_becomes_a_chunk_and_a_unit_vector_a_row(database: Engine, kind: str) -> None:
    report = seeding.seed(database, rows=ROWS, kind=kind, seed=3)
    assert (report.added, report.present) == (ROWS, 0)
    assert report.model == f"synthetic/{kind}/seed=3"
    assert report.rows_per_s > 0
    vectors = stored(database, report.model)
    assert vectors.tobytes() == generate(kind, ROWS, seed=3).tobytes()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with Session(database) as session:
        chunks = session.scalars(sa.select(DocumentChunk).order_by(DocumentChunk.chunk_index)).all()
        assert [chunk.chunk_index for chunk in chunks] == list(range(ROWS))
        one = chunks[5]
        assert one.content == f"Vector 5 of {report.model}."
        assert (one.source_file, one.category) == (report.model, "synthetic")
        assert one.metadata_json == {"lab": True}
        (embedding,) = one.embeddings
        assert embedding.embedding_model == report.model
        np.testing.assert_array_equal(np.float32(embedding.embedding), vectors[5])


def test_the_same_seed_twice_adds_nothing_and_says_so(database: Engine) -> None:
    first = seeding.seed(database, rows=ROWS)
    again = seeding.seed(database, rows=ROWS)
    fewer = seeding.seed(database, rows=10)
    assert (again.added, again.present) == (fewer.added, fewer.present) == (0, ROWS)
    assert "nothing added" in str(again)
    assert f"{ROWS} rows added" in str(first)
    assert again.rows_per_s == 0
    assert count(database, "chunk_embeddings") == count(database, "document_chunks") == ROWS


@pytest.mark.parametrize(
    "look", ["SELECT count(*) FROM chunk_embeddings", "LOCK TABLE document_chunks"]
)
def test_an_open_transaction_elsewhere_is_an_error_and_no_wait_for_ever(
    database: Engine, look: str
) -> None:
    impatient = engine_for(database.url.update_query_dict({"options": "-c lock_timeout=200ms"}))
    with database.begin() as connection:
        connection.execute(sa.text(look))
        with pytest.raises(SchemaError, match="Another session holds a lock") as raised:
            seeding.seed(impatient, rows=5)
    impatient.dispose()
    assert "open transaction in a notebook" in raised.value.hint
    assert count(database, "chunk_embeddings") == 0
    assert seeding.seed(database, rows=5).added == 5


def test_the_hosts_limits_do_not_end_a_load_but_those_on_locks_are_kept(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    lock = seeding._lock

    def look(connection: sa.Connection) -> None:
        lock(connection)
        seen.append(
            tuple(
                connection.scalar(sa.text(f"SHOW {name}"))
                for name in ("statement_timeout", "lock_timeout")
            )
        )

    monkeypatch.setattr(seeding, "_lock", look)
    limits = {"options": "-c statement_timeout=2min -c lock_timeout=7s"}
    limited = engine_for(database.url.update_query_dict(limits))
    seeding.seed(limited, rows=5)
    seeding.seed(database, rows=6)
    assert seen == [("0", "7s"), ("0", "30s")]
    with limited.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "2min"
    limited.dispose()


def test_in_prod_nothing_is_added_without_being_asked_for(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_npy(tmp_path / "mine.npy", generate("random", 5))
    monkeypatch.setenv("APP_ENV", "prod")
    for attempt in (
        lambda: seeding.seed(database, rows=5),
        lambda: seeding.seed_file(database, path),
    ):
        with pytest.raises(ConfigError, match="APP_ENV is prod") as raised:
            attempt()
        assert "--yes" in raised.value.hint
        assert "allow_prod=True" in raised.value.hint
    assert count(database, "document_chunks") == 0
    assert seeding.seed(database, rows=5, allow_prod=True).added == 5
    assert seeding.seed_file(database, path, allow_prod=True).added == 5


def test_a_larger_one_adds_the_missing_rows(database: Engine) -> None:
    seeding.seed(database, rows=1)
    seeding.seed(database, rows=1030)
    report = seeding.seed(database, rows=1100, kind="random")
    assert (report.added, report.present) == (70, 1030)
    assert stored(database, report.model).tobytes() == generate("random", 1100).tobytes()


def test_other_seeds_and_the_rows_of_others_stay(database: Engine) -> None:
    with Session(database) as session, session.begin():
        session.add(DocumentChunk(content="mine", source_file="a.md", chunk_index=0))
    seeding.seed(database, rows=20, seed=0)
    with Session(database) as session, session.begin():
        session.add(DocumentChunk(content="mine", source_file="b.md", chunk_index=0))
    seeding.seed(database, rows=30, seed=1)
    assert count(database, "document_chunks") == 52
    assert stored(database, "synthetic/random/seed=0").shape == (20, EMBEDDING_DIM)
    assert stored(database, "synthetic/random/seed=1").shape == (30, EMBEDDING_DIM)


def save_npy(path: Path, vectors: np.ndarray) -> Path:
    np.save(path, vectors)
    return path


def save_npz(path: Path, vectors: np.ndarray) -> Path:
    np.savez(path, vectors=vectors)
    return path


def save_parquet(path: Path, vectors: np.ndarray) -> Path:
    pq.write_table(pa.table({"embedding": pa.array(list(vectors))}), path)
    return path


@pytest.mark.parametrize(
    ("suffix", "save"), [(".npy", save_npy), (".npz", save_npz), (".parquet", save_parquet)]
)
def test_a_file_is_loaded_scaled_to_unit_length_and_only_once(
    database: Engine, tmp_path: Path, suffix: str, save: Callable[[Path, np.ndarray], Path]
) -> None:
    directions = generate("random", 50, seed=9)
    lengths = np.arange(1, 51, dtype=np.float32)[:, None]
    path = save(tmp_path / f"mine{suffix}", directions * lengths)
    report = seeding.seed_file(database, path)
    assert report.added == 50
    assert report.model.startswith(f"file/mine{suffix}@")
    np.testing.assert_allclose(stored(database, report.model), directions, atol=1e-6)
    assert seeding.seed_file(database, path).added == 0
    other = save(tmp_path / f"mine{suffix}", directions)  # same name, other content
    assert seeding.seed_file(database, other).model != report.model


def test_a_file_with_any_name_is_loaded(database: Engine, tmp_path: Path) -> None:
    name = b"caf\xe9 % ' \\ " + b"long" * 50 + b".npy"  # not UTF-8
    path = save_npy(
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)), np.eye(2, EMBEDDING_DIM)
    )
    report = seeding.seed_file(database, path)
    assert stored(database, report.model).shape == (2, EMBEDDING_DIM)


def broken(name: str) -> np.ndarray:
    vectors = generate("random", 2000)
    if name == "zero":
        vectors[1500] = 0
    elif name == "dimension":
        vectors = vectors[:, :768]
    elif name == "rows":
        vectors = vectors[:0]
    else:
        vectors[1500, 7] = float(name)
    return vectors


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan", "row 1500 .*NaN in column 7"),
        ("inf", "row 1500 .*infinity"),
        ("zero", "row 1500 .*zero vector"),
        ("dimension", "768 dimensions; permitted: 1536"),
        ("rows", r"shape \(0, 1536\)"),
    ],
)
def test_vectors_that_cannot_be_used_leave_the_tables_unchanged(
    database: Engine, tmp_path: Path, name: str, said: str
) -> None:
    before = indexes(database)
    with pytest.raises(DataError, match=said):
        seeding.seed_file(database, save_npy(tmp_path / "bad.npy", broken(name)))
    assert count(database, "document_chunks") == count(database, "chunk_embeddings") == 0
    assert indexes(database) == before


@pytest.mark.parametrize("name", ["missing.npy", "folder.npy", "text.npy", "other.csv"])
def test_a_file_that_cannot_be_read_is_an_error(
    database: Engine, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "other.csv").write_text("1,2")
    with pytest.raises(DataError, match=name):
        seeding.seed_file(database, tmp_path / name)


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"rows": 10, "seed": -1}, {"rows": "10"}, {"rows": 2.5}]
)
def test_numbers_that_make_no_sense_are_refused(database: Engine, wrong: dict[str, int]) -> None:
    with pytest.raises(DataError):
        seeding.seed(database, **wrong)
    assert count(database, "document_chunks") == 0


def test_a_database_without_tables_is_told_to_migrate(empty_database: Engine) -> None:
    with pytest.raises(SchemaError, match="resume-lab migrate"):
        seeding.seed(empty_database, rows=10)


def test_the_index_is_rebuilt_on_the_new_rows_and_finds_them(database: Engine) -> None:
    before = indexes(database)
    report = seeding.seed(database, rows=3000, kind="clustered")
    assert indexes(database) == before
    assert before[INDEX][1]
    schema.check(database)
    vectors = stored(database, report.model)
    with database.connect() as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        connection.execute(sa.text("SET LOCAL ivfflat.probes = 50"))
        search = sa.text(
            "SELECT chunk_id - min FROM chunk_embeddings, (SELECT min(chunk_id) FROM "
            "document_chunks) AS first ORDER BY embedding <=> CAST(:query AS vector) LIMIT 10"
        )
        hits = 0
        for query in generate("clustered", 20, start=3000):
            found = connection.scalars(search, {"query": str(query.tolist())}).all()
            hits += len({*found} & {*np.argsort(vectors @ -query)[:10].tolist()})
        plan = connection.scalars(
            sa.text(f"EXPLAIN {search.text}"), {"query": str(query.tolist())}
        ).all()
    assert f"Index Scan using {INDEX}" in "\n".join(plan)
    # The centroids fit the rows: half of the lists hold nearly all the neighbours.
    assert hits / 200 > 0.85


def test_other_vector_indexes_come_back_and_broken_ones_are_mended(database: Engine) -> None:
    with database.begin() as connection:
        for statement in (
            "CREATE INDEX lab_l2 ON chunk_embeddings USING ivfflat (embedding vector_l2_ops) "
            "WITH (lists = 5)",
            "CREATE INDEX lab_graph ON chunk_embeddings USING hnsw (embedding vector_cosine_ops)",
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}'::regclass",
        ):
            connection.execute(sa.text(statement))
    before = indexes(database)
    assert not before[INDEX][1]
    seeding.seed(database, rows=200)
    after = indexes(database)
    assert {name: ddl for name, (ddl, _) in after.items()} == {
        name: ddl for name, (ddl, _) in before.items()
    }
    assert all(valid for _, valid in after.values())


SEED = """
import sys
from resume_lab import seeding
from resume_lab.config import parse_database_url
from resume_lab.database.session import engine_for
print("ready", flush=True)
print(seeding.seed(engine_for(parse_database_url(sys.argv[1])), rows=int(sys.argv[2])).added)
"""


def seeder(engine: Engine, rows: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SEED,
            engine.url.set(drivername="postgresql").render_as_string(),
            str(rows),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_copy(engine: Engine, *, tuples: int) -> int:
    """Wait until another session has copied this many embeddings; return its server process."""
    look = sa.text(
        "SELECT pid FROM pg_stat_progress_copy WHERE datname = current_database() "
        "AND relid = 'chunk_embeddings'::regclass AND tuples_processed >= :tuples"
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            pid = connection.scalar(look, {"tuples": tuples})
        if pid is not None:
            return int(pid)
        time.sleep(0.005)
    raise AssertionError("no COPY was seen")


def wait_until_gone(engine: Engine, pid: int) -> None:
    look = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if connection.scalar(look, {"pid": pid}) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the session did not end")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_end_in_the_middle_leaves_nothing_and_a_rerun_does_it_all(
    database: Engine, how: signal.Signals
) -> None:
    seeding.seed(database, rows=10)
    before = indexes(database)
    process = seeder(database, 150_000)
    pid = wait_for_copy(database, tuples=2000)
    start = time.monotonic()
    process.send_signal(how)
    process.communicate()
    assert time.monotonic() - start < 2
    wait_until_gone(database, pid)
    assert count(database, "chunk_embeddings") == count(database, "document_chunks") == 10
    assert indexes(database) == before
    assert seeding.seed(database, rows=50).added == 40


def test_a_lost_connection_in_the_middle_is_one_readable_error(database: Engine) -> None:
    with pytest.raises(DatabaseError) as raised:
        seeding._seed(database, "m", 5000, _ending_the_session(database), progress=False)
    assert "connection" in str(raised.value)
    assert count(database, "document_chunks") == 0


def _ending_the_session(engine: Engine) -> seeding.Batches:
    def batches(start: int):
        rows = generate("random", 1024)
        yield rows
        with engine.begin() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        for _ in range(4):
            yield rows

    return batches


def test_two_at_once_add_each_row_once(database: Engine) -> None:
    processes = [seeder(database, rows) for rows in (700, 900)]
    added = [int(process.communicate(timeout=60)[0].split()[1]) for process in processes]
    assert sum(added) == 900
    model = "synthetic/random/seed=0"
    assert stored(database, model).tobytes() == generate("random", 900).tobytes()
