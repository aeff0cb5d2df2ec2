"""What the documents say is so: commands exist, links lead somewhere, SQL and migrations run."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Engine

from resume_lab.config import project_root
from resume_lab.database import schema

ROOT = project_root()
DOCUMENTS = sorted(ROOT.glob("*.md"))
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "MIGRATION_GUIDE.md").read_text()
NOT_OURS = {
    "memory required is 65 MB, maintenance_work_mem is 64 MB",
    "column cannot have more than 2000 dimensions for ivfflat index",
    "Can't locate revision identified by ...",
    "Target database is not up to date",
    "Python lacks venv",
    "This role may not create the extension vector",
    "DATABASE_URL is the address of Supabase's API",
    "... queries cannot show recall ... with certainty",
}
"""Said by PostgreSQL, pgvector, Alembic or the Makefile, or put together from parts."""

HEADER = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"
"""


def _sections(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def _table_names(text: str, heading: str) -> list[str]:
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `?([\w.-]+)`? \|", section, flags=re.M)[1:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", document.read_text())
    for link in links:
        if link.startswith("http"):
            continue
        path, _, section = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if section:
            assert section in _sections(target.read_text()), link


def test_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", README, flags=re.M))
    assert {"lab", "tune", "test"} <= named <= targets


def test_readme_names_commands_that_exist() -> None:
    commands = set(
        re.findall(r"`resume-lab ([a-z]+(?: (?:start|stop|status|url))?)", README + GUIDE)
    )
    assert {"verify", "migrate", "seed", "db start", "db stop"} <= commands
    for words in commands:
        result = subprocess.run(
            [Path(sys.executable).with_name("resume-lab"), *words.split(), "--help"],
            capture_output=True,
            check=False,
        )
        assert result.returncode == 0, words


def test_readme_and_the_first_notebook_list_every_notebook() -> None:
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert _table_names(README, "The notebooks") == names
    first = (ROOT / "notebooks/00_start.ipynb").read_text()
    assert re.findall(r"\]\((\w+)\.ipynb\)", first) == names[1:]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_has_one_cell_of_parameters_a_finding_and_no_functions(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in cells) == 1
    assert not any(re.search(r"^\s*(def|class) ", source, flags=re.M) for source in sources)
    finding = sources.index(next(s for s in sources if s.startswith("## Finding")))
    assert any("assert " in source for source in sources[finding:])


@pytest.mark.parametrize("document", [README, GUIDE], ids=["README", "MIGRATION_GUIDE"])
def test_messages_quoted_in_troubleshooting_are_in_the_code(document: str) -> None:
    code = "".join(path.read_text() for path in (ROOT / "resume_lab").rglob("*.py"))
    section = document.partition("## Troubleshooting\n")[2].partition("\n## ")[0]
    for quoted in set(re.findall(r"^\| `([^`]+)`", section, flags=re.M)) - NOT_OURS:
        assert quoted.removeprefix(".lab ").split(":")[0].split(" ...")[0] in code, quoted


def test_each_promise_stands_beside_a_test_that_there_is() -> None:
    section = README.partition("## What it promises\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section, flags=re.M)[1:]
    assert len(rows) >= 20
    for promise, kept_by in rows:
        tests = re.findall(r"\[`(test_\w+)`\]\((tests/[\w/]+\.py)\)", kept_by)
        assert tests, promise
        for name, path in tests:
            assert f"def {name}(" in (ROOT / path).read_text(), name


def test_readme_says_what_each_dependency_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[><=]", wanted)[0] for wanted in project["dependencies"]]
    assert _table_names(README, "What each package is for") == names
    for wanted in project["optional-dependencies"]["dev"]:
        assert (
            re.split(r"[><=]", wanted)[0]
            in README.partition("## What the development packages are for")[2]
        )


def test_every_dependency_is_pinned_and_no_file_names_a_host() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = (ROOT / "constraints.txt").read_text()
    names = [line.partition("==")[0] for line in constraints.splitlines() if "==" in line]
    pinned = {name.lower().replace("_", "-") for name in names}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[><=]", name)[0] for name in wanted} <= pinned
    assert "://" not in constraints
    assert "://" not in (ROOT / "pyproject.toml").read_text()


def _migrations_of_guide() -> list[str]:
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", GUIDE, flags=re.M | re.S)
    texts = [re.sub(f"^{indent}", "", block, flags=re.M) for indent, block in blocks]
    return [text for text in texts if "def upgrade" in text]


def test_the_guide_shows_two_migrations() -> None:
    assert len(_migrations_of_guide()) == 2


@pytest.mark.parametrize("number", [0, 1], ids=["concurrent index", "3072 dimensions"])
def test_the_migrations_of_the_guide_run_and_can_be_undone(
    any_empty_database: Engine, tmp_path: Path, number: int
) -> None:
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    written = (
        HEADER.format(revision="feedfeedfeed", head=schema.head()) + _migrations_of_guide()[number]
    )
    (tmp_path / "migrations/versions/20260301_feedfeedfeed_guide.py").write_text(written)
    config = Config(tmp_path / "alembic.ini")
    config.attributes["connection"] = any_empty_database
    command.upgrade(config, "head")
    command.check(config)
    with any_empty_database.connect() as connection:
        indexes = connection.scalars(sa.text("SELECT indexdef FROM pg_indexes")).all()
    assert sum("USING ivfflat" in index for index in indexes) == 2
    command.downgrade(config, "-1")
    command.upgrade(config, "head")
    command.downgrade(config, "base")


def test_the_sql_of_the_guide_runs(any_empty_database: Engine, tmp_path: Path) -> None:
    test_the_migrations_of_the_guide_run_and_can_be_undone(any_empty_database, tmp_path, 1)
    config = Config(tmp_path / "alembic.ini")
    config.attributes["connection"] = any_empty_database
    command.upgrade(config, "head")
    vector = "[" + ",".join(["1"] * 3072) + "]"
    autocommit = any_empty_database.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        for block in re.findall(r"```sql\n(.*?)```", GUIDE, flags=re.S):
            for statement in block.replace("$1", f"'{vector}'").split(";"):
                if statement.strip():
                    connection.exec_driver_sql(statement.replace("%", "%%"))
