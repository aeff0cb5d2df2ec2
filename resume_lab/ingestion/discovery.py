"""The Markdown files of a folder, and what in it could not be read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resume_lab.errors import DataError
from resume_lab.printable import escaped

ENDINGS = (".md", ".markdown")
"""Endings of the files that are read, in any case."""

MAX_SOURCE_FILE = 500
"""Characters of a file's name that the database keeps."""

_LEFT_OUT = "node_modules"


@dataclass(frozen=True)
class FileProblem:
    """Why a file or folder was not read; `file` is printable on one line."""

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        """Say it on one line."""
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True)
class FoundFile:
    """A Markdown file: `source_file` is its name in the database, `folder` the first below."""

    path: Path
    source_file: str
    folder: str | None


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    `unread` are beginnings of source files about which nothing is known, because a folder could
    not be listed or a link leads nowhere. `refused` are the source files of the problems as they
    are, where `FileProblem.file` is what can be printed; that of a folder ends in a slash.
    """

    files: tuple[FoundFile, ...]
    problems: tuple[FileProblem, ...]
    unread: tuple[str, ...]
    refused: tuple[str, ...]


def is_left_out(name: str) -> bool:
    """Say whether files and folders of this name are not looked at."""
    return name.startswith(".") or name == _LEFT_OUT


def find_markdown(content_dir: Path, name: str) -> Found:
    """Return the Markdown files below `content_dir`, as "name/path", sorted.

    Links are followed, but each folder is read once: where it really stands if that is inside, else
    by the link behind the fewest other links, the first of these by name. Other links to it are
    left out; one to a folder above itself is a problem. Links to files give them further names.
    What begins with a dot is left out, `node_modules` too. Raises DataError where there is no such
    folder, or no Markdown in it.
    """
    _check_folder(content_dir)
    walk = _Walk()
    walk.read(_Folder(str(content_dir), f"{name}/", None, ()))
    if not walk.files:
        raise _nothing_found(content_dir, walk.problems)
    walk.files.sort(key=lambda file: file.source_file)
    walk.problems.sort(key=lambda problem: problem.file)
    return Found(
        tuple(walk.files),
        tuple(walk.problems),
        tuple(sorted(walk.unread)),
        tuple(sorted(walk.refused)),
    )


@dataclass(frozen=True)
class _Folder:
    """A folder to list: where it is, how its files are called, which folders are above it."""

    path: str
    prefix: str
    first: str | None
    above: tuple[tuple[int, int], ...]


@dataclass
class _Walk:
    """What was found so far."""

    files: list[FoundFile] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    linked: list[_Folder] = field(default_factory=list)
    listed: set[tuple[int, int]] = field(default_factory=set)

    def read(self, root: _Folder) -> None:
        """Read all below `root`, then all below the links found, then below those found there."""
        self.linked = [root]
        while self.linked:
            starts = sorted(self.linked, key=lambda folder: folder.prefix)
            self.linked = []
            for start in starts:
                self._read_unlinked(start)

    def _read_unlinked(self, start: _Folder) -> None:
        folders = [start]
        while folders:
            folder = folders.pop()
            folders += self._folders_in(folder)

    def _folders_in(self, folder: _Folder) -> Iterator[_Folder]:
        """Take the files of a folder, lay links to folders aside and yield the folders in it."""
        try:
            status = os.stat(folder.path)  # noqa: PTH116 - a Path a folder costs more
            identity = (status.st_dev, status.st_ino)
            if identity in folder.above:
                self._refuse(folder.prefix, "a link that leads back to a folder above it")
                return
            if identity in self.listed:
                return
            self.listed.add(identity)
            with os.scandir(folder.path) as listing:
                entries = list(listing)
        except OSError as error:
            self._refuse(folder.prefix, f"cannot be listed: {error.strerror}", unread=True)
            return
        above = (*folder.above, identity)
        for entry in entries:
            if is_left_out(entry.name):
                continue
            source_file = folder.prefix + entry.name
            try:
                if entry.is_dir():
                    if self._is_storable(source_file):
                        first = folder.first or entry.name
                        below = _Folder(entry.path, f"{source_file}/", first, above)
                        if entry.is_symlink():
                            self.linked.append(below)
                        else:
                            yield below
                elif entry.name.lower().endswith(ENDINGS):
                    self._take(entry, source_file, folder.first)
                elif entry.is_symlink():
                    entry.stat()
            except OSError as error:
                is_missing = isinstance(error, FileNotFoundError)
                reason = "a link that leads nowhere" if is_missing else str(error.strerror)
                self._refuse(source_file, reason, unread=True)

    def _take(self, entry: os.DirEntry[str], source_file: str, folder: str | None) -> None:
        if not entry.is_file():
            entry.stat()  # raises for a link that leads nowhere
            self._refuse(source_file, "not a regular file")
        elif self._is_storable(source_file):
            self.files.append(FoundFile(Path(entry.path), source_file, folder))

    def _is_storable(self, source_file: str) -> bool:
        if len(source_file) > MAX_SOURCE_FILE:
            self._refuse(source_file, f"its path is longer than {MAX_SOURCE_FILE} characters")
            return False
        try:
            source_file.encode()
        except UnicodeEncodeError:
            self._refuse(source_file, "its name is not UTF-8")
            return False
        return True

    def _refuse(self, source_file: str, reason: str, *, unread: bool = False) -> None:
        self.problems.append(FileProblem(escaped(source_file), None, reason))
        self.refused.append(source_file)
        if unread:
            self.unread.append(source_file)


def _check_folder(content_dir: Path) -> None:
    shown = escaped(str(content_dir))
    try:
        if content_dir.is_dir():
            os.scandir(content_dir).close()
            return
        is_there = content_dir.exists()
    except OSError as error:
        raise DataError(
            f"{shown} cannot be read: {error.strerror}.",
            hint="Name a folder that you may list.",
        ) from error
    if is_there:
        raise DataError(
            f"{shown} is a file, not a folder.",
            hint=f"Name the folder that holds it: {escaped(str(content_dir.parent))}",
        )
    raise DataError(
        f"There is no folder {shown}.",
        hint="Name the folder that holds your Markdown files.",
    )


def _nothing_found(content_dir: Path, problems: list[FileProblem]) -> DataError:
    endings = " or ".join(ENDINGS)
    hint = f"Files that end in {endings} are read; what begins with a dot is left out."
    if problems:
        hint += f" Not read: {problems[0].file}, {problems[0].reason}."
    shown = escaped(str(content_dir))
    command = f"resume-lab ingest {shlex.quote(shown)} --remove"
    hint += f"\nNothing was removed; `{command}` removes what was stored from it."
    return DataError(f"There is no Markdown in {shown}.", hint=hint)
