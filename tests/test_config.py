"""Settings: which addresses are taken, what is said of the others, where values come from."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from resume_lab.config import (
    AppEnv,
    Settings,
    lab_dir,
    parse_database_url,
    project_root,
)
from resume_lab.database_url import SECRET_OPTIONS
from resume_lab.errors import ConfigError

CANARY = "c4n4ry"
PART = 4
"""Characters of a password that are enough to be called a leak."""

passwords = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30
).map(lambda text: CANARY + text + CANARY)


@pytest.fixture(autouse=True)
def no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_database_url(text)
    assert raised.value.hint
    return str(raised.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_accepted_scheme_means_psycopg2(scheme: str) -> None:
    url = parse_database_url(f"  {scheme}://me:secret@localhost:5433/lab\n")
    assert url == sa.make_url("postgresql+psycopg2://me:secret@localhost:5433/lab")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:secret@/lab?host=/var/run/postgresql",
        "postgresql://me:secret@%2Fvar%2Frun%2Fpostgresql/lab",
    ],
)
def test_a_socket_folder_may_stand_as_option_or_as_host(text: str) -> None:
    url = parse_database_url(text)
    assert (url.host, url.query, url.database) == (None, {"host": "/var/run/postgresql"}, "lab")


def test_an_ipv6_host_keeps_its_port() -> None:
    url = parse_database_url("postgresql://me@[2001:db8::1]:6000/lab")
    assert (url.host, url.port) == ("2001:db8::1", 6000)


@pytest.mark.parametrize("printable", [chr(code) for code in range(32, 127)])
def test_each_printable_character_percent_encoded_is_part_of_the_password(printable: str) -> None:
    password = f"a{printable}b"
    url = parse_database_url(f"postgresql://me:{quote(password, safe='')}@localhost/lab")
    assert url.password == password


@given(passwords)
def test_any_password_reaches_libpq_and_is_never_shown(password: str) -> None:
    encoded = quote(password, safe="")
    settings = Settings(database_url=f"postgresql://me:{encoded}@db.example.com/lab")
    url = settings.url
    assert url is not None
    assert url.password == password
    assert url.host == "db.example.com"
    _, keywords = sa.create_engine(url).dialect.create_connect_args(url)
    assert keywords["password"] == password
    shown = [repr(settings), str(settings), repr(url), str(url), settings.model_dump_json()]
    shown += [str(settings.model_dump()), repr([settings.database_url])]
    assert CANARY not in " ".join(shown)


@given(
    passwords,
    st.sampled_from(
        [
            "mysql://me:{}@localhost/lab",
            "https://me:{}@abc.supabase.co",
            "https://me:{}@example.com",
            "postgresql+asyncpg://me:{}@localhost/lab",
            "postgresql://me:{}@localhost:port/lab",
            "postgresql://me:{}@localhost:99999/lab",
            "postgresql://me:{}@[::1/lab",
            "postgresql://me:{}@localhost/lab?pgbouncer=true",
            "postgresql://me:@{}@localhost/lab",
            "localhost:{}@lab",
            "{}",
            "{}://localhost",
        ],
    ),
    st.booleans(),
)
def test_no_refusal_repeats_the_password(password: str, form: str, encoded: bool) -> None:
    text = form.format(quote(password, safe="") if encoded else password)
    with pytest.raises(ConfigError) as raised:
        Settings(database_url=text)
    assert CANARY not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r}"


# Letters that no message has, and every sign that cuts a URL somewhere.
@given(st.text("ZQXJ@#/?:[]%&=+,; ", min_size=PART, max_size=20), st.booleans())
def test_an_unescaped_password_is_taken_whole_or_no_part_of_it_is_shown(
    password: str, with_port: bool
) -> None:
    port = ":5432" if with_port else ""
    try:
        url = parse_database_url(f"postgresql://me:{password}@localhost{port}/lab")
    except ConfigError as error:
        said = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
        parts = {password[at : at + PART] for at in range(len(password) - PART + 1)}
        letters = set("ZQXJ")
        assert not [part for part in parts if letters & set(part) and part in said]
    else:
        assert url.password in (password, unquote(password))
        assert (url.host, url.database) == ("localhost", "lab")


@pytest.mark.parametrize("sign", "#/:[]=&+;, ")
def test_a_sign_that_cuts_nothing_may_stand_in_the_password_as_it_is(sign: str) -> None:
    url = parse_database_url(f"postgresql://me:p{sign}w@localhost/lab")
    assert (url.password, url.host, url.database) == (f"p{sign}w", "localhost", "lab")


@pytest.mark.parametrize(
    "password",
    ["p@{}", "p@{}/word", "p@{}?word", "p@{}:word", "@{}@", "p@{}#word", "p@x?{}=1", "p/@?{}"],
)
def test_an_at_sign_in_the_password_is_found_wherever_it_cuts_the_address(password: str) -> None:
    said = refused(f"postgresql://me:{password.format(CANARY)}@localhost/lab")
    assert "more than one @" in said
    assert "%40" in said
    assert CANARY not in said


def test_each_wrong_address_gets_its_own_sentence() -> None:
    said = [
        refused(text)
        for text in (
            "https://abcdefgh.supabase.co",
            "https://example.com/db",
            "mysql://me:pw@localhost/lab",
            "postgresql+asyncpg://me:pw@localhost/lab",
            "anything",
            "  ",
            "postgresql://localhost:54x32/lab",
            "postgresql://me:p@ss@localhost/lab",
            "postgresql://localhost/lab?pgbouncer=true",
            "postgresql://me:p?w@localhost/lab",
            "postgresql://me:pw@2001:db8::1:5432/lab",
            "postgresql://me:pw@first:5432,second:5432/lab",
            "postgresql:///lab?service=production",
            "host=localhost user=me password=pw dbname=lab",
            "psql 'postgresql://me:pw@localhost/lab'",
            "postgresql://me:p\nw@localhost/lab",
        )
    ]
    expected = (
        "Supabase's API",
        "a web address",
        "MySQL",
        "postgresql+asyncpg://, a driver that is not used",
        "does not start with postgresql://",
        "blank",
        "not a URL",
        "more than one @",
        "'pgbouncer', unknown to PostgreSQL (it is Prisma's)",
        "a ? before its @",
        "an IPv6 address without its brackets",
        "several hosts",
        "names a service of libpq",
        "keywords and values",
        "something before postgresql://",
        "a line break",
    )
    for sentence, part in zip(said, expected, strict=True):
        assert part in sentence
    assert len({sentence.splitlines()[0] for sentence in said}) == len(said)
    assert "pooler.supabase.com" in said[0]


@pytest.mark.parametrize(
    "text",
    [
        '"postgresql://localhost/lab"',
        "DATABASE_URL=postgresql://localhost/lab",
        "jdbc:postgresql://localhost/lab",
    ],
)
def test_what_comes_along_when_an_address_is_copied_is_told(text: str) -> None:
    assert "something before postgresql://" in refused(text)


@pytest.mark.parametrize(
    "text", ["postgresql://me:p%00w@localhost/lab", "postgresql://\udc80@x/lab"]
)
def test_signs_that_no_server_takes_are_refused(text: str) -> None:
    assert "no text" in refused(text)


@pytest.mark.parametrize(
    "options", ["host=a&host=b&port=1", "host=a,b&port=1,2,3", "host=a&port=x"]
)
def test_hosts_and_ports_that_do_not_go_together_are_refused(options: str) -> None:
    assert "not a URL" in refused(f"postgresql://me@/lab?{options}")


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_port_out_of_range_is_refused(port: str) -> None:
    assert "1 to 65535" in refused(f"postgresql://localhost:{port}/lab")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("postgresql://db.example.com/lab", "require"),
        ("postgresql://10.0.0.7/lab", "require"),
        ("postgresql:///lab?host=db.example.com", "require"),
        ("postgresql:///lab?host=/tmp&host=db.example.com", "require"),
        ("postgresql:///lab?hostaddr=203.0.113.5", "require"),
        ("postgresql://localhost/lab?hostaddr=203.0.113.5", "require"),
        ("postgresql://db.example.com/lab?sslrootcert=/ca.pem", "verify-full"),
        ("postgresql://db.example.com/lab?sslmode=disable", "disable"),
        ("postgresql://db.example.com/lab?sslmode=verify-ca&sslrootcert=/ca.pem", "verify-ca"),
        ("postgresql://localhost/lab?host=db.example.com", "require"),
        ("postgresql://localhost/lab?sslrootcert=/ca.pem", "verify-full"),
        ("postgresql://db.example.com/lab?hostaddr=127.0.0.1", None),
        ("postgresql:///lab?host=localhost:5432&host=127.0.0.1:5433", None),
        ("postgresql://localhost/lab", None),
        ("postgresql://127.0.0.2/lab", None),
        ("postgresql://[::1]/lab", None),
        ("postgresql:///lab", None),
        ("postgresql:///lab?host=/tmp", None),
    ],
)
def test_other_machines_get_tls_unless_told_otherwise(text: str, mode: str | None) -> None:
    assert parse_database_url(text).query.get("sslmode") == mode


@pytest.mark.parametrize(
    ("name", "value", "text", "mode"),
    [
        ("PGHOST", "db.example.com", "postgresql:///lab", "require"),
        ("PGHOST", "/tmp", "postgresql:///lab", None),  # noqa: S108 - never opened
        ("PGHOST", "db.example.com", "postgresql://localhost/lab", None),
        ("PGHOSTADDR", "203.0.113.5", "postgresql://localhost/lab", "require"),
        ("PGSERVICE", "production", "postgresql:///lab", "require"),
        ("PGSSLMODE", "verify-ca", "postgresql://db.example.com/lab", None),
        ("PGSSLMODE", "disable", "postgresql://db.example.com/lab?sslmode=require", "require"),
        ("PGSSLROOTCERT", "/ca.pem", "postgresql://db.example.com/lab", "verify-full"),
        ("PGSSLROOTCERT", "/ca.pem", "postgresql://localhost/lab", None),
    ],
)
def test_what_libpq_takes_from_the_environment_counts_too(
    name: str, value: str, text: str, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert parse_database_url(text).query.get("sslmode") == mode


def test_a_password_among_the_options_is_moved_to_where_it_is_masked() -> None:
    url = parse_database_url(f"postgresql://me@localhost/lab?password={CANARY}")
    assert url.password == CANARY
    assert CANARY not in str(url)


@pytest.mark.parametrize("option", SECRET_OPTIONS)
def test_a_secret_that_nothing_masks_is_refused_without_showing_it(option: str) -> None:
    said = refused(f"postgresql://me@db.example.com/lab?{option}={CANARY}")
    assert option in said
    assert "sslkey" in said
    assert CANARY not in said


@pytest.mark.parametrize("address", ["me:pw@localhost:5432", "me@localhost", "localhost:5432"])
def test_an_option_may_contain_an_at_sign(address: str) -> None:
    plain = parse_database_url(f"postgresql://{address}/lab")
    url = parse_database_url(f"postgresql://{address}/lab?application_name=a@b")
    assert url == plain.update_query_dict({"application_name": "a@b"})


def test_no_address_means_the_embedded_server() -> None:
    assert Settings().url is None


def test_a_blank_address_is_an_error_and_never_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", " ")
    with pytest.raises(ConfigError, match="DATABASE_URL is set but blank"):
        Settings()


def write_env(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_env(tmp_path / "env", "LAB_ROWS=700", "LAB_QUERIES=30")
    monkeypatch.setenv("LAB_ENV_FILE", str(file))
    monkeypatch.setenv("LAB_ROWS", "900")
    monkeypatch.delenv("LAB_QUERIES")
    settings = Settings()
    assert (settings.lab_rows, settings.lab_queries) == (900, 30)


def test_a_blank_address_in_the_file_is_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_ENV_FILE", str(write_env(tmp_path / "env", "DATABASE_URL=")))
    with pytest.raises(ConfigError, match="blank"):
        Settings()


def test_a_file_with_a_byte_order_mark_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_env(tmp_path / "env", "APP_ENV=staging", encoding="utf-8-sig")
    monkeypatch.setenv("LAB_ENV_FILE", str(file))
    assert Settings().app_env is AppEnv.STAGING


def test_a_file_that_is_not_utf8_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_env(tmp_path / "env", "LAB_DIR=é", encoding="latin-1")
    monkeypatch.setenv("LAB_ENV_FILE", str(file))
    with pytest.raises(ConfigError, match="UTF-8"):
        Settings()


@pytest.mark.parametrize("name", ["absent", ""])
def test_a_named_file_that_is_not_there_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_ENV_FILE", str(tmp_path / name) if name else "")
    with pytest.raises(ConfigError, match=r"LAB_ENV_FILE names .*, which is not a file"):
        Settings()
    monkeypatch.setenv("LAB_ENV_FILE", os.devnull)
    Settings()


def test_a_file_that_may_not_be_read_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_env(tmp_path / "env", "LAB_ROWS=700")
    monkeypatch.setenv("LAB_ENV_FILE", str(file))

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("dotenv.main.open", refuse, raising=False)  # root may read everything
    with pytest.raises(ConfigError, match="env cannot be read: Permission denied"):
        Settings()


def test_the_folder_is_known_whatever_the_other_settings_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = Settings().lab_dir
    for name in ("DATABASE_URL", "LAB_POSTGRES", "APP_ENV", "LAB_ROWS"):
        monkeypatch.setenv(name, "nonsense")
    assert lab_dir() == expected


def test_the_projects_file_is_found_from_any_folder(tmp_path: Path) -> None:
    """In a copy of the project, so that the real one keeps its own `.env` or none."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / "resume_lab").mkdir(parents=True)
    (project / "notebooks").mkdir()
    elsewhere.mkdir()
    for name in ("__init__.py", "config.py", "database_url.py", "errors.py"):
        source = project_root() / "resume_lab" / name
        (project / "resume_lab" / name).write_text(source.read_text())
    (project / "alembic.ini").touch()
    write_env(project / ".env", "LAB_ROWS=4321", "LAB_DIR=data")
    hidden = ("LAB_ROWS", "LAB_DIR", "LAB_ENV_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYTHONPATH"] = str(project)
    code = "from resume_lab.config import Settings; s = Settings(); print(s.lab_rows, s.lab_dir)"
    for folder in (project, project / "notebooks", elsewhere):
        said = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert said.split() == ["4321", str(project / "data")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ENV", "production"),
        ("APP_ENV", ""),
        ("LAB_POSTGRES", "17"),
        ("LAB_POSTGRES", "latest"),
        ("LAB_ROWS", "499"),
        ("LAB_ROWS", "1000001"),
        ("LAB_ROWS", "many"),
        ("LAB_QUERIES", "19"),
        ("LAB_QUERIES", "10001"),
        ("LAB_DIR", " "),
        ("EMBEDDING_MODEL", ""),
        ("EMBEDDING_MODEL", "m" * 201),
        ("CHAT_MODEL", ""),
        ("LOG_QUESTIONS", ""),
        ("LOG_QUESTIONS", "perhaps"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name) as raised:
        Settings()
    assert raised.value.hint
    assert len(raised.value.message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("APP_ENV", "prod", AppEnv.PROD),
        ("LAB_POSTGRES", "16", 16),
        ("LAB_POSTGRES", "18", 18),
        ("LAB_ROWS", "500", 500),
        ("LAB_ROWS", "1000000", 1_000_000),
        ("LAB_QUERIES", "20", 20),
        ("LAB_DIR", "/somewhere/else", Path("/somewhere/else")),
        ("LAB_DIR", "~/lab", Path.home() / "lab"),
        ("EMBEDDING_MODEL", "text-embedding-3-small", "text-embedding-3-small"),
        ("OPENAI_BASE_URL", "http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("CHAT_MODEL", "llama3.2:3b", "llama3.2:3b"),
        ("LOG_QUESTIONS", "false", False),
    ],
)
def test_a_right_value_is_read_from_the_environment(
    name: str, value: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(Settings(), name.lower()) == expected


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_BASE_URL"])
@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_a_blank_key_or_server_counts_as_absent(
    name: str, blank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, blank)
    settings = Settings()
    assert getattr(settings, name.lower()) is None
    assert not settings.has_model_server


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"openai_api_key": CANARY}, True),
        ({"openai_base_url": "http://localhost:11434/v1"}, True),
        ({"openai_api_key": CANARY, "openai_base_url": "http://localhost:11434/v1"}, True),
        ({"embedding_model": "text-embedding-3-small", "chat_model": "gpt-4o-mini"}, False),
    ],
)
def test_a_key_or_a_server_is_needed_to_ask_models(values: dict[str, str], expected: bool) -> None:
    assert Settings(**values).has_model_server is expected


