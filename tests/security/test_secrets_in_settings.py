"""Settings, right or wrong, show no part of a password or a key, and print and log none either."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from resume_lab.config import Settings
from resume_lab.errors import ConfigError

from .canary import SECRETS, everything_said, leaks


@pytest.mark.parametrize("form", [str, quote, quote_plus, repr, json.dumps, html.escape, str.upper])
def test_a_part_of_a_secret_is_found_in_any_form(form: Callable[[str], str], canary: str) -> None:
    secret = SECRETS[canary]
    assert leaks(f"it is {form(secret[2:8])}!", secret)
    assert not leaks(f"it is {form(secret[2:7])}", secret)


def test_settings_that_are_right(canary: str) -> None:
    secret = SECRETS[canary]
    address = f"postgresql://me:{quote(secret, safe='')}@db.example.com/lab"
    settings = Settings(database_url=address, openai_api_key=secret)
    assert settings.url is not None
    assert settings.url.password == secret
    shown = [f"{settings} {settings!r} {settings.url} {settings.url!r}", f"{vars(settings)}"]
    shown += [settings.model_dump_json(), f"{settings.model_dump()}", f"{settings.__rich_repr__()}"]
    shown += [f"{settings.model_dump(mode='json')}", f"{list(settings)}"]
    assert not leaks("\n".join(shown), secret)


@pytest.mark.parametrize(
    "line",
    [
        "DATABASE_URL=postgresql://me:{}@[::1/lab",
        "DATABASE_URL=postgresql://me:{}@localhost:54x32/lab",
        "DATABASE_URL=postgresql://me:{}@localhost/lab?pgbouncer=true",
        "DATABASE_URL=postgres+asyncpg://me:{}@localhost/lab",
        "DATABASE_URL=me:{}@localhost/lab",
        "DATABASE_URL=https://me:{}@abc.supabase.co",
        "DATABASE_URL='postgresql://me:{}@localhost/lab",
        'DATABASE_URL="postgresql://me:{}@local\nhost/lab"',
        "DATABASE_URL postgresql://me:{}@localhost/lab",
        "DATABASE_URL: postgresql://me:{}@localhost/lab",
        "postgresql://me:{}@localhost/lab",
        "DATABASE_URL=\npostgresql://me:{}@localhost/lab",
        "LAB_ROWS={}",
        "LAB_POSTGRES={}",
        "APP_ENV={}",
        "LOG_QUESTIONS={}",
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_a_settings_file_with_a_mistake(
    line: str, encoded: bool, canary: str, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    secret = SECRETS[canary]
    file = tmp_path / ".env"
    file.write_text(line.format(quote(secret, safe="") if encoded else secret), encoding="utf-8")
    try:
        said = repr(Settings(_env_file=file))
    except ConfigError as error:
        said = everything_said(error)
    printed = capfd.readouterr()
    assert not leaks(said + caplog.text + printed.out + printed.err, secret)


@pytest.mark.parametrize("form", ["http://me:{}@localhost/v1", "http://localhost/v1?key={}"])
def test_a_secret_in_the_address_of_a_model_server(form: str, canary: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL") as raised:
        Settings(openai_base_url=form.format(SECRETS[canary]))
    assert not leaks(everything_said(raised.value), SECRETS[canary])
