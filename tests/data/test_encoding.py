"""A database whose encoding is not UTF-8: text arrives as it is, or is refused whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.config import Settings
from resume_lab.database import schema
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.session import engine_for
from resume_lab.errors import DatabaseError
from resume_lab.ingestion import IngestReport, ingest_content
from resume_lab.retrieval import search


@pytest.fixture
def latin1(server18: EmbeddedServer) -> Iterator[Engine]:
    admin = engine_for(server18.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(
            sa.text("CREATE DATABASE latin1 ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
        )
    engine = engine_for(server18.url("latin1"))
    schema.upgrade(engine)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE latin1 WITH (FORCE)"))
    admin.dispose()


def ingest(text: str, engine: Engine, folder: Path) -> IngestReport:
    content = folder / "content"
    content.mkdir(exist_ok=True)
    (content / "a.md").write_text(text)
    return ingest_content(content, engine=engine, settings=Settings(lab_dir=folder / "lab"))


def test_text_is_converted_or_refused_and_never_stored_as_other_text(
    latin1: Engine, tmp_path: Path
) -> None:
    ingest("café", latin1, tmp_path)
    stored = sa.text("SELECT content, length(content) FROM document_chunks")
    with latin1.connect() as connection:
        assert connection.execute(stored).all() == [("café", 4)]
    with pytest.raises(DatabaseError, match="encoding of this database cannot hold") as raised:
        ingest("日本", latin1, tmp_path)
    assert raised.value.state == "0 of 1 files are stored."
    with latin1.connect() as connection:
        assert connection.execute(stored).all() == [("café", 4)]
    assert len(search("café", engine=latin1, settings=Settings()).hits) == 1
    with pytest.raises(DatabaseError, match="encoding of this database cannot hold"):
        search("日本", engine=latin1, settings=Settings(), by="hybrid")
