"""Ingested files in the tables: what is there, writing a batch of them, removing them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql
from sqlalchemy.engine import Connection

from resume_lab.database import copy
from resume_lab.database.indexes import raw_connection
from resume_lab.database.models import CHUNK_COLUMNS, EMBEDDING_COLUMNS, EMBEDDING_DIM
from resume_lab.database.session import lift_statement_timeout
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
_KNOWN = sa.text("""
SELECT metadata_json #>> '{resume_lab,text_hash}' AS text_hash, min(chunk_id) AS chunk_id
FROM document_chunks JOIN chunk_embeddings USING (chunk_id)
WHERE metadata_json ? 'resume_lab' AND embedding_model = :model
GROUP BY 1
""")
_COPY_OTHERS = sa.text("""
INSERT INTO chunk_embeddings (chunk_id, embedding_model, embedding)
SELECT pair.new, embedding_model, embedding
FROM unnest(CAST(:new AS integer[]), CAST(:old AS integer[])) AS pair (new, old)
JOIN chunk_embeddings ON chunk_id = pair.old
WHERE embedding_model <> :model
""")
_DELETE = sa.text("DELETE FROM document_chunks WHERE chunk_id = ANY(:ids)")


@dataclass(frozen=True)
class StoredChunk:
    """A chunk in the tables, and the models that embedded it."""

    chunk_id: int
    text_hash: str
    models: frozenset[str]


@dataclass(frozen=True)
class StoredFile:
    """What the tables hold of a file: its chunks in order."""

    file_hash: str
    chunking: str
    chunks: tuple[StoredChunk, ...]

    def is_embedded(self, model: str) -> bool:
        """Say whether every chunk has an embedding of this model."""
        return all(model in chunk.models for chunk in self.chunks)

    def holds(self, file: PreparedFile) -> bool:
        """Say whether the chunks of `file`, and what stands beside them, are those here."""
        return (
            self.file_hash == file.file_hash
            and self.chunking == str(file.chunking)
            and [chunk.text_hash for chunk in self.chunks] == file.text_hashes
        )


@dataclass(frozen=True)
class Written:
    """What one batch wrote.

    `chunk_ids` has a chunk for each text embedded; `lost` counts, by model, the files of which a
    text has no embedding any more.
    """

    added: int
    changed: int
    completed: int
    unchanged: int
    chunks: int
    tokens: int
    chunk_ids: Mapping[str, int]
    lost: Counter[str]


def stored_files(connection: Connection, prefix: str) -> dict[str, StoredFile]:
    """Return the ingested files whose names start with `prefix`."""
    return _files(connection.execute(_OF_NAME, {"prefix": prefix}).all())


def _files(rows: Sequence[sa.Row[Any]]) -> dict[str, StoredFile]:
    by_file: defaultdict[str, list[sa.Row[Any]]] = defaultdict(list)
    for row in rows:
        by_file[row.source_file].append(row)
    return {
        source_file: StoredFile(
            of[0].file_hash,
            of[0].chunking,
            tuple(StoredChunk(row.chunk_id, row.text_hash, frozenset(row.models)) for row in of),
        )
        for source_file, of in by_file.items()
    }


def known_texts(connection: Connection, model: str) -> dict[str, int]:
    """Return a chunk for each text that the model has embedded, by the hash of the text."""
    return {row.text_hash: row.chunk_id for row in connection.execute(_KNOWN, {"model": model})}


def read_vectors(
    connection: Connection, model: str, chunk_ids: Mapping[str, int]
) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of a model for these chunks, given and returned by text hash."""
    # Locked, so that they are all still there for the second query.
    found = sorted(
        connection.scalars(
            sa.text(
                "SELECT chunk_id FROM chunk_embeddings "
                "WHERE embedding_model = :model AND chunk_id = ANY(:ids) FOR KEY SHARE"
            ),
            {"model": model, "ids": list(chunk_ids.values())},
        )
    )
    if not found:
        return {}
    query = sql.SQL(
        "SELECT embedding FROM chunk_embeddings WHERE embedding_model = {} AND chunk_id = ANY({}) "
        "ORDER BY chunk_id"
    ).format(sql.Literal(model), sql.Literal(found))
    vectors = copy.read_vectors(raw_connection(connection), query, len(found), EMBEDDING_DIM)
    by_id = dict(zip(found, vectors, strict=True))
    return {key: by_id[number] for key, number in chunk_ids.items() if number in by_id}


