"""The embedded PostgreSQL: start it, tune it to this machine, share it, stop it.

The server belongs to whoever uses it. Each process that uses it holds a shared lock on a file, its
lease; the kernel lets go of the lock even when the process is killed. The process that leaves last
stops the server, unless `start` asked for it to stay.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import getpass
import hashlib
import os
import shlex
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg2
import sqlalchemy as sa
from psycopg2 import sql

from resume_lab.config import DRIVER
from resume_lab.database.server_programs import (
    give_to_system_user,
    open_folders_above,
    run_program,
)
from resume_lab.database.server_settings import settings_for_this_machine
from resume_lab.errors import EmbeddedError

DATABASE = "resume_lab"
SUPERUSER = "postgres"
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
MAX_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 104 (macOS) or 108 (Linux) with the closing zero."""


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
        self._lock_file = self.lab_dir / f"postgres-{version}.lock"
        self._lease_file = self.lab_dir / f"postgres-{version}.lease"
        self._keep_file = self.lab_dir / f"postgres-{version}.keep"

    def use(self) -> sa.URL:
        """Start the server if needed and hold it until this process ends; return its address."""
        with _process_leases_lock:
            owner, _ = _process_leases.get(self.data_dir, (None, None))
            if owner != os.getpid():  # a forked child takes its own
                self._make_lab_dir()
                lease = self._lease_file.open("a")
                fcntl.flock(lease, fcntl.LOCK_SH)
                _process_leases[self.data_dir] = (os.getpid(), lease)
                atexit.register(self.leave)
        return self._ensure_running()

    def leave(self) -> None:
        """Give up this process's hold; stop the server if nobody else holds it."""
        with _process_leases_lock:
            pid, lease = _process_leases.pop(self.data_dir, (None, None))
        if lease is None or pid != os.getpid():
            return
        fcntl.flock(lease, fcntl.LOCK_UN)  # closing is not enough: forked children have it open too
        lease.close()
        # The folder may be gone by now, and at exit there is nobody left to tell.
        with contextlib.suppress(OSError, EmbeddedError), self._exclusive():
            if self._unused() and not self.status().kept:
                self._stop()

    def start(self) -> sa.URL:
        """Start the server if needed and keep it running until `stop`; return its address."""
        self._make_lab_dir()
        return self._ensure_running(keep=True)

    def stop(self) -> bool:
        """Stop the server, whoever uses it; return whether it was running."""
        with contextlib.suppress(PermissionError):  # told by the next step
            if not self.data_dir.exists():
                return False
        self._make_lab_dir()
        with self._exclusive():
            self._keep_file.unlink(missing_ok=True)
            return self._stop()

    def status(self) -> Status:
        """Look at the server without starting it."""
        pid = self._postmaster_pid()
        identity = self._identity()
        kept = (
            identity is not None
            and self._keep_file.exists()
            and self._keep_file.read_text() == identity
        )
        return Status(pid is not None, kept, self.version, pid, self.data_dir)

    def url(self, database: str = DATABASE) -> sa.URL:
        """Return the address of a database on this server, started or not."""
        host = {"host": str(self._socket_dir())}
        return sa.URL.create(DRIVER, username=SUPERUSER, database=database, query=host)

    # --- starting

    def _make_lab_dir(self) -> None:
        try:
            self.lab_dir.mkdir(parents=True, exist_ok=True)
            self._lock_file.open("a").close()
            self._lease_file.open("a").close()
        except OSError as error:
            raise EmbeddedError(
                f"{self.lab_dir} cannot be written: {error.strerror}.",
                hint="Set LAB_DIR to a folder of your own"
                f" (this one belongs to {_owner(self.lab_dir)}; you are {_me()}).",
            ) from None

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock_file.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _unused(self) -> bool:
        with self._lease_file.open("a") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def _ensure_running(self, *, keep: bool = False) -> sa.URL:
        with self._exclusive():
            if not (self.data_dir / "PG_VERSION").exists():
                self._initialise()
            if self._postmaster_pid() is None:
                self._clear_stale_files()
                self._launch()
            elif not self._ready():
                self._wait_until_ready()
            self._create_database()
            if keep:  # before the lock is given up: the last user may be waiting for it to leave
                self._keep_file.write_text(self._identity() or "")
        return self.url()

    def _initialise(self) -> None:
        """Make the data directory beside its place and move it there: a kill leaves none or all."""
        for leftover in self.lab_dir.glob(f"{self.data_dir.name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        new = self.lab_dir / f"{self.data_dir.name}.new-{os.getpid()}"
        new.mkdir(mode=0o700)
        give_to_system_user(new, self.version)
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            if self.version >= 17
            else ["--locale=C"]
        )
        self._run("initdb", "-D", str(new), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", *locale)
        new.rename(self.data_dir)

    def _launch(self) -> None:
        open_folders_above(self.data_dir, self.version)  # each time: it may have been moved
        socket_dir = self._socket_dir()
        if socket_dir != self.data_dir:
            self._make_socket_dir(socket_dir)
        settings = settings_for_this_machine(self.lab_dir)
        settings |= {"listen_addresses": "", "unix_socket_directories": str(socket_dir)}
        settings |= {"unix_socket_permissions": "0700"} | self._extra_settings
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        arguments = ["-D", str(self.data_dir), "-l", str(self.log_file), "-o", options]
        arguments += ["-w", "-t", str(START_TIMEOUT_S)]
        try:
            self._run("pg_ctl", "start", *arguments)
        except EmbeddedError:
            # After a killed server its children may need a moment to let go of shared memory.
            time.sleep(2)
            if self._postmaster_pid() is None:
                self._run("pg_ctl", "start", *arguments)
            self._wait_until_ready()

    def _make_socket_dir(self, folder: Path) -> None:
        """Make the folder below /tmp, where anybody could have put one of that name before."""
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            found = folder.lstat()
            ours = (os.geteuid(), self.data_dir.stat().st_uid)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
                raise EmbeddedError(
                    f"{folder}, the place for the server's socket, belongs to {_owner(folder)}.",
                    hint="Remove it, or set LAB_DIR to a folder with a shorter path.",
                ) from None
        give_to_system_user(folder, self.version)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if time.monotonic() > deadline or self._postmaster_pid() is None:
                raise EmbeddedError(
                    "The embedded PostgreSQL did not become ready.",
                    hint=f"Read the end of {self.log_file}.",
                )
            time.sleep(0.1)

    def _create_database(self) -> None:
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        finally:
            connection.close()

    def _connect(self) -> Any:
        connection = psycopg2.connect(
            host=str(self._socket_dir()), user=SUPERUSER, dbname="postgres", connect_timeout=30
        )
        connection.autocommit = True
        return connection

    # --- stopping

    def _stop(self) -> bool:
        if self._postmaster_pid() is None:
            return False
        stop = ["stop", "-D", str(self.data_dir), "-w", "-t", str(STOP_TIMEOUT_S)]
        try:
            self._run("pg_ctl", *stop, "-m", "fast")
        except EmbeddedError:
            if self._postmaster_pid() is not None:
                self._run("pg_ctl", *stop, "-m", "immediate")
        if self._socket_dir() != self.data_dir:
            with contextlib.suppress(OSError):
                self._socket_dir().rmdir()
        return True

    # --- looking

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError:
            raise EmbeddedError(
                f"{self.data_dir} belongs to {_owner(self.data_dir)}; you are {_me()}.",
                hint="Set LAB_DIR to a folder of your own.",
            ) from None

    def _postmaster_pid(self) -> int | None:
        """Return the pid of the server on this data directory; a recycled pid does not count."""
        lines = self._pid_file_lines()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        try:
            process = psutil.Process(pid)
            running = process.status() != psutil.STATUS_ZOMBIE and self._serves_here(process)
        except psutil.Error:
            return None
        return pid if running else None

    def _serves_here(self, process: psutil.Process) -> bool:
        """Say whether this is our server, by its working directory: that is its data directory.

        Unlike its arguments, the directory is right after the folder was moved. Where it may not
        be read, any process named postgres counts, unless its arguments name another directory.
        """
        try:
            return _same_folder(process.cwd(), self.data_dir)
        except psutil.AccessDenied:
            arguments = process.cmdline()
        if str(self.data_dir) in arguments:
            return True
        named = arguments[arguments.index("-D") + 1 :][:1] if "-D" in arguments else []
        elsewhere = any(Path(folder).is_dir() for folder in named)
        return process.name() == "postgres" and not elsewhere

    def _identity(self) -> str | None:
        """Return what tells this run of the server from any other: pid and start time."""
        if self._postmaster_pid() is None:
            return None
        lines = self._pid_file_lines()
        return f"{lines[0].strip()} {lines[2].strip()}" if len(lines) > 2 else None

    def _ready(self) -> bool:
        lines = self._pid_file_lines()
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _clear_stale_files(self) -> None:
        """Remove what a dead server left: PostgreSQL trips over a pid that lives on as another."""
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self._socket_dir().glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)

    def _socket_dir(self) -> Path:
        path = os.fsencode(self.data_dir / ".s.PGSQL.5432")
        if len(path) <= MAX_SOCKET_PATH and b"," not in path:  # a comma ends a folder's name
            return self.data_dir
        name = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        # Not $TMPDIR: it may be as long, and another process may have another one.
        return Path("/tmp") / f"resume_lab-{os.geteuid()}-{name}"  # noqa: S108

    def _run(self, program: str, *arguments: str) -> None:
        try:
            run_program(self.version, program, *arguments)
        except EmbeddedError as error:
            raise EmbeddedError(f"{error.message}{self._log_tail()}", hint=error.hint) from None

    def _log_tail(self) -> str:
        try:
            return "\n" + "\n".join(self.log_file.read_text(errors="replace").splitlines()[-5:])
        except OSError:
            return ""


def servers_in(lab_dir: Path) -> list[EmbeddedServer]:
    """Return the servers, of any version, that have a data directory below `lab_dir`."""
    try:
        names = sorted(path.name for path in lab_dir.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise EmbeddedError(
            f"{lab_dir} cannot be read: {error.strerror}.",
            hint="Set LAB_DIR to a folder of your own"
            f" (this one belongs to {_owner(lab_dir)}; you are {_me()}).",
        ) from None
    versions = [name.removeprefix("postgres-") for name in names if name.startswith("postgres-")]
    return [EmbeddedServer(lab_dir, version=int(text)) for text in versions if text.isdecimal()]


_process_leases: dict[Path, tuple[int, IO[str]]] = {}
_process_leases_lock = threading.Lock()


def _same_folder(one: str, other: Path) -> bool:
    try:
        return other.samefile(one)
    except OSError:
        return False


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"


def _owner(path: Path) -> str:
    for existing in (path, *path.parents):
        try:
            return existing.owner()
        except FileNotFoundError:
            continue
        except (KeyError, OSError):
            break
    return "somebody else"
