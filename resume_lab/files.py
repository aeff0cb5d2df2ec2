"""Files that are whole or not there, wherever the process is killed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

import psutil

_DRAFT = re.compile(r"\.(\d+)-[0-9a-f]{8}\.tmp")


def replace_file(target: Path, text: str) -> None:
    """Write beside the target, then take its place in one step; raises OSError.

    Where the target is a link, the file behind it is replaced; a pipe or terminal is written to.
    """
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8")
        return
    target = target.resolve()
    draft = new_draft(target.parent)
    try:
        draft.write_text(text, encoding="utf-8")
        if target.exists():
            shutil.copymode(target, draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())  # or a crash of the machine could leave it empty
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def new_draft(folder: Path) -> Path:
    """Return a name in `folder` for what is not whole yet; remove what ended processes left."""
    for path in folder.glob(".*.tmp"):
        name = _DRAFT.fullmatch(path.name)
        if name is not None and not psutil.pid_exists(int(name[1])):
            _remove(path)
    return folder / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
