"""How well words, vectors and both find the files that answer the labelled questions of content/.

Each way to cut the files is ingested under a name of its own into a new database.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.seed_speed import empty_database
from resume_lab.config import Settings, project_root
from resume_lab.embedding import make_embedder
from resume_lab.errors import LabError
from resume_lab.ingestion import ingest_content
from resume_lab.retrieval import By, evaluate_search, read_questions

CHUNKINGS = ((512, 50), (256, 25), (128, 12))


def main() -> None:
    """Print recall@5 and MRR with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", type=Path, default=project_root() / "content")
    parser.add_argument("--model", help="the embedding model (EMBEDDING_MODEL, else lexical)")
    options = parser.parse_args()
    settings = Settings()
    embedder = make_embedder(options.model, settings)
    questions = read_questions(options.content / "questions.csv")
    print(f"{len(questions)} labelled questions, vectors of {embedder.model}")
    with empty_database() as engine:
        for chunk_size, overlap in CHUNKINGS:
            report = ingest_content(
                options.content,
                engine=engine,
                embedder=embedder,
                name="labelled",
                chunk_size=chunk_size,
                overlap=overlap,
                settings=settings,
            )
            print(f"{chunk_size} tokens, overlap {overlap}: {report.chunks} chunks")
            for by in By:
                found = evaluate_search(
                    engine, questions, source="labelled", by=by, embedder=embedder
                )
                print(f"  {by:<8} {found}")


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"Error: {error}")
