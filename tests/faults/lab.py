"""A folder with a server of its own, and `resume-lab` as a process on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from resume_lab.config import Settings, project_root
from resume_lab.database import schema
from resume_lab.database.embedded import DATABASE, EmbeddedServer
from resume_lab.database.session import engine_for

from .operations import RESULT, ROLLOUT, Operation, keep_run, stock
from .state import APPLICATION, Holdings, Schema, holdings

TIMEOUT_S = 90.0
_BARE, _STOCKED = "template1", "stocked"

# `resume-lab` on a copy of the migrations, so that what is rolled out stays out of the project.
_COMMAND = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
from resume_lab.database import schema
project = Path(sys.argv.pop(1))
schema.project_root = lambda: project
from resume_lab.cli import main
main()
"""


@dataclass(frozen=True)
class Undisturbed:
    """An operation without a fault: what stood before, what stands after it.

    `stages` are the schemas that it commits on its way. Times are from its first session on:
    `sessions_s` to the last one, `span_s` to the end of the process.
    """

    before: Holdings
    after: Holdings
    stages: frozenset[Schema]
    sessions_s: float = 0.0
    span_s: float = 0.0


class Lab:
    """One database at a time, made for an operation, on a server with the settings of users."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab_dir = folder / "lab"
        self.project = folder / "project"
        self.server = EmbeddedServer(self.lab_dir)
        self._undisturbed: dict[tuple[Operation, bool], Undisturbed] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._is_open = True
        engine = engine_for(self.server.use())
        stock(engine, folder, self.lab_dir)
        engine.dispose()
        self._admin("CREATE DATABASE {} TEMPLATE {}", _STOCKED, DATABASE)

    def end_processes(self) -> None:
        """End those that still run, and start no other."""
        self._is_open = False
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """End the processes that still run, and the server."""
        self.end_processes()
        for process in self._processes:
            process.communicate()
        self.server.leave()
        self.server.stop()

    def prepare(self, operation: Operation) -> None:
        """Put everything where it stands before the operation."""
        self.server.use()
        self._admin("DROP DATABASE IF EXISTS {} WITH (FORCE)", DATABASE)
        template = _BARE if operation.bare else _STOCKED
        self._admin("CREATE DATABASE {} TEMPLATE {}", DATABASE, template)
        self._copy_project()
        self._forget_runs()
        (self.folder / RESULT).unlink(missing_ok=True)
        if operation.has_run:
            keep_run(self.lab_dir)
        if operation.waits:
            self._roll_out()

    def undisturbed(self, operation: Operation, *, timed: bool) -> Undisturbed:
        """Return what the operation does when nothing goes wrong; it is run once.

        Not even that for one that only reads, unless its time is asked for.
        """
        key = operation, timed or not operation.only_reads
        if key not in self._undisturbed:
            self._undisturbed[key] = self._run_undisturbed(*key)
        return self._undisturbed[key]

    def _run_undisturbed(self, operation: Operation, run: bool) -> Undisturbed:
        self.prepare(operation)
        before = self.holdings()
        if not run:
            return Undisturbed(before, before, frozenset([before.schema]))
        stages = {before.schema}
        if operation.bare:
            stages |= set(self._migrated())
            self.prepare(operation)
        with self.cursor() as cursor:
            process = self.start(operation.arguments)
            self.wait_for_session(cursor, process)
            start = last = time.monotonic()
            while process.poll() is None:
                if self.sessions(cursor):
                    last = time.monotonic()
                time.sleep(0.005)
        span_s = time.monotonic() - start
        said = ended(process)
        assert process.returncode == 0, said
        after = self.holdings()
        schemas = frozenset(stages | {after.schema})
        return Undisturbed(before, after, schemas, last - start, span_s)

    def _migrated(self) -> Iterator[Schema]:
        engine = engine_for(self.server.url())
        for revision, _ in reversed(schema.history()):
            schema.upgrade(engine, revision)
            yield self.holdings().schema
        engine.dispose()

    # --- processes

    def start(
        self, arguments: tuple[str, ...], *, through: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start `resume-lab`, on the embedded server as it finds it or `through` a socket."""
        assert self._is_open, "the lab is closing"
        settings = {name.upper() for name in Settings.model_fields}
        environment = {name: value for name, value in os.environ.items() if name not in settings}
        environment |= {"LAB_DIR": str(self.lab_dir), "LAB_ENV_FILE": os.devnull}
        if through is not None:
            environment["DATABASE_URL"] = f"postgresql://postgres@/{DATABASE}?host={through}"
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(self.project), *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for whoever started this
        )
        self._processes = [p for p in self._processes if p.poll() is None]
        self._processes.append(process)
        return process

    def sessions(self, cursor: Any, at: str = "") -> list[int]:
        """Return the server processes of the command, those at a statement with `at` in it."""
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = %s "
            "AND (%s = '' OR state <> 'idle' AND position(%s IN query) > 0)",
            [APPLICATION, at, at],
        )
        return [row[0] for row in cursor.fetchall()]

    def wait_for_session(
        self, cursor: Any, process: subprocess.Popen[str], at: str = ""
    ) -> list[int]:
        """Wait until the command has a session, at a statement; return none if it ends before."""
        while process.poll() is None:
            if found := self.sessions(cursor, at):
                return found
            time.sleep(0.002)
        return []

    # --- the database

    @contextlib.contextmanager
    def cursor(self, database: str = DATABASE) -> Iterator[Any]:
        """Give a cursor that commits each statement, once the server lets somebody in."""
        connection = self._connect(database)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def _connect(self, database: str) -> Any:
        deadline = time.monotonic() + TIMEOUT_S
        url = self.server.url(database)
        while True:
            try:
                connection = psycopg2.connect(
                    host=url.query["host"], user=url.username, dbname=database
                )
            except psycopg2.OperationalError:  # it may be coming up after a crash
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                connection.autocommit = True
                return connection

    def holdings(self) -> Holdings:
        """Look at everything that is committed."""
        with self.cursor() as cursor:
            return holdings(cursor)

    def _admin(self, statement: str, *names: str) -> None:
        with self.cursor("postgres") as cursor:
            cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    # --- folders

    def _copy_project(self, source: Path | None = None) -> None:
        source = source or project_root()
        shutil.rmtree(self.project, ignore_errors=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / "migrations", self.project / "migrations", ignore=ignore)
        shutil.copy(source / "alembic.ini", self.project)

    def _forget_runs(self) -> None:
        shutil.rmtree(self.lab_dir / "runs", ignore_errors=True)

    def _roll_out(self) -> None:
        """Let a migration wait that builds an index; the first is kept for the next time."""
        kept = self.folder / "waiting"
        if kept.is_dir():
            self._copy_project(kept)
            return
        keep_run(self.lab_dir)
        process = self.start(ROLLOUT.arguments)
        said = ended(process)
        assert process.returncode == 0, said
        self._forget_runs()
        shutil.copytree(self.project, kept)


@contextlib.contextmanager
def new_lab() -> Iterator[Lab]:
    """Give a lab in a temporary folder, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    lab = None
    try:
        lab = Lab(folder)
        yield lab
    finally:
        if lab is not None:
            lab.close()
        else:
            EmbeddedServer(folder / "lab").stop()
        shutil.rmtree(folder, ignore_errors=True)


def ended(process: subprocess.Popen[str]) -> str:
    """Return all that a command said; one that does not end is killed."""
    try:
        return "".join(process.communicate(timeout=TIMEOUT_S))
    except subprocess.TimeoutExpired:
        process.kill()
        return "".join(process.communicate()) + "\nIt did not end."
