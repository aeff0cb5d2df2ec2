"""TLS with real handshakes: whom a connection trusts, and when it says that it trusts anybody."""

import datetime
import os
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import trustme
from debian_server import PackagedServer, packaged_server
from fronts import front

from resume_lab.config import parse_database_url
from resume_lab.database import connecting, no_connection
from resume_lab.database.connecting import UnverifiedServer
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.no_connection import Failure
from resume_lab.database.session import engine_for
from resume_lab.errors import ConnectionFailed

NAME = "db.example.test"
ANY = "0.0.0.0"  # noqa: S104 - connected to, not bound
"""An address that leads to this machine, and is none that is known to."""

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
Serve = Callable[..., int]


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_warned", set())
    for name in no_connection.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def serve(server18: EmbeddedServer, ca: trustme.CA) -> Iterator[Serve]:
    """Put a front before the server: TLS with a certificate for these names, or none at all."""
    opened = []

    def start(*names: str, by: trustme.CA = ca, not_after: datetime.datetime | None = None) -> int:
        context = None
        if names:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            by.issue_cert(*names, not_after=not_after).configure_cert(context)
        behind = Path(server18.url().query["host"]) / ".s.PGSQL.5432"
        opened.append(front(behind, tls=context))
        return opened[-1].__enter__().port

    yield start
    for one in opened:
        one.__exit__(None, None, None)


def named(port: int, options: str = "", *, name: str = NAME) -> sa.URL:
    """An address by name, which no name server need know."""
    return parse_database_url(
        f"postgresql://postgres@{name}:{port}/postgres?hostaddr=127.0.0.1{options}"
    )


def is_encrypted(url: sa.URL) -> bool:
    engine = engine_for(url)
    with engine.connect() as connection:
        encrypted = bool(connection.connection.dbapi_connection.info.ssl_in_use)
    engine.dispose()
    return encrypted


def fails(url: sa.URL, failure: Failure) -> str:
    engine = engine_for(url)
    with pytest.raises(ConnectionFailed) as raised:
        engine.connect()
    engine.dispose()
    assert failure.what in raised.value.message
    assert failure.hint in raised.value.hint
    return str(raised.value)


def test_a_ca_verifies_server_and_name_without_a_word(serve: Serve, ca_file: str) -> None:
    url = named(serve(NAME), f"&sslrootcert={ca_file}")
    assert url.query["sslmode"] == "verify-full"
    assert is_encrypted(url)


def test_the_systems_cas_verify_too(
    serve: Serve, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)  # where OpenSSL looks for them
    assert is_encrypted(named(serve(NAME), "&sslrootcert=system"))


