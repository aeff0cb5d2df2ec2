"""A Markdown file as a document: what it is about, and its text."""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from resume_lab.ingestion.blocks import first_heading
from resume_lab.ingestion.discovery import FoundFile
from resume_lab.ingestion.front_matter import UnreadableFile, split_front_matter, text_of

__all__ = ["MAX_BYTES", "Document", "UnreadableFile", "read_document", "too_large"]

MAX_BYTES = 10_000_000
"""Size of a file that is read."""

_TITLE_CHARS = 500
_CATEGORY_CHARS = 100

_MARKS = (  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Document:
    """A file's text and what its front matter says of it.

    `metadata` is the front matter without title and category, as plain JSON values; `body` has
    newlines only and begins on line `body_line` of the file, counted from 1.
    """

    source_file: str
    title: str
    category: str | None
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    body: str
    body_line: int


def too_large(n_bytes: int) -> UnreadableFile:
    """Return the error of a file above MAX_BYTES."""
    size_mb = math.ceil(n_bytes / 1e5) / 10
    return UnreadableFile(f"too large: {size_mb:.1f} MB, at most {MAX_BYTES // 10**6} MB")


def read_document(data: bytes, found: FoundFile) -> Document:
    """Return the document in a file of these bytes.

    Raises UnreadableFile for a file too large, text in an unknown encoding or with NUL, and front
    matter that is not YAML, not a mapping, or too big to be kept.
    """
    if len(data) > MAX_BYTES:
        raise too_large(len(data))
    text = _decoded(data)
    metadata, body = split_front_matter(text)
    title = _collapsed(_taken(metadata, "title")) or first_heading(body) or _name(found)
    category = _collapsed(_taken(metadata, "category")) or found.folder
    tags = _tags(metadata.pop("tags", None))
    if tags:
        metadata["tags"] = list(tags)
    return Document(
        source_file=found.source_file,
        title=title[:_TITLE_CHARS],
        category=category and category[:_CATEGORY_CHARS],
        tags=tags,
        metadata=metadata,
        body=body,
        body_line=1 + text.count("\n", 0, len(text) - len(body)),
    )


def _decoded(data: bytes) -> str:
    mark, encoding = next((m for m in _MARKS if data.startswith(m[0])), (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        text = _with_newlines(data.decode(encoding))
    except UnicodeDecodeError as error:
        line = 1 + _with_newlines(data[: error.start].decode(encoding, "replace")).count("\n")
        reason = f"not {encoding[:6].upper()}: byte {data[error.start]:#04x}"
        raise UnreadableFile(reason, line) from error
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise UnreadableFile("a NUL character: no text, or UTF-16 that does not say so", line)
    return text


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _taken(metadata: dict[str, Any], key: str) -> str:
    """Take a scalar out of the front matter; a list or mapping stays where it is."""
    if isinstance(metadata.get(key), (list, dict)):
        return ""
    return text_of(metadata.pop(key, None))


def _tags(value: object) -> tuple[str, ...]:
    listed = value.split(",") if isinstance(value, str) else value
    listed = listed if isinstance(listed, list) else [listed]
    texts = (_collapsed(text_of(tag)) for tag in listed if not isinstance(tag, (list, dict)))
    return tuple(dict.fromkeys(text for text in texts if text))


def _name(found: FoundFile) -> str:
    """Return the file's name without its ending, or the folder's for an index."""
    path = PurePosixPath(found.source_file)
    name = path.parent.name if path.stem.lower() == "index" else path.stem
    return _collapsed(name) or found.source_file


def _collapsed(text: str) -> str:
    return " ".join(text.split())
