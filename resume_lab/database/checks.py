"""The connection check: everything that the workbench does, tried once on this database.

All of it runs in one transaction that is rolled back, on rows with negative ids, so that nothing
stays behind, not even a step of a sequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from resume_lab.database import schema
from resume_lab.database.base import Base
from resume_lab.database.failures import INSTALL_PGVECTOR, NO_PGVECTOR, explained
from resume_lab.database.indexes import quoted, raw_connection
from resume_lab.database.models import EMBEDDING_DIM, ChunkEmbedding, DocumentChunk, QueryLog
from resume_lab.database.pgvector_version import check_version
from resume_lab.database.verification import Check, Verification
from resume_lab.errors import LabError

MIGRATE = "Run `resume-lab migrate`."


class CheckFailed(LabError):
    """Raised inside a check."""


def verify(engine: Engine) -> Verification:
    """Run every check; a failed connection ends the list."""
    start = time.perf_counter()
    try:
        with engine.connect() as connection:
            checks = [Check("connection", True, _ms_since(start), _address(connection))]
            transaction = connection.begin()
            try:
                for name, check in _CHECKS.items():
                    checks.append(_run(connection, name, check))
                    if checks[-1].hint == INSTALL_PGVECTOR:
                        break  # all the rest needs it
            finally:
                transaction.rollback()
    except LabError as error:
        return Verification(
            (Check("connection", False, _ms_since(start), error.message, error.hint or ""),)
        )
    return Verification(tuple(checks))


def _address(connection: Connection) -> str:
    """Return where the connection leads, with what came from the environment."""
    info = raw_connection(connection).info
    encrypted = " over TLS" if info.ssl_in_use else ""
    return f"{info.user}@{info.host}:{info.port}/{info.dbname}{encrypted}"


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def _run(connection: Connection, name: str, check: Callable[[Connection], str]) -> Check:
    """Run one check in a savepoint, undone whether it passes or fails."""
    start = time.perf_counter()
    savepoint = connection.begin_nested()
    try:
        detail = check(connection)
        return Check(name, True, _ms_since(start), detail)
    except LabError as error:
        return Check(name, False, _ms_since(start), error.message, error.hint or "")
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return Check(name, False, _ms_since(start), reason, _hint(error))
    finally:
        if savepoint.is_active:
            savepoint.rollback()


def _hint(error: sa.exc.SQLAlchemyError) -> str:
    match getattr(getattr(error, "orig", None), "pgcode", None):
        case "42P01" | "42703" | "42704":
            return MIGRATE
        case "42501":
            return (
                "Grant this role SELECT, INSERT, UPDATE and DELETE on the three tables; one that "
                "only searches and asks, such as resume_lab_reader, does without."
            )
        case "25006":
            return (
                "It is a standby, or default_transaction_read_only is on: connect to the primary."
            )
    meant = explained(error)
    return (meant and meant.hint) or "Read the server's log for more."


def _server_version(connection: Connection) -> str:
    version = connection.scalar(sa.text("SHOW server_version"))
    only_reads = connection.scalar(sa.text("SHOW transaction_read_only")) == "on"
    return f"PostgreSQL {version}" + (", which only reads" if only_reads else "")


def _extension(connection: Connection) -> str:
    row = connection.execute(
        sa.text(
            "SELECT extversion, nspname FROM pg_extension e "
            "JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
        )
    ).one_or_none()
    if row is None:
        available = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"
        if not connection.scalar(sa.text(available)):
            raise CheckFailed(NO_PGVECTOR, hint=INSTALL_PGVECTOR)
        raise CheckFailed("The extension vector is not there.", hint=MIGRATE)
    check_version(connection)
    return f"pgvector {row.extversion} in schema {row.nspname}"


def _tables(connection: Connection) -> str:
    inspector = sa.inspect(connection)
    rows = []
    for table in Base.metadata.sorted_tables:
        if not inspector.has_table(table.name):
            raise CheckFailed(f"Table {table.name} is not there.", hint=MIGRATE)
        there = {column["name"] for column in inspector.get_columns(table.name)}
        missing = sorted(set(table.columns.keys()) - there)
        if missing:
            raise CheckFailed(f"{table.name} lacks {', '.join(missing)}.", hint=MIGRATE)
        count = connection.scalar(sa.select(sa.func.count()).select_from(table))
        rows.append(f"{table.name} {count:,}")
    return ", ".join(rows)


def _migration(connection: Connection) -> str:
    there, newest = schema.revision_of(connection), schema.head()
    if there != newest:
        raise CheckFailed(
            f"The database is at {there or 'no revision'}, not {newest}.", hint=MIGRATE
        )
    return f"at {there} (head)"


def _vector_index(connection: Connection) -> str:
    rows = connection.execute(
        sa.text(
            "SELECT i.relname, x.indisvalid, pg_get_indexdef(i.oid) AS ddl FROM pg_index x "
            "JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am a ON a.oid = i.relam "
            "WHERE x.indrelid = 'chunk_embeddings'::regclass AND a.amname IN ('ivfflat', 'hnsw')"
        )
    ).all()
    broken = [row.relname for row in rows if not row.indisvalid]
    if broken:
        raise CheckFailed(
            f"Index {broken[0]} is invalid: its build was interrupted.",
            hint=f"DROP INDEX {quoted(broken[0])}; then build it again.",
        )
    if not any("vector_cosine_ops" in row.ddl for row in rows):
        raise CheckFailed(
            "No vector index for cosine distance: every search reads the whole table.",
            hint="Run `resume-lab migrate`, or create one as MIGRATION_GUIDE.md shows.",
        )
    return ", ".join(f"{row.relname}: {row.ddl.partition(' USING ')[2]}" for row in rows)


def _chunk(number: int) -> DocumentChunk:
    """Return a chunk whose negative id no real row has and no sequence gives."""
    return DocumentChunk(
        chunk_id=-number, content=f"check {number}", source_file="resume-lab verify", chunk_index=0
    )


def _embedding(number: int, vector: list[float], model: str) -> ChunkEmbedding:
    return ChunkEmbedding(
        embedding_id=-number, chunk_id=-number, embedding=vector, embedding_model=model
    )


def _crud(connection: Connection) -> str:
    with Session(connection) as session:
        session.add(_chunk(1))
        session.add(QueryLog(query_id=-1, query_text="?", retrieved_chunk_ids=[-1]))
        session.flush()
        session.expire_all()
        chunk = session.get_one(DocumentChunk, -1)
        _expect(chunk.metadata_json == {}, "the default of metadata_json is not an empty object")
        chunk.metadata_json = {"seen": True, "tags": ["a", 1]}
        session.flush()
        session.expire_all()
        _expect(chunk.metadata_json["tags"] == ["a", 1], "JSON came back changed")
        _expect(
            session.get_one(QueryLog, -1).retrieved_chunk_ids == [-1], "array came back changed"
        )
        session.delete(chunk)
        session.flush()
        _expect(session.get(DocumentChunk, -1) is None, "a deleted row is still there")
    return "created, read, updated, deleted a chunk and a query"


def _axis_vector(x: float, y: float) -> list[float]:
    return [x, y] + [0.0] * (EMBEDDING_DIM - 2)


def _vector_search(connection: Connection) -> str:
    """Search three vectors at 0, 45 and 90 degrees from the query."""
    model = f"verify/{uuid4()}"
    with Session(connection) as session:
        session.add_all([_chunk(number) for number in (1, 2, 3)])
        session.flush()
        for number, (x, y) in enumerate([(0.0, 1.0), (1.0, 1.0), (1.0, 0.0)], start=1):
            session.add(_embedding(number, _axis_vector(x, y), model))
        session.flush()
        # The answer is known only for the exact search.
        session.execute(sa.text("SELECT set_config('enable_indexscan', 'off', true)"))
        distance = ChunkEmbedding.embedding.cosine_distance(_axis_vector(1.0, 0.0))
        found = session.execute(
            sa.select(ChunkEmbedding.chunk_id, distance)
            .where(ChunkEmbedding.embedding_model == model)
            .order_by(distance)
        ).all()
    expected = [(-3, 0.0), (-2, 1 - 0.5**0.5), (-1, 1.0)]
    right = len(found) == 3 and all(
        chunk_id == wanted_id and abs(distance - wanted) < 1e-6
        for (chunk_id, distance), (wanted_id, wanted) in zip(found, expected, strict=True)
    )
    _expect(right, f"expected {expected}, found {[tuple(row) for row in found]}")
    return "three vectors in the right order at distances 0, 0.293, 1"


def _relationships(connection: Connection) -> str:
    with Session(connection) as session:
        chunk = _chunk(1)
        chunk.embeddings = [_embedding(1, _axis_vector(1.0, 0.0), "verify")]
        session.add(chunk)
        session.flush()
        session.expire_all()
        _expect(chunk.embeddings[0].chunk is chunk, "chunk and embedding do not lead to each other")
        session.execute(sa.delete(DocumentChunk).where(DocumentChunk.chunk_id == -1))
        left = session.scalar(sa.select(sa.func.count()).where(ChunkEmbedding.embedding_id == -1))
        _expect(left == 0, "deleting a chunk left its embedding behind")
    return "chunk and embedding lead to each other; deleting the chunk deletes both"


def _unique(connection: Connection) -> str:
    with Session(connection) as session:
        session.add(_chunk(1))
        session.flush()
        session.add(_embedding(1, _axis_vector(1.0, 0.0), "verify"))
        session.flush()
        again = ChunkEmbedding(
            embedding_id=-2, chunk_id=-1, embedding=_axis_vector(0.0, 1.0), embedding_model="verify"
        )
        session.add(again)
        try:
            session.flush()
        except sa.exc.IntegrityError:
            return "a second embedding of one chunk by one model is refused"
    raise CheckFailed("One chunk took two embeddings of one model.", hint=MIGRATE)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise[0].upper() + otherwise[1:] + ".", hint="Run `alembic check`.")


_CHECKS: dict[str, Callable[[Connection], str]] = {
    "server": _server_version,
    "extension": _extension,
    "tables": _tables,
    "migration": _migration,
    "vector index": _vector_index,
    "create, read, update, delete": _crud,
    "vector search": _vector_search,
    "relationships and cascade": _relationships,
    "unique constraint": _unique,
}
