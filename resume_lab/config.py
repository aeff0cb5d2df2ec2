"""Settings, read from the environment and the project's `.env`.

The environment wins over the file. Nothing is read until `Settings()` is called. LAB_ENV_FILE names
another file than `.env`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resume_lab.database_url import DRIVER as DRIVER
from resume_lab.database_url import is_local as is_local
from resume_lab.database_url import parse_database_url as parse_database_url
from resume_lab.errors import ConfigError


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


def _model_server(value: object) -> object:
    """Refuse an address with a secret in it, which every look at the settings would show."""
    text = _blank_is_none(value)
    if isinstance(text, str) and set(text) & set("@?#"):
        raise ConfigError(
            "OPENAI_BASE_URL is not an address of the form http://host:port/v1.",
            hint="Write it without user, password, ? and #; a key goes into OPENAI_API_KEY.",
        )
    return text


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

    openai_base_url: Annotated[str | None, BeforeValidator(_model_server)] = None
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
