"""`resume-lab roles`: what it shows, the migration that it writes, and who it lets read."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.config import project_root
from resume_lab.database import schema
from resume_lab.database.role_rights import Rights, find_rights
from resume_lab.database.roles import OWNER, READER, TABLES
from resume_lab.errors import SchemaError
from tests.database.made_roles import count, drop_roles, logged_in, run
from tests.rollout.kept_runs import copy_migrations

Run = Callable[..., tuple[int, str, str]]
NEWEST = schema.head()
ODD = '"trial_o\'w""""""n;er %s :a \\ é"'


@pytest.fixture
def roles(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command on a migrated database; return exit code, output and errors."""
    monkeypatch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))

    def invoke(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["roles", *map(str, arguments)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    yield invoke
    drop_roles(database)


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copy_migrations(tmp_path / "project", monkeypatch)


def rights(engine: Engine) -> Rights:
    with engine.connect() as connection:
        return find_rights(connection)


def written(said: str) -> Path:
    found = re.fullmatch(r"Written: (.+)\nRead it, then resume-lab migrate\n", said)
    assert found, said
    return Path(found[1])


@pytest.mark.parametrize("owner", ["postgres", ODD], ids=["postgres", "odd name"])
def test_the_migration_goes_up_and_down_and_up_and_check_is_clean(
    roles: Run, database: Engine, versions: Path, owner: str
) -> None:
    if owner != "postgres":
        run(database, f"CREATE ROLE {owner}", f"GRANT CREATE ON SCHEMA public TO {owner}")
    run(database, f"ALTER TABLE query_logs OWNER TO {owner}")
    before = rights(database)
    code, said, _ = roles("--write", "--row-security")
    assert code == 0
    assert written(said).parent == versions
    assert rights(database) == before
    for _ in range(2):
        schema.upgrade(database)
        schema.check(database)
        assert rights(database).roles[0].tables == dict.fromkeys(TABLES, "owns")
        schema.downgrade(database, "-1")
        assert rights(database) == before


def test_it_is_written_in_two_steps_and_each_goes_back(
    roles: Run, database: Engine, versions: Path
) -> None:
    written(roles("--write")[1])
    assert "Run `resume-lab migrate` first." in roles("--write", "--row-security")[2]
    schema.upgrade(database)
    assert "The roles are in this database." in roles("--write")[2]
    written(roles("--write", "--row-security")[1])
    schema.upgrade(database)
    assert set(rights(database).row_security.values()) == {"forced"}
    schema.downgrade(database, "-1")
    assert set(rights(database).row_security.values()) == {"off"}
    assert rights(database).roles[2].is_there
    schema.downgrade(database, "-1")
    assert not rights(database).roles[2].is_there


def test_the_owner_runs_the_next_migrations(roles: Run, database: Engine, versions: Path) -> None:
    written(roles("--write", "--row-security")[1])
    schema.upgrade(database)
    run(database, "ALTER TABLE document_chunks ADD COLUMN note text")
    with logged_in(database, OWNER) as owner:
        run(owner, "ALTER TABLE document_chunks DROP COLUMN note")
        run(owner, "UPDATE alembic_version SET version_num = version_num")


def test_the_offline_sql_and_the_printed_sql_do_the_same(
    roles: Run, database: Engine, versions: Path
) -> None:
    code, said, _ = roles("--sql", "--row-security")
    assert code == 0
    assert list(versions.glob("*roles*")) == []
    written(roles("--write", "--row-security")[1])
    offline = schema.preview_sql(f"{NEWEST}:head")
    body = said.partition("-- The way back:")[0].strip()
    inner = body.removeprefix("BEGIN;\n").removesuffix(";\nCOMMIT;")
    assert re.sub(r"\s+", " ", inner) in re.sub(r"\s+", " ", offline)
    run(database, said)
    assert rights(database).roles[2].name == READER
    assert rights(database).roles[2].is_there


def test_the_file_is_formatted_and_linted_as_the_others(roles: Run, versions: Path) -> None:
    file = written(roles("--write", "--row-security")[1])
    text = file.read_text()
    ruff = Path(sys.executable).with_name("ruff")
    name = f"--stdin-filename=migrations/versions/{file.name}"
    for arguments in (["format", name, "-"], ["check", "--no-cache", name, "-"]):
        done = subprocess.run(
            [ruff, *arguments], cwd=project_root(), input=text, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert done.stdout in (text, "All checks passed!\n")


def test_it_shows_who_may_do_what(roles: Run, database: Engine, versions: Path) -> None:
    code, said, _ = roles()
    assert code == 0
    assert "resume_lab_reader  is not there\n" in said
    assert "Row level security is off" in said
    written(roles("--write")[1])
    schema.upgrade(database)
    found = json.loads(roles("--json")[1])
    reader = next(role for role in found["roles"] if role["name"] == READER)
    assert reader["tables"]["document_chunks"] == "SELECT"
    assert "statement_timeout=30s" in reader["settings"]
    assert found["row_security"] == dict.fromkeys(TABLES, "off")


def test_a_role_is_let_to_read_a_source(roles: Run, database: Engine, versions: Path) -> None:
    written(roles("--write", "--row-security")[1])
    schema.upgrade(database)
    run(
        database,
        "INSERT INTO document_chunks (content, source_file, chunk_index) "
        "VALUES ('a', 'content/a.md', 0)",
    )
    code, said, _ = roles("--let", READER, "--read", "content")
    assert (code, said) == (
        0,
        'CREATE ROLE "resume_lab_reads:content" NOLOGIN;\n'
        'GRANT "resume_lab_reads:content" TO resume_lab_reader;\n'
        "-- The way back:\n"
        '-- REVOKE "resume_lab_reads:content" FROM resume_lab_reader;\n',
    )
    with logged_in(database, READER) as reader:
        assert count(reader, "document_chunks") == 1
    again = json.loads(roles("--let", READER, "--read", "content", "--json")[1])
    assert again["done"] == ['GRANT "resume_lab_reads:content" TO resume_lab_reader']
    run(database, again["way_back"])
    with logged_in(database, READER) as reader:
        assert count(reader, "document_chunks") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--let", READER), "--let and --read need each other."),
        (("--row-security",), "--row-security needs --write or --sql."),
        (("--write", "--sql"), "exclude each other"),
        (
            ("--let", "nobody", "--read", "content"),
            "There is no role nobody.\nNothing was changed.\nCorrect the name",
        ),
        (("--let", READER, "--read", "x" * 60), "longer than the 63 bytes"),
    ],
)
def test_a_mistake_ends_in_a_sentence(
    roles: Run, versions: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, out, errors = roles(*arguments)
    assert (code, out) == (1, "")
    assert errors.startswith("Error: ")
    assert said in errors
    assert "Traceback" not in errors


def test_a_role_that_does_not_own_the_tables_is_told_by_migrate(
    roles: Run, database: Engine, versions: Path
) -> None:
    written(roles("--write")[1])
    run(
        database,
        "CREATE ROLE trial_nobody LOGIN",
        "GRANT SELECT ON alembic_version TO trial_nobody",
    )
    with (
        logged_in(database, "trial_nobody") as nobody,
        pytest.raises(SchemaError, match="may not do this"),
    ):
        schema.upgrade(nobody)
    assert not rights(database).roles[0].is_there
