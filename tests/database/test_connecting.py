"""Each kind of failed connection is told apart, and tried again only where waiting can help."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg2
import pytest
import sqlalchemy as sa
from fronts import CLOSE, front, listener, refusal
from sqlalchemy.engine import Engine

from resume_lab.config import Settings, parse_database_url
from resume_lab.database import connecting, no_connection, schema, verify
from resume_lab.database.connecting import connect, refuse_transaction_pooler
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.no_connection import Failure, connection_failed, failure_of
from resume_lab.database.session import engine_for, open_engine
from resume_lab.errors import ConnectionFailed, DatabaseError, SchemaError

CANARY = "c4n4ry"
Start = Callable[..., subprocess.Popen[str]]
PLAIN = "sslmode=disable"
STARTING = refusal("57P03", "the database system is starting up")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in no_connection.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def at(port: int, options: str = PLAIN) -> sa.URL:
    return parse_database_url(f"postgresql://postgres@127.0.0.1:{port}/postgres?{options}")


def fails(url: sa.URL, failure: Failure) -> ConnectionFailed:
    engine = engine_for(url.set(password=CANARY))
    with pytest.raises(ConnectionFailed) as raised:
        engine.connect()
    engine.dispose()
    error = raised.value
    assert failure.what in error.message
    assert error.hint.startswith(failure.hint)
    assert error.__cause__ is None
    assert CANARY not in f"{error} {error!r} {error.__context__!r}"
    return error


def answers(engine: Engine) -> bool:
    with engine.connect() as connection:
        one = connection.scalar(sa.text("SELECT 1"))
    engine.dispose()
    return bool(one == 1)


# --- nobody there


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nobody_listening_on_a_port_is_told() -> None:
    fails(at(free_port()), no_connection.REFUSED)


def test_a_host_that_does_not_answer_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = at(silent.getsockname()[1], f"{PLAIN}&connect_timeout=2")
        fails(url, no_connection.TIMEOUT)


def test_a_socket_that_is_not_there_or_too_long_is_told(tmp_path: Path) -> None:
    url = parse_database_url(f"postgresql://me@/lab?host={tmp_path}")
    fails(url, no_connection.NO_SOCKET)
    long = url.update_query_dict({"host": str(tmp_path / ("x" * 110))})
    fails(long, no_connection.LONG_SOCKET)


@contextlib.contextmanager
def somebody_else(folder: Path) -> Iterator[None]:
    """Be a user who may not enter the folder."""
    if os.geteuid() != 0:
        folder.chmod(0)
        yield
        folder.chmod(0o700)
        return
    folder.chmod(0o700)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_socket_in_a_closed_folder_is_told_from_a_missing_one(tmp_path: Path) -> None:
    url = parse_database_url(f"postgresql://me@/lab?host={tmp_path}")
    with somebody_else(tmp_path):
        fails(url, no_connection.CLOSED_SOCKET)


# --- a name without an address, or one that this network does not reach

UNRESOLVED = 'could not translate host name "{}" to address: Name or service not known'
UNREACHED = 'connection to server at "{}", port 5432 failed: Network is unreachable'


def looked_up(said: str, host: str, *families: socket.AddressFamily) -> ConnectionFailed:
    """The error for a host that has addresses of these families."""

    def lookup(name: str, _port: None, family: socket.AddressFamily) -> list[str]:
        assert name == host
        if family not in families:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ["an address"]

    url = parse_database_url(f"postgresql://postgres:{CANARY}@{host}/postgres")
    return connection_failed(said.format(host), url, lookup=lookup)


@pytest.mark.parametrize("said", [UNRESOLVED, UNREACHED])
def test_a_host_with_ipv6_only_is_told_and_supabases_pooler_with_it(said: str) -> None:
    error = looked_up(said, "db.abcdefgh.supabase.co", socket.AF_INET6)
    assert "an address of IPv6 only" in error.message
    pooler = "postgresql://postgres.abcdefgh:<password>@<region>.pooler.supabase.com:5432/postgres"
    assert pooler in error.hint
    error = looked_up(said, "db.example.com", socket.AF_INET6)
    assert "an address of IPv6 only" in error.message
    assert "Supabase" not in str(error)


def test_a_host_without_any_address_is_a_typing_error_or_a_paused_project() -> None:
    error = looked_up(UNRESOLVED, "db.example.com")
    assert no_connection.UNRESOLVED.what in error.message
    assert error.hint == no_connection.UNRESOLVED.hint
    error = looked_up(UNRESOLVED, "db.abcdefgh.supabase.co")
    assert "A project that is paused has none." in error.hint
    assert "postgres.abcdefgh" in error.hint


def test_a_host_with_both_kinds_of_address_is_a_matter_of_the_network() -> None:
    error = looked_up(UNREACHED, "db.example.com", socket.AF_INET, socket.AF_INET6)
    assert no_connection.UNREACHABLE.what in error.message


def test_a_name_that_nobody_has_is_told() -> None:
    error = fails(
        parse_database_url("postgresql://me@nowhere.invalid/lab"), no_connection.UNRESOLVED
    )
    assert "nowhere.invalid" in error.message


# --- the server says no


def test_no_such_database_and_no_such_role_are_told(server18: EmbeddedServer) -> None:
    error = fails(server18.url("not_there"), no_connection.NO_DATABASE)
    assert "not_there" in error.message
    fails(server18.url("postgres").set(username="stranger"), no_connection.NO_ROLE)


@pytest.fixture
def limited_role(server18: EmbeddedServer, empty_database: Engine) -> Iterator[str]:
    """A role that the server asks for its password; the others need none."""
    access = server18.data_dir / "pg_hba.conf"
    before = access.read_text()
    access.write_text("local all barred reject\nlocal all locked scram-sha-256\n" + before)
    name = empty_database.url.database
    with empty_database.begin() as connection:
        connection.execute(sa.text("CREATE ROLE locked LOGIN PASSWORD 'right'"))
        connection.execute(sa.text("CREATE ROLE plain NOLOGIN"))
        connection.execute(sa.text(f"REVOKE CONNECT ON DATABASE {name} FROM public"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    yield "locked"
    access.write_text(before)
    with empty_database.begin() as connection:
        connection.execute(sa.text("DROP ROLE locked, plain"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


def test_a_role_that_may_not_is_told_why(
    server18: EmbeddedServer, empty_database: Engine, limited_role: str
) -> None:
    url = server18.url("postgres").set(username=limited_role)
    fails(url, no_connection.WRONG_PASSWORD)
    right = url.set(password="right")  # noqa: S106 - of a role made for the test
    assert answers(engine_for(right))
    with pytest.raises(ConnectionFailed, match=no_connection.NO_PASSWORD.what):
        engine_for(url).connect()
    with pytest.raises(ConnectionFailed, match=no_connection.CLOSED_DATABASE.what):
        engine_for(right.set(database=empty_database.url.database)).connect()
    fails(url.set(username="plain"), no_connection.NO_LOGIN)
    fails(url.set(username="barred"), no_connection.NO_ENTRY)


@pytest.mark.parametrize(
    "option",
    [
        "sslmode=banana",
        "keepalives=x",
        "options=-c nonsense%3D1",
        "options=-c lock_timeout%3Dsoon",
        "options=-c shared_buffers%3D1GB",
        "sslmode=require&sslrootcert=system",
    ],
)
def test_an_option_that_libpq_or_the_server_does_not_take_is_told(
    option: str, server18: EmbeddedServer
) -> None:
    behind = Path(server18.url().query["host"]) / ".s.PGSQL.5432"
    with front(behind) as port_to:
        fails(at(port_to.port, option), no_connection.OPTION)


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("Tenant or user not found", no_connection.TENANT),
        ("(ENOTFOUND) tenant/user postgres.x not found", no_connection.TENANT),
        ("Max client connections reached", no_connection.FULL),
        ("MaxClientsInSessionMode: max clients reached", no_connection.FULL),
        ("no more connections allowed (max_client_conn)", no_connection.FULL),
        ('too many connections for role "me"', no_connection.FULL),
        ("no such database: lab", no_connection.NO_DATABASE),
        ("unsupported startup parameter in options: jit", no_connection.OPTION),
        ("the database system is not accepting connections", no_connection.NO_STANDBY),
        ("the database system is not yet accepting connections", no_connection.STARTING),
        ("could not fork new process for connection: ...", no_connection.MEMORY),
        ("something that nobody has heard of", no_connection.UNKNOWN),
    ],
)
def test_what_poolers_and_rarer_servers_say_is_told(said: str, failure: Failure) -> None:
    assert failure_of(f'connection to server at "h", port 5432 failed: FATAL:  {said}') is failure


def test_a_message_in_another_encoding_is_shown_as_far_as_it_can_be() -> None:
    said = refusal("28P01", "Passwort-Authentifizierung für »me« fehlgeschlagen", encoding="latin1")
    with front(answers=[said]) as server:
        error = fails(at(server.port), no_connection.UNKNOWN)
    assert "Passwort-Authentifizierung f" in error.message


# --- something else answers


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_a_server_of_another_kind_is_told(mode: str) -> None:
    with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        fails(at(port, f"sslmode={mode}"), no_connection.NOT_POSTGRES)


def test_a_server_that_speaks_first_is_no_postgresql() -> None:
    with listener(b"SSH-2.0-OpenSSH_9.2\r\n", at_once=True) as port:
        fails(at(port), no_connection.NOT_POSTGRES)


# --- waiting


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the time."""
    monkeypatch.setattr(connecting, "FIRST_PAUSE_S", connecting.FIRST_PAUSE_S / 100)
    monkeypatch.setattr(connecting, "LONGEST_PAUSE_S", connecting.LONGEST_PAUSE_S / 100)
    monkeypatch.setattr(
        connecting,
        "failure_of",
        lambda said: replace(failure_of(said), wait_s=failure_of(said).wait_s / 100),
    )