def test_a_ca_in_the_environment_verifies_other_machines(
    serve: Serve, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", ca_file)
    assert is_encrypted(parse_database_url(f"postgresql://postgres@{ANY}:{serve(ANY)}/postgres"))
    other = serve(NAME)
    fails(
        parse_database_url(f"postgresql://postgres@{ANY}:{other}/postgres"),
        no_connection.OTHER_NAME,
    )


def test_a_server_of_another_ca_is_refused(serve: Serve, ca_file: str) -> None:
    port = serve(NAME, by=trustme.CA())
    fails(named(port, f"&sslrootcert={ca_file}"), no_connection.UNVERIFIED)


def test_an_expired_certificate_is_refused(serve: Serve, ca_file: str) -> None:
    port = serve(NAME, not_after=YESTERDAY)
    fails(named(port, f"&sslrootcert={ca_file}"), no_connection.UNVERIFIED)


def test_a_certificate_of_another_name_is_refused(serve: Serve, ca_file: str) -> None:
    port = serve("other.example.test")
    said = fails(named(port, f"&sslrootcert={ca_file}"), no_connection.OTHER_NAME)
    assert "other.example.test" in said


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(serve: Serve) -> None:
    fails(named(serve(), "&sslmode=require"), no_connection.TLS_REFUSED)


def test_a_ca_file_that_cannot_be_used_is_told(serve: Serve, tmp_path: Path) -> None:
    port, no_pem = serve(NAME), tmp_path / "no.pem"
    no_pem.write_text("nothing")
    for path in (tmp_path / "absent.pem", no_pem):
        fails(named(port, f"&sslrootcert={path}"), no_connection.CA_FILE)


def test_a_key_that_others_may_read_is_told(
    serve: Serve, ca: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    issued = ca.issue_cert("me")
    cert, key = tmp_path / "me.crt", tmp_path / "me.key"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o644)
    url = named(serve(NAME), f"&sslrootcert={ca_file}&sslcert={cert}&sslkey={key}")
    assert "chmod 600" in fails(url, no_connection.KEY_FILE)
    key.chmod(0o600)
    assert is_encrypted(url)


@pytest.mark.parametrize(
    ("tls", "options", "said"),
    [
        (True, "", "encrypted, but nobody has verified"),
        (True, "?sslmode=require", "encrypted, but nobody has verified"),
        (True, "?sslmode=verify-ca&sslrootcert={ca_file}", "encrypted, but nobody has verified"),
        (True, "?sslmode=disable", "not encrypted"),
        (False, "?sslmode=prefer", "not encrypted"),
    ],
)
def test_an_unverified_server_elsewhere_is_warned_of_once(
    serve: Serve, ca_file: str, tls: bool, options: str, said: str
) -> None:
    port = serve(NAME) if tls else serve()
    text = f"postgresql://postgres@{ANY}:{port}/postgres{options.format(ca_file=ca_file)}"
    url = parse_database_url(text)
    with pytest.warns(UnverifiedServer, match=said) as given:
        assert [is_encrypted(url), is_encrypted(url)] == [said.startswith("encrypted")] * 2
    (warning,) = given
    shown = warnings.formatwarning(
        warning.message, warning.category, warning.filename, warning.lineno
    )
    assert shown.startswith(f"resume_lab:0: UnverifiedServer: The connection to {ANY} is ")
    assert "sslmode=verify-full&sslrootcert=" in shown
    assert shown.count("\n") == 1


def test_the_command_line_warns_in_one_line(serve: Serve) -> None:
    address = f"postgresql://postgres@{ANY}:{serve(NAME)}/postgres"
    done = subprocess.run(
        [Path(sys.executable).with_name("resume-lab"), "verify"],
        env=os.environ | {"DATABASE_URL": address},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Warning: The connection to {ANY} is encrypted, but nobody has")


def test_this_machine_needs_no_tls(serve: Serve, server18: EmbeddedServer) -> None:
    port = serve()
    for host in ("127.0.0.1", "localhost"):
        assert not is_encrypted(parse_database_url(f"postgresql://postgres@{host}:{port}/postgres"))
    assert not is_encrypted(server18.url("postgres"))


@pytest.fixture(scope="module")
def with_tls(ca: trustme.CA) -> Iterator[PackagedServer]:
    """A server that has TLS itself, and lets in over the network only those who use it."""
    issued = ca.issue_cert("127.0.0.1", NAME)
    files = {
        "server.crt": issued.cert_chain_pems[0].bytes(),
        "server.key": issued.private_key_pem.bytes(),
        "ca.crt": ca.cert_pem.bytes(),
    }
    access = (
        "local all peered peer\n"
        "local all all trust\n"
        "hostssl all certified 127.0.0.1/32 cert\n"
        "hostssl all postgres 127.0.0.1/32 trust\n"
    )
    settings = ("ssl=on", "ssl_ca_file=ca.crt")
    with packaged_server(settings, access=access, files=files) as server:
        yield server


def test_a_server_with_tls_of_its_own(with_tls: PackagedServer, ca_file: str) -> None:
    url = with_tls.url("127.0.0.1")
    verified = {"sslmode": "verify-full", "sslrootcert": ca_file}
    assert is_encrypted(url.update_query_dict(verified))
    assert not is_encrypted(with_tls.url())
    fails(url.set(username="certified"), no_connection.CLIENT_CERTIFICATE)
    fails(with_tls.url().set(username="peered"), no_connection.PEER)


def test_a_server_that_requires_tls_is_told_from_one_that_lets_nobody_in(
    with_tls: PackagedServer,
) -> None:
    url = with_tls.url("127.0.0.1")
    fails(url.update_query_dict({"sslmode": "disable"}), no_connection.TLS_REQUIRED)
    fails(url.set(username="stranger"), no_connection.NO_ENTRY)


def test_warnings_that_are_errors_leave_no_connection_open(serve: Serve) -> None:
    engine = engine_for(parse_database_url(f"postgresql://postgres@{ANY}:{serve(NAME)}/postgres"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnverifiedServer):
            engine.connect()
    assert engine.pool.checkedout() == 0
    engine.dispose()
