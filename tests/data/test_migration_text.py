"""The Python of a migration: the same program whatever the names, and with exactly these."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resume_lab.errors import SchemaError
from resume_lab.rollout.migration import Rollout, write
from tests.data.naming import EVIL, PLAIN, Names, all_names, steps
from tests.rollout.kept_runs import copy_migrations, finding

RUN = "20260213-090000-ab12"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to write to, with a copy of the project's migrations below."""
    place = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        copy_migrations(place / "project", patch)
        yield place


def rollout(of: Names, run: str = RUN) -> Rollout:
    found = finding(where=of.info.where)
    return Rollout("abc123", "digest", run, of.index, found, (), True, *steps(of))


class Program(ast.NodeTransformer):
    """A program without its texts: those that it runs are collected, the others only counted."""

    def __init__(self, source: str) -> None:
        self.statements: list[str] = []
        self.shape = ast.dump(self.visit(ast.parse(source)))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if ast.unparse(node.func) != "op.execute":
            return self.generic_visit(node)
        (argument,) = node.args
        if isinstance(argument, ast.Call):
            assert ast.unparse(argument.func) == "sa.DDL"
            self.statements.append(ast.literal_eval(argument.args[0]) % {})
        else:
            statement = ast.literal_eval(argument)
            assert str(sa.text(statement)) == statement  # SQLAlchemy finds no parameter in it
            self.statements.append(statement)
        return ast.Constant("a statement")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(type(node.value).__name__)


@given(all_names, st.text(max_size=20) | st.sampled_from(['"""\nimport os\n"""', "\\", '"']))
@example(Names(*EVIL), '"""; import os')
@settings(max_examples=25, deadline=None)
def test_a_migration_is_the_same_program_whatever_the_names(
    folder: Path, of: Names, run: str
) -> None:
    found = []
    for planned in (rollout(PLAIN), rollout(of, run)):
        file = write(planned, folder / "made.py")
        source = file.read_text(encoding="utf-8")
        file.unlink()
        found.append(Program(source))
    plain, other = found
    assert other.shape == plain.shape
    forth, back = steps(of)
    assert other.statements == [*forth.alone, *forth.together, *back.alone, *back.together]


@pytest.mark.parametrize("after", ['"""\nimport os', "a b", "", "a'", "-1"])
def test_a_migration_comes_after_a_revision_only(folder: Path, after: str) -> None:
    with pytest.raises(SchemaError, match="is not a revision") as raised:
        write(rollout(PLAIN), folder / "made.py", after=after)
    assert "alembic heads" in str(raised.value.hint)
    assert not (folder / "made.py").exists()