def write(
    connection: Connection,
    model: str,
    files: Sequence[PreparedFile],
    vectors: Vectors,
    elsewhere: Iterable[StoredFile] = (),
) -> Written:
    """Write files whole in the transaction of `connection`: chunks that differ, and embeddings.

    What stands there is looked at again under a lock, so two processes may ingest at once. Texts
    that stand there already, in the same file or `elsewhere`, keep the embeddings of other models.
    """
    _lock(connection)
    names = [file.source_file for file in files]
    there = _files(connection.execute(_OF_FILES, {"files": names}).all())
    kept = {
        f.source_file for f in files if f.source_file in there and there[f.source_file].holds(f)
    }
    fresh = [file for file in files if file.source_file not in kept]
    replaced = [name for name in there if name not in kept]
    before = {c.text_hash: c for of in (*elsewhere, *there.values()) for c in of.chunks}

    ids = _insert_chunks(connection, fresh)
    _copy_other_embeddings(connection, model, ids, before)
    _delete(connection, [there[name] for name in replaced])
    lacking = [
        (chunk.chunk_id, chunk.text_hash)
        for name in kept
        for chunk in there[name].chunks
        if model not in chunk.models
    ]
    _insert_embeddings(connection, model, [*ids, *lacking], vectors)
    completed = sum(not there[name].is_embedded(model) for name in kept)
    return Written(
        added=len(fresh) - len(replaced),
        changed=len(replaced),
        completed=completed,
        unchanged=len(kept) - completed,
        chunks=len(ids),
        tokens=sum(prepared.chunk.tokens for file in fresh for prepared in file.chunks),
        chunk_ids={text_hash: chunk_id for chunk_id, text_hash in (*ids, *lacking)},
        lost=_lost(model, fresh, there, before),
    )


def _lock(connection: Connection) -> None:
    lift_statement_timeout(connection)
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


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


def _copy_other_embeddings(
    connection: Connection,
    model: str,
    ids: Sequence[tuple[int, str]],
    before: Mapping[str, StoredChunk],
) -> None:
    pairs = [
        (chunk_id, before[text_hash].chunk_id)
        for chunk_id, text_hash in ids
        if text_hash in before and before[text_hash].models - {model}
    ]
    if pairs:
        new, old = zip(*pairs, strict=True)
        values = {"new": list(new), "old": list(old), "model": model}
        connection.execute(_COPY_OTHERS, values)


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


def _lost(
    model: str,
    fresh: Sequence[PreparedFile],
    there: Mapping[str, StoredFile],
    before: Mapping[str, StoredChunk],
) -> Counter[str]:
    """Count the files whose new texts lack an embedding of a model that the old ones had."""
    lost: Counter[str] = Counter()
    nothing: frozenset[str] = frozenset()
    for file in fresh:
        if file.source_file in there:
            had = nothing.union(*(chunk.models for chunk in there[file.source_file].chunks))
            have = [before[key].models if key in before else nothing for key in file.text_hashes]
            lost.update(had.difference({model}, frozenset.intersection(*have)))
    return lost


def remove(connection: Connection, files: Iterable[StoredFile]) -> None:
    """Remove the chunks of these files with all their embeddings."""
    files = list(files)
    if files:
        _lock(connection)
        _delete(connection, files)


def _delete(connection: Connection, files: Iterable[StoredFile]) -> None:
    ids = [chunk.chunk_id for file in files for chunk in file.chunks]
    if ids:
        connection.execute(_DELETE, {"ids": ids})
