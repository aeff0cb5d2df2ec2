"""Why there is no connection: the kind of failure, what to do, whether waiting can help.

libpq gives these errors no SQLSTATE, so they are told apart by their text.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from resume_lab.errors import ConnectionFailed

PATIENCE_S = 30.0
"""How long a server is waited for that is starting, stopping or full."""

SHORT_PATIENCE_S = 2.0
"""How long where nobody can tell a server that restarts from a port of another program."""

Lookup = Callable[[str, None, socket.AddressFamily], object]


@dataclass(frozen=True)
class Failure:
    """A kind of failed connection: `said` is the pattern of libpq's text or the server's.

    `wait_s` is how long to try again, in seconds; 0 where waiting cannot help.
    """

    said: str
    what: str
    hint: str
    wait_s: float = 0.0


TENANT = Failure(
    r"[Tt]enant.* not found|no tenant identifier|ENOTFOUND",
    "Supabase's pooler does not know this user",
    "Write the user as postgres.<project>, and take host and region as the dashboard shows them "
    "under Connect > Session pooler.",
)
STARTING = Failure(
    "starting up|recovery mode|not yet accepting connections",
    "the server is starting up or recovering",
    "Wait until it is up, then run the same command again.",
    PATIENCE_S,
)
STOPPING = Failure(
    "shutting down|terminating connection due to administrator command",
    "the server is shutting down or changing over",
    "Start it again, or wait until another has taken its place; then run the same command again.",
    PATIENCE_S,
)
FULL = Failure(
    r"too many (clients|connections)|connection slots|no more connections allowed|"
    r"[Mm]ax *[Cc]lient",
    "all the connections it permits are taken",
    "Close other notebooks and programs. SELECT pid, usename, application_name, state FROM "
    "pg_stat_activity; shows who has them.",
    PATIENCE_S,
)
NO_STANDBY = Failure(
    r"database system is not accepting connections",
    "the server is a standby that takes no connections",
    "Give DATABASE_URL the address of the primary.",
)
FULL_DISK = Failure(
    "No space left on device",
    "the disk of the server is full",
    "Free space there (for the embedded server, on the disk of LAB_DIR), then run the same "
    "command again.",
)
MEMORY = Failure(
    "out of memory|could not fork new process|Cannot allocate memory",
    "the server, or this machine, is out of memory",
    "Close other programs there, then run the same command again.",
)
NO_PASSWORD = Failure(
    "no password supplied|empty password",
    "the server asks for a password, and none is given",
    "Write it into DATABASE_URL (postgresql://user:password@host), or into ~/.pgpass with "
    "mode 0600.",
)
WRONG_PASSWORD = Failure(
    "password authentication failed|SASL authentication failed",
    "the password or the user is wrong",
    "Correct them in DATABASE_URL; a % in a password is written %25, an @ %40.",
)
PEER = Failure(
    "(Peer|Ident) authentication failed",
    "on its socket the server takes only the system user of the same name",
    "Use a role of your user's name, or log in by host and password: "
    "postgresql://user:password@localhost/database",
)
CLIENT_CERTIFICATE = Failure(
    "valid client certificate|certificate authentication failed",
    "the server asks for a certificate of the client",
    "Name its files at the end of DATABASE_URL: ?sslcert=FILE&sslkey=FILE.",
)
TLS_REQUIRED = Failure(
    r'^(?!.*(SSL encryption|SSL on|"\[local\]")).*pg_hba\.conf (entry|rejects)'
    ".*(no encryption|SSL off)",
    "the server lets nobody in this way without encryption",
    "Add ?sslmode=require to DATABASE_URL; a server without TLS needs an entry in its pg_hba.conf.",
)
NO_ENTRY = Failure(
    r"pg_hba\.conf (entry|rejects)",
    "the server lets nobody in from here with this user and database",
    "Let its administrator add an entry to pg_hba.conf; correct the user and database if they "
    "are wrong.",
)
NO_ROLE = Failure(
    r'role "[^"]*" does not exist|no such user',
    "there is no such role",
    "Correct the user in DATABASE_URL, or create the role.",
)
NO_LOGIN = Failure(
    "is not permitted to log in",
    "this role may not log in",
    "Use another, or let its owner run: ALTER ROLE ... LOGIN;",
)
NO_DATABASE = Failure(
    r'database "[^"]*" does not exist|no such database',
    "there is no such database",
    "Create it, or correct the name at the end of DATABASE_URL.",
)
CLOSED_DATABASE = Failure(
    r'permission denied for database|database "[^"]*" is not currently accepting',
    "this role may not connect to this database",
    "Name another at the end of DATABASE_URL, or let its owner run: GRANT CONNECT ON DATABASE ...;",
)
OPTION = Failure(
    r"invalid (\w+ )?value|invalid port|could not match|weak sslmode|cannot be changed|"
    "unrecognized configuration parameter|unsupported startup parameter",
    "an option is wrong, or not for this server",
    "Correct it after the question mark of DATABASE_URL.",
)
SERVICE = Failure(
    "definition of service|service file",
    "libpq does not find the service that PGSERVICE names",
    "unset PGSERVICE",
)
TLS_REFUSED = Failure(
    "server does not support SSL",
    "the server has no TLS, which is asked for",
    "Let it be switched on there. ?sslmode=disable goes without, and everybody on the way reads "
    "along.",
)
OTHER_NAME = Failure(
    "does not match host name",
    "the server's certificate is for another host",
    "Use the name that stands in the certificate as the host in DATABASE_URL; somebody may be "
    "standing between. sslmode=verify-ca leaves the name aside.",
)
CA_FILE = Failure(
    r"root certificate file|no certificate or crl found",
    "the file of the CA is not there, or cannot be read as one",
    "Correct sslrootcert in DATABASE_URL: the full path of a PEM file, without ~.",
)
KEY_FILE = Failure(
    "private key file|certificate file|certificate present, but not private key",
    "the client's certificate or key cannot be used",
    "Correct sslcert and sslkey in DATABASE_URL; a key is its user's alone: chmod 600 FILE",
)
UNVERIFIED = Failure(
    "certificate verify failed",
    "the server's certificate is not signed by the CA given, or has expired",
    "Take the CA's file from where the server is hosted; somebody may be standing between.",
)
NOT_POSTGRES = Failure(
    r"invalid response to \S+ negotiation|expected authentication request|wrong version number|"
    "unsupported frontend protocol|unexpected message from server",
    "what answers on this port is no PostgreSQL",
    "Correct host and port in DATABASE_URL; PostgreSQL's port is usually 5432.",
)
CLOSED = Failure(
    "closed the connection unexpectedly|Connection reset by peer|SSL SYSCALL error|Broken pipe",
    "what answers on this port closed the connection at once",
    "It is a server about to restart, or no PostgreSQL: look into its log, or correct the port.",
    SHORT_PATIENCE_S,
)
TLS = Failure(
    "SSL|TLS|certificate",
    "TLS failed",
    "Check sslmode, sslrootcert, sslcert and sslkey at the end of DATABASE_URL.",
)
TIMEOUT = Failure(
    "timeout expired|timed out",
    "the host did not answer",
    "Check address, port, firewall and VPN: what listens there may be no PostgreSQL. "
    "?connect_timeout=60 waits longer.",
)
NO_SOCKET = Failure(
    "on socket .* No such file or directory",
    "there is no socket",
    "No server listens on that socket: start it, or correct the folder in host= of DATABASE_URL.",
)
CLOSED_SOCKET = Failure(
    "on socket .* Permission denied",
    "your user may not enter the socket's folder",
    "Use a role of the server on this machine by host and password instead, or let its owner "
    "open the folder.",
)
LONG_SOCKET = Failure(
    "socket path .* is too long",
    "the path of the socket is too long",
    "Name a folder with a shorter path in host= of DATABASE_URL.",
)
REFUSED = Failure(
    "Connection refused",
    "nobody listens there",
    "Is the server running, and is the port right? A server in a container needs its port "
    "published.",
)
UNREACHABLE = Failure(
    "Network is unreachable|No route to host|Cannot assign requested address",
    "there is no way to this host",
    "Check the network, VPN and address.",
)
UNRESOLVED = Failure(
    "could not translate host name",
    "the host's name is not known",
    "Correct the spelling of the host in DATABASE_URL.",
)
UNKNOWN = Failure(
    "",
    "the driver gave no reason that is known",
    "Check DATABASE_URL; without it the embedded PostgreSQL is used.",
)

# An attempt at several addresses says several things: what a server answered comes first. FULL is
# before NO_DATABASE, which PostgreSQL names too; what is general comes after what is particular.
FAILURES = (
    *(STARTING, STOPPING, FULL, NO_STANDBY, TENANT, WRONG_PASSWORD, NO_PASSWORD, PEER),
    *(CLIENT_CERTIFICATE, TLS_REQUIRED, NO_ENTRY, NO_ROLE, NO_LOGIN, NO_DATABASE, CLOSED_DATABASE),
    *(OPTION, SERVICE, TLS_REFUSED, OTHER_NAME, CA_FILE, KEY_FILE, UNVERIFIED, NOT_POSTGRES),
    *(CLOSED, TLS, FULL_DISK, MEMORY, TIMEOUT, LONG_SOCKET, NO_SOCKET, CLOSED_SOCKET, REFUSED),
    *(UNREACHABLE, UNRESOLVED, UNKNOWN),
)

VARIABLES = {
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGDATABASE": "dbname",
    "PGSERVICE": "service",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGOPTIONS": "options",
}
"""What of the environment changes where libpq goes, or whether it gets in, and for which option."""


def failure_of(said: str) -> Failure:
    """Return the kind of failure that libpq's text tells of."""
    said = " ".join(said.split())
    return next(failure for failure in FAILURES if re.search(failure.said, said))


