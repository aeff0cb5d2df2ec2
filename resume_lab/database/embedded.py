"""The embedded PostgreSQL: start it, tune it to this machine, share it, stop it.

The server belongs to whoever uses it. The process that leaves last stops the server, unless `start`
asked for it to stay.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import sql

from resume_lab.config import DRIVER
from resume_lab.database.data_directory import DataDirectory
from resume_lab.database.failures import translated_driver_errors
from resume_lab.database.leases import Leases, explained_file_errors
from resume_lab.database.server_programs import (
    give_to_system_user,
    open_folders_above,
    run_program,
)
from resume_lab.database.server_settings import settings_for_this_machine
from resume_lab.errors import DatabaseError, EmbeddedError

DATABASE = "resume_lab"
SUPERUSER = "postgres"
ASTRAY = ("PGSERVICE", "PGOPTIONS", "PGHOSTADDR")
"""Variables of libpq that lead elsewhere, whatever address is given."""

PORT = "5432"
"""Part of the socket's name only; said, because PGPORT would fill it in."""

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
FULL_BYTES = 16 * 1024**2
"""With less free than a segment of the log a server does not start."""

KEPT = "Nothing in it was deleted, and what was committed stays."
NOT_YET = re.compile("starting up|recovery mode|not yet accepting")


@dataclass(frozen=True)
class Status:
    """What is known of the server without touching it."""

    running: bool
    kept: bool
    version: int
    pid: int | None
    data_dir: Path


