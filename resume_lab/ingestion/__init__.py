"""Markdown files with front matter into chunks, embeddings and tables."""

from resume_lab.ingestion.chunking import Chunk, join_chunks, split_body
from resume_lab.ingestion.discovery import FileProblem
from resume_lab.ingestion.outcome import IngestReport
from resume_lab.ingestion.pipeline import CHUNK_SIZE, OVERLAP, ingest_content, remove_content

__all__ = [
    "CHUNK_SIZE",
    "OVERLAP",
    "Chunk",
    "FileProblem",
    "IngestReport",
    "ingest_content",
    "join_chunks",
    "remove_content",
    "split_body",
]
