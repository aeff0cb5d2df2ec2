"""DATABASE_URL: which addresses are taken, what is said of the others, when TLS is asked for."""

from __future__ import annotations

import ipaddress
import os
import re
import unicodedata
from urllib.parse import unquote

import sqlalchemy as sa
from psycopg2.extensions import parse_dsn

from resume_lab.errors import ConfigError

DRIVER = "postgresql+psycopg2"
ACCEPTED_SCHEMES = ("postgresql", "postgres", DRIVER)
MAX_PORT = 65_535
EXAMPLE_URL = "postgresql://user:password@host:5432/database"
SECRET_OPTIONS = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Secrets that libpq takes among its options, where nothing masks them."""

ENCODED = "In a password write @ as %40, # as %23, / as %2F, ? as %3F, : as %3A, % as %25."


def parse_database_url(text: str) -> sa.URL:
    """Return `text` as a psycopg2 URL, the password masked in its repr.

    Raises ConfigError, which never repeats any part of `text` that could hold the password.
    """
    text = text.strip()
    _check_characters(text)
    _check_scheme(text)
    text = _with_one_at_sign(text)
    _check_place(text)
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None or (url.port is not None and not 1 <= url.port <= MAX_PORT):
        raise _not_a_url()
    return _with_tls(_checked_query(_checked_host(url.set(drivername=DRIVER))))


def _not_a_url() -> ConfigError:
    return ConfigError(
        "DATABASE_URL is not a URL of the form that PostgreSQL takes.",
        hint=f"Write {EXAMPLE_URL}; the port is a number from 1 to {MAX_PORT}.",
    )


def _check_characters(text: str) -> None:
    if not text:
        raise ConfigError(
            "DATABASE_URL is set but blank.",
            hint=f"Write {EXAMPLE_URL}, or remove the line to use the embedded PostgreSQL.",
        )
    if "%00" in text or any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text):
        raise ConfigError(
            "DATABASE_URL has a line break, a zero byte or another sign that is no text.",
            hint=f"Write it in one line of UTF-8: {EXAMPLE_URL}.",
        )


def _check_scheme(text: str) -> None:
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ACCEPTED_SCHEMES:
        return
    if separator and scheme in ("http", "https"):
        supabase = "supabase" in rest.partition("/")[0]
        raise ConfigError(
            "DATABASE_URL is "
            + ("the address of Supabase's API" if supabase else "a web address")
            + ", not of a database.",
            hint="In Supabase's dashboard, Connect > Session pooler shows the address to use: "
            "postgresql://postgres.<project>:<password>@<region>.pooler.supabase.com:5432/postgres"
            if supabase
            else f"Write {EXAMPLE_URL}.",
        )
    if separator and scheme.partition("+")[0] in ("mysql", "mariadb"):
        raise ConfigError(
            "DATABASE_URL names MySQL; embeddings are kept in PostgreSQL with pgvector here.",
            hint=f"Write {EXAMPLE_URL}, or remove the line to use the embedded PostgreSQL.",
        )
    if separator and scheme.startswith("postgres") and scheme.replace("+", "").isalnum():
        raise ConfigError(
            f"DATABASE_URL starts with {scheme}://, a driver that is not used here.",
            hint=f"Write postgresql:// instead, as in {EXAMPLE_URL}.",
        )
    if any(f"{accepted}://" in text for accepted in ACCEPTED_SCHEMES):
        raise ConfigError(
            "DATABASE_URL has something before postgresql://: a quote, psql, jdbc: or its name?",
            hint=f"Write the address alone: {EXAMPLE_URL}.",
        )
    if not separator and re.match(r"[a-z_]+ *=", text):
        raise ConfigError(
            "DATABASE_URL has libpq's form of keywords and values, such as host=...; "
            "a URL is needed.",
            hint=f"Write {EXAMPLE_URL}; other keywords follow it: ?sslmode=require&...",
        )
    raise ConfigError(
        "DATABASE_URL does not start with postgresql://.",
        hint=f"Write {EXAMPLE_URL}. Accepted: " + ", ".join(f"{s}://" for s in ACCEPTED_SCHEMES),
    )


def _with_one_at_sign(text: str) -> str:
    """Refuse a second @: what follows the first would be taken for a host, and shown in errors.

    One in the value of an option is encoded. After a question mark that belongs to the password
    there is no option, or none that libpq knows.
    """
    address, mark, query = text.partition("?")
    options = [option.partition("=") for option in query.split("&")]
    astray = any(
        "@" in name + value and not (equals and _known_to_libpq(name))
        for name, equals, value in options
    )
    signs = address.partition("://")[2].count("@")
    if astray and not signs:
        raise ConfigError(
            "DATABASE_URL has a ? before its @: the password contains one.", hint=ENCODED
        )
    if astray or signs > 1:
        raise ConfigError(
            "DATABASE_URL has more than one @: the password contains one.", hint=ENCODED
        )
    return address + mark + query.replace("@", "%40")


def _check_place(text: str) -> None:
    """Refuse what SQLAlchemy would read otherwise than libpq: several hosts, a bare IPv6."""
    address = text.partition("?")[0].partition("://")[2]
    place = address.rpartition("@")[2].partition("/")[0]
    if "," in place:
        raise ConfigError(
            "DATABASE_URL names several hosts in the place of one.",
            hint="Write them as options: "
            "postgresql://user:password@/database?host=first:5432&host=second:5432",
        )
    if _is_ipv6(place) or _is_ipv6(place.rpartition(":")[0]):
        raise ConfigError(
            "DATABASE_URL has an IPv6 address without its brackets.",
            hint="Write postgresql://user:password@[2001:db8::1]:5432/database.",
        )


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _checked_host(url: sa.URL) -> sa.URL:
    host = url.host or ""
    if "%" in host:  # libpq's way to put a socket folder into the host: %2Fvar%2Frun
        host = unquote(host)
    if host.startswith("/"):
        return url._replace(host=None).update_query_dict({"host": host})
    return url._replace(host=host or None)


def _checked_query(url: sa.URL) -> sa.URL:
    query = dict(url.query)
    password = query.pop("password", None)  # SQLAlchemy does not mask this one
    if password is not None:
        url = url.set(password=password if isinstance(password, str) else password[-1])
    for name in query:
        if name in SECRET_OPTIONS:
            raise ConfigError(
                f"DATABASE_URL has the option {name}, a secret that would be shown in messages.",
                hint="Log in with a password, or with an unencrypted key file of mode 0600 that "
                "sslkey names.",
            )
        if name == "service":
            raise ConfigError(
                "DATABASE_URL names a service of libpq, whose file says where it leads.",
                hint=f"Write what stands there as an address: {EXAMPLE_URL}.",
            )
        if not _known_to_libpq(name):
            prisma = " (it is Prisma's)" if name == "pgbouncer" else ""
            raise ConfigError(
                f"DATABASE_URL has the option {name!r}, unknown to PostgreSQL{prisma}.",
                hint=f"Remove {name}=... from the part after the question mark. A setting of the "
                f"server is written options=-c%20NAME%3DVALUE.",
            )
    url = url.set(query=query)
    try:
        url.get_dialect()().create_connect_args(url)
    except sa.exc.ArgumentError:  # hosts and ports that do not go together
        raise _not_a_url() from None
    return url


def _known_to_libpq(option: str) -> bool:
    if not option.isidentifier():
        return False
    try:
        parse_dsn(f"{option}=''")
    except Exception as error:  # psycopg2 raises its ProgrammingError for an unknown option
        return "invalid connection option" not in str(error)
    return True


def _with_tls(url: sa.URL) -> sa.URL:
    """Ask for TLS on the way to other machines, verified where the certificate of a CA is given.

    What the URL or PGSSLMODE says goes first. A CA in ~/.postgresql/root.crt is left to libpq,
    which verifies with it whatever is asked for.
    """
    if "sslmode" in url.query or "PGSSLMODE" in os.environ:
        return url
    if "sslrootcert" in url.query:
        mode = "verify-full"
    elif is_local(url):
        return url
    else:
        mode = "verify-full" if "PGSSLROOTCERT" in os.environ else "require"
    return url.update_query_dict({"sslmode": mode})


def is_local(url: sa.URL) -> bool:
    """Say whether the URL leads to this machine: a socket, localhost or a loopback address.

    What it leaves out libpq takes from the environment, and so does this.
    """
    hosts = url.query.get("hostaddr") or os.environ.get("PGHOSTADDR")
    hosts = hosts or url.query.get("host") or url.host or os.environ.get("PGHOST")
    if not hosts:
        return "PGSERVICE" not in os.environ  # its file may name any host
    names = hosts.split(",") if isinstance(hosts, str) else hosts
    return all(is_this_machine(name) for name in names)


def is_this_machine(host: str) -> bool:
    """Say whether a host, with or without its port, is a socket's folder or this machine."""
    name = re.sub(r"^([^:]*):\d+$", r"\1", host)
    if not name or name.startswith(("/", "@")) or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
