"""What an ingestion did."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from resume_lab.ingestion.discovery import FileProblem

SHOWN_PROBLEMS = 50
"""Problems that are shown one by one; the JSON form has all."""


@dataclass(frozen=True)
class IngestReport:
    """Files by what became of them, what was written for them, and what could not be read.

    `added`, `changed` and `completed` (embeddings of another model were there) count files read,
    `unchanged` those that were skipped. `embedded` different texts went to the embedder, in
    `requests` calls of a server; `reused` ones had a vector already. `lost` counts, by model, the
    files with texts that it has not embedded. `seconds` is the time of each stage; reading and
    splitting go on while others run, so their sum is more than `total_s`.
    """

    name: str
    model: str
    added: int = 0
    changed: int = 0
    completed: int = 0
    unchanged: int = 0
    removed: int = 0
    missing: int = 0
    problems: tuple[FileProblem, ...] = ()
    chunks: int = 0
    tokens: int = 0
    embedded: int = 0
    reused: int = 0
    requests: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    total_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Say whether every file could be read."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"passed": self.passed}

    def __str__(self) -> str:
        """Say it in a few lines, the problems last."""
        lines = [
            f"{self.name} -> {self.model}",
            f"files   {self._files()}",
            f"chunks  {self._chunks()}",
        ]
        lines += self._notes()
        lines += [f"FAILED  {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        more = len(self.problems) - SHOWN_PROBLEMS
        return "\n".join([*lines, *[f"FAILED  and {more:,} more"] * (more > 0)])

    def _files(self) -> str:
        counts = {
            "new": self.added,
            "changed": self.changed,
            "embedded by one more model": self.completed,
            "unchanged": self.unchanged,
            "removed": self.removed,
            "gone but kept": self.missing,
            "failed": len(self.problems),
        }
        return ", ".join(f"{n:,} {what}" for what, n in counts.items() if n) or "none"

    def _chunks(self) -> str:
        if not (self.chunks or self.embedded or self.reused):
            return "nothing to write"
        written = f"{self.chunks:,} written ({self.tokens:,} tokens)" if self.chunks else "kept"
        calls = f" (requests: {self.requests:,})" if self.requests else ""
        reused = f", vectors reused: {self.reused:,}" if self.reused else ""
        return f"{written}, different texts embedded: {self.embedded:,}{calls}{reused}"

    def _notes(self) -> list[str]:
        return [
            f"note    {files:,} changed files have texts that {model} has not embedded: "
            "ingest again with that model"
            for model, files in self.lost.items()
        ]

    def _repr_html_(self) -> str:
        rows = {"files": self._files(), "chunks": self._chunks()}
        body = [*rows.items(), *(("note", line[8:]) for line in self._notes())]
        body += [("failed", str(problem)) for problem in self.problems[:SHOWN_PROBLEMS]]
        cells = "".join(
            f"<tr><th scope='row' style='text-align:left'>{what}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for what, text in body
        )
        caption = html.escape(f"{self.name}, embedded by {self.model}")
        style = "text-align:left;white-space:nowrap"
        return f"<table><caption style='{style}'>{caption}</caption>{cells}</table>"