def connection_failed(
    said: str, url: sa.URL, *, tried: str = "", lookup: Lookup = socket.getaddrinfo
) -> ConnectionFailed:
    """Return the error for what libpq said; `tried` says how often and how long, if more than once.

    Hosts that libpq could not reach are looked up again with `lookup`, to tell what there is.
    """
    said = " ".join(said.split())
    failure = failure_of(said)
    if failure in (UNRESOLVED, UNREACHABLE):
        failure = _looked_up(failure, said, url, lookup)
    place = url.set(drivername="postgresql")
    message = f"No connection to {place}: {failure.what}. {tried}The driver says: {said}"
    return ConnectionFailed(message, hint=f"{failure.hint}{_of_the_environment(url)}")


def _looked_up(failure: Failure, said: str, url: sa.URL, lookup: Lookup) -> Failure:
    """Say which kinds of address the host has: libpq tells only that none of them led there."""
    named = re.search(r'(?:host name|server at) "([^"]+)"', said)
    if named is None:
        return failure
    host = named[1]
    has_ipv4, has_ipv6 = (
        _has(host, family, lookup) for family in (socket.AF_INET, socket.AF_INET6)
    )
    pooler = _supabase_pooler(host, url)
    if has_ipv6 and not has_ipv4:
        return Failure(
            failure.said,
            "the host has an address of IPv6 only, which this network does not reach",
            pooler or "Use a network with IPv6 or, if the host has one, its name with IPv4.",
        )
    if pooler is not None and failure is UNRESOLVED:
        hint = f"{failure.hint} A project that is paused has none. {pooler}"
        return Failure(failure.said, failure.what, hint)
    return failure


def _has(host: str, family: socket.AddressFamily, lookup: Lookup) -> bool:
    try:
        return bool(lookup(host, None, family))
    except (OSError, UnicodeError):
        return False


def _supabase_pooler(host: str, url: sa.URL) -> str | None:
    """Say which address to use instead of one of Supabase's; None for other hosts."""
    if not re.search(r"\.supabase\.(co|com)$", host):
        return None
    direct = re.match(r"db\.([^.]+)\.supabase\.", host)
    user = f"postgres.{direct[1]}" if direct else url.username or "postgres.<project>"
    return (
        "Use Supabase's session pooler, which has IPv4 (Connect > Session pooler in its dashboard "
        f"shows the region): postgresql://{user}:<password>@<region>.pooler.supabase.com:5432/"
        f"{url.database or 'postgres'}"
    )


def _of_the_environment(url: sa.URL) -> str:
    _, given = url.get_dialect()().create_connect_args(url)
    names = [
        name for name, option in VARIABLES.items() if name in os.environ and option not in given
    ]
    if not names:
        return ""
    return f"\nWhat DATABASE_URL leaves out is taken from the environment: {', '.join(names)}."
