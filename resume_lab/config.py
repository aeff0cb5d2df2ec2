"""Settings, read from the environment and the project's `.env`.

The environment wins over the file. Nothing is read until `Settings()` is called. LAB_ENV_FILE names
another file than `.env`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import sqlalchemy as sa
from dotenv import dotenv_values
from psycopg2.extensions import parse_dsn
from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resume_lab.errors import ConfigError

DRIVER = "postgresql+psycopg2"
ACCEPTED_SCHEMES = ("postgresql", "postgres", DRIVER)
MAX_PORT = 65_535
EXAMPLE_URL = "postgresql://user:password@host:5432/database"
SECRET_OPTIONS = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Secrets that libpq takes among its options, where nothing masks them."""


class AppEnv(StrEnum):
    """Where this runs. In prod, commands that destroy ask first."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


def project_root() -> Path:
    """Return the folder that holds `alembic.ini`: the checkout, else the nearest one above here."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here, Path.cwd(), *Path.cwd().parents):
        if (folder / "alembic.ini").is_file():
            return folder
    raise ConfigError(
        f"No alembic.ini beside the package or above {Path.cwd()}.",
        hint="Run inside a checkout of resume_lab, installed with `pip install -e .`.",
    )


def parse_database_url(text: str) -> sa.URL:
    """Return `text` as a psycopg2 URL, the password masked in its repr.

    Raises ConfigError, which never repeats any part of `text` that could hold the password.
    """
    text = text.strip()
    if not text:
        raise ConfigError(
            "DATABASE_URL is set but blank.",
            hint=f"Write {EXAMPLE_URL}, or remove the line to use the embedded PostgreSQL.",
        )
    _check_scheme(text)
    text = _with_one_at_sign(text)
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None or (url.port is not None and not 1 <= url.port <= MAX_PORT):
        raise ConfigError(
            "DATABASE_URL is not a URL of the form that PostgreSQL takes.",
            hint=f"Write {EXAMPLE_URL}; the port is a number from 1 to {MAX_PORT}.",
        )
    return _with_tls(_checked_query(_checked_host(url.set(drivername=DRIVER))))


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
    if astray or address.partition("://")[2].count("@") > 1:
        raise ConfigError(
            "DATABASE_URL has more than one @: the password contains one.",
            hint="In a password write @ as %40, # as %23, / as %2F, ? as %3F, : as %3A, % as %25.",
        )
    return address + mark + query.replace("@", "%40")


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
        if not _known_to_libpq(name):
            prisma = " (it is Prisma's)" if name == "pgbouncer" else ""
            raise ConfigError(
                f"DATABASE_URL has the option {name!r}, unknown to PostgreSQL{prisma}.",
                hint=f"Remove {name}=... from the part after the question mark.",
            )
    return url.set(query=query)


def _known_to_libpq(option: str) -> bool:
    if not option.isidentifier():
        return False
    try:
        parse_dsn(f"{option}=''")
    except Exception as error:  # psycopg2 raises its ProgrammingError for an unknown option
        return "invalid connection option" not in str(error)
    return True


def _with_tls(url: sa.URL) -> sa.URL:
    if is_local(url) or "sslmode" in url.query:
        return url
    mode = "verify-full" if "sslrootcert" in url.query else "require"
    return url.update_query_dict({"sslmode": mode})


def is_local(url: sa.URL) -> bool:
    """Say whether the URL leads to this machine: a socket, localhost or a loopback address."""
    host = url.query.get("hostaddr") or url.host or url.query.get("host") or ""
    if not isinstance(host, str):
        return all(h.startswith("/") for h in host)
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _to_secret_url(value: object) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return SecretStr(parse_database_url(text).render_as_string(hide_password=False))


def _env_file() -> Path | None:
    named = os.environ.get("LAB_ENV_FILE")
    if named is not None:
        path = Path(named)
        if not path.exists() or path.is_dir():
            raise ConfigError(
                f"LAB_ENV_FILE names {named!r}, which is not a file.",
                hint=f"Correct it, or remove it to use .env; {os.devnull} means no file.",
            )
        return path
    try:
        return project_root() / ".env"
    except ConfigError:
        return None


