"""The data directory of an embedded server: whether one can run on it, and which one does.

A folder that PostgreSQL would stumble over is refused with what it is and what to do. Nothing in
it is ever deleted but the files that a dead server left to say that it runs.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import re
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

import psutil

from resume_lab.database.server_programs import give_to_system_user, server_user, versions
from resume_lab.errors import EmbeddedError

MAX_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 104 (macOS) or 108 (Linux) with the closing zero."""

UNTOUCHED = "Nothing in it was changed."
MADE_ANEW = "the same command then makes a new, empty database in its place."
_NEEDED = ("global/pg_control", "base", "pg_wal", "postgresql.conf")
"""Some of what every data directory has; without one of them PostgreSQL does not start."""


@dataclass(frozen=True)
class DataDirectory:
    """The folder `path` for a server of PostgreSQL `version`, the major."""

    path: Path
    version: int

    # --- whether a server can run on it

    def is_initialised(self) -> bool:
        """Say whether there is a data directory; raises EmbeddedError for one of no use."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        self._check_version()
        self._check_owner()
        for name in _NEEDED:
            if not (self.path / name).exists():
                raise self._unusable(f"is damaged: {name} is missing")
        return True

    def _check_version(self) -> None:
        try:
            text = (self.path / "PG_VERSION").read_text(errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            raise self._unusable("is not a database of PostgreSQL: PG_VERSION is missing") from None
        if not re.fullmatch(r"\d{1,3}(\.\d+)?", text):
            raise self._unusable("is damaged: PG_VERSION holds no version")
        if text != str(self.version):
            use_it = f"Rename it to postgres-{text} and set LAB_POSTGRES={text}, or move it away"
            raise EmbeddedError(
                f"{self.path} holds a database of PostgreSQL {text}, not {self.version}.",
                state=UNTOUCHED,
                hint=f"{use_it if text in map(str, versions()) else 'Move it away'}: {MADE_ANEW}",
            )

    def _check_owner(self) -> None:
        """The server runs as the folder's owner only, and lets nobody else into it."""
        found = self.path.stat()
        user, uid = server_user()
        if found.st_uid != uid:
            raise EmbeddedError(
                f"{self.path} belongs to {owner(self.path)}; the server runs as {user}.",
                state=UNTOUCHED,
                hint=f"Work as {owner(self.path)}, or set LAB_DIR to a folder of your own. If its "
                f"owner was changed by mistake: chown -R {user} '{self.path}'",
            )
        if stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
            self.path.chmod(stat.S_IRWXU)

    def _unusable(self, what: str) -> EmbeddedError:
        return EmbeddedError(
            f"{self.path} {what}.",
            state=UNTOUCHED,
            hint=f"Put it back from a copy, or move it away: {MADE_ANEW}",
        )

    # --- which server runs on it

    def postmaster_pid(self) -> int | None:
        """Return the pid of the server on this data directory; a recycled pid does not count."""
        lines = self._pid_file_lines()
        if not lines or not lines[0].strip().isdecimal():
            return None
        pid = int(lines[0])
        try:
            process = psutil.Process(pid)
            running = process.status() != psutil.STATUS_ZOMBIE and self._serves_here(process)
        except (psutil.Error, OverflowError):
            return None
        return pid if running else None

    def is_ready(self) -> bool:
        """Say whether the server has said that it takes connections."""
        lines = self._pid_file_lines()
        return len(lines) > 7 and lines[7].strip() == "ready"

    def identity(self) -> str | None:
        """Return what tells this run of the server from any other: pid and start time."""
        if self.postmaster_pid() is None:
            return None
        lines = self._pid_file_lines()
        return f"{lines[0].strip()} {lines[2].strip()}" if len(lines) > 2 else None

    def stop_unlisted(self, timeout_s: float) -> bool:
        """Stop a server whose pid file is gone or damaged; return whether there was one.

        It would notice within a minute and stop as if it had crashed.
        """
        found = [process for process in psutil.process_iter(["name"]) if self._is_unlisted(process)]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        _, alive = psutil.wait_procs(found, timeout=timeout_s)
        if alive:
            raise EmbeddedError(
                f"PostgreSQL runs on {self.path} as pid {alive[0].pid}, does not say so in "
                "postmaster.pid, and does not stop.",
                hint=f"End it: kill -QUIT {alive[0].pid}. Then run the same command again.",
            )
        return bool(found)

    def clear_stale_files(self) -> None:
        """Remove what a dead server left: PostgreSQL trips over a pid that lives on as another."""
        (self.path / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self.socket_dir().glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.path / "postmaster.pid").read_text(errors="replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError:
            raise EmbeddedError(
                f"{self.path} belongs to {owner(self.path)}; you are {me()}.",
                hint="Set LAB_DIR to a folder of your own.",
            ) from None

    def _serves_here(self, process: psutil.Process) -> bool:
        """Say whether this is our server, by its working directory: that is its data directory.

        Unlike its arguments, the directory is right after the folder was moved. Where it may not
        be read, any process named postgres counts, unless its arguments name another directory.
        """
        try:
            return _same_folder(process.cwd(), self.path)
        except psutil.AccessDenied:
            arguments = process.cmdline()
        if str(self.path) in arguments:
            return True
        named = arguments[arguments.index("-D") + 1 :][:1] if "-D" in arguments else []
        elsewhere = any(Path(folder).is_dir() for folder in named)
        return process.name() == "postgres" and not elsewhere

    def _is_unlisted(self, process: psutil.Process) -> bool:
        """Say whether this is a server here; its own children have the same working directory."""
        try:
            if process.name() != "postgres" or not _same_folder(process.cwd(), self.path):
                return False
            parent = process.parent()
            return "-D" in process.cmdline() and (parent is None or parent.name() != "postgres")
        except psutil.Error:
            return False

    # --- where it listens

    def socket_dir(self) -> Path:
        """Return the folder of the server's socket: this one, unless its path is too long."""
        path = os.fsencode(self.path / ".s.PGSQL.5432")
        if len(path) <= MAX_SOCKET_PATH and b"," not in path:  # a comma ends a folder's name
            return self.path
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        # Not $TMPDIR: it may be as long, and another process may have another one.
        return Path("/tmp") / f"resume_lab-{os.geteuid()}-{name}"  # noqa: S108 - its owner is checked

    def make_socket_dir(self) -> None:
        """Make the folder below /tmp, where anybody could have put one of that name before."""
        folder = self.socket_dir()
        if folder == self.path:
            return
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            found = folder.lstat()
            ours = (os.geteuid(), self.path.stat().st_uid)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
                raise EmbeddedError(
                    f"{folder}, the place for the server's socket, belongs to {owner(folder)}.",
                    hint="Remove it, or set LAB_DIR to a folder with a shorter path.",
                ) from None
        give_to_system_user(folder, self.version)

    def remove_socket_dir(self) -> None:
        """Remove the folder below /tmp, if there is one."""
        if self.socket_dir() != self.path:
            with contextlib.suppress(OSError):
                self.socket_dir().rmdir()


def me() -> str:
    """Return the name of the user that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"


def owner(path: Path) -> str:
    """Return the name of the user that a path, or the nearest folder above, belongs to."""
    for existing in (path, *path.parents):
        try:
            return existing.owner()
        except FileNotFoundError:
            continue
        except (KeyError, OSError):
            break
    return "somebody else"


def _same_folder(one: str, other: Path) -> bool:
    try:
        return other.samefile(one)
    except OSError:
        return False
