"""The embedded server: no network reaches it, and no other user its data or its socket."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from resume_lab.database import server_programs
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.errors import EmbeddedError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

TRY_TO_GET_IN = """
import os, pwd, socket, sys
import psycopg2
who, data, folder = sys.argv[1:]
if who:
    user = pwd.getpwnam(who)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)

def plug():
    socket.socket(socket.AF_UNIX).connect(f"{folder}/.s.PGSQL.5432")

def log_in():
    psycopg2.connect(host=folder, user="postgres", dbname="postgres").close()

tries = {
    "list": lambda: os.listdir(data),
    "read": lambda: open(f"{data}/PG_VERSION").read(),
    "read the log": lambda: open(f"{data}/server.log").read(),
    "write": lambda: open(f"{data}/new", "w"),
    "plug": plug,
    "log in": log_in,
}
for name, attempt in tries.items():
    try:
        attempt()
    except (PermissionError, psycopg2.OperationalError) as error:
        assert "ermission denied" in str(error), error
    else:
        print(name)
"""


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that every user can pass through; pytest's own is private."""
    folder = Path(tempfile.mkdtemp(prefix="lab-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["18", "16", "long path"])
def server(
    request: pytest.FixtureRequest, servers: Callable[[int], EmbeddedServer], open_folder: Path
) -> Iterator[EmbeddedServer]:
    if request.param != "long path":
        yield servers(int(request.param))
        return
    # so long that its socket stands in a folder of its own
    far = EmbeddedServer(open_folder / ("long" * 30), extra_settings={"shared_buffers": "16MB"})
    far.use()
    yield far
    far.leave()


def socket_folder(server: EmbeddedServer) -> Path:
    return Path(str(server.url().query["host"]))


def test_it_has_no_socket_of_any_network(server: EmbeddedServer) -> None:
    session = psycopg2.connect(
        host=str(socket_folder(server)), user="postgres", dbname="resume_lab"
    )
    postmaster = psutil.Process(server.status().pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    assert session.info.backend_pid in [process.pid for process in family]
    assert {process.pid: process.net_connections("inet") for process in family} == {
        process.pid: [] for process in family
    }
    local = [connection.laddr for connection in postmaster.net_connections("unix")]
    assert local == [str(socket_folder(server) / ".s.PGSQL.5432")]
    session.close()


def test_a_socket_of_the_network_would_be_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        kinds = {connection.type for connection in psutil.Process().net_connections("inet")}
    assert kinds >= {socket.SOCK_STREAM, socket.SOCK_DGRAM}


def test_all_of_its_files_are_its_users_alone(server: EmbeddedServer) -> None:
    owner = psutil.Process(server.status().pid).uids().effective
    folders = {server.data_dir, socket_folder(server)}
    found = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    assert len(found) > 900
    for path in found:
        try:
            status = path.lstat()
        except FileNotFoundError:  # the server removes files too
            continue
        assert status.st_uid == owner, path
        assert stat.S_IMODE(status.st_mode) & 0o077 == 0, path


@as_root
def test_another_user_can_neither_read_its_data_nor_connect(server: EmbeddedServer) -> None:
    def got_in(who: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", TRY_TO_GET_IN, who, server.data_dir, socket_folder(server)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert got_in("nobody") == []
    assert got_in("pgserver") == ["list", "read", "read the log", "write", "plug", "log in"]
    (server.data_dir / "new").unlink()


@as_root
def test_for_root_the_folders_above_can_be_passed_through_and_stay_so(tmp_path: Path) -> None:
    closed, listed = tmp_path / "closed", tmp_path / "closed" / "listed"
    listed.mkdir(parents=True)
    closed.chmod(0o700)
    listed.chmod(0o750)
    server = EmbeddedServer(listed / "lab", extra_settings={"shared_buffers": "16MB"})
    server.use()
    assert psutil.Process(server.status().pid).username() == "pgserver"
    server.leave()
    modes = [stat.S_IMODE(folder.stat().st_mode) for folder in (closed, listed, server.data_dir)]
    assert modes == [0o701, 0o751, 0o700]
    assert server.data_dir.owner() == "pgserver"
    assert server.lab_dir.owner() == "root"


@as_root
def test_for_root_a_user_that_cannot_be_made_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_programs, "SYSTEM_USER", "not_a_user_yet")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match=r"cannot be made.*useradd") as raised:
        EmbeddedServer(tmp_path / "lab").use()
    assert "/usr/sbin" in str(raised.value)