@pytest.mark.parametrize(
    "answer",
    [
        STARTING,
        refusal("57P03", "the database system is in recovery mode"),
        refusal("57P03", "the database system is shutting down"),
        refusal("57P01", "terminating connection due to administrator command"),
        refusal("53300", "sorry, too many clients already"),
        CLOSE,
    ],
)
def test_a_server_about_to_be_ready_is_waited_for(
    answer: bytes, server18: EmbeddedServer, quick: None
) -> None:
    behind = Path(server18.url().query["host"]) / ".s.PGSQL.5432"
    with front(behind, answers=[answer] * 2) as server:
        assert answers(engine_for(at(server.port)))
        assert server.asked == 3


@pytest.mark.parametrize("answer", [STARTING, CLOSE])
def test_waiting_has_a_limit_and_the_error_says_how_long_it_was(answer: bytes, quick: None) -> None:
    with front(answers=[answer] * 100) as server:
        engine = engine_for(at(server.port))
        with pytest.raises(ConnectionFailed, match=r"It was tried (\d+) times in 0 s") as raised:
            engine.connect()
        assert 3 < server.asked < 20
        assert f"tried {server.asked} times" in raised.value.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("28P01", 'password authentication failed for user "me"'),
        ("28000", 'no pg_hba.conf entry for host "1.2.3.4", user "me", SSL encryption'),
        ("3D000", 'database "lab" does not exist'),
        ("XX000", "Tenant or user not found"),
        ("53200", "out of memory"),
    ],
)
def test_where_waiting_cannot_help_it_is_tried_once(code: str, message: str) -> None:
    with front(answers=[refusal(code, message)] * 3) as server:
        with pytest.raises(ConnectionFailed) as raised:
            engine_for(at(server.port)).connect()
        assert server.asked == 1
    assert "It was tried" not in raised.value.message


