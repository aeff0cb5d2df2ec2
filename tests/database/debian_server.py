"""PostgreSQL as a distribution packages it: another major version, with TLS, without pgvector."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from resume_lab.config import parse_database_url
from resume_lab.database.server_programs import server_user

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass(frozen=True)
class PackagedServer:
    """A server on a socket in `folder`, and on `port` of this machine."""

    folder: Path
    port: int

    def url(self, place: str = "", **options: str) -> sa.URL:
        """Return the address of its database on the socket, or on the host given."""
        address = parse_database_url(f"postgresql://postgres@{place}/postgres")
        options = options if place else {"host": str(self.folder), **options}
        return address.set(port=self.port).update_query_dict(options)


def programs() -> Path:
    """Return the folder of initdb; the test is skipped where there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).parent, *DEBIAN] if found else DEBIAN
    if not folders:
        pytest.skip("no PostgreSQL of a distribution here")
    return folders[0]


@contextlib.contextmanager
def packaged_server(
    settings: Sequence[str] = (), *, access: str = "", files: dict[str, bytes] | None = None
) -> Iterator[PackagedServer]:
    """Run a server with these settings and files; `access` is its pg_hba.conf."""
    folder = Path(tempfile.mkdtemp(prefix="packaged-"))
    data = folder / "data"
    _, uid = server_user()
    os.chown(folder, uid, -1)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        who = {"user": uid, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(programs() / program), "-D", str(data), *arguments]
        with tempfile.TemporaryFile("w+") as output:  # the server keeps it open
            done = subprocess.run(
                command, cwd="/", stdout=output, stderr=output, umask=0o077, check=False, **who
            )
            output.seek(0)
            assert done.returncode == 0, output.read()

    try:
        run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
        files = dict(files or {})
        if access:
            files["pg_hba.conf"] = access.encode()
        for name, content in files.items():
            (data / name).write_bytes(content)
            (data / name).chmod(0o600)
            os.chown(data / name, uid, -1)
        given = ["fsync=off", "listen_addresses=127.0.0.1", f"port={port}", *settings]
        options = " ".join(f"-c {setting}" for setting in given)
        run("pg_ctl", "start", "-w", "-l", str(data / "log"), "-o", f"{options} -k {folder}")
        yield PackagedServer(folder, port)
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder)
