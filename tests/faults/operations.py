"""The commands that faults are caused in, and what stands there before they run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy.engine import Engine

from resume_lab import seeding
from resume_lab.config import Settings
from resume_lab.database import schema
from resume_lab.ingestion import ingest_content
from resume_lab.tuning import Recommendation, TuningResult, runs
from resume_lab.tuning.results import (
    Environment,
    Exact,
    Latency,
    TableInfo,
    Timings,
    WorkloadInfo,
)

ROWS, FILES, OLD_FILES = 1000, 40, 5
MODEL = seeding.synthetic_model("clustered", 7)
CONTENT = "content"
RESULT = "tune.json"


@dataclass(frozen=True)
class Operation:
    """A command, and what it works on.

    It `only_reads` chunks, embeddings and schema; is run on a `bare` database without tables, or
    on a stocked one; `has_run`: a finished run of tune is kept; `waits`: so does its migration.
    """

    name: str
    arguments: tuple[str, ...]
    only_reads: bool = False
    bare: bool = False
    has_run: bool = False
    waits: bool = False


SEED = Operation("seed", ("seed", "--rows", "1500", "--seed", "1"))
INGEST = Operation("ingest", ("ingest", CONTENT, "--name", CONTENT))
MIGRATE = Operation("migrate", ("migrate",), bare=True)
TUNE = Operation(
    "tune",
    (
        "tune", "--model", MODEL, "--queries", "40", "--lists", "12", "--rebuilds", "1",
        "--target-recall", "0.8", "--json", RESULT,
    ),
    only_reads=True,
)  # fmt: skip
ROLLOUT = Operation("rollout", ("rollout",), only_reads=True, has_run=True)
BUILD = Operation("migrate a rollout", ("migrate",), waits=True)
SEARCH = Operation("search", ("search", "What is part 3?"), only_reads=True)
ASK = Operation("ask", ("ask", "What is part 3?", "--passages"), only_reads=True)
OPERATIONS = (SEED, INGEST, MIGRATE, TUNE, ROLLOUT, BUILD, SEARCH, ASK)


def stock(engine: Engine, folder: Path, lab_dir: Path) -> None:
    """Make the tables and fill them: vectors, and files of which some change afterwards."""
    schema.upgrade(engine)
    seeding.seed(engine, rows=ROWS, kind="clustered", seed=7, allow_prod=True)
    content = folder / CONTENT
    content.mkdir()
    for number in range(OLD_FILES):
        _write_file(content, number, "an older text")
    settings = Settings(lab_dir=lab_dir, embedding_model="lexical")
    ingest_content(content, engine=engine, name=CONTENT, settings=settings)
    for number in range(FILES):
        _write_file(content, number, "a part of the whole")


def _write_file(folder: Path, number: int, text: str) -> None:
    paragraphs = "\n\n".join(f"## Part {n}\n\nPart {n} is {text}. " + text * 40 for n in range(6))
    (folder / f"{number:02}.md").write_text(f"---\ntitle: File {number}\n---\n\n{paragraphs}\n")


def keep_run(lab_dir: Path) -> None:
    """Keep a finished run that recommends an index for the stored vectors."""
    run = runs.start(lab_dir / "runs", label="stored", options={})
    table = TableInfo(
        ("chunk_embeddings",), "embedding", "chunk_id", f"embedding_model = '{MODEL}'",
        partial=True, embedding_model=MODEL,
    )  # fmt: skip
    run.finish(
        TuningResult(
            WorkloadInfo(ROWS, 1536, 30, 10, "cosine", "stored", 30, table),
            Environment("2026-02-13T09:00:00+00:00", "18.4", "0.8.5", {}, "here", "warm"),
            0.9, Exact(Latency.of(np.full(30, 9.0)), 8.0, "Seq Scan"), (),
            Recommendation(12, 2, 0.95, 0.93, 1.0, 9.0, "", "SET LOCAL ivfflat.probes = 2;", ""),
            "Because.", Timings(0.1, 0.1, 0.1, 0.4),
        )
    )  # fmt: skip