def test_pauses_grow_to_a_limit_and_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    def attempt() -> None:
        raise psycopg2.OperationalError("FATAL:  the database system is starting up")

    monkeypatch.setattr(connecting.time, "sleep", sleep)
    monkeypatch.setattr(connecting.time, "monotonic", lambda: now[0])
    with pytest.raises(ConnectionFailed, match="tried 15 times in 30 s"):
        connect(attempt, sa.make_url("postgresql://"))
    assert sum(pauses) == pytest.approx(no_connection.PATIENCE_S)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[:-1] == sorted(pauses[:-1])
    assert max(pauses) == connecting.LONGEST_PAUSE_S


INTERRUPTED = """
import sys
from resume_lab.config import parse_database_url
from resume_lab.database.session import engine_for, open_engine
engine = engine_for(parse_database_url(sys.argv[1]))
print("ready", flush=True)
try:
    engine.connect()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("answer", [STARTING, None], ids=["waiting", "no answer"])
def test_an_interrupt_ends_the_waiting_at_once(answer: bytes | None, start_python: Start) -> None:
    with contextlib.ExitStack() as stack:
        if answer is not None:
            port = stack.enter_context(front(answers=[answer] * 100)).port
        else:
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = silent.getsockname()[1]
        url = f"postgresql://me@127.0.0.1:{port}/lab?{PLAIN}&connect_timeout=60"
        process = start_python(INTERRUPTED, url)
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert said == "interrupted\n"
    assert time.monotonic() - start < 5


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of its own, of few connections, to be broken."""
    settings = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "4"}
    settings |= {"superuser_reserved_connections": "0", "reserved_connections": "0"}
    server = EmbeddedServer(tmp_path_factory.mktemp("small"), extra_settings=settings)
    server.use()
    yield server
    server.leave()


