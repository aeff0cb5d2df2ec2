"""Ingested files in the tables: what is there, writing a batch of them, removing them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql
from sqlalchemy.engine import Connection

from resume_lab.database import copy
from resume_lab.database.indexes import raw_connection
from resume_lab.database.models import CHUNK_COLUMNS, EMBEDDING_COLUMNS, EMBEDDING_DIM
from resume_lab.database.session import set_load_timeouts
from resume_lab.ingestion.prepare import PreparedFile

Vectors = Mapping[str, NDArray[np.float32]]
"""The vector of each text, shape (1536,), by the hash of the text."""

_LOCK = 0x696E_6765  # "inge"; any constant that every ingesting process shares

_STORED = """
SELECT source_file, chunk_id, metadata_json #>> '{resume_lab,file_hash}' AS file_hash,
       metadata_json #>> '{resume_lab,chunking}' AS chunking,
       metadata_json #>> '{resume_lab,text_hash}' AS text_hash,
       ARRAY(SELECT embedding_model FROM chunk_embeddings e WHERE e.chunk_id = c.chunk_id)
           AS models
FROM document_chunks c
WHERE metadata_json ? 'resume_lab' AND %s
ORDER BY source_file, chunk_index
"""
_OF_NAME = sa.text(_STORED % "starts_with(source_file, :prefix)")
_OF_FILES = sa.text(_STORED % "source_file = ANY(:files)")
_DELETE = sa.text(
    "DELETE FROM document_chunks WHERE metadata_json ? 'resume_lab' AND source_file = ANY(:files)"
)


@dataclass(frozen=True)
class StoredFile:
    """What the tables hold of a file: its chunks in order, and the models that embedded each."""

    file_hash: str
    chunking: str
    chunk_ids: tuple[int, ...]
    text_hashes: tuple[str, ...]
    models: tuple[frozenset[str], ...]

    def is_embedded(self, model: str) -> bool:
        """Say whether every chunk has an embedding of this model."""
        return all(model in models for models in self.models)

    def holds(self, file: PreparedFile) -> bool:
        """Say whether the chunks of `file` are those that stand here."""
        return (
            self.file_hash == file.file_hash
            and self.chunking == str(file.chunking)
            and list(self.text_hashes) == file.text_hashes
        )


@dataclass(frozen=True)
class Written:
    """What one batch wrote. `lost` counts, by model, files whose other embeddings went."""

    added: int
    changed: int
    completed: int
    chunks: int
    lost: Counter[str]


def stored_files(connection: Connection, prefix: str) -> dict[str, StoredFile]:
    """Return the ingested files whose names start with `prefix`."""
    return _files(connection.execute(_OF_NAME, {"prefix": prefix}).all())


def _files(rows: Sequence[sa.Row[tuple[object, ...]]]) -> dict[str, StoredFile]:
    by_file: dict[str, list[sa.Row[tuple[object, ...]]]] = {}
    for row in rows:
        by_file.setdefault(row.source_file, []).append(row)
    return {
        source_file: StoredFile(
            of[0].file_hash,
            of[0].chunking,
            tuple(row.chunk_id for row in of),
            tuple(row.text_hash for row in of),
            tuple(frozenset(row.models) for row in of),
        )
        for source_file, of in by_file.items()
    }


def known_texts(stored: Iterable[StoredFile], model: str) -> dict[str, int]:
    """Return a chunk for each text that the model has embedded, by the hash of the text."""
    return {
        text_hash: chunk_id
        for file in stored
        for chunk_id, text_hash, models in zip(
            file.chunk_ids, file.text_hashes, file.models, strict=True
        )
        if model in models
    }


def read_vectors(
    connection: Connection, model: str, chunk_ids: Mapping[str, int]
) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of a model for these chunks, given and returned by text hash."""
    wanted = list(chunk_ids.values())
    found = set(
        connection.scalars(
            sa.text(
                "SELECT chunk_id FROM chunk_embeddings "
                "WHERE embedding_model = :model AND chunk_id = ANY(:ids) FOR KEY SHARE"
            ),
            {"model": model, "ids": wanted},
        )
    )
    if not found:
        return {}
    query = sql.SQL(
        "SELECT embedding FROM chunk_embeddings WHERE embedding_model = {} AND chunk_id = ANY({}) "
        "ORDER BY chunk_id"
    ).format(sql.Literal(model), sql.Literal(sorted(found)))
    vectors = copy.read_vectors(raw_connection(connection), query, len(found), EMBEDDING_DIM)
    by_id = dict(zip(sorted(found), vectors, strict=True))
    return {key: by_id[number] for key, number in chunk_ids.items() if number in by_id}