def test_the_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    settings = Settings()
    assert settings.openai_api_key.get_secret_value() == CANARY
    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    assert CANARY not in " ".join(shown)
    monkeypatch.setenv("LOG_QUESTIONS", "perhaps")
    with pytest.raises(ConfigError, match="LOG_QUESTIONS") as raised:
        Settings()
    assert CANARY not in f"{raised.value} {raised.value!r}"


def test_the_example_file_shows_every_setting_with_its_default_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (project_root() / ".env.example").read_text()
    shown = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    assert all(line.startswith("#") or not line for line in text.splitlines())
    for name in shown:
        monkeypatch.delenv(name, raising=False)
    defaults = Settings()
    for name in shown:
        monkeypatch.setenv(name, shown[name])
    as_shown = Settings()
    for name in set(Settings.model_fields) - {"database_url"}:
        assert getattr(as_shown, name) == getattr(defaults, name), name
    assert as_shown.url is not None


@pytest.mark.parametrize("line", ["DATABASE_URL", "export DATABASE_URL", "database_url"])
def test_a_setting_without_its_equals_sign_is_not_taken_for_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    (tmp_path / "settings").write_text(f"APP_ENV=dev\n{line}\n")
    monkeypatch.setenv("LAB_ENV_FILE", str(tmp_path / "settings"))
    with pytest.raises(ConfigError, match="DATABASE_URL stands in the settings file without"):
        Settings()
