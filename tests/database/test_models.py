"""The three models on a real server: what the database keeps by itself."""

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from resume_lab.database.models import EMBEDDING_DIM, ChunkEmbedding, DocumentChunk, QueryLog

AXIS = [1.0] + [0.0] * (EMBEDDING_DIM - 1)


def chunk(**values: object) -> DocumentChunk:
    return DocumentChunk(**{"content": "text", "source_file": "a.md", "chunk_index": 0} | values)


def embedding(model: str = "m") -> ChunkEmbedding:
    return ChunkEmbedding(embedding=AXIS, embedding_model=model)


def stored(engine: Engine, *rows: object) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(rows)


def count(engine: Engine, model: type) -> int:
    with Session(engine) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(model))


def test_defaults_come_from_the_database(database: Engine) -> None:
    stored(database, chunk(), QueryLog(query_text="?"))
    with Session(database) as session:
        one = session.scalars(sa.select(DocumentChunk)).one()
        assert one.metadata_json == {}
        assert (one.category, one.document_title) == (None, None)
        assert one.created_at == one.updated_at
        assert one.created_at.tzinfo is not None
        question = session.scalars(sa.select(QueryLog)).one()
        assert question.retrieved_chunk_ids == []
        assert question.response_text is None
        age = session.scalar(sa.select(sa.func.now() - QueryLog.created_at))
        assert 0 <= age.total_seconds() < 60


def test_the_database_keeps_updated_at_for_any_client(database: Engine) -> None:
    stored(database, chunk())
    with database.begin() as connection:  # not through the ORM
        connection.execute(sa.text("UPDATE document_chunks SET content = 'new'"))
    with Session(database) as session:
        one = session.scalars(sa.select(DocumentChunk)).one()
        assert one.updated_at > one.created_at
        before = one.updated_at
        session.commit()
        one.content = "newer"
        session.commit()
        assert one.updated_at > before


def test_updated_at_cannot_be_set_to_another_time(database: Engine) -> None:
    stored(database, chunk())
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE document_chunks SET updated_at = '1999-01-01'"))
        year = connection.scalar(
            sa.text("SELECT extract(year FROM updated_at) FROM document_chunks")
        )
    assert year > 1999


def test_chunk_and_embeddings_lead_to_each_other(database: Engine) -> None:
    stored(database, chunk(embeddings=[embedding("a"), embedding("b")]))
    with Session(database) as session:
        one = session.scalars(sa.select(DocumentChunk)).one()
        assert {e.embedding_model for e in one.embeddings} == {"a", "b"}
        assert all(e.chunk is one for e in one.embeddings)
        assert list(one.embeddings[0].embedding) == AXIS


def test_deleting_a_chunk_deletes_its_embeddings(database: Engine) -> None:
    stored(database, chunk(embeddings=[embedding()]), chunk(embeddings=[embedding()]))
    with Session(database) as session, session.begin():
        session.delete(session.scalars(sa.select(DocumentChunk).limit(1)).one())
    assert count(database, ChunkEmbedding) == 1
    with database.begin() as connection:  # by SQL too
        connection.execute(sa.text("DELETE FROM document_chunks"))
    assert count(database, ChunkEmbedding) == 0


def test_an_embedding_taken_from_its_chunk_is_deleted(database: Engine) -> None:
    stored(database, chunk(embeddings=[embedding()]))
    with Session(database) as session, session.begin():
        one = session.scalars(sa.select(DocumentChunk)).one()
        one.embeddings.clear()
    assert count(database, ChunkEmbedding) == 0
    assert count(database, DocumentChunk) == 1


def test_one_model_embeds_a_chunk_once(database: Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="uq_chunk_embeddings_chunk_id_embedding_model"):
        stored(database, chunk(embeddings=[embedding("m"), embedding("m")]))
    stored(database, chunk(embeddings=[embedding("m"), embedding("n")]))


def test_an_embedding_needs_its_chunk_and_1536_dimensions(database: Engine) -> None:
    orphan = ChunkEmbedding(chunk_id=12345, embedding=AXIS, embedding_model="m")
    with pytest.raises(sa.exc.IntegrityError, match="fk_chunk_embeddings_chunk_id_document_chunks"):
        stored(database, orphan)
    short = ChunkEmbedding(embedding=[1.0, 2.0], embedding_model="m")
    with pytest.raises(sa.exc.StatementError, match="expected 1536 dimensions, not 2"):
        stored(database, chunk(embeddings=[short]))


def test_json_and_arrays_come_back_as_they_were(database: Engine) -> None:
    tags = {"tags": ["é", None, 1.5, {"deep": True}]}
    stored(
        database, chunk(metadata_json=tags), QueryLog(query_text="?", retrieved_chunk_ids=[3, 1])
    )
    with Session(database) as session:
        assert session.scalars(sa.select(DocumentChunk.metadata_json)).one() == tags
        assert session.scalars(sa.select(QueryLog.retrieved_chunk_ids)).one() == [3, 1]
        found = sa.select(DocumentChunk).where(DocumentChunk.metadata_json["tags"][0].astext == "é")
        assert session.scalars(found).one()