def write(
    connection: Connection, model: str, files: Sequence[PreparedFile], vectors: Vectors
) -> Written:
    """Write files whole in the transaction of `connection`: chunks that differ, and embeddings.

    What stands there is looked at again under a lock, so two processes may ingest at once.
    """
    set_load_timeouts(connection)
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    names = [file.source_file for file in files]
    there = _files(connection.execute(_OF_FILES, {"files": names}).all())
    kept = {
        name: there[name] for file in files if _keeps(there, file) for name in [file.source_file]
    }
    replaced = [name for name in there if name not in kept]
    if replaced:
        connection.execute(_DELETE, {"files": replaced})
    fresh = [file for file in files if file.source_file not in kept]
    ids = _insert_chunks(connection, fresh)
    completed = 0
    for file in files:
        stored = kept.get(file.source_file)
        if stored is not None and not stored.is_embedded(model):
            completed += 1
            ids += [
                (chunk_id, text_hash)
                for chunk_id, text_hash, models in zip(
                    stored.chunk_ids, stored.text_hashes, stored.models, strict=True
                )
                if model not in models
            ]
    _insert_embeddings(connection, model, ids, vectors)
    lost = Counter(
        other for name in replaced for other in frozenset().union(*there[name].models) - {model}
    )
    return Written(
        added=len(fresh) - len(replaced),
        changed=len(replaced),
        completed=completed,
        chunks=sum(len(file.chunks) for file in fresh),
        lost=lost,
    )


def _keeps(there: Mapping[str, StoredFile], file: PreparedFile) -> bool:
    stored = there.get(file.source_file)
    return stored is not None and stored.holds(file)


def _insert_chunks(connection: Connection, files: Sequence[PreparedFile]) -> list[tuple[int, str]]:
    """Write the chunks and return the id and text hash of each."""
    rows = [(file, prepared) for file in files for prepared in file.chunks]
    if not rows:
        return []
    ids = connection.scalars(
        sa.text(
            "SELECT nextval(pg_get_serial_sequence('document_chunks', 'chunk_id')) "
            "FROM generate_series(1, :n)"
        ),
        {"n": len(rows)},
    ).all()
    encoded = copy.encode_rows(
        (
            copy.int4(chunk_id),
            copy.text(prepared.chunk.text),
            copy.text(file.source_file),
            None if file.document.category is None else copy.text(file.document.category),
            copy.text(file.document.title),
            copy.int4(prepared.chunk.index),
            copy.jsonb(prepared.metadata_json),
        )
        for chunk_id, (file, prepared) in zip(ids, rows, strict=True)
    )
    copy.copy_rows(raw_connection(connection), ("document_chunks",), CHUNK_COLUMNS, [encoded])
    return [(chunk_id, row.text_hash) for chunk_id, (_, row) in zip(ids, rows, strict=True)]


def _insert_embeddings(
    connection: Connection, model: str, ids: Sequence[tuple[int, str]], vectors: Vectors
) -> None:
    if not ids:
        return
    encoded = copy.encode_batch(
        np.array([chunk_id for chunk_id, _ in ids], dtype=np.int32),
        np.stack([vectors[text_hash] for _, text_hash in ids]),
        copy.text(model),
    )
    copy.copy_rows(raw_connection(connection), ("chunk_embeddings",), EMBEDDING_COLUMNS, [encoded])


def remove(connection: Connection, files: Sequence[str]) -> int:
    """Remove the chunks of these files with all their embeddings; return the chunks removed."""
    if not files:
        return 0
    set_load_timeouts(connection)
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    return connection.execute(_DELETE, {"files": list(files)}).rowcount
