"""A file as it will stand in the tables: its chunks, their hashes, what is embedded for each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from resume_lab.ingestion.chunking import Chunk, split_body
from resume_lab.ingestion.details import details
from resume_lab.ingestion.discovery import FoundFile
from resume_lab.ingestion.front_matter import RESERVED
from resume_lab.ingestion.markdown import Document, read_document

HEADINGS_CHARS = 500
EMPTY = Chunk(index=0, text="", overlap=0, headings=(), tokens=0)


@dataclass(frozen=True)
class Chunking:
    """How bodies are split: tokens of a chunk, and of what it repeats of the one before."""

    chunk_size: int
    overlap: int

    def __str__(self) -> str:
        """Return what stands beside each chunk, so that another chunking is noticed."""
        return f"{self.chunk_size}/{self.overlap}"


@dataclass(frozen=True)
class PreparedChunk:
    """A chunk and what is embedded for it.

    That is the path of titles that leads to it, then its text; before the text of a file's first
    chunk stand the values of the front matter.
    """

    chunk: Chunk
    embedded_text: str
    text_hash: str
    metadata_json: str


@dataclass(frozen=True)
class PreparedFile:
    """A document, the hash of its bytes, how it was split, and its chunks in order."""

    document: Document
    file_hash: str
    chunking: Chunking
    chunks: tuple[PreparedChunk, ...]

    @property
    def source_file(self) -> str:
        """Return the name under which its rows stand."""
        return self.document.source_file

    @property
    def text_hashes(self) -> list[str]:
        """Return what tells its chunks apart from those of another state, in order."""
        return [chunk.text_hash for chunk in self.chunks]


def file_hash(found: FoundFile, data: bytes) -> str:
    """Return what tells a file apart from another state: its bytes, and the folder that names it.

    The category may come from the folder, which is another when the folder above is ingested.
    """
    return hashlib.sha256((found.folder or "").encode() + b"\0" + data).hexdigest()


def prepare(found: FoundFile, data: bytes, digest: str, chunking: Chunking) -> PreparedFile:
    """Read a file, whose hash is `digest`, and split it; raises UnreadableFile.

    One with an empty body has one empty chunk, found by its title.
    """
    document = read_document(data, found)
    chunks = split_body(document.body, chunk_size=chunking.chunk_size, overlap=chunking.overlap)
    return PreparedFile(
        document,
        digest,
        chunking,
        tuple(_prepared(document, digest, chunking, chunk) for chunk in chunks or [EMPTY]),
    )


def _prepared(document: Document, digest: str, chunking: Chunking, chunk: Chunk) -> PreparedChunk:
    headings = " > ".join(_below_title(document.title, chunk.headings))[:HEADINGS_CHARS]
    place = f"{document.title} > {headings}" if headings else document.title
    facts = "" if chunk.index else details(document.metadata)
    parts = (place, facts, chunk.text.rstrip())
    embedded_text = "\n\n".join(part for part in parts if part)
    text_hash = hashlib.sha256(embedded_text.encode()).hexdigest()
    remembered = {
        "headings": headings,
        "overlap": chunk.overlap,
        "tokens": chunk.tokens,
        "file_hash": digest,
        "text_hash": text_hash,
        "chunking": str(chunking),
    }
    metadata = json.dumps({**document.metadata, RESERVED: remembered}, ensure_ascii=False)
    return PreparedChunk(chunk, embedded_text, text_hash, metadata)


def _below_title(title: str, headings: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out a first heading that repeats the title."""
    return headings[1:] if headings and headings[0] == title else headings
