"""Errors: the tree in the docstring is the tree there is, and a notebook shows a sentence."""

import inspect

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from resume_lab import errors
from resume_lab.errors import ConfigError, LabError, leaving

STATE = "Nothing was added."


def written_tree() -> dict[str, str | None]:
    """Class to parent, as the docstring's indentation says."""
    parents: dict[str, str | None] = {}
    open_at: list[tuple[int, str]] = []
    for line in inspect.getdoc(errors).splitlines():
        name = line.split()[0] if line.strip() else ""
        if not hasattr(errors, name):
            continue
        depth = len(line) - len(line.lstrip())
        open_at = [(other, parent) for other, parent in open_at if other < depth]
        parents[name] = open_at[-1][1] if open_at else None
        open_at.append((depth, name))
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    classes = {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, Exception)
    }
    actual = {
        name: cls.__base__.__name__ if cls is not LabError else None
        for name, cls in classes.items()
    }
    assert written_tree() == actual
    assert LabError.__base__ is Exception


def test_an_error_reads_as_what_happened_and_what_to_do() -> None:
    error = ConfigError("It is blank.", hint="Fill it in.")
    assert (error.message, error.hint) == ("It is blank.", "Fill it in.")
    assert str(error) == "It is blank.\nFill it in."
    assert str(ConfigError("It is blank.")) == "It is blank."


def test_between_them_stands_what_the_database_holds_now() -> None:
    error = ConfigError("It broke.", state="Nothing was added.", hint="Mend it.")
    assert str(error) == "It broke.\nNothing was added.\nMend it."


def test_an_operation_says_what_it_leaves_where_the_error_does_not() -> None:
    with pytest.raises(ConfigError, match=r"^It broke\.\nNothing was added\.$"), leaving(STATE):
        raise ConfigError("It broke.")
    with pytest.raises(ConfigError, match=r"^It broke\.\nHalf\.$"), leaving(STATE):
        raise ConfigError("It broke.", state="Half.")
    with (
        pytest.raises(ConfigError, match="ConfigError knows"),
        leaving(lambda e: f"{e!r:.11} knows"),
    ):
        raise ConfigError("It broke.")
    with pytest.raises(ValueError, match=r"^no$"), leaving(STATE):
        raise ValueError("no")


def shown_in_a_notebook(source: str) -> str:
    """Everything that a cell in a real kernel shows."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id="one")])
    client = NotebookClient(notebook, timeout=60)
    try:
        client.execute()
    except CellExecutionError:
        pass
    else:
        raise AssertionError("the cell did not fail")
    (output,) = notebook.cells[0].outputs
    return "\n".join(output.traceback)


def test_a_notebook_shows_the_sentence_without_a_traceback_or_the_password() -> None:
    shown = shown_in_a_notebook(
        "secret = 'mysql://me:c4n4ry@localhost/lab'\n"
        "from resume_lab.config import parse_database_url\n"
        "parse_database_url(secret)"
    )
    assert shown.startswith("ConfigError: DATABASE_URL names MySQL")
    assert len(shown.splitlines()) == 2
    assert "Traceback" not in shown
    assert "c4n4ry" not in shown