def _lab_dir(value: object) -> Path:
    if not str(value).strip():
        raise ConfigError("LAB_DIR is blank.", hint="Name a folder, or remove the line.")
    path = Path(str(value)).expanduser()
    return path if path.is_absolute() else project_root() / path


def _check_lines(env_file: Path | None, names: Iterable[str]) -> None:
    """Refuse a setting without its =, which would count as absent."""
    if env_file is None or not env_file.is_file():
        return
    lines = dotenv_values(env_file, encoding="utf-8-sig")
    known = {name.lower(): value for name, value in lines.items()}
    for name in names:
        if name in known and known[name] is None:
            raise ConfigError(
                f"{name.upper()} stands in the settings file without a value.",
                hint=f"Write {name.upper()}=..., or remove the line.",
            )


def _number(value: object) -> object:
    """Turn the text of an environment variable into the number that a Literal asks for."""
    text = str(value).strip()
    return int(text) if text.isdecimal() else value


def _blank_is_none(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return (text.strip() or None) if isinstance(text, str) else value


ModelName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _LabFolder(BaseSettings):
    """The folder alone, whatever the other settings are."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        env_file_encoding="utf-8-sig",
    )

    lab_dir: Annotated[Path, BeforeValidator(_lab_dir)] = Field(
        default=Path(".lab"), validate_default=True
    )
    """Folder of the embedded server; relative to the project."""

    def __init__(self, **values: Any) -> None:
        """Read the environment and `.env`; raise ConfigError naming what is wrong with which."""
        try:
            values.setdefault("_env_file", _env_file())
            _check_lines(values["_env_file"], type(self).model_fields)
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error), hint="See .env.example for every setting.") from None
        except UnicodeDecodeError:
            raise ConfigError(
                ".env is not UTF-8 text.", hint="Save it again as UTF-8; see .env.example."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{error.filename or '.env'} cannot be read: {error.strerror}.",
                hint="Let your user read it, or name another file in LAB_ENV_FILE.",
            ) from None


class EmbeddedSettings(_LabFolder):
    """What the embedded server needs to know; DATABASE_URL is not looked at."""

    lab_postgres: Annotated[Literal[18, 16], BeforeValidator(_number)] = 18
    """Major version of the embedded PostgreSQL."""


class Settings(EmbeddedSettings):
    """What can be set, each by the environment variable of the same name in capitals."""

    database_url: Annotated[SecretStr, BeforeValidator(_to_secret_url)] | None = None
    """The PostgreSQL to use. Absent: the embedded one."""

    app_env: AppEnv = AppEnv.DEV
    """dev, staging or prod."""

    lab_rows: Annotated[int, Field(ge=500, le=1_000_000)] = 20_000
    """Rows that the notebooks seed and measure."""

    lab_queries: Annotated[int, Field(ge=20, le=10_000)] = 400
    """Held-out queries of the notebooks: half choose a setting, half confirm it."""

    embedding_model: ModelName = "lexical"
    """What embeds text where no model is named: "lexical" needs no server."""

    openai_api_key: Annotated[SecretStr | None, BeforeValidator(_blank_is_none)] = None
    """Key of the server that embeds and answers; blank counts as absent."""

    openai_base_url: Annotated[str | None, BeforeValidator(_blank_is_none)] = None
    """A server that speaks OpenAI's protocol, such as Ollama or vLLM. Absent: OpenAI's."""

    chat_model: ModelName = "gpt-4o-mini"
    """What writes answers where there is a key or a server."""

    log_questions: bool = True
    """Keep the questions asked, with their answers, in query_logs."""

    @property
    def has_model_server(self) -> bool:
        """Say whether a key or a server is given, so that models can be asked."""
        return self.openai_api_key is not None or self.openai_base_url is not None

    @property
    def url(self) -> sa.URL | None:
        """The address in DATABASE_URL, its password masked in repr and str; None if absent."""
        if self.database_url is None:
            return None
        return sa.make_url(self.database_url.get_secret_value())


def lab_dir() -> Path:
    """Return the folder of the embedded server; no other setting is read, so none can be wrong."""
    return _LabFolder().lab_dir


def _explain(error: ValidationError) -> str:
    problems = [
        f"{'.'.join(str(part) for part in item['loc'][:1]).upper()}: {item['msg']}"
        for item in error.errors(include_input=False, include_context=False, include_url=False)
    ]
    return "\n".join(problems)
