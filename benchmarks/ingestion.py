"""How fast ingestion is without its embedder, and what each stage takes of it.

A corpus of Markdown is made: headings, paragraphs, lists, a code block and a table a file, with
front matter. Vectors are drawn beforehand, so the embedder costs nothing. This process is kept on
one core; PostgreSQL, which writes meanwhile, may use the others. The tables are empty and have the
indexes that the migrations make.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.seed_speed import empty, empty_database
from resume_lab.config import Settings
from resume_lab.ingestion import ingest_content
from resume_lab.tuning.environment import machine

ROUNDS = 3
WORDS = [
    "compiler", "program", "machine", "navy", "officer", "language", "subroutine", "relay",
    "lecture", "standard", "memory", "tape", "operator", "engineer", "university", "design",
]  # fmt: skip


class Drawn:
    """Gives vectors that were drawn beforehand, over and over."""

    model = "drawn"
    is_remote = False

    def __init__(self) -> None:
        drawn = np.random.default_rng(0).standard_normal((1024, 1536)).astype(np.float32)
        self._vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield as many vectors as there are texts."""
        for first in range(0, len(texts), len(self._vectors)):
            yield self._vectors[: len(texts) - first]


def document(rng: np.random.Generator, number: int) -> str:
    """Return a Markdown file of about 3,500 tokens."""

    def sentence() -> str:
        return " ".join(rng.choice(WORDS, 12)).capitalize() + "."

    def paragraph() -> str:
        return " ".join(sentence() for _ in range(8))

    parts = [f"---\ntitle: File {number}\ntags: [a, b]\ndate: 2026-01-01\n---\n\n# File {number}"]
    for section in range(6):
        parts += [f"## Section {section}", *(paragraph() for _ in range(4))]
        parts.append("\n".join(f"- {sentence()}" for _ in range(5)))
    parts.append("```python\n" + "\n".join(f"value_{n} = {n} * 2" for n in range(12)) + "\n```")
    parts.append(
        "| year | what |\n|---|---|\n"
        + "\n".join(f"| 19{n} | {sentence()} |" for n in range(40, 50))
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Print the rate and the share of each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, empty_database() as engine:
        if hasattr(os, "sched_setaffinity"):  # the server has been started with all cores
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        for number in range(options.files):
            (Path(folder) / f"{number:05}.md").write_text(document(rng, number))
        settings = Settings(lab_dir=Path(folder) / ".lab")
        runs = []
        for _ in range(ROUNDS):
            empty(engine)
            runs.append(
                ingest_content(
                    folder, engine=engine, embedder=Drawn(), name="bench", settings=settings
                )
            )
        again = ingest_content(
            folder, engine=engine, embedder=Drawn(), name="bench", settings=settings
        )
    middle = sorted(runs, key=lambda report: report.total_s)[ROUNDS // 2]
    work_s = sum(middle.seconds.values())
    print(
        f"Ingestion of {options.files:,} files, {middle.chunks:,} chunks, {middle.tokens:,} "
        f"tokens, one core and another for PostgreSQL, {machine()}"
    )
    rate = middle.chunks / middle.total_s
    print(f"without the embedder  {rate:9,.0f} chunks/s   at least 2,000 is wanted")
    for stage, seconds in middle.seconds.items():
        print(f"  {stage:<20}{seconds / work_s:9.0%} of the work")
    print(f"the same again        {again.unchanged / again.total_s:9,.0f} files/s, nothing changed")


if __name__ == "__main__":
    main()
