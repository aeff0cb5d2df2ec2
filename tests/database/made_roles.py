"""The roles made, logged in as, and dropped at the end: they belong to the whole server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.config import Settings
from resume_lab.database.indexes import execute, quoted
from resume_lab.database.role_migration import RoleMigration, lacking
from resume_lab.database.session import engine_for
from resume_lab.embedding.embedder import LEXICAL_MODEL
from resume_lab.ingestion import ingest_content
from tests.retrieval.stored import tune

OURS = "starts_with(rolname, 'resume_lab_') OR starts_with(rolname, 'trial_')"
FILES = {
    "wire.md": "# Wire\n\nShe handed out pieces of wire, a nanosecond long.\n",
    "compiler.md": "# Compiler\n\nShe wrote the first compiler in 1952.\n",
    "navy.md": "# Navy\n\nShe retired from the navy as a rear admiral.\n",
}


def run(engine: Engine, *statements: str) -> None:
    """Run statements in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            execute(connection, statement)


def make_roles(engine: Engine, *, with_row_security: bool = False) -> RoleMigration:
    with engine.connect() as connection:
        planned = lacking(connection, with_row_security=with_row_security)
    run(engine, *planned.upgrade)
    return planned


def drop_roles(engine: Engine) -> None:
    """Drop what tests made: roles of the project, and those whose names begin with trial_."""
    with engine.begin() as connection:
        names = connection.scalars(sa.text(f"SELECT rolname FROM pg_roles WHERE {OURS}")).all()
        for name in map(quoted, names):
            execute(connection, f"REASSIGN OWNED BY {name} TO CURRENT_USER")
            execute(connection, f"DROP OWNED BY {name}")
        for name in map(quoted, names):
            execute(connection, f"DROP ROLE {name}")


@contextlib.contextmanager
def logged_in(engine: Engine, role: str) -> Iterator[Engine]:
    """Lend an engine whose sessions are the role's."""
    own = engine_for(engine.url.set(username=role))
    try:
        yield own
    finally:
        own.dispose()


def settings(folder: Path, **values: object) -> Settings:
    return Settings(_env_file=None, lab_dir=folder / "lab", database_url=None, **values)


def ingest(engine: Engine, folder: Path, name: str = "content") -> None:
    """Store the files under a name, a chunk each."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in FILES.items():
        (folder / file).write_text(text)
    ingest_content(folder, engine=engine, name=name, settings=settings(folder.parent))


def tuned(engine: Engine) -> None:
    tune(engine, LEXICAL_MODEL, lists=2, probes=2)


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0)
