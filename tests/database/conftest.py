"""Code in another process, and looks at what a database holds."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_python(tmp_path: Path) -> Start:
    """Start Python code in another process; `sys.argv[1:]` are the arguments."""

    def start(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ.copy(),
            **options,
        )

    return start


@pytest.fixture
def snapshot() -> Callable[[Engine], dict[str, object]]:
    """Return what the three tables and their sequences hold, counted."""

    def look(engine: Engine) -> dict[str, object]:
        seen: dict[str, object] = {}
        with engine.connect() as connection:
            for table in ("document_chunks", "chunk_embeddings", "query_logs"):
                seen[table] = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
            sequences = sa.text("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")
            seen["sequences"] = [tuple(row) for row in connection.execute(sequences)]
            indexes = sa.text(
                "SELECT indexrelid::regclass::text, indisvalid FROM pg_index "
                "WHERE indrelid = 'chunk_embeddings'::regclass ORDER BY 1"
            )
            seen["indexes"] = [tuple(row) for row in connection.execute(indexes)]
        return seen

    return look
