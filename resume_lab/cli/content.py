"""`resume-lab ingest`, `search` and `ask`: Markdown in, passages and answers out."""

from __future__ import annotations

from typing import Annotated

import typer

from resume_lab.cli.console import Json, Yes, confirm, print_json, progress, say
from resume_lab.config import Settings
from resume_lab.errors import ConfigError, LabError
from resume_lab.ingestion import CHUNK_SIZE, OVERLAP, ingest_content, remove_content
from resume_lab.retrieval import By, search

DEFAULT_K = 5

Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The embedding model (EMBEDDING_MODEL, else lexical)."),
]
Question = Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotes.")]
K = Annotated[int, typer.Option("-k", "--k", metavar="N", help="Passages to find.")]
Category = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only passages of this category.")
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Only passages with this tag; may be repeated."),
]
Source = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only passages from this folder's files.")
]


def ingest_command(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder of Markdown files.")],
    model: Model = None,
    chunk_size: Annotated[
        int, typer.Option(metavar="TOKENS", help="Tokens of a chunk.")
    ] = CHUNK_SIZE,
    overlap: Annotated[
        int, typer.Option(metavar="TOKENS", help="Tokens repeated from the chunk before.")
    ] = OVERLAP,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of its rows (the path from the project)."),
    ] = None,
    keep_missing: Annotated[
        bool, typer.Option("--keep-missing", help="Keep the rows of files that are gone.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove all that was ingested from the folder.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Read Markdown files with front matter, split them, embed the chunks, store all of it.

    Run again, it does what is left: unchanged files cost nothing, changed ones are replaced, those
    that are gone are removed. Exit code 1 if a file could not be read; the others go in.
    """
    if remove:
        if model is not None or keep_missing:
            raise ConfigError(
                "--remove excludes --model and --keep-missing.",
                hint="Leave out --remove, or these.",
            )
        confirm(Settings(), f"This removes what was ingested from {name or folder}.", yes)
        files = remove_content(folder, name=name)
        print_json({"removed": files}) if as_json else say(f"{files:,} files removed.")
        return
    try:
        report = ingest_content(
            folder,
            embedding_model=model,
            chunk_size=chunk_size,
            overlap=overlap,
            name=name,
            keep_missing=keep_missing,
            progress=progress(),
        )
    except KeyboardInterrupt:
        say("\nFiles that are stored stay; the same command goes on from there.", err=True)
        raise
    print_json(report.as_dict()) if as_json else say(str(report))
    raise typer.Exit(0 if report.passed else 1)


def search_command(
    question: Question,
    k: K = DEFAULT_K,
    category: Category = None,
    tags: Tags = None,
    model: Model = None,
    source: Source = None,
    by: Annotated[
        By, typer.Option(help="What counts: vectors, words, or both fused.")
    ] = By.VECTORS,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which search it was, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the passages nearest to a question, with their cosine similarities."""
    result = search(
        question,
        k=k,
        category=category,
        tags=tags,
        model=model,
        source=source,
        by=by,
        explain=explain,
    )
    print_json(result.as_dict()) if as_json else say(str(result))


def ask_command(
    question: Question,
    k: K = DEFAULT_K,
    category: Category = None,
    tags: Tags = None,
    source: Source = None,
    model: Model = None,
    passages: Annotated[
        bool, typer.Option("--passages", help="Show the best passages; ask no model.")
    ] = False,
    log: Annotated[
        bool | None,
        typer.Option(
            "--log/--no-log", help="Keep the question and answer in query_logs (LOG_QUESTIONS)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer a question from the stored passages, with numbered sources.

    With OPENAI_API_KEY or OPENAI_BASE_URL a model writes the answer from the passages alone, and
    its citations are checked. Without, the best passages are shown as they stand.
    """
    from resume_lab.generation import ask

    stream = _Stream()
    try:
        answer = ask(
            question,
            k=k,
            category=category,
            tags=tags,
            source=source,
            model=model,
            answer_by="passages" if passages else None,
            log=log,
            on_text=None if as_json else stream.add,
        )
    except LabError:
        stream.end()
        raise
    print_json(answer.as_dict()) if as_json else say(answer.after_text())


class _Stream:
    """An answer on the terminal as it comes."""

    def __init__(self) -> None:
        self._has_begun = False

    def add(self, text: str) -> None:
        self._has_begun = True
        say(text, nl=False)

    def end(self) -> None:
        """End the line that an answer broke off on, so that an error has its own."""
        if self._has_begun:
            say("\n")
