"""Every Markdown file of a folder is found, and all that cannot be read is named."""

import os
import time
from pathlib import Path

import pytest

from resume_lab.errors import DataError
from resume_lab.ingestion.discovery import FileProblem, Found, find_markdown


def write(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text")


def sources(found: Found) -> list[str]:
    return [file.source_file for file in found.files]


def refuse_to_list(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Refuse one folder; the tests may run as root, who may list anything."""
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_files_are_named_from_the_folder_and_sorted(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "work/z/deep.markdown", "work/a.MD", "notes.txt", "a.Markdown")
    found = find_markdown(tmp_path, "content")
    assert sources(found) == [
        "content/a.Markdown",
        "content/b.md",
        "content/work/a.MD",
        "content/work/z/deep.markdown",
    ]
    assert [file.folder for file in found.files] == [None, None, "work", "work"]
    assert found.files[3].path == tmp_path / "work/z/deep.markdown"
    assert not found.problems
    assert not found.unread


def test_what_is_hidden_or_installed_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.md", ".b.md", ".git/c.md", "x/node_modules/d.md", "x/.venv/e.md")
    assert sources(find_markdown(tmp_path, "c")) == ["c/a.md"]


@pytest.mark.parametrize("name", ["two words.md", "école/été.md", "line\nbreak.md", "'\"%;.md"])
def test_any_utf8_name_is_found(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    assert sources(find_markdown(tmp_path, "c")) == [f"c/{name}"]


def test_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/a.md", "content/b.md")
    content = tmp_path / "content"
    (content / "link").symlink_to(tmp_path / "elsewhere")
    (content / "c.md").symlink_to(tmp_path / "elsewhere/a.md")
    assert sources(find_markdown(content, "c")) == ["c/b.md", "c/c.md", "c/link/a.md"]


def test_a_loop_is_a_problem_and_the_walk_ends(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "sub/b.md")
    (tmp_path / "sub/up").symlink_to(tmp_path)
    found = find_markdown(tmp_path, "c")
    assert sources(found) == ["c/a.md", "c/sub/b.md"]
    reason = "a link that leads back to a folder above it"
    assert found.problems == (FileProblem("c/sub/up/", None, reason),)
    assert not found.unread


def test_a_real_folder_comes_before_the_links_to_it(tmp_path: Path) -> None:
    write(tmp_path, "z/real/a.md", "ext/deep/b.md")
    content = tmp_path / "z"
    (content / "a-link").symlink_to(content / "real")
    (content / "real/also").symlink_to(tmp_path / "ext/deep")
    (content / "short").symlink_to(tmp_path / "ext/deep")
    found = find_markdown(content, "c")
    assert sources(found) == ["c/real/a.md", "c/real/also/b.md"]
    assert not found.problems


def test_a_folder_outside_is_read_by_the_link_behind_the_fewest_others(tmp_path: Path) -> None:
    write(tmp_path, "content/x.md", "one/a.md", "two/b.md")
    (tmp_path / "content/a").symlink_to(tmp_path / "one")
    (tmp_path / "content/z").symlink_to(tmp_path / "two")
    (tmp_path / "one/two").symlink_to(tmp_path / "two")
    found = find_markdown(tmp_path / "content", "c")
    assert sources(found) == ["c/a/a.md", "c/x.md", "c/z/b.md"]
    assert [file.folder for file in found.files] == ["a", None, "z"]
    assert not found.problems


def test_folders_that_link_to_one_another_are_read_once(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcdefg"]
    for folder in folders:
        write(folder, "text.md")
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(other)
    found = find_markdown(tmp_path, "c")
    assert sources(found) == [f"c/{name}/text.md" for name in "abcdefg"]
    loops = [problem.file for problem in found.problems]
    assert loops == [f"c/{name}/to-{name}/" for name in "abcdefg"]


def test_what_was_stored_from_below_what_is_unread_is_told_from_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a.md", "closed/deep/b.md", "closed2/c.md")
    (tmp_path / "gone").symlink_to(tmp_path / "missing")
    refuse_to_list(monkeypatch, "closed")
    unread = find_markdown(tmp_path, "c").unread
    assert "c/closed/deep/b.md".startswith(unread)
    assert "c/gone/was/d.md".startswith(unread)
    assert not "c/closed2/e.md".startswith(unread)
    assert not "c/f.md".startswith(unread)


def test_problems_keep_the_names_that_the_database_has(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    os.mkfifo(tmp_path / "line\nbreak.md")
    (tmp_path / "gone\t.md").symlink_to(tmp_path / "missing")
    (tmp_path / "up").symlink_to(tmp_path)
    found = find_markdown(tmp_path, "c")
    assert [problem.file for problem in found.problems] == [
        "c/gone\\t.md",
        "c/line\\nbreak.md",
        "c/up/",
    ]
    assert found.refused == ("c/gone\t.md", "c/line\nbreak.md", "c/up/")
    assert found.unread == ("c/gone\t.md",)


def test_a_link_that_leads_nowhere_or_to_itself_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    for name in ("b.md", "gone"):
        (tmp_path / name).symlink_to(tmp_path / "missing")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    found = find_markdown(tmp_path, "c")
    assert found.problems[:2] == (
        FileProblem("c/b.md", None, "a link that leads nowhere"),
        FileProblem("c/gone", None, "a link that leads nowhere"),
    )
    assert found.problems[2].file == "c/self"
    assert found.unread == ("c/b.md", "c/gone", "c/self")


def test_a_pipe_is_a_problem_and_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "link.md").symlink_to(tmp_path / "pipe.md")
    os.mkfifo(tmp_path / "other")
    found = find_markdown(tmp_path, "c")
    assert sources(found) == ["c/a.md"]
    assert found.problems == (
        FileProblem("c/link.md", None, "not a regular file"),
        FileProblem("c/pipe.md", None, "not a regular file"),
    )


def test_a_folder_that_cannot_be_listed_is_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a.md", "closed/b.md")
    refuse_to_list(monkeypatch, "closed")
    found = find_markdown(tmp_path, "c")
    assert sources(found) == ["c/a.md"]
    reason = "cannot be listed: Permission denied"
    assert found.problems == (FileProblem("c/closed/", None, reason),)
    assert found.unread == ("c/closed/",)


def test_a_name_that_the_database_cannot_keep_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    (tmp_path / os.fsdecode(b"caf\xe9\n.md")).write_text("text")
    write(tmp_path / ("d" * 200) / ("e" * 200), "f" * 90 + ".md", "f" * 100 + ".md")
    found = find_markdown(tmp_path, "c")
    assert len(found.files) == 2
    assert found.problems[0] == FileProblem("c/caf\\udce9\\n.md", None, "its name is not UTF-8")
    assert found.problems[1].reason == "its path is longer than 500 characters"


def test_ten_thousand_files_are_found_in_no_time(tmp_path: Path) -> None:
    for i in range(10_000):
        (tmp_path / f"{i}.md").touch()
    start = time.perf_counter()
    found = find_markdown(tmp_path, "c")
    assert time.perf_counter() - start < 20  # about 0.1 s, unless it grows with the square
    assert len(found.files) == 10_000


def test_no_folder_a_file_and_no_markdown_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder .*missing"):
        find_markdown(tmp_path / "missing", "c")
    write(tmp_path, "a.txt")
    with pytest.raises(DataError, match="is a file, not a folder") as caught:
        find_markdown(tmp_path / "a.txt", "c")
    assert str(tmp_path) in str(caught.value.hint)
    with pytest.raises(DataError, match="There is no Markdown in") as caught:
        find_markdown(tmp_path, "c")
    assert ".md or .markdown" in str(caught.value.hint)
    assert f"Nothing was removed; `resume-lab ingest {tmp_path} --remove`" in str(caught.value.hint)
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(DataError, match=r"Not read: c/pipe\.md, not a regular file"):
        find_markdown(tmp_path, "c")
