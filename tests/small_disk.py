"""A file system of a few megabytes, to fill on purpose; only root may mount one."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

FILLER = "filler"


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a disk of `size`, such as 100m; skip the test where this may not be done."""
    folder = Path(tempfile.mkdtemp(prefix="lab-disk-"))
    options = f"size={size},mode=0755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "resume_lab_test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


def make_read_only(folder: Path) -> None:
    """Let nobody write on a mounted disk any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path, *, leaving: int) -> Iterator[None]:
    """Fill a disk until `leaving` bytes are free; free them again at the end."""
    filler = folder / FILLER
    while (free := shutil.disk_usage(folder).free) > leaving:
        with contextlib.suppress(OSError), filler.open("ab") as file:  # a server may take some too
            os.posix_fallocate(file.fileno(), file.tell(), free - leaving)
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)