class EmbeddedServer:
    """One data directory below `lab_dir` and the server on it; `version` is PostgreSQL's major."""

    def __init__(
        self, lab_dir: Path, *, version: int = 18, extra_settings: dict[str, str] | None = None
    ) -> None:
        self.lab_dir = lab_dir.resolve()
        self.version = version
        self.data_dir = self.lab_dir / f"postgres-{version}"
        self.log_file = self.data_dir / "server.log"
        self._extra_settings = extra_settings or {}
        self._data = DataDirectory(self.data_dir, version)
        self._leases = Leases(self.lab_dir, self.data_dir.name)

    def use(self) -> sa.URL:
        """Start the server if needed and hold it until this process ends; return its address."""
        self._leases.make()
        self._leases.take(self.leave)
        return self._ensure_running()

    def leave(self) -> None:
        """Give up this process's hold; stop the server if nobody else holds it."""
        if not self._leases.give_up():
            return
        # The folder may be gone by now, and at exit there is nobody left to tell.
        with contextlib.suppress(OSError, EmbeddedError), self._exclusive():
            if self._leases.is_unused() and not self.status().kept:
                self._stop()

    def start(self) -> sa.URL:
        """Start the server if needed and keep it running until `stop`; return its address."""
        self._leases.make()
        return self._ensure_running(keep=True)

    def stop(self) -> bool:
        """Stop the server, whoever uses it; return whether it was running."""
        with contextlib.suppress(PermissionError):  # told by the next step
            if not self.data_dir.exists():
                return False
        self._leases.make()
        with self._exclusive():
            self._leases.drop_keep()
            return self._stop()

    def status(self) -> Status:
        """Look at the server without starting it."""
        pid = self._data.postmaster_pid()
        kept = self._leases.is_kept(self._data.identity())
        return Status(pid is not None, kept, self.version, pid, self.data_dir)

    def url(self, database: str = DATABASE) -> sa.URL:
        """Return the address of a database on this server, started or not."""
        place = {"host": str(self._data.socket_dir()), "port": PORT}
        return sa.URL.create(DRIVER, username=SUPERUSER, database=database, query=place)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._leases.exclusive(), explained_file_errors(self.lab_dir):
            yield

    # --- starting

    def _ensure_running(self, *, keep: bool = False) -> sa.URL:
        with self._exclusive():
            if not self._is_up():
                self._start_anew()
            if keep:  # before the lock is given up: the last user may be waiting for it to leave
                self._leases.keep(self._data.identity() or "")
        return self.url()

    def _is_up(self) -> bool:
        """Say whether a server runs and answers; one that ends meanwhile does not."""
        if self._data.postmaster_pid() is None:
            return False
        try:
            self._create_database()
        except DatabaseError:
            if self._data.postmaster_pid() is not None:
                raise
            return False
        return True

    def _start_anew(self) -> None:
        if not self._data.is_initialised():
            self._initialise()
        self._data.stop_unlisted(STOP_TIMEOUT_S)
        self._data.clear_stale_files()
        self._launch()
        self._create_database()

    def _initialise(self) -> None:
        """Make the data directory beside its place and move it there: a kill leaves none or all."""
        for leftover in self.lab_dir.glob(f"{self.data_dir.name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        new = self.lab_dir / f"{self.data_dir.name}.new-{os.getpid()}"
        new.mkdir(mode=0o700)
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            if self.version >= 17
            else ["--locale=C"]
        )
        try:
            give_to_system_user(new, self.version)
            self._run(
                "initdb", "-D", str(new), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", *locale
            )
            new.rename(self.data_dir)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _launch(self) -> None:
        open_folders_above(self.data_dir, self.version)  # each time: it may have been moved
        self._data.make_socket_dir()
        settings = settings_for_this_machine(self.lab_dir)
        settings |= {"listen_addresses": "", "port": PORT}
        settings |= {"unix_socket_directories": str(self._data.socket_dir())}
        settings |= {"unix_socket_permissions": "0700"} | self._extra_settings
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        arguments = ["-D", str(self.data_dir), "-l", str(self.log_file), "-o", options]
        arguments += ["-w", "-t", str(START_TIMEOUT_S)]
        try:
            self._run("pg_ctl", "start", *arguments)
        except EmbeddedError as error:
            self._check_disk(error.message)
            # After a killed server its children may need a moment to let go of shared memory.
            time.sleep(2)
            if self._data.postmaster_pid() is None:
                self._run("pg_ctl", "start", *arguments)

    def _create_database(self) -> None:
        connection = self._connect()
        try:
            with translated_driver_errors(), connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        finally:
            connection.close()

    def _connect(self) -> Any:
        """Connect to the server as soon as it takes connections."""
        deadline = time.monotonic() + START_TIMEOUT_S
        host = str(self._data.socket_dir())
        while True:
            was_ready = self._data.is_ready()
            try:
                connection = psycopg2.connect(
                    host=host, port=PORT, user=SUPERUSER, dbname="postgres", connect_timeout=30
                )
            except psycopg2.OperationalError as error:
                said = " ".join(str(error).split())
                waits = not was_ready or NOT_YET.search(said)
                if not waits or time.monotonic() > deadline or not self.status().running:
                    self._check_disk(said)
                    raise EmbeddedError(
                        f"The embedded PostgreSQL does not answer: {said}",
                        state=KEPT,
                        hint=self._unanswered_hint(),
                    ) from None
                time.sleep(0.1)
            else:
                connection.autocommit = True
                return connection

    def _unanswered_hint(self) -> str:
        astray = [name for name in ASTRAY if name in os.environ]
        if astray:
            return f"unset {' '.join(astray)} (the driver takes it from the environment)"
        return (
            "Run `resume-lab db stop`, then the same command again. If it stays so, read the end "
            f"of {self.log_file}."
        )

    # --- stopping

    def _stop(self) -> bool:
        if self._data.postmaster_pid() is None:
            return self._data.stop_unlisted(STOP_TIMEOUT_S)
        stop = ["stop", "-D", str(self.data_dir), "-w", "-t", str(STOP_TIMEOUT_S)]
        try:
            self._run("pg_ctl", *stop, "-m", "fast")
        except EmbeddedError:
            if self._data.postmaster_pid() is not None:
                self._run("pg_ctl", *stop, "-m", "immediate")
        self._data.remove_socket_dir()
        return True

    def _run(self, program: str, *arguments: str) -> None:
        try:
            run_program(self.version, program, *arguments)
        except EmbeddedError as error:
            message = f"{error.message}{self._log_tail()}"
            self._check_disk(message)
            raise EmbeddedError(message, state=KEPT, hint=error.hint) from None

    def _check_disk(self, said: str) -> None:
        """Say of what failed that the disk is full, if it is."""
        free = shutil.disk_usage(self.lab_dir).free
        if free < FULL_BYTES or os.strerror(errno.ENOSPC) in said:
            raise EmbeddedError(
                f"The disk of {self.lab_dir} is full: {free // 1024:,} kB are free.",
                state=KEPT,
                hint="Free space there, then run the same command again.",
            ) from None

    def _log_tail(self) -> str:
        try:
            return "\n" + "\n".join(self.log_file.read_text(errors="replace").splitlines()[-5:])
        except OSError:
            return ""


def servers_in(lab_dir: Path) -> list[EmbeddedServer]:
    """Return the servers, of any version, that have a data directory below `lab_dir`."""
    with explained_file_errors(lab_dir, "read"):
        try:
            names = sorted(path.name for path in lab_dir.iterdir() if path.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
    versions = [name.removeprefix("postgres-") for name in names if name.startswith("postgres-")]
    return [EmbeddedServer(lab_dir, version=int(text)) for text in versions if text.isdecimal()]