def later(action: Callable[[], None], seconds: float = 0.4) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_a_server_that_recovers_from_a_crash_is_waited_for(
    small: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One of its processes is stopped, so that the recovery takes as long as the test wants."""
    raw = psycopg2.connect(host=small.url().query["host"], user="postgres", dbname="postgres")
    with raw.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
        checkpointer = psutil.Process(cursor.fetchone()[0])
    checkpointer.suspend()
    os.kill(raw.info.backend_pid, signal.SIGKILL)
    gone(raw.info.backend_pid)
    timer = later(checkpointer.resume)
    assert answers(engine_for(small.url("postgres")))
    timer.join()
    raw.close()
    assert "the server is starting up or recovering" in caplog.text


def gone(pid: int) -> None:
    """Wait until the postmaster knows that one of its processes has ended."""
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_server_is_waited_for(
    small: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    where = {"host": small.url().query["host"], "user": "postgres", "dbname": "postgres"}
    held = [psycopg2.connect(**where)]
    with contextlib.suppress(psycopg2.OperationalError):
        while True:
            held.append(psycopg2.connect(**where))
    timer = later(held[0].close)
    assert answers(engine_for(small.url("postgres")))
    timer.join()
    for one in held:
        one.close()
    assert "all the connections it permits are taken" in caplog.text


# --- the environment


def test_variables_that_fill_in_what_the_address_leaves_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", str(tmp_path))
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGPASSWORD", "s3cret!")
    engine = engine_for(parse_database_url("postgresql://me@/lab"))
    with pytest.raises(ConnectionFailed) as raised:
        engine.connect()
    assert "taken from the environment: PGHOST, PGPORT, PGPASSWORD." in raised.value.hint
    assert "s3cret!" not in str(raised.value)
    error = fails(
        parse_database_url(f"postgresql://me@/lab?host={tmp_path}&port=5432"),
        no_connection.NO_SOCKET,
    )
    assert "environment" not in error.hint


def test_the_check_says_where_the_environment_led(
    server18: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = server18.url().query["host"]
    monkeypatch.setenv("PGHOST", str(folder))
    monkeypatch.setenv("PGDATABASE", "template1")
    engine = engine_for(parse_database_url("postgresql://postgres@"))
    assert verify(engine).checks[0].detail == f"postgres@{folder}:5432/template1"
    engine.dispose()


def test_a_service_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "absent")
    error = fails(at(free_port()), no_connection.SERVICE)
    assert "environment: PGSERVICE" in error.hint


def test_a_time_out_of_the_environment_goes_first(
    server18: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_force() -> str:
        engine = engine_for(server18.url("postgres"))
        with engine.connect() as connection:
            options = connection.connection.dbapi_connection.info.dsn_parameters
        engine.dispose()
        return str(options["connect_timeout"])

    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    assert in_force() == str(connecting.CONNECT_TIMEOUT_S)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    assert in_force() == "7"


# --- a server that only reads


def test_a_server_that_only_reads_is_connected_to_and_writing_says_so(
    empty_database: Engine,
) -> None:
    only_reads = {"options": "-c default_transaction_read_only=on"}
    address = empty_database.url.set(drivername="postgresql").update_query_dict(only_reads)
    engine = open_engine(Settings(database_url=address.render_as_string(hide_password=False)))
    assert answers(engine)
    with pytest.raises(DatabaseError, match="The server only reads"):
        schema.upgrade(engine)
    server = next(check for check in verify(engine).checks if check.name == "server")
    assert server.detail.endswith(", which only reads")
    engine.dispose()


# --- pools


def test_a_pool_without_a_free_connection_says_so(empty_database: Engine) -> None:
    engine = engine_for(empty_database.url, pool_size=1, max_overflow=1, pool_timeout=0.1)
    with (
        engine.connect(),
        engine.connect(),
        pytest.raises(DatabaseError, match=r"All 2 connections .* in use for 0\.1 s") as raised,
    ):
        engine.connect()
    assert "fewer threads" in raised.value.hint
    assert answers(engine)


@pytest.mark.parametrize(
    ("place", "refused"),
    [
        ("aws-0-eu-central-1.pooler.supabase.com:6543", True),
        ("db.abcdefgh.supabase.co:6543", True),
        ("aws-0-eu-central-1.pooler.supabase.com:5432", False),
        ("db.example.com:6543", False),
    ],
)
def test_no_migration_goes_through_a_pooler_that_keeps_no_lock(place: str, refused: bool) -> None:
    engine = engine_for(parse_database_url(f"postgresql://postgres.x:{CANARY}@{place}/postgres"))
    if not refused:
        refuse_transaction_pooler(engine)
        return
    with pytest.raises(SchemaError, match="transaction mode") as raised:
        refuse_transaction_pooler(engine)
    assert "port 5432" in raised.value.hint
    assert CANARY not in str(raised.value)
